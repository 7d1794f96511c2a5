"""Compute confidence intervals of means and of differences over runs: what a table may claim.

We estimate the expected metric of a training procedure at this training size. The expectation runs over test texts and
over what differs between runs (split, initialisation, order, dropout). The variance of a mean over J runs is

    V = A + R + H,    A = v_texts - w / J,    R = (w + r) / J >= w / J

- v_texts: the sampling variance of the mean over texts, after averaging each text over all runs;
- w: the part of the variance between the scores of runs that single texts explain;
- r: the variance between runs beyond their texts (the luck of training);
- A: the part that all runs have in common, R: the part that more runs reduce;
- H: the part that the runs of a cross-validation have in common and hide; 0 on a fixed split.

There are many texts, so v_texts and w are taken as known. R is seen only through s^2 / J, where s^2 is the variance of
J scores, and J is small. The plug-in estimate r = s^2 - w with Satterthwaite's degrees of freedom errs too often where
luck and texts weigh alike, because s^2 is then often close to w by chance. So we use a generalised interval (Weerahandi
1993, "Generalized confidence intervals"; Krishnamoorthy & Mathew 2004 for random effects): the mean +- h such that

    E[ P(|t| sqrt(V*) < h) ] = level,    V* = A + H + max(w / J, (J - 1) s^2 / (J X))

where X is chi-squared with J - 1 degrees of freedom, and t is Student's with N - 1 degrees of freedom for N texts. With
few runs the interval is long, as it should be.

*A fixed test split* (all runs share its texts): w is the run x text residual of a crossed design.

*Cross-validation*: w is the variance of a fold's mean, estimated from the spread within folds. v_texts is that of Bayle
et al. (2020, "Cross-validation confidence intervals for test error"), whose interval is for the models of these folds.
Models of other training texts vary more. Folds and repeats do not show how much, because their training texts overlap,
and there is no unbiased estimate of it (Bengio & Grandvalet 2004). It does not shrink with repeats. So we assume that
it is a part of what single texts explain: H = KAPPA w / folds, for R repeats KAPPA R w / J. `./launch.sh hidden`
measures it with training sets that share no text, and `./launch.sh simulate` checks how often intervals hold. The
corrected t interval of Nadeau & Bengio (2003) is safe too. It is much longer, because it treats the sampling of test
texts as a property of five folds.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from research.evaluation.metrics import bounds_of, measure
from research.evaluation.outcome import Outcome
from research.evaluation.spread import Spread, half_width

KAPPA = 0.5  # H above in units of w / folds; what training sets that share no text show is 0.13 [-0.15, 0.41]


class Estimate(NamedTuple):
    """A mean with its confidence interval, in fractions (log loss: nats)."""

    mean: float
    low: float
    high: float


class Sample(NamedTuple):
    """The statistics that determine the interval of a mean, of one variant or of a weighted sum of variants."""

    scores: np.ndarray  # float64 [J], one for each run
    text_means: np.ndarray  # float64 [N], the mean value of each text (or group) over the runs that tested it
    explained: float  # w above
    bounds: tuple[float, float]  # the lowest and the highest possible mean
    is_identical: bool = False  # a difference of variants whose predictions are exactly equal
    folds: int = 0  # 0 if all runs share a test split
    runs: Sequence[tuple[int, int]] | None = None  # the (repeat, fold) of each score, None if unknown
    texts: np.ndarray | None = None  # the id of each text (or group), sorted; None if unknown

    @property
    def is_defined(self) -> bool:
        """Whether the metric is defined for every run; AUROC of one class is not."""
        return bool(np.isfinite([self.scores.sum(), self.explained]).all() and np.isfinite(self.text_means).all())


def estimate(outcomes: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate:
    """Return the mean of a metric over runs, with its interval.

    Args:
      outcomes: the runs of one variant, at least one. The interval of a single run is over texts alone, for that model.
      metric: one of `metrics.METRICS`.
      folds: the number of folds, 0 if all runs share a test split.
      level: the confidence level.
    """
    return interval(_sample_of(outcomes, metric, folds=folds), level=level)


def difference(a: list[Outcome], b: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate | None:
    """Return the mean difference a - b over the runs (same repeat and fold) that both have, or None without any."""
    paired = contrast((a, b), (1, -1), metric, folds=folds)
    return None if paired is None else difference_interval(paired, level=level)


def difference_interval(paired: Sample, *, level: float) -> Estimate:
    """Return a mean difference with its interval.

    One run of each variant says nothing about another training, so its interval has all possible values: -1 to 1 for a
    fraction.
    """
    estimated = interval(paired, level=level)
    if len(paired.scores) > 1 or paired.is_identical:
        return estimated
    low, high = paired.bounds
    return Estimate(estimated.mean, low, high)


def _sample_of(outcomes: list[Outcome], metric: str, *, folds: int) -> Sample:
    """Return the sample of one variant's runs."""
    measured = [measure(o.label, o.probabilities, metric, o.kind) for o in outcomes]
    scores, values = np.array([m.score for m in measured]), [m.text_values for m in measured]
    values, ids = _by_group(outcomes, values)
    sample = make_sample(scores, values, ids, folds=folds, bounds=_bounds(metric, outcomes))
    return sample._replace(runs=[outcome.run for outcome in outcomes])


def _by_group(outcomes: list[Outcome], values: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the values and ids of groups of texts if all runs know their groups, otherwise those of the texts."""
    if any(outcome.group is None for outcome in outcomes):
        return values, [outcome.id for outcome in outcomes]
    grouped = [group_values(v, outcome.group) for v, outcome in zip(values, outcomes, strict=True)]
    return [of_run for of_run, _ in grouped], [ids for _, ids in grouped]


def group_values(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values float64 [G] and ids [G] of groups, from values [N] and groups [N] of texts.

    Their mean is that of the texts. Its sampling variance is that of a mean of clustered texts (Liang & Zeger 1986).
    """
    ids, position = np.unique(group, return_inverse=True)
    mean = values.mean()
    return mean + len(ids) / len(position) * np.bincount(position, values - mean), ids


def _bounds(metric: str, outcomes: list[Outcome]) -> tuple[float, float]:
    return bounds_of(metric, outcomes[0].probabilities.shape[1])


def contrast(sides: Sequence[list[Outcome]], weights: Sequence[float], metric: str, *, folds: int) -> Sample | None:
    """Return the sample of a weighted sum of variants over the runs that all of them have, or None if there are none.

    Weights (1, -1) give a difference.
    """
    runs_of_side = [{outcome.run: outcome for outcome in side} for side in sides]
    common = [outcome.run for outcome in sides[0] if all(outcome.run in runs for runs in runs_of_side)]
    if not common:
        return None
    sides = [[runs[run] for run in common] for runs in runs_of_side]
    low, high = _bounds(metric, sides[0])
    most = (high - low) * sum(map(abs, weights)) / 2
    if all(np.array_equal(o.id, first.id) for side in sides for o, first in zip(side, sides[0], strict=True)):
        return _same_texts_contrast(sides, weights, metric, folds=folds, bounds=(-most, most))
    return _own_folds_contrast(sides, weights, metric, folds=folds, bounds=(-most, most))


def _same_texts_contrast(
    sides: Sequence[list[Outcome]], weights: Sequence[float], metric: str, *, folds: int, bounds: tuple[float, float]
) -> Sample:
    """Return the sample where runs of equal repeat and fold test the same texts."""
    measured = [[measure(o.label, o.probabilities, metric, o.kind) for o in side] for side in sides]
    runs = list(zip(*measured, strict=True))
    scores = np.array([sum(w * m.score for w, m in zip(weights, run, strict=True)) for run in runs])
    values = [sum(w * m.text_values for w, m in zip(weights, run, strict=True)) for run in runs]
    values, ids = _by_group(sides[0], values)
    sample = make_sample(scores, values, ids, folds=folds, bounds=bounds)
    is_identical = sum(weights) == 0 and _have_same_predictions(sides)
    return sample._replace(is_identical=is_identical, runs=[outcome.run for outcome in sides[0]])


def _own_folds_contrast(
    sides: Sequence[list[Outcome]], weights: Sequence[float], metric: str, *, folds: int, bounds: tuple[float, float]
) -> Sample | None:
    """Return the sample where variants have folds of their own, as they do with different seeds (an A/A comparison).

    Texts are then paired one by one, and the parts of s^2 that they explain add up.
    """
    has_groups = all(o.group is not None for side in sides for o in side)
    if not has_groups:
        sides = [[o._replace(group=None) for o in side] for side in sides]
    samples = [_sample_of(side, metric, folds=folds) for side in sides]
    ids = [np.unique(np.concatenate([o.group if has_groups else o.id for o in side])) for side in sides]
    common = functools.reduce(np.intersect1d, ids)
    if not len(common):
        return None
    text_means = [s.text_means[np.searchsorted(i, common)] for s, i in zip(samples, ids, strict=True)]
    return Sample(
        scores=sum(w * s.scores for w, s in zip(weights, samples, strict=True)),
        text_means=sum(w * means for w, means in zip(weights, text_means, strict=True)),
        explained=sum(w**2 * s.explained for w, s in zip(weights, samples, strict=True)),
        bounds=bounds,
        folds=folds,
        runs=samples[0].runs,
        texts=common,
    )


def _have_same_predictions(sides: Sequence[list[Outcome]]) -> bool:
    pairs = ((o, first) for side in sides[1:] for o, first in zip(side, sides[0], strict=True))
    return all(np.array_equal(o.probabilities, first.probabilities) for o, first in pairs)


def make_sample(
    scores: np.ndarray, values: list[np.ndarray], ids: list[np.ndarray], *, folds: int, bounds: tuple[float, float]
) -> Sample:
    """Return a sample from scores [J] and, for each run, the values and ids of its texts (J x [N_j])."""
    if not folds:
        matrix = np.stack(values)
        residual = matrix - matrix.mean(axis=1, keepdims=True) - matrix.mean(axis=0)[None, :] + matrix.mean()
        runs, count = matrix.shape
        explained = float(np.sum(residual**2)) / (max(runs - 1, 1) * max(count - 1, 1)) / count
        return Sample(scores, matrix.mean(axis=0), explained, bounds, texts=np.asarray(ids[0]))
    texts, text = np.unique(np.concatenate(ids), return_inverse=True)
    text_means = np.bincount(text, np.concatenate(values)) / np.bincount(text)
    explained = float(np.mean([np.var(v, ddof=1) / len(v) if len(v) > 1 else 0.0 for v in values]))
    return Sample(scores, text_means, explained, bounds, folds=folds, texts=texts)


def spread_of(sample: Sample) -> Spread:
    """Return the variances above; with a single run only that of the texts.

    Few texts that agree, or are all right, do not show that all texts would. So one more text that is off by 1 is added
    to those that were seen (Agresti & Coull 1998; Agresti & Min 2005 for differences).
    """
    count = len(sample.text_means)
    texts = (float(sample.text_means.var(ddof=1)) if count > 1 else 0.0) + 1 / count
    if len(sample.scores) == 1:
        return Spread(texts, 0.0, 0.0)
    hidden = KAPPA * sample.explained / sample.folds if sample.folds else 0.0
    runs = float(sample.scores.var(ddof=1)) - sample.explained
    return Spread(texts, sample.explained * count, runs, hidden * count)


def interval(sample: Sample, *, level: float) -> Estimate:
    """Return the mean over runs with its interval, which is NaN if the metric is undefined for some run."""
    mean, runs, texts = float(sample.scores.mean()), len(sample.scores), len(sample.text_means)
    if sample.is_identical:
        return Estimate(mean, mean, mean)
    if not sample.is_defined:
        return Estimate(mean, np.nan, np.nan)
    half = half_width(spread_of(sample), texts=texts, runs=runs, level=level)
    return Estimate(mean, max(mean - half, sample.bounds[0]), min(mean + half, sample.bounds[1]))


def verdict(difference: Estimate, margin: float, *, lower_is_better: bool = False) -> tuple[str, bool]:
    """Return what a difference a - b says about a: `(verdict, is_negligible)`.

    The verdict is `better` or `worse` if the interval excludes 0, and negligible if it also lies inside +-margin.
    Otherwise it is `equivalent` inside the margin (also for identical predictions) and `undecided` outside.
    """
    is_inside = -margin <= difference.low and difference.high <= margin
    if difference.low > 0 or difference.high < 0:
        return ("better" if (difference.low > 0) != lower_is_better else "worse"), is_inside
    return ("equivalent" if is_inside else "undecided"), False


def mcnemar(a: Outcome, b: Outcome) -> tuple[int, int, float]:
    """Compare two trained models on the same texts by McNemar's exact test.

    Returns:
      how many texts only a has right, how many only b has right, and the p-value. It is a statement about these two
      models and not about another training.
    """
    right = [outcome.probabilities.argmax(axis=1) == outcome.label for outcome in (a, b)]
    only_a, only_b = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
    return only_a, only_b, min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
