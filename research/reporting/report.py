"""Write a comparison's report from its run folders: Markdown, one HTML page, LaTeX tables, CSV, JSON, plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.atomic_files import write_text
from research.data.corpora import Corpus
from research.evaluation.metrics import METRICS, unit_of
from research.json_files import write_json
from research.reporting.answer import find_answer
from research.reporting.caveats import list_caveats
from research.reporting.claims import LEVEL, Claims
from research.reporting.disagreement import Disagreement, find_disagreement
from research.reporting.documents import Plot, render_html, render_latex, render_markdown
from research.reporting.formatting import format_margin
from research.reporting.plots import write_plots
from research.reporting.provenance import list_provenance, list_settings
from research.reporting.results import Results, comparison_json, read_results, results_csv
from research.reporting.summary import (
    describe_choices,
    describe_foreign,
    describe_intervals,
    describe_level,
    describe_protocol,
)
from research.reporting.tables import (
    classes_table,
    costs_table,
    difference_matrix,
    effects_table,
    metrics_table,
    pairs_table,
    trained_pairs_table,
    variants_table,
)

_MOST_IN_MATRIX = 10
_SOME_LACK = ("differences", "curves", "cost", "calibration", "settings")  # plots that not every comparison has


def write_report(folder: Path, claims: Claims | None = None) -> Results:
    """Read a comparison and write its report; return what was read.

    Raises:
      UserError: see `read_results`.
    """
    results = read_results(folder, claims)
    write_results(results, folder)
    return results


def write_results(results: Results, folder: Path, corpus: Corpus | None = None) -> None:
    """Write `results.csv`, `comparison.json`, `report.{md,html,tex}` and `plots/` from results that were read.

    Args:
      results: the results.
      folder: the comparison's folder.
      corpus: the corpus that was compared on; None reads it from its file for the texts that the report shows.
    """
    write_text(folder / "results.csv", results_csv(results))
    write_json(folder / "comparison.json", comparison_json(results))
    content = _content(results, write_plots(results, folder / "plots"), find_disagreement(results, corpus))
    write_text(folder / "report.md", render_markdown(content))
    write_text(folder / "report.html", render_html(content))
    about = " ".join([f"{content['protocol']}.", content["method"], *content["caveats"]])
    tables = [(content["variants"], about)]
    if results.pairs:
        tables.append((content["pairs"], f"Differences of {content['metric']}. {content['simultaneous_level']}"))
    write_text(folder / "report.tex", render_latex(tables))


def _content(results: Results, plots: Mapping[str, Plot], disagreement: Disagreement) -> dict[str, Any]:
    """Return what `templates/content.jinja` shows, by the names that it uses."""
    best = results.ranked()[0]
    has_matrix = results.claims.all_pairs and results.pairs and 2 < len(results.estimates) <= _MOST_IN_MATRIX
    return {
        "title": f"Comparison on {results.plan['corpus']['name']}",
        "answer": find_answer(results),
        "variants": variants_table(results),
        "caveats": list_caveats(results),
        "plots": dict.fromkeys(_SOME_LACK) | plots,
        "protocol": describe_protocol(results),
        "notes": results.plan["corpus"].get("notes"),
        "method": describe_intervals(results),
        "choices": describe_choices(results),
        "several_variants": len(results.variants) > 1,
        "metric": METRICS[results.metric].title,
        "unit": unit_of(results.metric),
        "simultaneous_level": describe_level(results),
        "margin": format_margin(results.metric, results.claims.margin),
        "pairs": pairs_table(results),
        "matrix": difference_matrix(results) if has_matrix else None,
        "trained_pairs": trained_pairs_table(results),
        "effects": effects_table(results),
        "missing_runs": [f"{row['run_folder']}: {row['status']}" for row in results.rows if row["status"] != "done"],
        "metrics": metrics_table(results),
        "level": f"{100 * LEVEL:.0f} %",
        "best_variant": best,
        "classes": classes_table(results, best),
        "costs": costs_table(results),
        "foreign": describe_foreign(results),
        "disagreements": disagreement.between_variants,
        "contradicted": disagreement.with_labels,
        "contradicted_count": disagreement.contradicted,
        "settings": list_settings(results),
        "provenance": list_provenance(results),
    }
