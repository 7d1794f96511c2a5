"""Simulated comparisons of several variants: they are what their outcomes say, and all intervals hold together."""

import numpy as np
import pytest

from experiments.studies.families import Family, draw_runs, make_samples, simulate_family
from research.evaluation.intervals import contrast
from research.evaluation.outcome import Outcome


def outcomes_of(right, fold_of, folds):
    """The runs of one variant as `Outcome`s."""
    outcomes = []
    for repeat, (correct, of_repeat) in enumerate(zip(right, fold_of, strict=True)):
        for fold in range(max(folds, 1)):
            texts = np.flatnonzero(of_repeat == fold)
            probabilities = np.stack([~correct[texts], correct[texts]], axis=1).astype(np.float32)
            outcomes.append(Outcome((repeat, fold), texts, np.ones(len(texts), np.int32), probabilities))
    return outcomes


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("all_pairs", [False, True])
def test_samples_are_those_of_the_runs_as_outcomes(folds, all_pairs):
    family = Family(203, folds, 3, (0.01, 0.0, 0.03), hidden_sd=0.01, all_pairs=all_pairs)
    right, fold_of = draw_runs(family, np.random.default_rng(0))
    sides = [outcomes_of(of_variant, fold_of, folds) for of_variant in right]
    for (a, b), sample in zip(family.pairs, make_samples(family, right, fold_of), strict=True):
        expected = contrast((sides[a], sides[b]), (1, -1), "accuracy", folds=folds)
        assert sample.scores == pytest.approx(expected.scores)
        assert sample.text_means == pytest.approx(expected.text_means)
        assert sample.explained == pytest.approx(expected.explained)
        assert (sample.bounds, sample.folds) == (expected.bounds, expected.folds)


def test_runs_have_the_planted_variances():
    """The scores of one corpus differ by the luck of runs, and the means of corpora by what is hidden."""
    family = Family(20_000, 5, 4, (0.0, 0.03), hidden_sd=0.02)
    random, means, within = np.random.default_rng(0), [], []
    for _ in range(60):
        right, fold_of = draw_runs(family, random)
        scores = np.array([[right[:, r, fold_of[r] == f].mean(axis=1) for f in range(5)] for r in range(4)])
        means.append(scores.mean(axis=(0, 1)))
        within.append(scores.reshape(20, 2).var(axis=0, ddof=1))
    luck = np.mean(within, axis=0)
    assert np.mean(means, axis=0) == pytest.approx(family.accuracies, abs=0.01)
    assert luck[0] < 0.01**2
    assert luck[1] == pytest.approx(0.03**2, rel=0.2)
    assert np.std(means, axis=0)[0] == pytest.approx(0.02 / np.sqrt(2), rel=0.3)


@pytest.mark.parametrize("hidden_sd", [0.0, 0.0025])
def test_all_intervals_of_a_table_hold_together(hidden_sd):
    family = Family(1_000, 5, 2, (0.006, 0.003, 0.01, 0.03), hidden_sd)
    tally = simulate_family(family, comparisons=150, seed=0)
    assert tally.together >= 0.92  # nominal 0.95; 0.92 is 1.7 standard errors below
    assert tally.worst >= tally.nominal - 0.03
    assert 0.975 < tally.nominal <= 1 - 0.05 / 3
    assert tally.worst_count == 150
    assert simulate_family(family, 3, seed=1) == simulate_family(family, 3, seed=1)


def test_what_is_hidden_lets_intervals_of_many_repeats_fail():
    """The planted part is much more than intervals allow for."""
    family = Family(1_000, 5, 4, (0.0, 0.0), hidden_sd=0.07)
    assert simulate_family(family, comparisons=60, seed=0).together < 0.7
