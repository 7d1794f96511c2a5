"""What a comparison's folder holds: a row a run, an estimate a variant and metric, a verdict a pair.

Reads run folders and trains nothing, so a report can be rebuilt at any time from what is there.
"""

import csv
import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation.intervals import (
    Estimate,
    Outcome,
    Spread,
    contrast,
    difference_interval,
    estimate,
    spread_of,
    verdict,
)
from research.evaluation.learning import Problem
from research.evaluation.metrics import LOWER_IS_BETTER, METRICS, NAMES
from research.evaluation.planning import required_amounts
from research.reporting.claims import (
    LEVEL,
    Claims,
    baseline_of,
    first_claims,
    level_of,
    pairs_of,
    planned_claims,
)
from research.reporting.run_result import CHANGED, COLUMNS, read_run
from research.runs import run_files
from research.runs.plan_file import read_plan

NOT_TRAINED = "not trained"  # the verdict of a pair of which one variant has a run that did not learn


class Results(NamedTuple):
    """A comparison, read."""

    plan: dict[str, Any]
    claims: Claims
    rows: list[dict[str, Any]]  # a run each, with `COLUMNS`; also those that failed or are missing
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


def read_results(folder: Path, claims: Claims | None = None) -> Results:
    """Reads and evaluates a comparison; the claims are those that it was started with, unless others are given.

    Raises:
      UserError: the folder holds no comparison, or one without a finished run, or the baseline is none of its variants.
    """
    plan = read_plan(folder)
    claims = planned_claims(plan) if claims is None else claims
    claims = claims if claims.metric else claims._replace(metric=planned_claims(plan).metric)
    if claims.metric not in METRICS:
        raise UserError(f"--metric is {claims.metric!r}, expected one of {', '.join(METRICS)}")
    rows: list[dict[str, Any]] = []
    outcomes: dict[str, list[Outcome]] = {}
    curves: dict[str, list[list[float]]] = {}
    untrained: dict[str, dict[str, Problem]] = {}
    which = itertools.product(range(plan["repeats"]), range(plan["folds"] or 1))
    for (variant, entry), (repeat, fold) in itertools.product(plan["variants"].items(), list(which)):
        run_folder = f"{entry['folder']}/{run_files.run_name(fold, repeat, plan['folds'])}"
        found = read_run(folder / run_folder, plan, variant, fold, repeat)
        rows.append(found.row | {"run_folder": run_folder})
        if found.outcome is not None:
            outcomes.setdefault(variant, []).append(found.outcome)
            curves.setdefault(variant, []).append(found.curve)
        if found.problem is not None:
            untrained.setdefault(variant, {})[run_folder] = found.problem
    if not outcomes:
        changed = sum(row["status"] == CHANGED for row in rows)
        but = f" ({changed} of them have a {run_files.PREDICTIONS} that they did not write)" if changed else ""
        raise UserError(f"{folder}: no finished run{but}, expected at least one")
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
    at_first = [v for v in variants if not results.plan["variants"][v].get("added_later")] or variants
    first = first._replace(baseline=first.baseline if first.baseline in at_first else "")
    names = {
        "baseline": [baseline_of(variants, results.claims), baseline_of(at_first, first)],
        "margin": [f"{100 * claims.margin:g}" for claims in (results.claims, first)],
        "pairs": ["all" if claims.all_pairs else "with the baseline" for claims in (results.claims, first)],
        "metric": [NAMES[claims.metric] for claims in (results.claims, first)],
    }
    found = [f"{name} {now} (planned: {planned})" for name, (now, planned) in names.items() if now != planned]
    added = [variant for variant, entry in results.plan["variants"].items() if entry.get("added_later")]
    return found + ([f"{', '.join(added)} among the variants"] if added else [])


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
        of_pair = difference_interval(paired, level=level)
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
        if len(paired.scores) > 1 and np.isfinite(paired.text_means).all():
            spreads.append(spread_of(paired))
            if word == "undecided":
                more = required_amounts(
                    of_pair,
                    spreads[-1],
                    texts=len(paired.text_means),
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
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
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
