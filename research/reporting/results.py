"""Read and evaluate a comparison: its runs, an estimate per variant and metric, a verdict per pair.

It trains nothing, so a report can be rebuilt at any time. `Results` holds all that a table, a plot or a page shows.
"""

import csv
import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation.intervals import Estimate, contrast, difference_interval, estimate, spread_of, verdict
from research.evaluation.learning import Problem
from research.evaluation.metrics import METRICS
from research.evaluation.outcome import Outcome
from research.evaluation.planning import required_amounts
from research.evaluation.spread import Spread
from research.reporting.claims import LEVEL, Claims, baseline_of, first_claims, level_of, pairs_of, planned_claims
from research.reporting.effects import Effect, estimate_effects
from research.reporting.run_result import CHANGED, COLUMNS, FAILED, RunResult, read_run
from research.runs import run_files
from research.runs.plan_file import read_plan, repeats_of

NOT_TRAINED = "not trained"  # the verdict where a variant of the pair has a run that did not learn
VERDICTS = ("better", "equivalent", "undecided", "worse", NOT_TRAINED)


class Results(NamedTuple):
    """A comparison, read and evaluated."""

    plan: dict[str, Any]
    claims: Claims
    rows: list[dict[str, Any]]  # one per run, with `COLUMNS`; failed and missing runs too
    estimates: dict[str, dict[str, Estimate]]  # variant -> metric -> estimate; only variants with a finished run
    pairs: list[dict[str, Any]]  # as in `comparison.json`
    pair_level: float  # the confidence level of each pair's interval, so that all hold together
    spread: Spread | None  # of a difference, the median over the pairs; None if no pair has two runs
    curves: dict[str, np.ndarray]  # variant -> validation accuracy [runs, epochs], NaN where a run has stopped
    outcomes: dict[str, list[Outcome]]  # variant -> the predictions of its finished runs
    untrained: dict[str, dict[str, Problem]]  # variant -> run folder -> why that run counts as not trained
    failures: dict[str, dict[str, str]]  # variant -> run folder -> the error that ended that run
    effects: list[Effect]  # of settings that were varied together

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self.claims.metric

    @property
    def variants(self) -> list[str]:
        """The planned variants, in the order of the plan."""
        return list(self.plan["variants"])

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return baseline_of(self.variants, self.claims)

    @property
    def foreign(self) -> dict[str, dict[str, Any]]:
        """The variants that are not models of this project: name -> what the plan says of where they come from."""
        return {name: entry["foreign"] for name, entry in self.plan["variants"].items() if "foreign" in entry}

    def has_probabilities(self, variant: str) -> bool:
        """Return whether a variant predicts probabilities, and not labels or scores alone."""
        return all(outcome.kind == "probabilities" for outcome in self.outcomes[variant])

    def has_seconds(self, variant: str) -> bool:
        """Return whether it is known how long a variant was trained."""
        return all(row["train_seconds"] != "" for row in self.done(variant))

    def done(self, variant: str) -> list[dict[str, Any]]:
        """Return the rows of a variant's finished runs."""
        return [row for row in self.rows if row["variant"] == variant and row["status"] == "done"]

    def ranked(self) -> list[str]:
        """Return the variants with a finished run, the best first."""
        sign = 1 if METRICS[self.metric].is_lower_better else -1
        mean = {variant: sign * of_metric[self.metric].mean for variant, of_metric in self.estimates.items()}
        return sorted(mean, key=lambda variant: (np.isnan(mean[variant]), mean[variant]))


def read_results(folder: Path, claims: Claims | None = None) -> Results:
    """Read a comparison's folder and evaluate it.

    Args:
      folder: the comparison's folder.
      claims: default those that the comparison was started with.

    Raises:
      UserError: the folder holds no comparison or no finished run, or the baseline is none of its variants.
    """
    plan = read_plan(folder)
    planned = planned_claims(plan)
    claims = planned if claims is None else claims
    claims = claims if claims.metric else claims._replace(metric=planned.metric)
    if claims.metric not in METRICS:
        raise UserError(f"--metric is {claims.metric!r}, expected one of {', '.join(METRICS)}")
    return results_of(folder, plan, claims)


def results_of(folder: Path, plan: dict[str, Any], claims: Claims) -> Results:
    """Evaluate the runs of a plan, which is that of the folder or a part of it."""
    runs = _read_runs(folder, plan)
    outcomes: dict[str, list[Outcome]] = {}
    curves: dict[str, list[list[float]]] = {}
    untrained: dict[str, dict[str, Problem]] = {}
    failures: dict[str, dict[str, str]] = {}
    for run in runs:
        variant = run.row["variant"]
        if run.outcome is not None:
            outcomes.setdefault(variant, []).append(run.outcome)
            curves.setdefault(variant, []).append(run.curve)
        if run.problem is not None:
            untrained.setdefault(variant, {})[run.row["run_folder"]] = run.problem
        if run.failure:
            failures.setdefault(variant, {})[run.row["run_folder"]] = run.failure
    compared = _compare_pairs(outcomes, untrained, plan, claims)
    return Results(
        plan,
        claims,
        rows=[run.row for run in runs],
        estimates={
            variant: {metric: estimate(of_variant, metric, folds=plan["folds"], level=LEVEL) for metric in METRICS}
            for variant, of_variant in outcomes.items()
        },
        pairs=compared.pairs,
        pair_level=compared.level,
        spread=compared.spread,
        curves={
            variant: np.array(list(itertools.zip_longest(*of_variant, fillvalue=np.nan))).T
            for variant, of_variant in curves.items()
            if any(of_variant)
        },
        outcomes=outcomes,
        untrained=untrained,
        failures=failures,
        effects=estimate_effects(list(plan["variants"]), outcomes, claims, folds=plan["folds"]),
    )


def _read_runs(folder: Path, plan: dict[str, Any]) -> list[RunResult]:
    """Read every planned run; raise a `UserError` if none is finished."""
    runs = [
        read_run(folder, plan, variant, fold=fold, repeat=repeat)
        for variant in plan["variants"]
        for repeat in range(repeats_of(plan, variant))
        for fold in range(plan["folds"] or 1)
    ]
    if all(run.outcome is None for run in runs):
        changed = sum(run.row["status"] == CHANGED for run in runs)
        note = f" ({changed} of them have a {run_files.PREDICTIONS} that they did not write)" if changed else ""
        failed = [run for run in runs if run.row["status"] == FAILED]
        if failed:
            note += f" ({len(failed)} failed, {failed[0].row['run_folder']} with {failed[0].failure or 'an error'})"
        raise UserError(f"{folder}: no finished run{note}, expected at least one")
    return runs


def list_later_choices(results: Results) -> list[str]:
    """Return the choices that were made when results existed already, such as `baseline lstm (planned: linear)`."""
    entries = results.plan["variants"]
    added = [variant for variant, entry in entries.items() if entry.get("added_later")]
    at_first = [variant for variant in entries if variant not in added] or results.variants
    first = first_claims(results.plan)
    first = first._replace(baseline=first.baseline if first.baseline in at_first else "")
    choices = {
        "baseline": [results.baseline, baseline_of(at_first, first)],
        "margin": [f"{100 * claims.margin:g}" for claims in (results.claims, first)],
        "pairs": ["all" if claims.all_pairs else "with the baseline" for claims in (results.claims, first)],
        "metric": [METRICS[claims.metric].title for claims in (results.claims, first)],
    }
    changed = [f"{name} {now} (planned: {planned})" for name, (now, planned) in choices.items() if now != planned]
    return changed + ([f"{', '.join(added)} among the variants"] if added else [])


def count_planned_pairs(results: Results) -> int:
    """Return the number of planned pairs, with those that lack a finished run."""
    return len(pairs_of(results.variants, results.claims))


class _Pairs(NamedTuple):
    """The planned pairs that can be compared."""

    pairs: list[dict[str, Any]]  # as in `comparison.json`
    level: float  # of each interval
    spread: Spread | None  # the median of their differences


def _compare_pairs(
    outcomes: dict[str, list[Outcome]],
    untrained: dict[str, dict[str, Problem]],
    plan: dict[str, Any],
    claims: Claims,
) -> _Pairs:
    """Compare the planned pairs.

    The intervals are simultaneous over the pairs that were planned: a run that fails makes no other interval shorter.
    """
    planned = pairs_of(list(plan["variants"]), claims)
    samples = {}
    for a, b in planned:
        if a in outcomes and b in outcomes:
            samples[a, b] = contrast((outcomes[a], outcomes[b]), (1, -1), claims.metric, folds=plan["folds"])
    samples = {pair: sample for pair, sample in samples.items() if sample is not None}
    level = level_of(len(planned), claims, list(samples.values()))
    pairs, spreads = [], []
    for (a, b), paired in samples.items():
        difference = difference_interval(paired, level=level)
        is_lower_better = METRICS[claims.metric].is_lower_better
        word, is_negligible = verdict(difference, claims.margin, lower_is_better=is_lower_better)
        if a in untrained or b in untrained:
            word, is_negligible = NOT_TRAINED, False
        pair = {
            "a": a,
            "b": b,
            "metric": claims.metric,
            "difference": difference.mean,
            "interval": [difference.low, difference.high],
            "verdict": word,
            "negligible": is_negligible,
        }
        if len(paired.scores) > 1 and np.isfinite(paired.text_means).all():
            spreads.append(spread_of(paired))
            if word == "undecided":
                more = required_amounts(
                    difference,
                    spreads[-1],
                    texts=len(paired.text_means),
                    repeats=max(1, len(paired.scores) // (plan["folds"] or 1)),  # that both have
                    folds=plan["folds"],
                    level=_level_at_next_look(level, plan, claims),
                    margin=claims.margin,
                )
                pair["would_decide"] = more._asdict()
        pairs.append(pair)
    return _Pairs(pairs, level, Spread(*np.median(spreads, axis=0)) if spreads else None)


def _level_at_next_look(level: float, plan: dict[str, Any], claims: Claims) -> float:
    """Return about the level of one pair's interval once repeats are added: a further look, if it was not planned."""
    is_planned = max(plan.get("looks", [0])) > plan["repeats"]
    return level if is_planned else 1 - (1 - level) * claims.looks / (claims.looks + 1)


def results_csv(results: Results) -> str:
    """Return the text of `results.csv`: one row per run. What is not known or not defined (NaN) is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in results.rows)
    return file.getvalue()


def comparison_json(results: Results) -> dict[str, Any]:
    """Return the content of `comparison.json`: estimates, pairs, claims and provenance."""
    variants = [
        {
            "variant": variant,
            "runs": len(results.done(variant)),
            "metrics": {metric: {"mean": e.mean, "interval": [e.low, e.high]} for metric, e in of_metric.items()},
            "not_trained": {run: problem._asdict() for run, problem in results.untrained.get(variant, {}).items()},
        }
        for variant, of_metric in results.estimates.items()
    ]
    content = {name: value for name, value in results.plan.items() if name != "variants"} | {
        "variants": variants,
        "pairs": results.pairs,
        "level": LEVEL,
        "pair_level": results.pair_level,
        "margin": results.claims.margin,
        "metric": results.metric,
        "claims": results.claims._replace(baseline=results.baseline)._asdict(),
        "chosen_after_results": list_later_choices(results),
    }
    return _without_nan(content)


def _without_nan(value: Any) -> Any:
    """Return a copy in which undefined metrics are null, because JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
