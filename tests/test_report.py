"""Reports of a comparison: tables, sentences, pages and plots."""

import html
import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest

from experiments.printing import print_table
from research.data.corpora import load
from research.json_files import write_json
from research.reporting import drawable_names, plots
from research.reporting.answer import find_answer
from research.reporting.claims import Claims
from research.reporting.documents import Table, markdown_table, render_latex
from research.reporting.report import write_report
from research.reporting.results import read_results
from research.reporting.summary import describe_protocol
from research.reporting.tables import difference_matrix, pairs_table, variants_table
from research.runs import run_files
from tests.made_up_comparison import ACCURACY


def test_runs_without_a_result_are_listed(comparison, no_plots):
    results = write_report(comparison)
    done = {variant: len(results.done(variant)) for variant in ACCURACY}
    assert done == {"linear:tfidf": 4, "lstm": 3, "cnn[seed=1]": 3}
    report = (comparison / "report.md").read_text()
    assert "3 of 4" in report
    assert "lstm/fold1-repeat1: unfinished" in report
    assert "fold0-repeat0: failed" in report
    pairs = {pair["a"]: pair for pair in json.loads((comparison / "comparison.json").read_text())["pairs"]}
    assert pairs["cnn[seed=1]"]["verdict"] == "worse"
    assert pairs["lstm"]["verdict"] == "undecided"
    assert set(pairs["lstm"]["would_decide"]) == {"repeats", "texts", "times_both", "repeats_at_best"}


def test_a_table_on_a_narrow_terminal_keeps_intervals_on_their_lines(capsys):
    row = ("luong:general[model.hidden_size=128]" * 4, "51.3", "[49.4, 53.2]", "undecided")
    print_table("title", ("variant", "accuracy", "95 % interval", "verdict"), [row])
    out = capsys.readouterr().out
    assert all(cell in out for cell in row[1:])
    assert "".join(line.split()[0] for line in out.splitlines() if "[49.4" in line).startswith("luong:general")


def test_the_page_is_complete_and_works_offline(comparison, small_tsv):
    write_report(comparison, Claims(all_pairs=True))
    page = (comparison / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 6
    assert not re.search(r"(src|href)=\"(?!data:)|@import|<script|url\(", page)
    assert "cnn[seed=1]" in page
    for heading in ("Verdicts", "Runs without a result", "Cost", "Calibration", "Settings", "Where this comes from"):
        assert f"<h2>{heading}</h2>" in page
    assert "Texts on which variants disagree most" in page
    assert "Texts whose label every run contradicts" in page
    assert 'class="worse"' in page
    text = load(small_tsv).texts[0]
    assert " ".join(text.split())[:100] in html.unescape(page)


def test_a_report_begins_with_its_answer(comparison, no_plots):
    answer = find_answer(write_report(comparison, Claims(all_pairs=True)))
    markdown, page = ((comparison / f"report.{kind}").read_text() for kind in ("md", "html"))
    name = read_results(comparison).plan["corpus"]["name"]
    assert markdown.startswith(
        f"# Comparison on {name}\n\n{answer.text}\n\n```console\n{answer.command}\n```\n\n![Differences"
    )
    shown = html.unescape(page.replace("<wbr>", "").replace("&nbsp;", " "))
    assert f'<p class="answer">{answer.text}</p>\n<pre><code>{answer.command}</code></pre>' in shown
    parts = ["<img", "<th>verdict</th>", "<summary>How to read this</summary>", "Bonferroni", "</details>"]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    places = [markdown.index(part) for part in ("| variant | accuracy |", "## How to read this", "Bonferroni")]
    assert places == sorted(places)


def test_a_report_without_pairs_begins_with_its_scores(comparison, no_plots):
    for run in comparison.glob("linear-tfidf/*"):
        write_json(run / run_files.RECORD, {"status": "failed"})
    write_report(comparison)
    report = (comparison / "report.md").read_text()
    assert "shares no finished run with another.\n\n![Test accuracy of each variant" in report
    assert report.count("plots/scores.png") == 1
    assert "differences.png" not in report


def test_odd_class_names_and_numbers_can_be_drawn(comparison):
    """A dollar sign begins no formula, and numbers may be written in any way."""
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["classes"] = ["$", "$\\foo$" * 5]
    names = ("lstm[optimizer.learning_rate=1E-5]", "lstm[optimizer.learning_rate=.1]", "cnn[a=1.2.3]")
    plan["variants"] = dict(zip(names, plan["variants"].values(), strict=True))
    write_json(comparison / run_files.PLAN, plan)
    write_report(comparison)
    assert (comparison / "plots" / "settings.png").exists()


@pytest.mark.parametrize("fonts", [["DejaVu Sans"], drawable_names.FONTS])
def test_chinese_class_names_are_drawn_or_have_codes_that_the_report_explains(comparison, fonts, monkeypatch):
    monkeypatch.setattr(drawable_names, "FONTS", fonts)
    monkeypatch.setattr(plots, "FONTS", fonts)
    is_missing = len(fonts) == 1
    plan = run_files.read_json(comparison / run_files.PLAN) | {"classes": ["差评", "好评"]}
    write_json(comparison / run_files.PLAN, plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph missing from font(s)"
        write_report(comparison)
    report, page = ((comparison / f"report.{kind}").read_text("utf-8") for kind in ("md", "html"))
    assert ("In the picture: #1 is 差评, #2 is 好评." in report) == ("<p>In the picture: #1 is" in page) == is_missing


def test_no_difference_is_minus_zero(comparison):
    results = read_results(comparison)
    pairs = [pair | {"difference": -0.0001, "interval": [-0.0002, -0.0]} for pair in results.pairs]
    text = str((pairs_table(results._replace(pairs=pairs)), difference_matrix(results._replace(pairs=pairs))))
    assert "+0.0" in text
    assert "-0.0" not in text


def test_the_matrix_has_both_sides_of_every_pair(comparison, no_plots):
    matrix = difference_matrix(write_report(comparison, Claims(all_pairs=True)))
    cells = {
        (row[0], column): cell for row in matrix.rows for column, cell in zip(matrix.header[1:], row[1:], strict=True)
    }
    assert cells["cnn[seed=1]", "linear:tfidf"].startswith("worse (-")
    assert cells["linear:tfidf", "cnn[seed=1]"].startswith("better (+")
    assert cells["lstm", "lstm"] == ""
    assert "Row against column" in (comparison / "report.md").read_text()
    write_report(comparison)  # pairs without a claim are not shown
    assert "Row against column" not in (comparison / "report.md").read_text()


def test_the_first_table_has_the_verdicts_if_all_are_against_one_variant(comparison):
    results = read_results(comparison)
    header, rows, _ = variants_table(results)
    assert header[3:5] == ("against linear:tfidf (points)", "verdict")
    cells = {row[0]: row[3:5] for row in rows}
    assert cells["linear:tfidf"] == ("", "")
    assert cells["cnn[seed=1]"][1] == "worse"
    pairs = [results.pairs[0], results.pairs[1] | {"b": "lstm"}]
    assert "verdict" not in variants_table(results._replace(pairs=pairs)).header


def test_the_page_in_a_browser(comparison):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium found")
    write_report(comparison)
    page = (comparison / "report.html").read_text()
    count = "document.title = [...document.images].filter(i => i.complete && i.naturalWidth > 100).length + ' images'"
    probe = comparison / "probe.html"
    probe.write_text(page.replace("</body>", f"<script>onload = () => {{ {count} }}</script></body>"))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000")
    done = subprocess.run([browser, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=120)
    assert "<title>6 images</title>" in done.stdout
    assert "CONSOLE" not in done.stderr


def test_what_users_write_is_escaped_everywhere(comparison, no_plots):
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["corpus"] |= {"name": "T<", "notes": "T<: `a` and <b>&"}
    plan["classes"] = ["<i>|x", "two\nlines"]
    write_json(comparison / run_files.PLAN, plan)
    write_report(comparison)
    page, markdown = (comparison / "report.html").read_text(), (comparison / "report.md").read_text()
    assert "<h1>Comparison on T&lt;</h1>" in page
    assert "<code>a</code> and &lt;b&gt;&amp;" in page
    assert "<td>&lt;i&gt;|x</td>" in page
    assert "<i>" not in page
    assert "| \\<i>\\|x |" in markdown
    assert "| two lines |" in markdown


def test_markdown_and_latex_tables_escape_their_cells():
    table = Table(("a|b", "x_y"), [("<b>&", "50%\\_{}"), ("two\nlines", "-1.5 `code`")])
    assert markdown_table(table.header, table.rows) == (
        "| a\\|b | x_y |\n|---|---:|\n| \\<b>& | 50%\\\\_{} |\n| two lines | -1.5 \\`code\\` |\n"
    )
    latex = render_latex([(table, "about 5 %")])
    assert r"50\%\textbackslash{}\_\{\} \\" in latex
    assert "$-$1.5" in latex
    assert r"\begin{tabular}{lr}" in latex
    assert r"\caption{about 5 \%}" in latex


def test_the_protocol_names_the_share_of_the_commonest_class(comparison):
    results = read_results(comparison)
    rare = [o._replace(label=(np.arange(len(o.label)) % 4 == 0).astype(np.int32)) for o in results.outcomes["lstm"]]
    sentence = describe_protocol(results._replace(outcomes={"lstm": [o for o in rare if len(o.label) % 4 == 0]}))
    assert "2 classes, the commonest 75.0 %), 2-fold" in sentence


def test_codes_stand_for_what_no_font_has(monkeypatch):
    monkeypatch.setattr(drawable_names, "FONTS", ["DejaVu Sans"])
    names = drawable_names.drawable_names(["fine", "很 好", "lstm[a=好]", "很 好 2", "naïve"])
    assert names.codes == {"很 好": "#1", "好": "#2"}
    assert [names.show(name) for name in ("fine", "很 好", "lstm[a=好]", "很 好 2")] == [
        "fine",
        "#1",
        "lstm[a=#2]",
        "#1 2",
    ]
    assert names.key(["accuracy", "lstm[a=#2]"]) == "#2 is 好"
    assert names.key(["accuracy"]) == ""
