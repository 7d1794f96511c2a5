"""Intervals of means and differences over runs: what a table may claim.

The estimand is the expected metric of the training procedure at this training size: over test texts and over what
differs between runs (split, initialisation, order, dropout). The variance of a mean over J runs is

    V = A + R,    A = v_texts - w / J,    R = (w + r) / J >= w / J

v_texts is the sampling variance of the texts' mean values over all runs, w the part of the variance between the runs'
scores that single texts explain, r what runs differ by beyond their texts; A is what runs have in common. Texts are
many, so v_texts and w are taken as known; R is seen through s^2 / J alone, s^2 being the variance of J scores, and J is
small. To put s^2 - w in the place of r (with Satterthwaite's degrees of freedom) errs too often where luck and texts
weigh alike, because s^2 is then often near w by chance. So the interval is a generalised one (Weerahandi 1993,
"Generalized confidence intervals"; Krishnamoorthy & Mathew 2004 for random effects): the mean +- h such that

    E[ P(|t| sqrt(V*) < h) ] = level,    V* = A + max(w / J, (J - 1) s^2 / (J X)),    X chi-squared of J - 1 degrees

t being Student's, of as many degrees as there are texts but one. Few runs make it long, as they should.

*A fixed test split* (all runs share its texts): w is the run x text residual of a crossed design.

*Cross-validation*: w is the variance of a fold's mean, from the spread within folds; v_texts is that of Bayle et al.
(2020, "Cross-validation confidence intervals for test error"), whose interval is for the very models of the folds. How
much more models of other training texts vary, folds do not show in full, since theirs overlap, and there is no unbiased
estimate of it (Bengio & Grandvalet 2004); what the interval allows for few runs has to cover it. Whether it does,
`./launch.sh simulate` shows by real trainings. The corrected t interval of Nadeau & Bengio (2003) is safe too, but much
longer, because it takes the sampling of test texts for a property of five folds.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from research.evaluation.metrics import bounds_of, measure


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
    group: np.ndarray | None = None  # int [N]: texts of equal number (copies, one author's) count as one


class Sample(NamedTuple):
    """What the interval of a mean over runs is made from; of one variant, or of a weighted sum of several."""

    scores: np.ndarray  # float64 [J], of each run
    of_texts: np.ndarray  # float64 [N], the mean value of each text (or group) over the runs that tested it
    explained: float  # w above
    bounds: tuple[float, float]  # between which the mean must lie
    identical: bool = False  # a sum of weight 0 over variants whose predictions are the very same


class Spread(NamedTuple):
    """Where the variance of a mean comes from."""

    texts: float  # v_texts N, of N texts
    explained: float  # w N
    runs: float  # s^2 - w; by chance it may be below 0


def estimate(outcomes: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate:
    """The mean of a metric over runs.

    Args:
      outcomes: of one variant, at least one. With a single run the interval is over texts alone, for that model.
      metric: one of `metrics.METRICS`.
      folds: 0 where all runs share a test split.
      level: of the interval.
    """
    return interval(_sample_of(outcomes, metric, folds=folds), level=level)


def difference(a: list[Outcome], b: list[Outcome], metric: str, *, folds: int, level: float = 0.95) -> Estimate | None:
    """The mean difference a - b over the runs (same repeat and fold) that both have; None where they share none."""
    paired = contrast((a, b), (1, -1), metric, folds=folds)
    return None if paired is None else judged(paired, level=level)


def judged(paired: Sample, *, level: float) -> Estimate:
    """The interval of a difference.

    One run each says nothing of another training: the interval is then all that there could be, -1 to 1 for a fraction.
    """
    found = interval(paired, level=level)
    return Estimate(found.mean, *paired.bounds) if len(paired.scores) == 1 and not paired.identical else found


def _sample_of(outcomes: list[Outcome], metric: str, *, folds: int) -> Sample:
    """The sample of a variant's runs."""
    measured = [measure(outcome.label, outcome.probabilities, metric) for outcome in outcomes]
    scores, values = np.array([m.score for m in measured]), [m.of_texts for m in measured]
    return make_sample(scores, *_grouped(outcomes, values), folds=folds, bounds=_bounds(metric, outcomes))


def _grouped(outcomes: list[Outcome], values: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values and names of groups of texts instead of texts, where there are groups.

    Their mean is that of the texts, and its sampling variance that of a mean of clustered texts (Liang & Zeger 1986).
    """
    names = [outcome.id for outcome in outcomes]
    if any(outcome.group is None for outcome in outcomes):
        return values, names
    for run, outcome in enumerate(outcomes):
        names[run], which = np.unique(outcome.group, return_inverse=True)
        mean = values[run].mean()
        values[run] = mean + len(names[run]) / len(which) * np.bincount(which, values[run] - mean)
    return values, names


def _bounds(metric: str, outcomes: list[Outcome]) -> tuple[float, float]:
    return bounds_of(metric, outcomes[0].probabilities.shape[1])


def contrast(sides: Sequence[list[Outcome]], weights: Sequence[float], metric: str, *, folds: int) -> Sample | None:
    """The sample of a weighted sum of variants, as of a difference (1, -1), over the runs that all have; None if none.

    Runs of equal repeat and fold test the same texts, unless the variants have seeds of their own (an A/A comparison).
    Then texts are paired one by one, and the parts of s^2 that they explain add up.
    """
    by_run = [{outcome.run: outcome for outcome in side} for side in sides]
    common = [outcome.run for outcome in sides[0] if all(outcome.run in of_side for of_side in by_run)]
    if not common:
        return None
    sides = [[of_side[run] for run in common] for of_side in by_run]
    low, high = _bounds(metric, sides[0])
    most = (high - low) * sum(map(abs, weights)) / 2
    if all(np.array_equal(o.id, first.id) for side in sides for o, first in zip(side, sides[0], strict=True)):
        measured = [[measure(o.label, o.probabilities, metric) for o in side] for side in sides]
        runs = list(zip(*measured, strict=True))
        scores = np.array([sum(w * m.score for w, m in zip(weights, run, strict=True)) for run in runs])
        values = [sum(w * m.of_texts for w, m in zip(weights, run, strict=True)) for run in runs]
        sample = make_sample(scores, *_grouped(sides[0], values), folds=folds, bounds=(-most, most))
        return sample._replace(identical=sum(weights) == 0 and _same_predictions(sides))
    known = all(o.group is not None for side in sides for o in side)
    if not known:
        sides = [[o._replace(group=None) for o in side] for side in sides]
    alone = [_sample_of(side, metric, folds=folds) for side in sides]
    ids = [np.unique(np.concatenate([o.group if known else o.id for o in side])) for side in sides]
    tested = functools.reduce(np.intersect1d, ids)
    if not len(tested):
        return None
    of_texts = [s.of_texts[np.searchsorted(i, tested)] for s, i in zip(alone, ids, strict=True)]
    return Sample(
        sum(w * s.scores for w, s in zip(weights, alone, strict=True)),
        sum(w * values for w, values in zip(weights, of_texts, strict=True)),
        sum(w**2 * s.explained for w, s in zip(weights, alone, strict=True)),
        (-most, most),
    )


def _same_predictions(sides: Sequence[list[Outcome]]) -> bool:
    pairs = ((o, first) for side in sides[1:] for o, first in zip(side, sides[0], strict=True))
    return all(np.array_equal(o.probabilities, first.probabilities) for o, first in pairs)


def make_sample(
    scores: np.ndarray, values: list[np.ndarray], ids: list[np.ndarray], *, folds: int, bounds: tuple[float, float]
) -> Sample:
    """A sample from scores [J] and, for each run, values and ids of its texts (J x [N_j])."""
    if not folds:
        matrix = np.stack(values)
        residual = matrix - matrix.mean(axis=1, keepdims=True) - matrix.mean(axis=0)[None, :] + matrix.mean()
        runs, count = matrix.shape
        explained = float(np.sum(residual**2)) / (max(runs - 1, 1) * max(count - 1, 1)) / count
        return Sample(scores, matrix.mean(axis=0), explained, bounds)
    _, text = np.unique(np.concatenate(ids), return_inverse=True)
    of_texts = np.bincount(text, np.concatenate(values)) / np.bincount(text)
    explained = float(np.mean([np.var(v, ddof=1) / len(v) if len(v) > 1 else 0.0 for v in values]))
    return Sample(scores, of_texts, explained, bounds)


def spread_of(sample: Sample) -> Spread:
    """The variances above; with a single run that of the texts alone.

    One text more that is off by 1 is added to those that were seen, since few texts that agree, or are all right, do
    not mean that all texts would (Agresti & Coull 1998; Agresti & Min 2005 for differences).
    """
    count = len(sample.of_texts)
    texts = (float(sample.of_texts.var(ddof=1)) if count > 1 else 0.0) + 1 / count
    if len(sample.scores) == 1:
        return Spread(texts, 0.0, 0.0)
    return Spread(texts, sample.explained * count, float(sample.scores.var(ddof=1)) - sample.explained)


def half_width(spread: Spread, *, texts: int, runs: int, level: float) -> float:
    """Half the length of the interval of a mean over `runs` runs that test `texts` texts between them."""
    variances, weights = _variances(spread, texts, runs)
    if not variances.max():
        return 0.0

    def excess(half: float) -> float:
        return _confidence(half, variances, weights, texts) - level

    high = float(np.sqrt(variances.min()))
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))


def is_shorter(half: float, spread: Spread, *, texts: int, runs: int, level: float) -> bool:
    """Whether `half_width` is less than `half`, without the search for it."""
    variances, weights = _variances(spread, texts, runs)
    return half > 0 and (not variances.max() or _confidence(half, variances, weights, texts) > level)


def _variances(spread: Spread, texts: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """What V* may be, and how probable each is."""
    variances, weights = np.array([spread.texts / texts]), np.array([1.0])
    if runs > 1:
        least = spread.explained / texts / runs
        seen = least + spread.runs / runs
        chi_squared, weights = _chi_squared(runs - 1)
        variances = variances - least + np.maximum(least, seen * (runs - 1) / chi_squared)
    if not variances.max():
        return np.zeros(1), np.ones(1)
    return np.maximum(variances, np.finfo(float).tiny), weights  # 0 by rounding would make 0 / 0


def _confidence(half: float, variances: np.ndarray, weights: np.ndarray, texts: int) -> float:
    """E[P(|t| sqrt(V*) < half)]."""
    inside = 1 - 2 * special.stdtr(max(texts - 1, 1), -half / np.sqrt(variances))
    return float(weights @ inside)


@functools.lru_cache
def _chi_squared(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of a chi-squared variable and their weights, evenly spread in its logarithm."""
    ends = np.log(special.chdtri(degrees, (1 - 1e-9, 1e-9)))
    logarithms = np.linspace(*ends, 400)
    points = np.exp(logarithms)
    exponents = degrees / 2 * logarithms - points / 2  # of the density times the point, but for a constant
    weights = np.exp(exponents - exponents.max())
    return points, weights / weights.sum()


def interval(sample: Sample, *, level: float) -> Estimate:
    """The mean over runs with its interval, NaN where the metric is not defined for every run."""
    mean, runs, texts = float(sample.scores.mean()), len(sample.scores), len(sample.of_texts)
    if sample.identical:
        return Estimate(mean, mean, mean)
    if not np.isfinite([mean, sample.explained, *sample.of_texts]).all():  # not defined, as an AUROC of one class
        return Estimate(mean, np.nan, np.nan)
    half = half_width(spread_of(sample), texts=texts, runs=runs, level=level)
    return Estimate(mean, max(mean - half, sample.bounds[0]), min(mean + half, sample.bounds[1]))


def verdict(difference: Estimate, margin: float, *, lower_is_better: bool = False) -> tuple[str, bool]:
    """What a difference a - b says of a: `(verdict, negligible)`.

    `better` or `worse` where the interval excludes 0, negligible where it also lies inside +-margin; else
    `equivalent` inside the margin (identical predictions too); else `undecided`.
    """
    inside = -margin <= difference.low and difference.high <= margin
    if difference.low > 0 or difference.high < 0:
        return ("better" if (difference.low > 0) != lower_is_better else "worse"), inside
    return ("equivalent" if inside else "undecided"), False


def mcnemar(a: Outcome, b: Outcome) -> tuple[int, int, float]:
    """Two trained models on the same texts: how many only a has right, only b, and the p-value of McNemar's exact test.

    It is about these very models, not about what another training would give.
    """
    right = [outcome.probabilities.argmax(axis=1) == outcome.label for outcome in (a, b)]
    only_a, only_b = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
    return only_a, only_b, min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
