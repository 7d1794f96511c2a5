"""Metrics against scikit-learn and by hand, and what they say of single texts."""

import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from scipy.stats import rankdata

from research.evaluation.metrics import METRICS, confusion_matrix, evaluate_predictions, mean_ranks, measure, per_class


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
    balanced = reference.recall_score(label, predicted, labels=np.unique(label), **macro)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    rows = probabilities.astype(np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    expected = reference.log_loss(label, rows, labels=range(classes))
    assert found["log_loss"] == pytest.approx(expected, rel=1e-4)
    brier = reference.brier_score_loss(*((label, rows[:, 1]) if classes == 2 else (label, rows)), labels=range(classes))
    assert found["brier"] == pytest.approx(brier, rel=1e-4)
    areas = [reference.roc_auc_score(label == c, rows[:, c]) for c in range(classes) if 0 < (label == c).sum() < count]
    assert found["auroc"] == pytest.approx(np.mean(areas) if areas else np.nan, nan_ok=True)
    expected = reference.confusion_matrix(label, predicted, labels=range(classes))
    assert confusion_matrix(label, predicted, classes).tolist() == expected.tolist()
    of_classes = reference.precision_recall_fscore_support(label, predicted, labels=range(classes), zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "support"), of_classes, strict=True):
        np.testing.assert_allclose(per_class(label, probabilities)[name], expected)


def test_calibration_error_by_hand():
    """Bins of 1/15: 0.62 and 0.65 fall into one, of mean confidence 0.635 and accuracy 0.5; 0.9 into another."""
    confidence = np.array([0.62, 0.65, 0.9])
    probabilities = np.stack([1 - confidence, confidence], axis=1)
    found = measure(np.array([1, 0, 1]), probabilities, "calibration_error")
    assert found.score == pytest.approx(2 / 3 * 0.135 + 1 / 3 * 0.1)
    assert found.text_values.mean() == pytest.approx(found.score)


def random_predictions(random, classes, count):
    label = random.choice(classes, count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = random.normal(size=(count, classes)) + 1.2 * np.eye(classes)[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return label.astype(np.int32), probabilities.astype(np.float32)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", METRICS)
def test_the_values_of_texts_show_how_a_metric_spreads_over_samples(metric, classes):
    """Their variance over N against that of the metric over 600 fresh samples of texts; their mean is the metric."""
    random = np.random.default_rng(0)
    found = [measure(*random_predictions(random, classes, 300), metric) for _ in range(600)]
    spread = np.std([m.score for m in found])
    estimated = np.mean([m.text_values.std(ddof=1) / np.sqrt(300) for m in found])
    if metric == "calibration_error":  # no smooth function of the texts: nearly empty bins make it too wide
        assert 0.9 * spread < estimated < 2 * spread
    else:
        assert estimated == pytest.approx(spread, rel=0.12)
    assert found[0].text_values.mean() == pytest.approx(found[0].score, abs=0.1 * spread)


@given(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0]) | st.floats(-2, 2, width=32), min_size=1))
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(mean_ranks(np.array(values)), rankdata(values))
