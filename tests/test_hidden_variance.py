"""The variance over training sets against its plain definition and against planted variances."""

import itertools

import numpy as np
import pytest

from experiments.studies.hidden_variance import covariance_over_sets, measure_hidden


def draw(random, sets, seeds, texts, hidden_sd):
    """Differences float [K, S, N] with luck of training sets, of seeds, and of both in single texts."""
    of_texts = random.normal(0, 0.3, texts) + random.normal(0, 0.2, (sets, 1, texts))
    luck = random.normal(0, hidden_sd, (sets, 1, 1)) + random.normal(0, 0.02, (sets, seeds, 1))
    return of_texts + luck + random.normal(0, 0.3, (sets, seeds, texts))


def test_it_is_the_mean_covariance_of_all_pairs_without_a_common_seed_or_text():
    values = draw(np.random.default_rng(0), 4, 3, 5, 0.1)
    covariances = [
        np.cov(values[:, s, i], values[:, z, j])[0, 1]
        for s, z in itertools.permutations(range(3), 2)
        for i, j in itertools.permutations(range(5), 2)
    ]
    assert covariance_over_sets(values) == pytest.approx(np.mean(covariances))


@pytest.mark.parametrize("hidden_sd", [0.0, 0.03])
def test_planted_variances_are_found_with_their_errors(hidden_sd):
    """Neither the luck of seeds nor that of a training set in single texts counts."""
    random = np.random.default_rng(0)
    found = [measure_hidden([draw(random, 10, 3, 200, hidden_sd)], corpus_texts=400) for _ in range(200)]
    variances = np.array([hidden.variance for hidden in found])
    assert variances.mean() == pytest.approx(hidden_sd**2, abs=4 * variances.std() / 200**0.5)
    assert np.mean([hidden.error for hidden in found]) == pytest.approx(variances.std(), rel=0.25)
    assert np.mean([hidden.texts for hidden in found]) == pytest.approx((0.3**2 + 0.2**2 + 0.3**2) / 400, rel=0.1)


def test_of_several_pairs_the_variances_add_up():
    random = np.random.default_rng(0)
    pairs = [draw(random, 6, 2, 50, 0.1) for _ in range(3)]
    together, alone = measure_hidden(pairs, 100), [measure_hidden([pair], 100) for pair in pairs]
    assert together.variance == pytest.approx(sum(hidden.variance for hidden in alone))
    assert together.ratio == pytest.approx(together.variance / sum(hidden.texts for hidden in alone))
