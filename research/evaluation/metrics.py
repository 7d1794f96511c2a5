"""Compute metrics of saved predictions; the definitions are scikit-learn's, and the tests compare with it.

Each metric comes with one value for each text (`measure`). The mean of these values is the metric, exactly or nearly.
Their spread is the part of the metric's variance that is due to the choice of texts. The values are

- each text's own term, where the metric is a mean over texts;
- DeLong's components (1988) for AUROC;
- otherwise jackknife pseudo-values n m - (n - 1) m_without (Efron & Tibshirani 1993, ch. 11).

The values of the calibration error spread too widely where bins hold few texts.

A new metric is one function and one entry in `_METRICS`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from research.evaluation.scores import macro_scores

# What a model says of a text: its label; a score of each class, the largest of which is the label's; the probability of
# each class. Each tells all that the earlier ones tell.
KINDS = ("labels", "scores", "probabilities")
_BINS = 15  # of confidence, for the calibration error


class MetricValue(NamedTuple):
    """A metric of one run, and the value of each text."""

    score: float
    text_values: np.ndarray  # float64 [N]


class Metric(NamedTuple):
    """How a metric is computed, shown and bounded; the lower bound is always 0."""

    title: str  # the name in tables
    compute: Callable[[np.ndarray, np.ndarray], MetricValue]  # (label int [N], probabilities float [N, C])
    unit: str = "points"  # of differences
    needs: str = "labels"  # the least of `KINDS` that it can be computed from
    is_lower_better: bool = False
    highest: Callable[[int], float] = lambda num_classes: 1.0


def confusion_matrix(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return counts int64 [C, C] of label (row) and prediction (column); both are int [N] in [0, C)."""
    counts = np.bincount(label.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _mean(values: np.ndarray) -> MetricValue:
    return MetricValue(float(values.mean()), values)


def _accuracy(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    return _mean((probabilities.argmax(axis=1) == label).astype(np.float64))


def _log_loss(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    # As in scikit-learn, clipping at the resolution of the dtype keeps one mistake from making the loss infinite.
    epsilon = np.finfo(probabilities.dtype).eps
    label_probability = probabilities[np.arange(len(label)), label].astype(np.float64)
    return _mean(-np.log(np.clip(label_probability, epsilon, 1 - epsilon)))


def _brier(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    """Return the mean squared error of the probabilities, in [0, 1] for two classes and in [0, 2] for more."""
    num_classes = probabilities.shape[1]
    squares = np.square(probabilities.astype(np.float64) - np.eye(num_classes)[label]).sum(axis=1)
    return _mean(squares / 2 if num_classes == 2 else squares)


def _calibration_error(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    """Return the sum over bins of (share of texts) |accuracy - confidence| (Guo et al. 2017, eq. 3).

    The bins have equal width.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gap = confidence - (probabilities.argmax(axis=1) == label)
    sign = np.sign(np.bincount(bins, gap, minlength=_BINS))
    return _mean(sign[bins] * gap)


def _auroc(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    """Return the area under the ROC curve.

    With more than two classes it is the mean over the classes that occur, each against the rest.
    """
    probabilities = probabilities.astype(np.float64)
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [_area(label == c, probabilities[:, c]) for c in classes if 0 < np.sum(label == c) < len(label)]
    if not areas:
        return MetricValue(float("nan"), np.full(len(label), np.nan))
    return MetricValue(float(np.mean([a.score for a in areas])), np.mean([a.text_values for a in areas], axis=0))


def _area(positive: np.ndarray, score: np.ndarray) -> MetricValue:
    """Return P(score of a positive > score of a negative), ties counted half; text values from DeLong's placements."""
    from scipy.stats import rankdata  # slow to import, and few callers need it

    positives, negatives = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (ranks[positive] - rankdata(score[positive])) / negatives
    placement[~positive] = 1 - (ranks[~positive] - rankdata(score[~positive])) / positives
    area = float(placement[positive].mean())
    weight = np.where(positive, len(score) / positives, len(score) / negatives)
    return MetricValue(area, area + weight * (placement - area))


def _macro(name: str, label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    """Return one of `scores.macro_scores` with pseudo-values, equal for texts of equal label and prediction."""
    predicted, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = confusion_matrix(label, predicted, num_classes)
    hits, label_counts, predicted_counts = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    score = float(macro_scores(hits, label_counts, predicted_counts)[name])
    if len(label) == 1:  # nothing is left without this text
        return MetricValue(score, np.array([score]))
    rows, columns = np.nonzero(confusion)
    classes = np.arange(num_classes)
    without = macro_scores(
        hits - ((rows == columns)[:, None] & (rows[:, None] == classes)),
        label_counts - (rows[:, None] == classes),
        predicted_counts - (columns[:, None] == classes),
    )
    cell_values = np.zeros((num_classes, num_classes))
    cell_values[rows, columns] = len(label) * score - (len(label) - 1) * without[name]
    return MetricValue(score, cell_values[label, predicted])


# In the order of the tables.
_METRICS = {
    "accuracy": Metric("accuracy", _accuracy),
    "balanced_accuracy": Metric("balanced accuracy", functools.partial(_macro, "balanced_accuracy")),
    "macro_recall": Metric("macro recall", functools.partial(_macro, "macro_recall")),
    "macro_f1": Metric("macro F1", functools.partial(_macro, "macro_f1")),
    "macro_precision": Metric("macro precision", functools.partial(_macro, "macro_precision")),
    "auroc": Metric("AUROC", _auroc, needs="scores"),
    "log_loss": Metric(
        "log loss",
        _log_loss,
        unit="nats",
        needs="probabilities",
        is_lower_better=True,
        highest=lambda num_classes: np.inf,
    ),
    "brier": Metric(
        "Brier score",
        _brier,
        needs="probabilities",
        is_lower_better=True,
        highest=lambda num_classes: 1.0 if num_classes == 2 else 2.0,
    ),
    "calibration_error": Metric("calibration error", _calibration_error, needs="probabilities", is_lower_better=True),
}
METRICS = tuple(_METRICS)
NAMES = {name: metric.title for name, metric in _METRICS.items()}
LOWER_IS_BETTER = tuple(name for name, metric in _METRICS.items() if metric.is_lower_better)


def unit_of(metric: str) -> str:
    """Return the unit of differences of a metric, "points" or "nats"."""
    return _METRICS[metric].unit


def bounds_of(metric: str, num_classes: int) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have."""
    return 0.0, _METRICS[metric].highest(num_classes)


def is_measurable(metric: str, kind: str) -> bool:
    """Return whether a metric can be computed from predictions of this kind, one of `KINDS`."""
    return KINDS.index(kind) >= KINDS.index(_METRICS[metric].needs)


def measure(label: np.ndarray, probabilities: np.ndarray, metric: str, kind: str = "probabilities") -> MetricValue:
    """Return a metric of one run, and the value of each text; NaN if the metric needs more than the predictions tell.

    Args:
      label: int [N], N > 0.
      probabilities: float [N, C]; or scores, whose largest is the prediction, as `kind` says.
      metric: one of `METRICS`.
      kind: one of `KINDS`. The scores of "labels" are 1 for the predicted class and 0 for the others.
    """
    if not is_measurable(metric, kind):
        return MetricValue(float("nan"), np.full(len(label), np.nan))
    return _METRICS[metric].compute(label, probabilities)


def evaluate_predictions(label: np.ndarray, probabilities: np.ndarray, kind: str = "probabilities") -> dict[str, float]:
    """Return all `METRICS` of one run.

    Args:
      label: int [N].
      probabilities: float [N, C], as in `measure`.
      kind: one of `KINDS`.

    Returns:
      metric -> value: fractions, and nats for `log_loss`. An undefined metric is NaN (no texts; AUROC of one class; a
      metric of probabilities where there are none).
    """
    if not len(label):
        return dict.fromkeys(METRICS, float("nan"))
    return {metric: measure(label, probabilities, metric, kind).score for metric in METRICS}


def per_class(label: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return `precision`, `recall`, `f1` (float64 [C], 0 where undefined) and `support` (int64 [C]) of each class."""
    confusion = confusion_matrix(label, probabilities.argmax(axis=1), probabilities.shape[1])
    hits, label_counts, predicted_counts = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": hits / np.maximum(predicted_counts, 1),
        "recall": hits / np.maximum(label_counts, 1),
        "f1": 2 * hits / np.maximum(label_counts + predicted_counts, 1),
        "support": label_counts,
    }
