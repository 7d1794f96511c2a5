"""What a comparison's folder holds: a row a run, an estimate a variant and metric, a verdict a pair.

Reads run folders and trains nothing, so a report can be rebuilt at any time from what is there.
"""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import runs
from research.errors import UserError
from research.evaluation.metrics import METRICS, evaluate_predictions
from research.evaluation.statistics import Estimate, Outcome, difference, estimate, verdict

MARGIN = 0.01  # a difference of accuracy within one point is negligible
LEVEL = 0.95
_COLUMNS = (
    *("variant", "fold", "repeat", "status", *METRICS),
    *("parameters", "train_seconds", "compile_seconds", "best_epoch", "run_folder"),
)


class Results(NamedTuple):
    """A comparison, read."""

    plan: dict[str, Any]
    rows: list[dict[str, Any]]  # a run each, with `_COLUMNS`; also those that failed or are missing
    estimates: dict[str, dict[str, Estimate]]  # variant -> metric -> estimate; variants with no finished run left out
    pairs: list[dict[str, Any]]
    curves: dict[str, np.ndarray]  # variant -> [runs, epochs] validation accuracy


def read_results(folder: Path) -> Results:
    """Reads and evaluates a comparison.

    Raises:
      UserError: the folder holds no comparison, or one without a finished run.
    """
    if not (folder / runs.PLAN).exists():
        raise UserError(f"{folder}: no plan.json, expected a folder that `compare` wrote")
    plan = runs.read_json(folder / runs.PLAN)
    rows: list[dict[str, Any]] = []
    outcomes: dict[str, list[Outcome]] = {}
    curves: dict[str, list[list[float]]] = {}
    for variant, entry in plan["variants"].items():
        for repeat in range(plan["repeats"]):
            for fold in range(plan["folds"] or 1):
                name = f"fold{fold}-repeat{repeat}" if plan["folds"] else f"repeat{repeat}"
                run_folder = folder / entry["folder"] / name
                row, outcome = _read_run(run_folder, variant, fold, repeat)
                rows.append(row | {"run_folder": f"{entry['folder']}/{name}"})
                if outcome is not None:
                    outcomes.setdefault(variant, []).append(outcome)
                    records = runs.read_metrics(run_folder)
                    curve = [record["accuracy"] for record in records if record["split"] == "validation"]
                    curves.setdefault(variant, []).append(curve)
    if not outcomes:
        raise UserError(f"{folder}: no finished run, expected at least one")
    estimates = {
        variant: {metric: estimate(of_variant, metric, folds=plan["folds"], level=LEVEL) for metric in METRICS}
        for variant, of_variant in outcomes.items()
    }
    lengths = {variant: min(map(len, of_variant)) for variant, of_variant in curves.items()}
    return Results(
        plan,
        rows,
        estimates,
        _pairs(outcomes, plan["folds"]),
        {variant: np.array([c[: lengths[variant]] for c in of_variant]) for variant, of_variant in curves.items()},
    )


def _read_run(folder: Path, variant: str, fold: int, repeat: int) -> tuple[dict[str, Any], Outcome | None]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | {"variant": variant, "fold": fold, "repeat": repeat}
    if not (folder / runs.RECORD).exists():
        return row | {"status": "unfinished" if folder.exists() else "missing"}, None
    record = runs.read_json(folder / runs.RECORD)
    if record["status"] != "done":
        return row | {"status": record["status"]}, None
    predictions = runs.read_predictions(folder)
    row |= evaluate_predictions(predictions.label, predictions.probabilities)
    row |= {
        "status": "done",
        "parameters": record["parameters"],
        "train_seconds": record["seconds"]["train"],
        "compile_seconds": record["seconds"]["compile"],
        "best_epoch": record["best_epoch"],
    }
    order = np.argsort(predictions.id)
    return row, Outcome((repeat, fold), *(array[order] for array in predictions))


def baseline_of(variants: list[str]) -> str:
    """The variant that the others are compared with: the linear one, else the first."""
    return next((v for v in variants if v.split(":")[0].split("[")[0] == "linear"), variants[0])


def _pairs(outcomes: dict[str, list[Outcome]], folds: int) -> list[dict[str, Any]]:
    """Every variant against the baseline; intervals are simultaneous (Bonferroni)."""
    baseline = baseline_of(list(outcomes))
    others = [variant for variant in outcomes if variant != baseline]
    pairs = []
    for variant in others:
        found = difference(
            outcomes[variant], outcomes[baseline], "accuracy", folds=folds, level=1 - (1 - LEVEL) / len(others)
        )
        if found is None:
            continue
        word, negligible = verdict(found, MARGIN)
        pairs.append(
            {
                "a": variant,
                "b": baseline,
                "metric": "accuracy",
                "difference": found.mean,
                "interval": [found.low, found.high],
                "verdict": word,
                "negligible": negligible,
            }
        )
    return pairs


def results_csv(results: Results) -> str:
    """`results.csv`: a row a run."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(results.rows)
    return file.getvalue()


def comparison_json(results: Results) -> dict[str, Any]:
    """`comparison.json`: estimates, pairs and where they come from."""
    variants = [
        {
            "variant": variant,
            "runs": sum(row["variant"] == variant and row["status"] == "done" for row in results.rows),
            "metrics": {m: {"mean": e.mean, "interval": [e.low, e.high]} for m, e in of_variant.items()},
        }
        for variant, of_variant in results.estimates.items()
    ]
    about = {name: value for name, value in results.plan.items() if name != "variants"}
    return {"variants": variants, "pairs": results.pairs, "level": LEVEL, "margin": MARGIN} | about
