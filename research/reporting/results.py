"""What a comparison's folder holds: a row a run, an estimate a variant and metric, a verdict a pair.

Reads run folders and trains nothing, so a report can be rebuilt at any time from what is there.
"""

import csv
import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import runs
from research.errors import UserError
from research.evaluation.learning import Problem, problem_of
from research.evaluation.metrics import LOWER_IS_BETTER, METRICS, NAMES, evaluate_predictions
from research.evaluation.planning import needed
from research.evaluation.statistics import (
    Estimate,
    Outcome,
    Spread,
    contrast,
    estimate,
    judged,
    spread_of,
    verdict,
)
from research.plan_file import read_plan
from research.reporting.claims import (
    LEVEL,
    Claims,
    baseline_of,
    first_claims,
    level_of,
    pairs_of,
    planned_claims,
)
from research.schema import missing_in

NOT_TRAINED = "not trained"  # the verdict of a pair of which one variant has a run that did not learn
CHANGED = "changed"  # the status of a run whose predictions are not those that it wrote
_COLUMNS = (
    *("variant", "fold", "repeat", "status", *METRICS),
    *("parameters", "flops_per_text", "train_seconds", "compile_seconds", "predict_ms", "peak_memory_bytes"),
    *("best_epoch", "train_texts", "validation_texts", "not_trained", "near_copies"),
    *("model_code", "training_code", "predictions_sha256", "run_folder"),
)


# What the record of a finished run must have to be read.
_NUMBER = (int, float)
_RECORD_NEEDS = {
    "parameters": int,
    "best_epoch": int,
    "peak_memory_bytes": int,
    "seconds": {"train": _NUMBER, "compile": _NUMBER, "evaluate": _NUMBER},
}


class Results(NamedTuple):
    """A comparison, read."""

    plan: dict[str, Any]
    claims: Claims
    rows: list[dict[str, Any]]  # a run each, with `_COLUMNS`; also those that failed or are missing
    estimates: dict[str, dict[str, Estimate]]  # variant -> metric -> estimate; variants with no finished run left out
    pairs: list[dict[str, Any]]
    spread: Spread | None  # of a difference, the median over the pairs; None where no pair has two runs
    curves: dict[str, np.ndarray]  # variant -> [runs, epochs] validation accuracy, NaN where a run has stopped
    outcomes: dict[str, list[Outcome]]  # variant -> the predictions of its finished runs
    untrained: dict[str, dict[str, Problem]]  # variant -> run folder -> why that run counts as not trained

    @property
    def metric(self) -> str:
        """What decides."""
        return self.claims.metric

    def done(self, variant: str) -> list[dict[str, Any]]:
        """The rows of a variant's finished runs."""
        return [row for row in self.rows if row["variant"] == variant and row["status"] == "done"]

    def ranked(self) -> list[str]:
        """The variants with a finished run, the best first."""
        sign = 1 if self.metric in LOWER_IS_BETTER else -1
        mean = {variant: sign * of_variant[self.metric].mean for variant, of_variant in self.estimates.items()}
        return sorted(mean, key=lambda variant: (np.isnan(mean[variant]), mean[variant]))


class _ReadRun(NamedTuple):
    """What a run's folder holds."""

    row: dict[str, Any]  # with `_COLUMNS`
    outcome: Outcome | None  # None of a run that is not finished, or whose predictions were changed
    curve: list[float]  # validation accuracy by epoch
    problem: Problem | None  # why it counts as not trained


def read_results(folder: Path, claims: Claims | None = None) -> Results:
    """Reads and evaluates a comparison; the claims are those that it was started with, unless others are given.

    Raises:
      UserError: the folder holds no comparison, or one without a finished run, or the baseline is none of its variants.
    """
    plan = read_plan(folder)
    claims = planned_claims(plan) if claims is None else claims
    if claims.metric not in METRICS:
        raise UserError(f"--metric is {claims.metric!r}, expected one of {', '.join(METRICS)}")
    rows: list[dict[str, Any]] = []
    outcomes: dict[str, list[Outcome]] = {}
    curves: dict[str, list[list[float]]] = {}
    untrained: dict[str, dict[str, Problem]] = {}
    which = itertools.product(range(plan["repeats"]), range(plan["folds"] or 1))
    for (variant, entry), (repeat, fold) in itertools.product(plan["variants"].items(), list(which)):
        run_folder = f"{entry['folder']}/{runs.run_name(fold, repeat, plan['folds'])}"
        found = _read_run(folder / run_folder, variant, fold, repeat)
        rows.append(found.row | {"run_folder": run_folder})
        if found.outcome is not None:
            outcomes.setdefault(variant, []).append(found.outcome)
            curves.setdefault(variant, []).append(found.curve)
        if found.problem is not None:
            untrained.setdefault(variant, {})[run_folder] = found.problem
    if not outcomes:
        raise UserError(f"{folder}: no finished run, expected at least one")
    estimates = {
        variant: {metric: estimate(of_variant, metric, folds=plan["folds"], level=LEVEL) for metric in METRICS}
        for variant, of_variant in outcomes.items()
    }
    padded = {
        variant: np.array(list(itertools.zip_longest(*of_variant, fillvalue=np.nan))).T
        for variant, of_variant in curves.items()
        if any(of_variant)
    }
    pairs, spread = _pairs(outcomes, untrained, plan, claims)
    return Results(plan, claims, rows, estimates, pairs, spread, padded, outcomes, untrained)


def later_claims(results: Results) -> list[str]:
    """Return the choices that were made when results existed already, such as `baseline lstm (planned: linear)`."""
    first, variants = first_claims(results.plan), list(results.plan["variants"])
    first = first._replace(baseline=first.baseline if first.baseline in variants else "")
    names = {
        "baseline": [baseline_of(variants, claims) for claims in (results.claims, first)],
        "margin": [f"{100 * claims.margin:g}" for claims in (results.claims, first)],
        "pairs": ["all" if claims.all_pairs else "with the baseline" for claims in (results.claims, first)],
        "metric": [NAMES[claims.metric] for claims in (results.claims, first)],
    }
    found = [f"{name} {now} (planned: {planned})" for name, (now, planned) in names.items() if now != planned]
    added = [variant for variant, entry in results.plan["variants"].items() if entry.get("added_later")]
    return found + ([f"{', '.join(added)} among the variants"] if added else [])


def _read_run(folder: Path, variant: str, fold: int, repeat: int) -> _ReadRun:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | {"variant": variant, "fold": fold, "repeat": repeat}
    record = runs.read_record(folder)
    if record.get("status") != "done":
        status = record.get("status", "unfinished" if folder.exists() else "missing")
        return _ReadRun(row | {"status": status}, None, [], None)
    if problem := missing_in(record, _RECORD_NEEDS):
        raise UserError(f"{folder / runs.RECORD}: {problem}; the file is damaged: delete the folder to train it anew")
    if runs.has_changed_predictions(folder):
        return _ReadRun(row | {"status": CHANGED}, None, [], None)
    outcome, records = read_outcome(folder, (repeat, fold)), runs.read_metrics(folder)
    problem = _problem_of(record, records, outcome)
    row |= evaluate_predictions(outcome.label, outcome.probabilities)
    row |= {
        "status": "done",
        "parameters": record["parameters"],
        "flops_per_text": record.get("flops_per_text", ""),
        "train_seconds": record["seconds"]["train"],
        "compile_seconds": record["seconds"]["compile"],
        "predict_ms": round(1e3 * record["seconds"]["evaluate"] / max(len(outcome.label), 1), 4),
        "peak_memory_bytes": record["peak_memory_bytes"],
        "best_epoch": record["best_epoch"],
        "train_texts": record.get("texts", {}).get("train", ""),
        "validation_texts": record.get("texts", {}).get("validation", ""),
        "not_trained": "" if problem is None else problem.why,
        "near_copies": record.get("near_copies", 0),
        "model_code": record.get("model_code", ""),
        "training_code": record.get("training_code", ""),
        "predictions_sha256": runs.predictions_checksum(folder),
    }
    curve = [r.get("accuracy", np.nan) for r in records if r["split"] == "validation"]
    return _ReadRun(row, outcome, curve, problem)


def problem_of_run(folder: Path) -> Problem | None:
    """Return why a finished run counts as not trained; None if it learned."""
    record = runs.read_record(folder)
    return _problem_of(record, runs.read_metrics(folder), read_outcome(folder, (0, 0)))


def _problem_of(record: dict[str, Any], records: list[dict[str, Any]], outcome: Outcome) -> Problem | None:
    """Return why a run counts as not trained; without recorded label counts those of its test texts are taken."""
    counts = record.get("label_counts") or np.bincount(outcome.label, minlength=outcome.probabilities.shape[1])
    return problem_of(records, record["best_epoch"], np.asarray(counts), outcome.probabilities.argmax(axis=1))


def read_outcome(folder: Path, run: tuple[int, int]) -> Outcome:
    """The predictions of a finished run, (repeat, fold)."""
    found = runs.read_predictions(folder)
    order = np.argsort(found.id)
    group = None if found.group is None else found.group[order]
    return Outcome(run, found.id[order], found.label[order], found.probabilities[order], group)


def planned_pairs(results: Results) -> int:
    """Return the number of planned pairs; pairs without a finished run count too."""
    return len(pairs_of(list(results.plan["variants"]), results.claims))


def _pairs(
    outcomes: dict[str, list[Outcome]],
    untrained: dict[str, dict[str, Problem]],
    plan: dict[str, Any],
    claims: Claims,
) -> tuple[list[dict[str, Any]], Spread | None]:
    """The differences with simultaneous intervals (Bonferroni) and what they say; and their median spread.

    The intervals are simultaneous over the pairs that were planned: a run that fails makes no other interval shorter.
    """
    planned = pairs_of(list(plan["variants"]), claims)
    level, found, spreads = level_of(len(planned), claims), [], []
    for a, b in planned:
        # Against a baseline without a finished run nothing can be said.
        paired = None
        if a in outcomes and b in outcomes:
            paired = contrast((outcomes[a], outcomes[b]), (1, -1), claims.metric, folds=plan["folds"])
        if paired is None:
            continue
        of_pair = judged(paired, level=level)
        word, negligible = verdict(of_pair, claims.margin, lower_is_better=claims.metric in LOWER_IS_BETTER)
        if a in untrained or b in untrained:
            word, negligible = NOT_TRAINED, False
        pair = {
            "a": a,
            "b": b,
            "metric": claims.metric,
            "difference": of_pair.mean,
            "interval": [of_pair.low, of_pair.high],
            "verdict": word,
            "negligible": negligible,
        }
        if len(paired.scores) > 1 and np.isfinite(paired.of_texts).all():
            spreads.append(spread_of(paired))
            if word == "undecided":
                more = needed(
                    of_pair,
                    spreads[-1],
                    texts=len(paired.of_texts),
                    repeats=max(1, len(paired.scores) // (plan["folds"] or 1)),  # that both have
                    folds=plan["folds"],
                    level=level,
                    margin=claims.margin,
                )
                pair["would_decide"] = more._asdict()
        found.append(pair)
    return found, Spread(*np.median(spreads, axis=0)) if spreads else None


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
            "runs": len(results.done(variant)),
            "metrics": {m: {"mean": e.mean, "interval": [e.low, e.high]} for m, e in of_variant.items()},
            "not_trained": {run: problem._asdict() for run, problem in results.untrained.get(variant, {}).items()},
        }
        for variant, of_variant in results.estimates.items()
    ]
    about = {name: value for name, value in results.plan.items() if name != "variants"}
    found = about | {"variants": variants, "pairs": results.pairs, "level": LEVEL, "margin": results.claims.margin}
    claims = results.claims._replace(baseline=baseline_of(list(results.plan["variants"]), results.claims))
    later = {"chosen_after_results": later_claims(results)}
    return _finite(found | {"metric": results.metric, "claims": claims._asdict()} | later)


def _finite(value: Any) -> Any:
    """Without what JSON cannot hold: a metric that is not defined is null."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
