"""Simulated comparisons with a known truth: intervals hold it, and verdicts seldom err."""

import numpy as np
import pytest

from experiments.studies.simulation import (
    Learners,
    cross_validation,
    fixed_split,
    linear,
    random_features,
    simulate,
    true_difference,
)

FEW, MANY = random_features(20), random_features(100)


def test_on_a_fixed_split_intervals_hold_and_equal_procedures_are_seldom_called_different():
    scenario = fixed_split(texts=400, looks=(5,), run_sd=0.01, truth=0.0)
    tally = simulate(scenario, comparisons=150, seed=0)
    assert tally.coverage >= 0.92  # nominal 0.95; 0.92 is 1.7 standard errors below
    assert tally.wrong <= 0.08
    assert tally.repeats == 5


def test_on_a_fixed_split_a_large_difference_is_found():
    tally = simulate(fixed_split(texts=800, looks=(5,), run_sd=0.005, truth=0.1), comparisons=50, seed=0)
    assert tally.right >= 0.95
    assert tally.wrong == 0
    assert tally.coverage >= 0.9


@pytest.mark.parametrize("has_own_folds", [False, True])
def test_with_cross_validation_intervals_hold_and_equal_learners_are_seldom_called_different(has_own_folds):
    learners = Learners("A/A", FEW, FEW, has_own_folds=has_own_folds)
    assert true_difference(learners, texts=200, trainings=1) == 0
    scenario = cross_validation(learners, texts=250, folds=5, looks=(1,), truth=0.0)
    tally = simulate(scenario, comparisons=100, seed=0)
    assert tally.coverage >= 0.92
    assert tally.wrong <= 0.08


def test_with_cross_validation_a_large_difference_is_found():
    learners = Learners("A/B", linear, random_features(1))
    truth = true_difference(learners, texts=400, trainings=50)
    assert truth > 0.1
    scenario = cross_validation(learners, texts=500, folds=5, looks=(1, 2), truth=truth)
    tally = simulate(scenario, comparisons=40, seed=0)
    assert tally.right >= 0.9
    assert tally.wrong == 0
    assert 1 <= tally.repeats < 2  # it stops as soon as it is decided


def test_a_simulation_depends_on_nothing_but_its_seed():
    scenario = cross_validation(Learners("A/B", linear, MANY), texts=100, folds=5, looks=(1, 2), truth=0.0)
    assert simulate(scenario, 3, seed=7) == simulate(scenario, 3, seed=7)
    assert simulate(scenario, 3, seed=7) != simulate(scenario, 3, seed=8)


def test_the_accuracies_of_a_fixed_split_differ_by_its_truth():
    scenario = fixed_split(texts=20_000, looks=(20,), run_sd=0.0, truth=0.05)
    a, b = next(scenario.draw(np.random.default_rng(0)))
    accuracies = [np.mean([run.probabilities[:, 1].mean() for run in side]) for side in (a, b)]
    assert accuracies == pytest.approx([0.78, 0.73], abs=0.01)
