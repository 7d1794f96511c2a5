"""Metrics against scikit-learn, intervals against their formulas and by simulation."""

import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from scipy import stats

from research.evaluation.metrics import confusion_matrix, evaluate_predictions
from research.evaluation.statistics import Estimate, Outcome, difference, estimate, verdict


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 60))
def test_metrics_are_scikit_learns(seed, classes, count):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, count).astype(np.int32)
    probabilities = random.dirichlet(np.ones(classes), count).astype(np.float32)
    predicted = probabilities.argmax(axis=1)
    found = evaluate_predictions(label, probabilities)
    macro = {"average": "macro", "zero_division": 0}
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(label, predicted))
    assert found["macro_recall"] == pytest.approx(reference.recall_score(label, predicted, **macro))
    assert found["macro_precision"] == pytest.approx(reference.precision_score(label, predicted, **macro))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(label, predicted, **macro))
    rows = probabilities.astype(np.float64)
    expected = reference.log_loss(label, rows / rows.sum(axis=1, keepdims=True), labels=range(classes))
    assert found["log_loss"] == pytest.approx(expected, rel=1e-4)
    expected = reference.confusion_matrix(label, predicted, labels=range(classes))
    assert confusion_matrix(label, predicted, classes).tolist() == expected.tolist()


def outcome(run, correct):
    """A run that is right where `correct`, on texts of label 1."""
    probabilities = np.where(np.asarray(correct)[:, None], [0.2, 0.8], [0.8, 0.2]).astype(np.float32)
    ids = np.array([f"{i:06d}" for i in range(len(correct))])
    return Outcome(run, ids, np.ones(len(correct), np.int32), probabilities)


def runs_of(accuracies, count=100):
    return [outcome((0, fold), np.arange(count) < round(a * count)) for fold, a in enumerate(accuracies)]


def test_cross_validation_interval_is_nadeau_and_bengios():
    values = np.array([0.70, 0.72, 0.75, 0.71, 0.74])
    found = estimate(runs_of(values), "accuracy", folds=5)
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * error)


def test_a_single_run_has_the_interval_of_its_texts():
    """The normal interval of a proportion: the article's 79.21 % of 380 is +-4.1 points."""
    found = estimate(runs_of([0.7921], count=380), "accuracy", folds=0)
    half = 1.96 * np.sqrt(0.7921 * 0.2079 / 380)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.01)
    assert half == pytest.approx(0.0408, abs=1e-4)


@pytest.mark.parametrize("metric", ["macro_recall", "macro_f1", "macro_precision"])
def test_the_jackknife_of_a_macro_average_is_its_spread_over_samples(metric):
    """Against the variance over 400 fresh samples of texts."""
    random = np.random.default_rng(0)

    def sample():
        label = (random.random(400) < 0.3).astype(np.int32)
        right = random.random(400) < np.where(label == 1, 0.7, 0.85)
        p = np.where(right == (label == 1), 0.8, 0.2)
        return Outcome((0, 0), np.arange(400).astype(str), label, np.stack([1 - p, p], axis=1).astype(np.float32))

    samples = [sample() for _ in range(400)]
    spread = np.std([evaluate_predictions(o.label, o.probabilities)[metric] for o in samples])
    found = [estimate([o], metric, folds=0) for o in samples[:20]]
    assert np.mean([(e.high - e.low) / 2 / 1.96 for e in found]) == pytest.approx(spread, rel=0.15)


def test_identical_predictions_differ_by_nothing():
    same = runs_of([0.7, 0.8])
    found = difference(same, same, "accuracy", folds=2)
    assert found == Estimate(0.0, 0.0, 0.0)
    assert verdict(found, 0.01) == ("equivalent", False)


def test_differences_pair_the_runs_that_both_have():
    a, b = runs_of([0.8, 0.7, 0.9]), runs_of([0.7, 0.65])
    assert difference(a, b, "accuracy", folds=3).mean == pytest.approx(0.075)
    assert difference(a[2:], b, "accuracy", folds=3) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.011, 0.03, ("better", False)),
        (0.001, 0.03, ("better", False)),
        (0.001, 0.009, ("better", True)),
        (-0.03, -0.001, ("worse", False)),
        (-0.009, -0.001, ("worse", True)),
        (-0.009, 0.009, ("equivalent", False)),
        (-0.02, 0.009, ("undecided", False)),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(Estimate((low + high) / 2, low, high), 0.01) == expected
    if expected[0] in ("better", "worse"):
        flipped = "worse" if expected[0] == "better" else "better"
        assert verdict(Estimate(0.0, low, high), 0.01, higher_is_better=False) == (flipped, expected[1])


def test_on_a_fixed_test_split_equal_procedures_are_seldom_called_different():
    """Simulated: a text's difficulty is shared, runs differ. 200 comparisons; 5 % may err, 10 % would be a fault."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        difficulty = random.normal(0.9, 1.0, 300)

        def side(difficulty=difficulty):
            return [
                outcome((repeat, 0), difficulty + random.normal(0, 0.15) + random.normal(0, 0.6, 300) > 0)
                for repeat in range(5)
            ]

        found = difference(side(), side(), "accuracy", folds=0)
        wrong += found.low > 0 or found.high < 0
    assert wrong <= 20
