"""Plan a comparison: the difference that it can detect, and what would decide an undecided pair."""

import bisect
from collections.abc import Callable
from typing import NamedTuple

from scipy import special

from research.evaluation.intervals import KAPPA, Estimate
from research.evaluation.spread import Spread, half_width, is_shorter

# The spread of an accuracy difference of two variants, used before any runs exist. It is the `Results.spread` of the
# runs of experiments/results/ with `--pairs=all`, on rotten_tomatoes (5 folds) and on SST-2 (5 runs).
_TYPICAL_FOLDS = Spread(texts=0.19, explained=5 * 0.19, runs=0.0095**2, hidden=KAPPA * 0.19)
_TYPICAL_SPLIT = Spread(texts=0.056, explained=0.114, runs=0.0103**2)
_POWER = 0.8
_MOST_REPEATS, _MOST_TEXTS = 1_000, 10_000_000


class RequiredAmounts(NamedTuple):
    """The amounts that would decide a pair if its difference stayed as it is; None if no amount below a limit does."""

    repeats: int | None
    texts: int | None
    times_both: int | None  # a factor for both; used if neither more repeats nor more texts decide alone


def typical_spread(folds: int) -> Spread:
    """Return the spread of an accuracy difference to assume before any runs exist; `folds` is 0 for a fixed split."""
    return _TYPICAL_FOLDS._replace(explained=folds * _TYPICAL_FOLDS.texts) if folds else _TYPICAL_SPLIT


def detectable_difference(spread: Spread, *, texts: int, repeats: int, folds: int, level: float) -> float:
    """Return the smallest true difference whose interval excludes 0 with probability 0.8.

    Args:
      spread: the spread of the differences, observed or `typical_spread`.
      texts: the number of test texts.
      repeats: runs of each variant and fold.
      folds: 0 with a fixed test split.
      level: the confidence level of each interval.
    """
    half = half_width(spread, texts=texts, runs=repeats * (folds or 1), level=level)
    return half * (1 + special.ndtri(_POWER) / special.ndtri((1 + level) / 2))


def required_amounts(
    difference: Estimate, spread: Spread, *, texts: int, repeats: int, folds: int, level: float, margin: float
) -> RequiredAmounts:
    """Return how many repeats, or else how many test texts, would decide an undecided pair.

    Args:
      difference: the difference with its interval.
      spread: the spread of the difference.
      texts, repeats, folds, level: those of the comparison, as in `detectable_difference`.
      margin: differences inside +-margin are negligible.
    """
    # If runs agree more than their texts would explain, this is chance and promises nothing about more texts.
    spread = spread._replace(runs=max(0.0, spread.runs))
    # A half width below this makes the interval exclude 0 or lie inside the margin.
    half = max(abs(difference.mean), margin - abs(difference.mean))

    def decides(texts: int, repeats: int) -> bool:
        return is_shorter(half, spread, texts=texts, runs=repeats * (folds or 1), level=level)

    more_repeats = _smallest(lambda r: decides(texts, r), repeats, _MOST_REPEATS)
    more_texts = _smallest(lambda n: decides(n, repeats), texts, _MOST_TEXTS)
    if more_repeats or more_texts:
        return RequiredAmounts(more_repeats, more_texts, None)
    return RequiredAmounts(None, None, _smallest(lambda k: decides(k * texts, k * repeats), 1, _MOST_REPEATS))


def _smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the smallest integer in (low, high] for which `holds` is true, None without any.

    `holds` must be false up to some integer and true from there on.
    """
    return low + 1 + bisect.bisect_left(range(low + 1, high), True, key=holds) if holds(high) else None
