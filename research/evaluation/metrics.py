"""Compute metrics of saved predictions; the definitions are scikit-learn's, and the tests compare with it.

Each metric comes with one value for each text (`measure`). The mean of these values is the metric, exactly or nearly.
Their spread is the part of the metric's variance that is due to the choice of texts. The values are

- each text's own term, where the metric is a mean over texts;
- DeLong's components (1988) for AUROC;
- otherwise jackknife pseudo-values n m - (n - 1) m_without (Efron & Tibshirani 1993, ch. 11).

The values of the calibration error spread too widely where bins hold few texts.

A new metric is one function and one entry in `METRICS`. Everything else reads the entry: `--metric`, `training.select`,
tables, `results.csv` and `comparison.json`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

UNBALANCED = 0.8  # If one class has a larger share of the texts, accuracy says little and macro F1 is the default.
# What a model says of a text: its label; a score of each class, the largest of which is the label's; the probability of
# each class. Each tells all that the earlier ones tell.
KINDS = ("labels", "scores", "probabilities")
_BINS = 15  # of confidence, for the calibration error


class MetricValue(NamedTuple):
    """A metric of one run, and the value of each text."""

    score: float
    text_values: np.ndarray  # float64 [N]


class Counts(NamedTuple):
    """The texts of each class, for one set of predictions or, with leading axes, for several."""

    hits: np.ndarray  # [..., C], texts of the class that are predicted as this class
    labels: np.ndarray  # [..., C], texts of the class
    predictions: np.ndarray  # [..., C], texts that are predicted as this class


class Metric(NamedTuple):
    """How a metric is computed, shown and bounded."""

    title: str  # the name in tables
    compute: Callable[[np.ndarray, np.ndarray], MetricValue]  # (label int [N], probabilities float [N, C])
    of_counts: Callable[[Counts], np.ndarray] | None = None  # counts [..., C] -> [...]; None: counts do not tell it
    is_shown: bool = True  # in the reports' table of other metrics; `--metric` and the files have all metrics
    unit: str = "points"  # of differences
    needs: str = "labels"  # the least of `KINDS` that it can be computed from
    is_lower_better: bool = False
    lowest: float = 0.0  # intervals end here
    highest: Callable[[int], float] = lambda num_classes: 1.0


def confusion_matrix(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return counts int64 [C, C] of label (row) and prediction (column); both are int [N] in [0, C)."""
    counts = np.bincount(label.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _mean(values: np.ndarray) -> MetricValue:
    return MetricValue(float(values.mean()), values)


def _accuracy(label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    return _mean((probabilities.argmax(axis=1) == label).astype(np.float64))


def _accuracy_of_counts(counts: Counts) -> np.ndarray:
    texts = counts.labels.sum(axis=-1)
    return np.where(texts > 0, counts.hits.sum(axis=-1) / np.maximum(texts, 1), np.nan)


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
    positives, negatives = int(positive.sum()), int((~positive).sum())
    ranks = mean_ranks(score)
    placement = np.empty(len(score))
    placement[positive] = (ranks[positive] - mean_ranks(score[positive])) / negatives
    placement[~positive] = 1 - (ranks[~positive] - mean_ranks(score[~positive])) / positives
    area = float(placement[positive].mean())
    weight = np.where(positive, len(score) / positives, len(score) / negatives)
    return MetricValue(area, area + weight * (placement - area))


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values from 1, float64 [N]; equal values share the mean of their ranks.

    `scipy.stats.rankdata` does the same. Importing it would take a fifth of the time in which a program starts.
    """
    _, position, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[position]


def _balanced_accuracy(counts: Counts) -> np.ndarray:
    return _mean_under(_divide(counts.hits, counts.labels), counts.labels > 0)


def _macro_recall(counts: Counts) -> np.ndarray:
    return _mean_under(_divide(counts.hits, counts.labels), _occurs(counts))


def _macro_precision(counts: Counts) -> np.ndarray:
    return _mean_under(_divide(counts.hits, counts.predictions), _occurs(counts))


def _macro_f1(counts: Counts) -> np.ndarray:
    return _mean_under(_divide(2 * counts.hits, counts.labels + counts.predictions), _occurs(counts))


def _occurs(counts: Counts) -> np.ndarray:
    """Return which classes occur among labels or predictions, bool [..., C]; scikit-learn averages over these."""
    return counts.labels + counts.predictions > 0


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, and 0 where b is 0: a class without texts, or without predictions, scores 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.asarray(b) != 0)


def _mean_under(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of the values under the mask, NaN where it is empty."""
    count = mask.sum(axis=-1)
    return np.where(count > 0, np.sum(values * mask, axis=-1) / np.maximum(count, 1), np.nan)


def _counts_of(confusion: np.ndarray) -> Counts:
    """Return the counts of a confusion matrix [C, C] of label (row) and prediction (column)."""
    return Counts(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def _jackknife(of_counts: Callable[[Counts], np.ndarray], label: np.ndarray, probabilities: np.ndarray) -> MetricValue:
    """Return a metric of counts with pseudo-values, which are equal for texts of equal label and prediction."""
    predicted, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = confusion_matrix(label, predicted, num_classes)
    counts = _counts_of(confusion)
    score = float(of_counts(counts))
    if len(label) == 1:  # nothing is left without this text
        return MetricValue(score, np.array([score]))
    rows, columns = np.nonzero(confusion)
    classes = np.arange(num_classes)
    is_label, is_predicted = rows[:, None] == classes, columns[:, None] == classes
    without = of_counts(
        Counts(counts.hits - (is_label & is_predicted), counts.labels - is_label, counts.predictions - is_predicted)
    )
    cell_values = np.zeros((num_classes, num_classes))
    cell_values[rows, columns] = len(label) * score - (len(label) - 1) * without
    return MetricValue(score, cell_values[label, predicted])


def from_counts(title: str, of_counts: Callable[[Counts], np.ndarray], **facts: Any) -> Metric:
    """Return a metric that is computed from the counts of classes; such a metric can choose epochs too.

    Args:
      title: the name in tables.
      of_counts: `Counts` with leading axes -> the metric, float [...].
      **facts: other fields of `Metric`, such as `is_shown=False`.
    """
    compute = functools.partial(_jackknife, of_counts)
    return Metric(title, compute, of_counts=of_counts, **facts)


# In the order of the tables.
METRICS = {
    "accuracy": Metric("accuracy", _accuracy, of_counts=_accuracy_of_counts),
    "balanced_accuracy": from_counts("balanced accuracy", _balanced_accuracy, is_shown=False),
    "macro_recall": from_counts("macro recall", _macro_recall),
    "macro_f1": from_counts("macro F1", _macro_f1),
    "macro_precision": from_counts("macro precision", _macro_precision),
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


def metrics_to_select_by() -> tuple[str, ...]:
    """Return the metrics that can choose epochs: the log loss, and those that training computes from counts."""
    return tuple(name for name, metric in METRICS.items() if metric.of_counts is not None or name == "log_loss")


def default_metric(labels: np.ndarray) -> str:
    """Return the metric that decides by default: accuracy, or macro F1 for unbalanced labels.

    Args:
      labels: int [N], N > 0.
    """
    return "macro_f1" if np.bincount(labels).max() > UNBALANCED * len(labels) else "accuracy"


def unit_of(metric: str) -> str:
    """Return the unit of differences of a metric, "points" or "nats"."""
    return METRICS[metric].unit


def bounds_of(metric: str, num_classes: int) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have."""
    return METRICS[metric].lowest, METRICS[metric].highest(num_classes)


def is_measurable(metric: str, kind: str) -> bool:
    """Return whether a metric can be computed from predictions of this kind, one of `KINDS`."""
    return KINDS.index(kind) >= KINDS.index(METRICS[metric].needs)


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
    return METRICS[metric].compute(label, probabilities)


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


def scores_of_confusion(confusion: np.ndarray) -> dict[str, float]:
    """Return the metrics that a confusion matrix tells; training computes them after each epoch.

    Args:
      confusion: [C, C], counts of label (row) and prediction (column).

    Returns:
      metric -> value, a fraction; NaN without counts.
    """
    counts = _counts_of(np.asarray(confusion, np.float64))
    return {name: float(metric.of_counts(counts)) for name, metric in METRICS.items() if metric.of_counts is not None}


def per_class(label: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return `precision`, `recall`, `f1` (float64 [C], 0 where undefined) and `support` (int64 [C]) of each class."""
    counts = _counts_of(confusion_matrix(label, probabilities.argmax(axis=1), probabilities.shape[1]))
    return {
        "precision": _divide(counts.hits, counts.predictions),
        "recall": _divide(counts.hits, counts.labels),
        "f1": _divide(2 * counts.hits, counts.labels + counts.predictions),
        "support": counts.labels,
    }
