"""Intervals of means and differences over runs: what a table may claim.

The estimand is the expected metric of the training procedure, so an interval carries the variation between runs and
the sampling of the test texts.

*Cross-validation*: the corrected resampled t interval. Folds share training texts, so their plain standard error is
too small; with J runs and a ratio q of test to training texts the variance of the mean is (1/J + q) s^2, with J - 1
degrees of freedom (Nadeau & Bengio 2003, Machine Learning 52, eq. 8; Bouckaert & Frank 2004 for repeats).

*A fixed test split*: runs share the test texts. The variance is s^2 / J between runs plus that of the test texts for
the mean run, with Satterthwaite's degrees of freedom. A single run has the second part alone.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from research.evaluation.metrics import evaluate_predictions, example_losses

_GROUPS = 100  # of the jackknife


class Estimate(NamedTuple):
    """A mean with its interval, fractions (nats for log loss)."""

    mean: float
    low: float
    high: float


class Outcome(NamedTuple):
    """The predictions of one run on its test texts, sorted by id."""

    run: tuple[int, int]  # (repeat, fold)
    id: np.ndarray  # str [N]
    label: np.ndarray  # int32 [N]
    probabilities: np.ndarray  # float32 [N, C]


def _score(outcome: Outcome, metric: str) -> float:
    return evaluate_predictions(outcome.label, outcome.probabilities)[metric]


def estimate(outcomes: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate:
    """The mean of a metric over runs.

    Args:
      outcomes: of one variant, at least one.
      metric: one of `metrics.METRICS`.
      folds: 0 where all runs share a test split.
      level: of the interval.
    """
    values = np.array([_score(outcome, metric) for outcome in outcomes])
    return _interval(values, [outcomes], metric, folds, level)


def difference(a: list[Outcome], b: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate | None:
    """The mean difference a - b over the runs (same repeat and fold) that both have; None where they share none."""
    of_b = {outcome.run: outcome for outcome in b}
    pairs = [(outcome, of_b[outcome.run]) for outcome in a if outcome.run in of_b]
    if not pairs:
        return None
    sides = [[x for x, _ in pairs], [y for _, y in pairs]]
    values = np.subtract(*([_score(outcome, metric) for outcome in side] for side in sides))
    return _interval(values, sides, metric, folds, level)


def _interval(values: np.ndarray, sides: list[list[Outcome]], metric: str, folds: int, level: float) -> Estimate:
    mean, runs = float(values.mean()), len(values)
    between = float(values.var(ddof=1)) if runs > 1 else 0.0
    if folds and runs > 1:
        variance, degrees = (1 / runs + 1 / (folds - 1)) * between, float(runs - 1)
    else:
        of_texts = _variance_of_texts(sides, metric)
        variance = between / runs + of_texts
        # Welch-Satterthwaite; the part of the texts has as good as infinite degrees of freedom.
        degrees = (runs - 1) * (variance * runs / between) ** 2 if between else math.inf
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(variance) if variance else 0.0
    return Estimate(mean, mean - half, mean + half)


def _variance_of_texts(sides: list[list[Outcome]], metric: str) -> float:
    """Sampling variance over test texts of mean(side 0) - mean(side 1), runs held fixed."""
    count = len(sides[0][0].label)
    if metric in ("accuracy", "log_loss"):  # means over texts
        values = [np.mean([_of_each_text(outcome, metric) for outcome in side], axis=0) for side in sides]
        return float(np.var(values[0] - values[1] if len(values) > 1 else values[0])) / max(count - 1, 1)
    # Delete-a-group jackknife (Efron & Tibshirani 1993, ch. 11): a macro average is no mean over texts.
    group = np.random.default_rng(0).permutation(count) % min(_GROUPS, count)
    left_out = []
    for g in range(group.max() + 1):
        kept = group != g
        means = [
            np.mean(
                [_score(o._replace(label=o.label[kept], probabilities=o.probabilities[kept]), metric) for o in side]
            )
            for side in sides
        ]
        left_out.append(means[0] - (means[1] if len(means) > 1 else 0.0))
    return float(np.var(left_out)) * (len(left_out) - 1)


def _of_each_text(outcome: Outcome, metric: str) -> np.ndarray:
    if metric == "accuracy":
        return (outcome.probabilities.argmax(axis=1) == outcome.label).astype(np.float64)
    return example_losses(outcome.label, outcome.probabilities)


def verdict(difference: Estimate, margin: float, *, higher_is_better: bool = True) -> tuple[str, bool]:
    """What a difference a - b says of a: `(verdict, negligible)`.

    `better` or `worse` where the interval excludes 0, negligible where it also lies inside +-margin; else
    `equivalent` inside the margin (identical predictions too); else `undecided`.
    """
    inside = -margin <= difference.low and difference.high <= margin
    if difference.low > 0 or difference.high < 0:
        return ("better" if (difference.low > 0) == higher_is_better else "worse"), inside
    return ("equivalent" if inside else "undecided"), False
