"""Reports of comparisons whose predictions are made up, so that what they must say is known."""

import csv
import hashlib
import html
import json
import re
import shutil
import struct
import subprocess
import warnings

import numpy as np
import pytest

from experiments.progress import print_table
from experiments.variants import load_config
from research.comparison.compare import default_repeats
from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.data.tokenized_corpus import cut_sentence
from research.errors import UserError
from research.evaluation.metrics import NAMES
from research.json_files import write_json
from research.reporting.blocks import Table, to_html, to_latex, to_markdown
from research.reporting.caveats import caveats
from research.reporting.claims import Claims, pairs_of
from research.reporting.plots import _FONTS, write_plots
from research.reporting.report import write_report
from research.reporting.results import read_results
from research.reporting.tables import matrix, pairs_table, protocol, variants_table
from research.reporting.tensorboard import write_events
from research.runs import run_files
from research.runs.claim import require_free
from research.runs.record import environment
from research.settings import Data, config_hash, to_dict

RECORD = {"status": "done", "parameters": 1234, "best_epoch": 1, "peak_memory_bytes": 5}
RECORD["seconds"] = {"prepare": 1.0, "compile": 2.0, "train": 3.0, "evaluate": 0.5}
ACCURACY = {"linear:tfidf": 0.8, "lstm": 0.8, "cnn[seed=1]": 0.6}
FOLDS = 2


@pytest.fixture
def comparison(tmp_path, small_tsv):
    """Three variants on two folds; a run of the cnn failed, and one of lstm was never finished."""
    corpus = load(small_tsv)
    random = np.random.default_rng(0)
    plan = {
        "corpus": {"name": corpus.name, "checksum": corpus.checksum, "texts": len(corpus), "source": corpus.source},
        "classes": list(corpus.class_names),
        "folds": FOLDS,
        "repeats": 2,
        "command": "./launch.sh compare --variants=lstm",
        "variants": {},
    } | environment()
    fold_of = np.arange(len(corpus)) % FOLDS
    for variant, accuracy in ACCURACY.items():
        config = load_config(variant.partition("[")[0])
        folder = run_files.folder_name(variant)
        plan["variants"][variant] = {
            "folder": folder,
            "hash": config_hash(config),
            "settings": to_dict(config),
        }
        for repeat in range(2):
            for fold in range(FOLDS):
                run = tmp_path / folder / f"fold{fold}-repeat{repeat}"
                run.mkdir(parents=True)
                if (variant, fold, repeat) == ("lstm", 1, 1):
                    continue
                record = RECORD
                if (variant, fold, repeat) == ("cnn[seed=1]", 0, 0):
                    record = {"status": "failed"}
                texts = np.flatnonzero(fold_of == fold)
                right = (random.random(len(texts)) < accuracy) & (texts >= 4)  # the first texts are always wrong
                label = corpus.labels[texts]
                p = np.where(right == (label == 1), 0.9, 0.1).astype(np.float32)
                run_files.write_predictions(
                    run, run_files.Predictions(corpus.ids[texts], label, np.stack([1 - p, p], axis=1))
                )
                run_files.write_metrics(
                    run, [{"step": 1, "epoch": 1, "split": "validation", "accuracy": 0.7}], append=False
                )
                write_json(run / run_files.RECORD, record)
    write_json(tmp_path / run_files.PLAN, plan)
    return tmp_path


def test_missing_runs_stand_in_the_table_and_in_no_mean_silently(comparison):
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
    assert set(pairs["lstm"]["would_decide"]) == {"repeats", "texts", "times_both"}


def test_claims_are_those_asked_for(comparison):
    against_lstm = read_results(comparison, Claims(baseline="lstm", margin=0.5))
    assert [(pair["a"], pair["b"]) for pair in against_lstm.pairs] == [
        ("linear:tfidf", "lstm"),
        ("cnn[seed=1]", "lstm"),
    ]
    assert against_lstm.pairs[0]["verdict"] == "equivalent"
    wide = {pair["a"]: pair for pair in read_results(comparison, Claims(margin=0.5)).pairs}
    assert wide["cnn[seed=1]"]["verdict"] == "worse"
    assert wide["cnn[seed=1]"]["negligible"]
    every = read_results(comparison, Claims(all_pairs=True))
    assert len(every.pairs) == 3
    # Simultaneous over more pairs, an interval is longer.
    lengths = [np.ptp(next(p for p in r.pairs if p["a"] == "linear:tfidf")["interval"]) for r in (against_lstm, every)]
    assert lengths[1] > lengths[0]
    with pytest.raises(UserError, match="--baseline is 'lsmt', expected one of linear:tfidf, lstm"):
        read_results(comparison, Claims(baseline="lsmt"))


def test_with_something_switched_off_a_variant_is_compared_with_itself():
    switched = {"lstm[model.dropout=0]": "lstm", "cnn[widths=(3,4),model.dropout=0]": "cnn[widths=(3,4)]"}
    others = ["cnn[widths=(3,4)]", "gru", "gru[seed=1]", "mlp[model.dropout=0]"]  # varied; no mlp to compare with
    variants = ["lstm", *switched, *others]
    assert pairs_of(variants, Claims()) == [*switched.items(), *((other, "lstm") for other in others)]
    assert {b for _, b in pairs_of(variants, Claims(baseline="lstm"))} == {"lstm"}


@pytest.mark.parametrize(
    "codes", [("0123", "4567"), ("0123", "ast3.11-4567"), ("ast3.11-01", "ast3.12-01"), ("", "a-1")]
)
def test_codes_of_other_kinds_are_not_told_apart(comparison, codes):
    for fold, code in enumerate(codes):
        record = comparison / "lstm" / f"fold{fold}-repeat0" / run_files.RECORD
        write_json(record, run_files.read_json(record) | {"model_code": code})
    assert caveats(read_results(comparison)) == []


def test_a_row_names_its_predictions_and_the_code_that_made_them(comparison):
    codes = ["ast3.11-0123", "ast3.11-4567"]
    for fold, code in enumerate(codes):
        record = comparison / "lstm" / f"fold{fold}-repeat0" / run_files.RECORD
        write_json(record, run_files.read_json(record) | {"model_code": code, "texts": {"train": 7, "validation": 2}})
    write_report(comparison)
    with (comparison / "results.csv").open(newline="") as file:
        rows = {row["run_folder"]: row for row in csv.DictReader(file)}
    predictions = (comparison / "lstm/fold1-repeat0" / run_files.PREDICTIONS).read_bytes()
    assert rows["lstm/fold1-repeat0"]["predictions_sha256"] == hashlib.sha256(predictions).hexdigest()
    assert [rows[f"lstm/fold{fold}-repeat0"]["model_code"] for fold in (0, 1)] == codes
    report = (comparison / "report.md").read_text()
    assert "The code changed between the runs of lstm (columns model_code and training_code of results.csv)" in report
    assert "(a run trains on 7 texts and chooses on 2)" in report


def test_claims_that_came_after_training_name_their_command(comparison):
    write_report(comparison)
    assert "launch.sh report" not in (comparison / "report.md").read_text()
    write_report(comparison, Claims(baseline="lstm", margin=0.005))
    command = "verdicts: `./launch.sh report --workdir=FOLDER --baseline=lstm --margin=0.5`"
    assert command in (comparison / "report.md").read_text()


def test_a_table_on_a_narrow_terminal_keeps_intervals_on_their_lines(capsys):
    row = ("luong:general[model.hidden_size=128]" * 4, "51.3", "[49.4, 53.2]", "undecided")
    print_table("title", ("variant", "accuracy", "95 % interval", "verdict"), [row])
    out = capsys.readouterr().out
    assert all(cell in out for cell in row[1:])
    assert "".join(line.split()[0] for line in out.splitlines() if "[49.4" in line).startswith("luong:general")


def test_what_may_mislead_is_said(comparison):
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["corpus"]["notes"] = "reviews: 20 training or validation texts are also test texts"
    plan["variants"]["linear:tfidf"]["settings"]["training"]["epochs"] = 3
    write_json(comparison / run_files.PLAN, plan)
    write_report(comparison)
    report = (comparison / "report.md").read_text()
    assert "Of the texts of reviews: 20 training or validation texts are also test texts." in report
    assert "Of L-BFGS, fewer than 30 steps (training.epochs): linear:tfidf (3)" in report
    same = {"a": "a", "b": "b", "difference": 0.0, "interval": [0.0, 0.0], "verdict": "equivalent", "negligible": False}
    table = pairs_table(read_results(comparison)._replace(pairs=[same]))
    assert table.rows[0][4] == "equivalent (same predictions)"


def test_the_page_holds_everything_and_needs_nothing(comparison, small_tsv):
    write_report(comparison, Claims(all_pairs=True))
    page = (comparison / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 5
    assert not re.search(r"(src|href)=\"(?!data:)|@import|<script|url\(", page)
    assert "cnn[seed=1]" in page
    for heading in ("Verdicts", "Runs without a result", "Cost", "Calibration", "Settings", "Where this comes from"):
        assert f"<h2>{heading}</h2>" in page
    assert "Texts on which variants disagree most" in page
    assert "Texts whose label every run contradicts" in page
    assert 'class="worse"' in page
    text = load(small_tsv).texts[0]
    assert html.escape(" ".join(text.split())[:100]) in page


def test_whose_baseline_failed_is_told_so(comparison):
    for run in comparison.glob("linear-tfidf/*"):
        write_json(run / run_files.RECORD, {"status": "failed"})
    write_report(comparison)
    assert "None: linear:tfidf, the baseline, shares no finished run" in (comparison / "report.md").read_text()


def test_odd_names_and_levels_can_be_drawn(comparison):
    """A dollar sign begins no formula, and a number may be spelt in any way."""
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["classes"] = ["$", "$\\foo$" * 5]
    names = ("lstm[optimizer.learning_rate=1E-5]", "lstm[optimizer.learning_rate=.1]", "cnn[a=1.2.3]")
    plan["variants"] = dict(zip(names, plan["variants"].values(), strict=True))
    write_json(comparison / run_files.PLAN, plan)
    write_report(comparison)
    assert (comparison / "plots" / "settings.png").exists()


def test_chinese_names_of_classes_are_drawn_where_a_font_has_them(comparison):
    plan = run_files.read_json(comparison / run_files.PLAN) | {"classes": ["差评", "好评"]}
    write_json(comparison / run_files.PLAN, plan)
    if len(_FONTS) == 1:
        pytest.skip("no Chinese font found")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph missing from font(s)"
        write_plots(read_results(comparison), comparison / "plots")


def test_nothing_is_minus_nought(comparison):
    results = read_results(comparison)
    pairs = [pair | {"difference": -0.0001, "interval": [-0.0002, -0.0]} for pair in results.pairs]
    text = str((pairs_table(results._replace(pairs=pairs)), matrix(results._replace(pairs=pairs))))
    assert "+0.0" in text
    assert "-0.0" not in text


def test_the_matrix_has_words_for_the_claimed_pairs_alone(comparison):
    header, rows, _ = matrix(read_results(comparison))
    cells = {(row[0], column): cell for row in rows for column, cell in zip(header[1:], row[1:], strict=True)}
    assert cells["cnn[seed=1]", "linear:tfidf"].startswith("worse (-")
    assert cells["linear:tfidf", "cnn[seed=1]"].startswith("better (+")
    assert re.fullmatch(r"\(\+\d+\.\d\)", cells["lstm", "cnn[seed=1]"])
    assert cells["lstm", "lstm"] == ""


def test_tensorboard_reads_the_curves_of_every_run(comparison):
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    for _ in range(2):  # a second time writes nothing twice
        folder = write_events(read_results(comparison), comparison)
    files = sorted(folder.rglob("events.out.tfevents.*"))
    assert len(files) == 11  # of 12 runs, one was never begun
    data, values = files[0].read_bytes(), []
    while data:  # length, its checksum, an event, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        event = proto.Event.FromString(data[12 : 12 + length])
        values += [(v.tag, v.simple_value, event.step) for v in event.summary.value]
        data = data[16 + length :]
    assert values == [("validation/accuracy", pytest.approx(0.7), 1)]


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
    assert "<title>5 images</title>" in done.stdout
    assert "CONSOLE" not in done.stderr


def test_what_users_write_is_escaped_everywhere():
    table = Table(("a|b", "x_y"), [("<b>&", "50%\\_{}"), ("two\nlines", "`code`")])
    assert "<b>&" not in to_html("T<", [table], None)
    assert "&lt;b&gt;&amp;" in to_html("T<", [table], None)
    assert "a\\|b" in to_markdown("t", [table])
    assert "two lines" in to_markdown("t", [table])
    assert r"50\%\textbackslash{}\_\{\}" in to_latex([(table, "about 5 %")])
    assert r"\begin{tabular}{lr}" in to_latex([(table, "about 5 %")])
    assert r"\caption{about 5 \%}" in to_latex([(table, "about 5 %")])


def flatten(folder):
    """Has a run give all its test texts one label."""
    found = run_files.read_predictions(folder)
    run_files.write_predictions(
        folder, found._replace(probabilities=np.tile(np.float32([0.9, 0.1]), (len(found.id), 1)))
    )


def test_a_variant_with_a_run_that_did_not_learn_gets_no_verdict(comparison):
    assert caveats(read_results(comparison)) == []
    flatten(comparison / run_files.folder_name("cnn[seed=1]") / "fold1-repeat0")
    results = write_report(comparison)
    verdicts = {pair["a"]: pair["verdict"] for pair in results.pairs}
    assert verdicts == {"lstm": "undecided", "cnn[seed=1]": "not trained"}
    said = (
        "Not trained, so their pairs get no verdict: cnn[seed=1] in 1 of 3 run(s) (one label for all test texts; "
        "what may help: --config.training.patience=0)."
    )
    assert caveats(results)[0].startswith(said)
    report = (comparison / "report.md").read_text()
    assert said in report
    assert "cnn[seed=1] (1 of 3 runs not trained)" in report
    assert 'class="not-trained"' in (comparison / "report.html").read_text()
    written = json.loads((comparison / "comparison.json").read_text())
    of_variant = {entry["variant"]: entry["not_trained"] for entry in written["variants"]}
    assert of_variant["lstm"] == {}
    assert of_variant["cnn[seed=1]"] == {
        "cnn--seed=1/fold1-repeat0": {"why": "one label for all test texts", "mend": "--config.training.patience=0"}
    }
    assert "would_decide" not in next(pair for pair in written["pairs"] if pair["a"] == "cnn[seed=1]")


def test_predictions_that_a_run_did_not_write_are_left_out(comparison):
    run = comparison / "lstm" / "fold0-repeat0"
    write_json(
        run / run_files.RECORD,
        run_files.read_record(run) | {"predictions_sha256": run_files.predictions_checksum(run)},
    )
    assert len(read_results(comparison).done("lstm")) == 3
    flatten(run)
    results = write_report(comparison)
    assert len(results.done("lstm")) == 2
    assert {row["run_folder"]: row["status"] for row in results.rows}["lstm/fold0-repeat0"] == "changed"
    assert "predictions.npz is not the one that the run wrote in lstm/fold0-repeat0" in caveats(results)[0]
    assert "lstm/fold0-repeat0: changed" in (comparison / "report.md").read_text()
    (run / run_files.PREDICTIONS).unlink()
    assert len(read_results(comparison).done("lstm")) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (run_files.RECORD, b'{"status": "done"}', "no 'parameters'"),
        (run_files.RECORD, b"[]", "a JSON list, expected an object"),
        (run_files.RECORD, RECORD | {"near_copies": "many"}, "'near_copies' is 'many'"),
        (run_files.RECORD, RECORD | {"label_counts": ["a"]}, "'label_counts' are no counts"),
        (run_files.RECORD, RECORD | {"texts": [1]}, "in 'texts' a JSON list"),
        (run_files.METRICS, b'{"step": 1, "epoch": 1, "split": "train", "loss": null}\n', "'loss' is None"),
        (run_files.METRICS, b'{"epoch": 1}\n', "metrics.jsonl:1: no 'step'"),
        (run_files.METRICS, b'"validation"\n', "metrics.jsonl:1: a JSON str"),
        (run_files.PREDICTIONS, b"nothing", "predictions.npz: cannot be read"),
    ],
)
def test_a_damaged_run_is_a_sentence(comparison, name, content, words):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    (comparison / "lstm" / "fold0-repeat0" / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        write_report(comparison)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p._replace(label=p.label[:-1]),
        lambda p: p._replace(label=p.label + 2),
        lambda p: p._replace(probabilities=p.probabilities[:, 0]),
        lambda p: p._replace(probabilities=np.full_like(p.probabilities, np.nan)),
        lambda p: p._replace(id=np.arange(len(p.id))),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_a_sentence(comparison, change):
    """Of a run of an earlier version, which kept no checksum of its predictions."""
    run = comparison / "lstm" / "fold0-repeat0"
    run_files.write_predictions(run, change(run_files.read_predictions(run)))
    with pytest.raises(UserError, match="its arrays do not fit each other"):
        write_report(comparison)


def describe(comparison, run, **changes):
    plan = run_files.read_json(comparison / run_files.PLAN)
    variant = next(entry for entry in plan["variants"].values() if entry["folder"] == run.parent.name)
    fold, repeat = map(int, re.findall(r"\d+", run.name))
    of_run = {"settings": variant["settings"], "corpus": plan["corpus"], "fold": fold, "repeat": repeat}
    write_json(run / run_files.CONFIG, of_run | changes)


def test_a_run_that_was_copied_from_elsewhere_is_left_out(comparison):
    for run in comparison.glob("*/*repeat*"):
        describe(comparison, run)
    assert len(read_results(comparison).done("lstm")) == 3
    for name in ("fold0-repeat0", "fold0-repeat1"):  # of another variant; the same run as another repeat
        source = comparison / ("linear-tfidf/fold0-repeat0" if name == "fold0-repeat0" else "lstm/fold1-repeat0")
        shutil.rmtree(comparison / "lstm" / name)
        shutil.copytree(source, comparison / "lstm" / name)
    results = write_report(comparison)
    assert len(results.done("lstm")) == 1
    said = "The config.json of lstm/fold0-repeat0, lstm/fold0-repeat1 is that of another run: left out"
    assert said in " ".join(caveats(results))


def test_runs_of_which_all_predictions_were_changed_are_no_result(comparison):
    for run in comparison.glob("*/*repeat*"):
        if run_files.read_record(run).get("status") == "done":
            write_json(run / run_files.RECORD, run_files.read_record(run) | {"predictions_sha256": "0"})
    with pytest.raises(
        UserError, match=r"no finished run \(10 of them have a predictions\.npz that they did not write"
    ):
        read_results(comparison)


def test_a_baseline_that_a_later_variant_became_is_said(comparison):
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["variants"]["linear:tfidf"]["added_later"] = True
    write_json(comparison / run_files.PLAN, plan)
    said = " ".join(caveats(read_results(comparison)))
    assert "baseline linear:tfidf (planned: lstm); linear:tfidf among the variants" in said


def test_a_variant_whose_runs_lost_their_metrics_is_reported(comparison):
    for run in comparison.glob("lstm/*/metrics.jsonl"):
        run.unlink()
    assert "lstm" not in write_report(comparison).curves
    assert (comparison / "plots" / "curves.png").exists()


def test_a_run_that_failed_makes_no_interval_shorter(comparison):
    before = {pair["a"]: pair["interval"] for pair in read_results(comparison).pairs}
    for run in comparison.glob("cnn*/*"):
        write_json(run / run_files.RECORD, {"status": "diverged"})
    results = write_report(comparison)
    assert {pair["a"]: pair["interval"] for pair in results.pairs} == {"lstm": before["lstm"]}
    assert "Bonferroni over 2 pair(s)" in (comparison / "report.md").read_text()


@pytest.mark.parametrize("metric", ["macro_f1", "auroc", "log_loss"])
def test_another_metric_decides_where_it_is_asked_for(comparison, metric):
    results = write_report(comparison, Claims(metric=metric))
    pair = {pair["a"]: pair for pair in results.pairs}["cnn[seed=1]"]
    assert (pair["metric"], pair["verdict"]) == (metric, "worse")
    assert (pair["difference"] > 0) == (metric == "log_loss")  # of a loss more is worse
    assert results.ranked()[-1] == "cnn[seed=1]"
    name = NAMES[metric]
    assert f"judged by {name}" in protocol(results)
    assert variants_table(results).header[1] == name
    assert pairs_table(results).header[2] == f"{name} difference ({'nats' if metric == 'log_loss' else 'points'})"
    with pytest.raises(UserError, match="--metric is 'f2', expected one of accuracy, balanced_accuracy"):
        read_results(comparison, Claims(metric="f2"))


def test_what_is_chosen_after_looking_stands_beside_what_was_planned(comparison):
    assert "Chosen when results existed" not in " ".join(caveats(write_report(comparison)))
    results = write_report(comparison, Claims(baseline="lstm", margin=0.02, all_pairs=True, metric="macro_f1"))
    said = (
        "Chosen when results existed already: baseline lstm (planned: linear:tfidf); margin 2 (planned: 1); "
        "pairs all (planned: with the baseline); metric macro F1 (planned: accuracy)."
    )
    assert said in " ".join(caveats(results))
    assert said in (comparison / "report.md").read_text()


def test_a_test_of_one_text_or_class_says_nothing_of_training(comparison):
    results = read_results(comparison)
    single = [
        o._replace(label=np.zeros_like(o.label), probabilities=np.tile([0.9, 0.1], (len(o.label), 1)))
        for o in results.outcomes["lstm"]
    ]
    assert caveats(results._replace(outcomes={"lstm": single})) == []


def test_the_interval_of_a_single_run_is_said_to_be_of_its_texts(comparison):
    results = read_results(comparison)
    assert caveats(results) == []
    alone = results._replace(outcomes=results.outcomes | {"lstm": results.outcomes["lstm"][:1]})
    every = results._replace(outcomes={variant: of[:1] for variant, of in results.outcomes.items()})
    assert caveats(every)[0].endswith("its test texts alone: linear:tfidf, lstm, cnn[seed=1].")
    assert caveats(every._replace(plan=every.plan | {"folds": 0, "repeats": 1})) == []
    assert caveats(alone) == ["Intervals of variants with one run are over its test texts alone: lstm."]


def test_the_commonest_class_is_said(comparison):
    results = read_results(comparison)
    rare = [o._replace(label=(np.arange(len(o.label)) % 4 == 0).astype(np.int32)) for o in results.outcomes["lstm"]]
    said = protocol(results._replace(outcomes={"lstm": [o for o in rare if len(o.label) % 4 == 0]}))
    assert "2 classes, the commonest 75.0 %), 2-fold" in said


def test_a_curve_ends_where_its_run_did(comparison):
    run = comparison / "lstm" / "fold0-repeat0"
    records = run_files.read_metrics(run)
    last = max(r["epoch"] for r in records if r["split"] == "validation")
    more = [r | {"epoch": last + 1} for r in records if r["split"] == "validation" and r["epoch"] == last]
    run_files.write_metrics(run, [*records, *more], append=False)
    curves = read_results(comparison).curves["lstm"]
    assert np.isfinite(curves[:, -1]).sum() == 1
    assert np.isfinite(curves[:, 0]).all()


def test_a_comparison_taken_for_a_run_is_said(comparison):
    with pytest.raises(UserError, match=r"is a comparison, expected a run of it"):
        run_files.read_json(comparison / run_files.CONFIG)
    with pytest.raises(UserError, match="holds a comparison, expected no folder there"):
        require_free(comparison)
    assert default_repeats(comparison, FOLDS) == 2
    assert (default_repeats(comparison / "new", FOLDS), default_repeats(comparison / "new", 0)) == (1, 5)


def test_texts_that_are_cut_are_said():
    rows = [Row("good " * (120 if n < 3 else 20) + str(n), str(n % 2), "", "") for n in range(12)]
    corpus = make_corpus("c", {"all": rows})
    said = "25 % of the texts have more than data.max_length=100 tokens, of which the first 100 are read"
    assert cut_sentence(corpus, Data()) == said
    assert cut_sentence(corpus, Data(max_length=200)) == ""
