"""The sources of the variance of a mean over runs, and the half length of its interval; see `intervals`."""

import functools
from typing import NamedTuple

import numpy as np
from scipy import optimize, special


class Spread(NamedTuple):
    """The sources of the variance of a mean."""

    texts: float  # N v_texts, for N texts
    explained: float  # N w
    runs: float  # s^2 - w, which by chance may be negative
    hidden: float = 0.0  # N H


class Parts(NamedTuple):
    """The parts of V* = shared + max(least, observed (J - 1) / X), the possible variances of a mean over J runs."""

    shared: float  # A + H
    least: float  # w / J
    observed: float  # s^2 / J


def parts_of(spread: Spread, *, texts: int, runs: int) -> Parts:
    """Return the parts of the variance of a mean over `runs` runs that together test `texts` texts."""
    shared = (spread.texts + spread.hidden) / texts
    if runs == 1:
        return Parts(shared, 0.0, 0.0)
    least = spread.explained / texts / runs
    return Parts(shared - least, least, least + spread.runs / runs)


def half_width(spread: Spread, *, texts: int, runs: int, level: float) -> float:
    """Return half the length of the interval of a mean over `runs` runs that together test `texts` texts."""
    variances, weights = possible_variances(spread, texts=texts, runs=runs)
    if not variances.max():
        return 0.0

    def excess(half: float) -> float:
        return _confidence(half, variances, weights, texts) - level

    high = float(np.sqrt(variances.min()))
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))


def is_shorter(half: float, spread: Spread, *, texts: int, runs: int, level: float) -> bool:
    """Return whether `half_width` is less than `half`; this is faster than computing it."""
    variances, weights = possible_variances(spread, texts=texts, runs=runs)
    return half > 0 and (not variances.max() or _confidence(half, variances, weights, texts) > level)


def possible_variances(spread: Spread, *, texts: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the possible values of V* and their probabilities."""
    parts = parts_of(spread, texts=texts, runs=runs)
    variances, weights = np.array([parts.shared]), np.array([1.0])
    if runs > 1:
        chi_squared, weights = _chi_squared(runs - 1)
        variances = parts.shared + np.maximum(parts.least, parts.observed * (runs - 1) / chi_squared)
    if not variances.max():
        return np.zeros(1), np.ones(1)
    return np.maximum(variances, np.finfo(float).tiny), weights  # rounding to 0 would cause 0 / 0


def _confidence(half: float, variances: np.ndarray, weights: np.ndarray, texts: int) -> float:
    """Return E[P(|t| sqrt(V*) < half)]."""
    inside = 1 - 2 * special.stdtr(max(texts - 1, 1), -half / np.sqrt(variances))
    return float(weights @ inside)


@functools.lru_cache
def _chi_squared(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a chi-squared variable, evenly spaced in its logarithm, and their weights."""
    ends = np.log(special.chdtri(degrees, (1 - 1e-9, 1e-9)))
    logarithms = np.linspace(*ends, 400)
    points = np.exp(logarithms)
    exponents = degrees / 2 * logarithms - points / 2  # log of density x point, up to a constant
    weights = np.exp(exponents - exponents.max())
    return points, weights / weights.sum()
