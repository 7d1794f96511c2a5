"""Estimate the variance over training sets of a difference of two procedures: what the folds of one corpus hide.

K training sets that share no text, S trainings on each of them with different seeds, and N common test texts. The
scores of two trainings on one training set, on different test texts and with different seeds, have nothing but the
training set in common. So their covariance over training sets is the variance of the expected difference.
"""

from typing import NamedTuple

import numpy as np


class Hidden(NamedTuple):
    """What one pair, or the sum of several pairs, shows."""

    variance: float  # of the expected difference, over training sets
    error: float  # its standard error
    texts: float  # the sampling variance of a mean over as many test texts as one cross-validation has
    ratio: float  # variance / texts
    ratio_error: float  # the standard error of the ratio


def covariance_over_sets(differences: np.ndarray) -> float:
    """Return the mean covariance over training sets of two seeds' values on two different test texts.

    Args:
      differences: float [K, S, N], the value a - b of N test texts for S seeds on K training sets.
    """
    sets, seeds, texts = differences.shape
    centred = differences - differences.mean(axis=0)
    over_seeds, over_texts = centred.sum(axis=1), centred.sum(axis=2)
    # Of all products of two entries of a training set, leave out those of one seed or of one text.
    total = np.sum(over_seeds.sum(axis=1) ** 2)
    of_one_seed, of_one_text = np.sum(over_texts**2), np.sum(over_seeds**2)
    products = total - of_one_seed - of_one_text + np.sum(centred**2)
    return float(products / ((sets - 1) * seeds * (seeds - 1) * texts * (texts - 1)))


def measure_hidden(pairs: list[np.ndarray], corpus_texts: float) -> Hidden:
    """Return the variance that folds hide, summed over pairs, with standard errors by the jackknife over training sets.

    Args:
      pairs: for each pair, the differences float [K, S, N]; the training sets and test texts are the same for all.
      corpus_texts: the size of a corpus whose cross-validation trains on as many texts as a training set has.
    """

    def of_sets(kept: np.ndarray) -> tuple[float, float]:
        values = [pair[kept] for pair in pairs]
        texts = sum(float(value.var(axis=2, ddof=1).mean()) for value in values) / corpus_texts
        return sum(map(covariance_over_sets, values)), texts

    sets = np.arange(len(pairs[0]))
    variance, texts = of_sets(sets)
    left_out = np.array([of_sets(sets != k) for k in sets])
    ratios = left_out[:, 0] / left_out[:, 1]
    return Hidden(variance, _jackknife_error(left_out[:, 0]), texts, variance / texts, _jackknife_error(ratios))


def _jackknife_error(values: np.ndarray) -> float:
    """Return the standard error of a statistic from its values without each of the observations."""
    return float(np.sqrt((len(values) - 1) * values.var()))
