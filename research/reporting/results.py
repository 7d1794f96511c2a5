"""What a comparison's folder holds: a row a run, an estimate a variant and metric, a verdict a pair.

Reads run folders and trains nothing, so a report can be rebuilt at any time from what is there.
"""

import csv
import hashlib
import io
import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import runs
from research.errors import UserError
from research.evaluation.metrics import METRICS, evaluate_predictions
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
from research.settings import OFF

LEVEL = 0.95
_COLUMNS = (
    *("variant", "fold", "repeat", "status", *METRICS),
    *("parameters", "flops_per_text", "train_seconds", "compile_seconds", "predict_ms", "peak_memory_bytes"),
    *("best_epoch", "train_texts", "validation_texts", "model_code", "predictions_sha256", "run_folder"),
)


class Claims(NamedTuple):
    """Which differences are claimed about, and what is too small to matter."""

    baseline: str = ""  # a variant; "" is the linear one, else the first, and of `--drop` the variant itself
    margin: float = 0.01  # a difference of accuracy within it is negligible
    all_pairs: bool = False  # every pair, rather than those with the baseline
    looks: int = 1  # how often it may be looked whether all is decided
    corpora: int = 1  # of which this is one


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

    def done(self, variant: str) -> list[dict[str, Any]]:
        """The rows of a variant's finished runs."""
        return [row for row in self.rows if row["variant"] == variant and row["status"] == "done"]

    def ranked(self) -> list[str]:
        """The variants with a finished run, best accuracy first."""
        return sorted(self.estimates, key=lambda variant: -self.estimates[variant]["accuracy"].mean)


def read_results(folder: Path, claims: Claims | None = None) -> Results:
    """Reads and evaluates a comparison; the claims are those that it was started with, unless others are given.

    Raises:
      UserError: the folder holds no comparison, or one without a finished run, or the baseline is none of its variants.
    """
    plan = runs.read_plan(folder)
    claims = planned_claims(plan) if claims is None else claims
    rows: list[dict[str, Any]] = []
    outcomes: dict[str, list[Outcome]] = {}
    curves: dict[str, list[list[float]]] = {}
    for variant, entry in plan["variants"].items():
        for repeat in range(plan["repeats"]):
            for fold in range(plan["folds"] or 1):
                name = runs.run_name(fold, repeat, plan["folds"])
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
    padded = {
        variant: np.array(list(itertools.zip_longest(*of_variant, fillvalue=np.nan))).T
        for variant, of_variant in curves.items()
    }
    pairs, spread = _pairs(outcomes, plan, claims)
    return Results(
        plan,
        claims,
        rows,
        estimates,
        pairs,
        spread,
        padded,
        outcomes,
    )


def planned_claims(plan: dict[str, Any]) -> Claims:
    """The claims that a comparison was started with."""
    return Claims(**plan.get("claims", {}))


def _read_run(folder: Path, variant: str, fold: int, repeat: int) -> tuple[dict[str, Any], Outcome | None]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | {"variant": variant, "fold": fold, "repeat": repeat}
    record = runs.read_record(folder)
    if record.get("status") != "done":
        return row | {"status": record.get("status", "unfinished" if folder.exists() else "missing")}, None
    outcome = read_outcome(folder, (repeat, fold))
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
        "model_code": record.get("model_code", ""),
        "predictions_sha256": hashlib.sha256((folder / runs.PREDICTIONS).read_bytes()).hexdigest(),
    }
    return row, outcome


def read_outcome(folder: Path, run: tuple[int, int]) -> Outcome:
    """The predictions of a finished run, (repeat, fold)."""
    found = runs.read_predictions(folder)
    order = np.argsort(found.id)
    group = None if found.group is None else found.group[order]
    return Outcome(run, found.id[order], found.label[order], found.probabilities[order], group)


def baseline_of(variants: list[str], claims: Claims) -> str:
    """The variant that the others are compared with.

    Raises:
      UserError: the one that is asked for is not there.
    """
    if claims.baseline and claims.baseline not in variants:
        raise UserError(f"--baseline is {claims.baseline!r}, expected one of {', '.join(variants)}")
    linear = next((v for v in variants if v.split(":")[0].split("[")[0] == "linear"), variants[0])
    return claims.baseline or linear


def pairs_of(variants: list[str], claims: Claims) -> list[tuple[str, str]]:
    """The pairs (a, b) that are claimed about.

    Without a baseline that is asked for, a variant with something switched off is compared with itself as it was.
    """
    if claims.all_pairs:
        return list(itertools.combinations(variants, 2))
    baseline = baseline_of(variants, claims)
    others = (variant for variant in variants if variant != baseline)
    return [(v, baseline if claims.baseline else _undropped(v, variants) or baseline) for v in others]


def settings_in(variant: str) -> tuple[str, list[tuple[str, str]]]:
    """`lstm[model.hidden_size=64,seed=1]` -> its name without brackets, and (setting, value) of each within."""
    base, _, inside = variant.removesuffix("]").partition("[")
    # Commas inside brackets belong to a tuple: widths=(3,4).
    return base, re.findall(r"([\w.]+)=(\([^)]*\)|[^,]+)", inside)


def _undropped(variant: str, variants: list[str]) -> str | None:
    """The same variant with what `--drop` has switched off, the last setting in its name; None if not there."""
    base, settings = settings_in(variant)
    if not settings or settings[-1][1] not in OFF:
        return None
    kept = ",".join(f"{name}={value}" for name, value in settings[:-1])
    name = f"{base}[{kept}]" if kept else base
    return name if name in variants else None


def level_of(pairs: int, claims: Claims) -> float:
    """Of the interval of one pair (Bonferroni over pairs, looks and corpora)."""
    return 1 - (1 - LEVEL) / (max(pairs, 1) * claims.looks * claims.corpora)


def _pairs(
    outcomes: dict[str, list[Outcome]], plan: dict[str, Any], claims: Claims
) -> tuple[list[dict[str, Any]], Spread | None]:
    """The differences with simultaneous intervals (Bonferroni) and what they say; and their median spread."""
    # Against a baseline without a finished run nothing can be said.
    variants = list(plan["variants"])
    pairs = [pair for pair in pairs_of(variants, claims) if all(variant in outcomes for variant in pair)]
    contrasts = {
        (a, b): contrast((outcomes[a], outcomes[b]), (1, -1), "accuracy", folds=plan["folds"]) for a, b in pairs
    }
    contrasts = {pair: paired for pair, paired in contrasts.items() if paired is not None}
    level = level_of(len(contrasts), claims)
    found, spreads = [], []
    for (a, b), paired in contrasts.items():
        of_pair = judged(paired, level=level)
        word, negligible = verdict(of_pair, claims.margin)
        pair = {
            "a": a,
            "b": b,
            "metric": "accuracy",
            "difference": of_pair.mean,
            "interval": [of_pair.low, of_pair.high],
            "verdict": word,
            "negligible": negligible,
        }
        if len(paired.scores) > 1:
            spreads.append(spread_of(paired))
        if word == "undecided" and len(paired.scores) > 1:
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
        }
        for variant, of_variant in results.estimates.items()
    ]
    about = {name: value for name, value in results.plan.items() if name != "variants"}
    found = about | {"variants": variants, "pairs": results.pairs, "level": LEVEL, "margin": results.claims.margin}
    claims = results.claims._replace(baseline=baseline_of(list(results.plan["variants"]), results.claims))
    return _finite(found | {"claims": claims._asdict()})


def _finite(value: Any) -> Any:
    """Without what JSON cannot hold: a metric that is not defined is null."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
