"""How much a comparison can tell: the difference it can detect, and what would decide a pair that is undecided."""

import bisect
from collections.abc import Callable
from typing import NamedTuple

from scipy import special

from research.evaluation.intervals import Estimate, Spread, half_width, is_shorter

# Of a difference of accuracy between two variants: `Results.spread` of the runs of experiments/results/ with
# `--pairs=all`, on rotten_tomatoes (5 folds) and on SST-2 (5 runs). For where nothing has been seen yet.
_TYPICAL_FOLDS = Spread(texts=0.19, explained=5 * 0.19, runs=0.0095**2)
_TYPICAL_SPLIT = Spread(texts=0.056, explained=0.114, runs=0.0103**2)
_POWER = 0.8
_MOST_REPEATS, _MOST_TEXTS = 1_000, 10_000_000


def typical(folds: int) -> Spread:
    """The spread of a difference of accuracy to reckon with before anything has been seen; `folds` 0 for a split."""
    return _TYPICAL_FOLDS._replace(explained=folds * _TYPICAL_FOLDS.texts) if folds else _TYPICAL_SPLIT


class Needed(NamedTuple):
    """What would decide a pair, were the difference what it seems; None where no amount below a limit would."""

    repeats: int | None
    texts: int | None
    times_both: int | None  # so many times as many of each; where neither does alone


def detectable(spread: Spread, *, texts: int, repeats: int, folds: int, level: float) -> float:
    """The smallest true difference that is told from none four times in five.

    Args:
      spread: of the differences, seen or `typical`.
      texts: how many are tested.
      repeats: runs a variant, of each fold.
      folds: 0 with a fixed test split.
      level: of each interval.
    """
    half = half_width(spread, texts=texts, runs=repeats * (folds or 1), level=level)
    return half * (1 + special.ndtri(_POWER) / special.ndtri((1 + level) / 2))


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

    # Runs that happen to agree more than their texts let expect promise nothing about more texts.
    spread = spread._replace(runs=max(0.0, spread.runs))

    def decides(texts: int, repeats: int) -> bool:
        most = max(abs(found.mean), margin - abs(found.mean))  # excludes 0, or lies inside the margin
        return is_shorter(most, spread, texts=texts, runs=repeats * (folds or 1), level=level)

    more_repeats = _smallest(lambda r: decides(texts, r), repeats, _MOST_REPEATS)
    more_texts = _smallest(lambda n: decides(n, repeats), texts, _MOST_TEXTS)
    if more_repeats or more_texts:
        return Needed(more_repeats, more_texts, None)
    return Needed(None, None, _smallest(lambda k: decides(k * texts, k * repeats), 1, _MOST_REPEATS))


def _smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest integer in (low, high] for which `holds`, which is false up to some point and true from there."""
    return low + 1 + bisect.bisect_left(range(low + 1, high), True, key=holds) if holds(high) else None
