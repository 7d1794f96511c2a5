"""How much a comparison can tell: the difference it can detect, and what would decide a pair that is undecided."""

import math
from collections.abc import Callable
from typing import NamedTuple

from scipy import stats

from research.evaluation.statistics import Estimate, Spread, half_width

# Of a difference of accuracy between two variants on rotten_tomatoes (8,530 sentences, 5 folds): `Results.spread` of
# `./launch.sh compare --variants=all --pairs=all`, the runs of experiments/results/. Where nothing has been seen yet.
TYPICAL = Spread(texts=0.24, runs=0.0092**2)
_POWER = 0.8
_MOST_REPEATS, _MOST_TEXTS = 1_000, 10_000_000


class Needed(NamedTuple):
    """What would decide a pair, were the difference what it seems; None where no amount below a limit would."""

    repeats: int | None
    texts: int | None
    times_both: int | None  # so many times as many of each; where neither does alone


def detectable(spread: Spread, *, texts: int, repeats: int, folds: int, level: float) -> float:
    """The smallest true difference that is told from none four times in five.

    Args:
      spread: of the differences, seen or `TYPICAL`.
      texts: how many are tested.
      repeats: runs a variant, of each fold.
      folds: 0 with a fixed test split.
      level: of each interval.
    """
    half = half_width(spread, texts=texts, runs=repeats * (folds or 1), level=level)
    return half * (1 + stats.norm.ppf(_POWER) / stats.norm.ppf((1 + level) / 2))


def needed(
    found: Estimate, spread: Spread, *, texts: int, repeats: int, folds: int, level: float, margin: float
) -> Needed:
    """How many repeats, or else how many test texts, would decide an undecided pair.

    Args:
      found: the difference and its interval.
      spread: of the difference.
      texts, repeats, folds, level: of the comparison.
      margin: within which a difference is negligible.
    """

    def decides(texts: int, repeats: int) -> bool:
        half = half_width(spread, texts=texts, runs=repeats * (folds or 1), level=level)
        return abs(found.mean) > half or abs(found.mean) + half <= margin

    more_repeats = _smallest(lambda r: decides(texts, r), repeats, _MOST_REPEATS)
    more_texts = _smallest(lambda n: decides(n, repeats), texts, _MOST_TEXTS)
    if more_repeats or more_texts:
        return Needed(more_repeats, more_texts, None)
    return Needed(None, None, _smallest(lambda k: decides(k * texts, k * repeats), 1, _MOST_REPEATS))


def _smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest integer in (low, high] for which `holds`, which is false up to some point and true from there."""
    if not holds(high):
        return None
    while high - low > 1:
        middle = math.isqrt(low * high) if low > 1 else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
