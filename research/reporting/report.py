"""Writes a comparison's report from its run folders."""

from pathlib import Path

from research import runs
from research.reporting.plots import plot_accuracy, plot_curves
from research.reporting.results import LEVEL, Claims, Results, comparison_json, read_results, results_csv
from research.reporting.tables import HEADER, PAIR_HEADER, markdown, pair_rows, protocol, variant_rows


def write_report(folder: Path, claims: Claims | None = None) -> Results:
    """Writes `results.csv`, `comparison.json`, `report.md` and `plots/`; returns what they say. See `read_results`.

    Raises:
      UserError: the folder holds no comparison, or no finished run.
    """
    results = read_results(folder, claims)
    runs.write_text(folder / "results.csv", results_csv(results))
    runs.write_json(folder / "comparison.json", comparison_json(results))
    (folder / "plots").mkdir(exist_ok=True)
    plot_accuracy(results, folder / "plots" / "accuracy.png")
    plot_curves(results, folder / "plots" / "curves.png")
    runs.write_text(folder / "report.md", _report(results))
    return results


def _report(results: Results) -> str:
    plan = results.plan
    method = (
        "of texts (Bayle et al. 2020) and, beyond them, of runs, enlarged for the overlap of training texts"
        if plan["folds"]
        else "of texts and, beyond them, of runs: crossed variance components"
    )
    parts = [
        "# Comparison\n",
        f"{protocol(results)}.\n",
        f"Intervals: {100 * LEVEL:.0f} %, from the variance {method}, with Satterthwaite's degrees of freedom. They "
        "are for the expected score of the training procedure at this training size: over test texts, splits, "
        "initialisations and data order. The epoch of each run was chosen on validation texts; test texts were "
        "looked at once.\n",
        markdown(HEADER, variant_rows(results)),
    ]
    if results.pairs:
        parts += [
            "## Verdicts\n",
            f"Simultaneous {100 * LEVEL:.0f} % intervals of the differences (Bonferroni); within "
            f"{100 * results.claims.margin:g} point(s) counts as negligible.\n",
            markdown(PAIR_HEADER, pair_rows(results)),
        ]
    lacking = [row for row in results.rows if row["status"] != "done"]
    if lacking:
        parts += ["## Runs without a result\n", *(f"- {row['run_folder']}: {row['status']}" for row in lacking), ""]
    seconds = sum(r["compile_seconds"] + r["train_seconds"] for r in results.rows if r["status"] == "done")
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    parts += [
        "## Plots\n",
        "![Accuracy with intervals](plots/accuracy.png)\n",
        "![Learning curves](plots/curves.png)\n",
        "## Where this comes from\n",
        f"- command: `{plan['command']}`",
        f"- corpus checksum: `{plan['corpus']['checksum']}`",
        f"- commit: `{plan['commit'] or 'unknown'}`; Python {plan['python']}; {versions}",
        f"- machine: {plan.get('processor', 'unknown')}; devices {', '.join(plan['devices'])}; {plan.get('date', '')}",
        f"- duration: {seconds / 60:.1f} minutes of compiling and training, runs added up",
        "- each run's `record.json` holds the `train` command that makes it again\n",
    ]
    return "\n".join(parts)
