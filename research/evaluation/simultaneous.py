"""Find the confidence level of each of several intervals, so that all of them hold together at a given level.

Differences from one baseline are correlated, because they share its runs and test texts. So the level that Bonferroni's
inequality asks for is higher than needed. We draw errors of all means at once, as they may be given the data, and count
how often the most extreme one exceeds its interval (max-t; Westfall & Young 1993, "Resampling-based multiple testing";
for generalised intervals Hannig et al. 2006). The error of a mean is

    Z sqrt(V*),    V* = shared + max(least, observed (J - 1) / X)

as in `intervals`, with Z and X correlated over the means:

- Z is normal. Its covariance is the sum of the covariances of the texts' means and of the runs' scores.
- X is the sum of J - 1 squares of normal variables, which are correlated like the scores.

Thousands of texts show their correlation well. J scores have large correlations by chance. So theirs are shrunk towards
0, until their mean square is what it would be without chance. Smaller correlations make intervals longer. So does a
text or run that is missing for some means: it is counted as uncorrelated.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import special

from research.evaluation.intervals import Sample, spread_of
from research.evaluation.spread import parts_of, possible_variances

_DRAWS = 10_000
_FEWEST_RUNS = 4  # fewer say nothing about correlations: two always have one of 1 or -1
_GRID = 60  # points at which the probability of an error is computed, per mean


def simultaneous_level(samples: Sequence[Sample], level: float, *, planned: int = 0) -> float:
    """Return the level of each interval with which all intervals hold together.

    It is never above Bonferroni's, 1 - (1 - level) / planned.

    Args:
      samples: the means. An interval that cannot fail (identical variants, one run each) or is undefined (NaN) has no
        influence on the others.
      level: the probability that all intervals hold.
      planned: the number of intervals that were planned, if some of them are not among the samples. Each interval
        without influence keeps its equal share of the probability of error, so its absence makes no other one shorter.
    """
    planned = max(planned, len(samples), 1)
    error = (1 - level) / planned
    uncertain = [sample for sample in samples if _may_fail(sample)]
    if len(uncertain) < 2:
        return 1 - error
    errors = draw_errors(uncertain, np.random.default_rng(0), _DRAWS)
    probabilities = np.stack([_probabilities_beyond(*of) for of in zip(uncertain, errors.T, strict=True)])
    extreme = np.quantile(probabilities.min(axis=0), error * len(uncertain))
    # How often one interval fails is known. By counting it in the same draws, most of their chance cancels out.
    share = float(np.mean(probabilities <= extreme))
    return 1 - min(max(share, error), error * len(uncertain))


def _may_fail(sample: Sample) -> bool:
    return sample.is_defined and not sample.is_identical and len(sample.scores) > 1


def draw_errors(samples: Sequence[Sample], random: np.random.Generator, draws: int) -> np.ndarray:
    """Return joint errors of P means as they may be, given their samples: float32 [draws, P]."""
    runs = np.array([len(sample.scores) for sample in samples])
    parts = [parts_of(spread_of(s), texts=len(s.text_means), runs=len(s.scores)) for s in samples]
    shared, least, observed = np.array(parts, np.float32).T
    of_texts, of_runs = correlate_texts(samples), correlate_runs(samples)
    covariance = _scale(of_texts, np.maximum(shared, 0.0)) + _scale(of_runs, np.maximum(least, observed))
    root_of_all, root_of_runs = _root(_scale(covariance, 1 / np.diag(covariance))), _root(of_runs)

    def draw_normal(root: np.ndarray) -> np.ndarray:
        return random.standard_normal((draws, len(samples)), np.float32) @ root

    chi_squared = np.zeros((draws, len(samples)), np.float32)
    for degree in range(max(runs) - 1):
        chi_squared += np.where(degree < runs - 1, draw_normal(root_of_runs) ** 2, np.float32(0.0))
    variances = shared + np.maximum(least, observed * (runs - 1).astype(np.float32) / chi_squared)
    return np.abs(draw_normal(root_of_all)) * np.sqrt(variances)


def _probabilities_beyond(sample: Sample, errors: np.ndarray) -> np.ndarray:
    """Return the probability that the error of one mean is larger than each of `errors`, by linear interpolation."""
    variances, weights = possible_variances(spread_of(sample), texts=len(sample.text_means), runs=len(sample.scores))
    halves = np.geomspace(np.quantile(errors, 0.1), errors.max(), _GRID)  # smaller errors are never the most extreme
    beyond = 2 * special.ndtr(-halves[:, None] / np.sqrt(variances)) @ weights
    return np.exp(np.interp(np.log(errors), np.log(halves), np.log(beyond)))


def _scale(matrix: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return a covariance matrix whose variables are multiplied by the roots of `variances`."""
    roots = np.sqrt(variances)
    return roots[:, None] * matrix * roots


def _root(correlation: np.ndarray) -> np.ndarray:
    """Return M float32 with M^T M = the correlation matrix, which may be singular."""
    values, vectors = np.linalg.eigh(correlation)
    return (np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T).astype(np.float32)


def correlate_texts(samples: Sequence[Sample]) -> np.ndarray:
    """Return the correlations of the values of texts, float [P, P]."""
    return _correlate([(sample.texts, sample.text_means) for sample in samples])


def correlate_runs(samples: Sequence[Sample]) -> np.ndarray:
    """Return the correlations of the scores of runs, float [P, P], shrunk towards 0."""
    observed = _correlate([(sample.runs, sample.scores) for sample in samples])
    runs = max(len(sample.scores) for sample in samples)
    square = float(np.mean(observed[~np.eye(len(samples), dtype=bool)] ** 2))
    unbiased = 1 - (1 - square) * (runs - 1) / (runs - 2) if runs >= _FEWEST_RUNS else 0.0  # as the adjusted R^2 is
    weight = np.sqrt(max(unbiased, 0.0) / square) if square else 0.0
    return weight * observed + (1 - weight) * np.eye(len(samples))


def _correlate(observed: Sequence[tuple[Sequence | None, np.ndarray]]) -> np.ndarray:
    """Return the correlations of P variables, float [P, P], from the ids and values of what was observed of each.

    Ids are None where all variables have the same. What is missing of a variable counts as its mean. So the matrix is
    always positive semidefinite, and the less two variables share, the smaller is their correlation.
    """
    first = observed[0][0]
    if all(ids is first or (len(ids) == len(first) and np.array_equal(ids, first)) for ids, _ in observed):
        matrix = np.stack([values for _, values in observed])
        matrix = matrix - matrix.mean(axis=1, keepdims=True)
    else:
        position = {
            name: i for i, name in enumerate(dict.fromkeys(itertools.chain.from_iterable(i for i, _ in observed)))
        }
        matrix = np.zeros((len(observed), len(position)))
        for row, (ids, values) in zip(matrix, observed, strict=True):
            row[[position[name] for name in ids]] = values - values.mean()
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    correlation = matrix @ matrix.T
    np.fill_diagonal(correlation, 1.0)
    return correlation
