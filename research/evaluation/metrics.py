"""Metrics of saved predictions; definitions as in scikit-learn, which the tests compare with.

Each metric comes with a value of each text (`measure`): their mean is the metric, or nearly, and their spread is what
the metric owes to the choice of texts. For a mean over texts it is the text's own term, otherwise the jackknife
pseudo-value n m - (n - 1) m_without (Efron & Tibshirani 1993, ch. 11) or, for AUROC, DeLong's components (1988). Those
of the calibration error spread too widely where bins hold few texts.
"""

from typing import NamedTuple

import numpy as np

from research.evaluation.scores import macro_scores, scores

# The order of the tables.
METRICS = (
    *("accuracy", "balanced_accuracy", "macro_recall", "macro_f1", "macro_precision"),
    *("auroc", "log_loss", "brier", "calibration_error"),
)
# What people call them.
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "auroc": "AUROC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error")
_HIGHEST = {"log_loss": np.inf, "brier": 2.0}  # of metrics that are not fractions
_BINS = 15  # of confidence, for the calibration error


def unit_of(metric: str) -> str:
    """What differences of a metric are counted in."""
    return "nats" if metric == "log_loss" else "points"


class Measured(NamedTuple):
    """A metric of one run, and its values of each text."""

    score: float
    of_texts: np.ndarray  # float64 [N]


def bounds_of(metric: str, num_classes: int) -> tuple[float, float]:
    """The least and the most that a metric can be."""
    return 0.0, 1.0 if (metric, num_classes) == ("brier", 2) else _HIGHEST.get(metric, 1.0)


def confusion_matrix(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [C, C] of label (row) and prediction (column); both int [N] in [0, C)."""
    counts = np.bincount(label.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def evaluate_predictions(label: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All of `METRICS`.

    Args:
      label: int [N].
      probabilities: float [N, C].

    Returns:
      metric -> value: fractions, and nats for `log_loss`; NaN where it is not defined (no texts; AUROC of one class).
    """
    if not len(label):
        return dict.fromkeys(METRICS, float("nan"))
    values = scores(confusion_matrix(label, probabilities.argmax(axis=1), probabilities.shape[1]))
    return {m: values[m] if m in values else measure(label, probabilities, m).score for m in METRICS}


def measure(label: np.ndarray, probabilities: np.ndarray, metric: str) -> Measured:
    """One metric with its values of each text.

    Args:
      label: int [N], N > 0.
      probabilities: float [N, C].
      metric: one of `METRICS`.
    """
    predicted = probabilities.argmax(axis=1)
    if metric == "accuracy":
        return _mean((predicted == label).astype(np.float64))
    if metric == "log_loss":
        # Clipped at the resolution of the dtype, as in scikit-learn, so that one mistake does not make it infinite.
        epsilon = np.finfo(probabilities.dtype).eps
        of_label = probabilities[np.arange(len(label)), label].astype(np.float64)
        return _mean(-np.log(np.clip(of_label, epsilon, 1 - epsilon)))
    if metric == "brier":
        squares = np.square(probabilities.astype(np.float64) - np.eye(probabilities.shape[1])[label]).sum(axis=1)
        return _mean(squares / 2 if probabilities.shape[1] == 2 else squares)  # in [0, 1] for two classes, else [0, 2]
    if metric == "calibration_error":
        return _calibration_error(probabilities.max(axis=1).astype(np.float64), predicted == label)
    if metric == "auroc":
        return _auroc(label, probabilities.astype(np.float64))
    return _jackknife(label, predicted, probabilities.shape[1], metric)


def per_class(label: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` (float64 [C], 0 where undefined) and `support` (int64 [C]) of each class."""
    confusion = confusion_matrix(label, probabilities.argmax(axis=1), probabilities.shape[1])
    hits, labelled, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(labelled, 1),
        "f1": 2 * hits / np.maximum(labelled + predicted, 1),
        "support": labelled,
    }


def _mean(values: np.ndarray) -> Measured:
    return Measured(float(values.mean()), values)


def _calibration_error(confidence: np.ndarray, correct: np.ndarray) -> Measured:
    """sum over bins of (texts in it / N) |accuracy - confidence| (Guo et al. 2017, eq. 3), bins of equal width."""
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gap = confidence - correct
    sign = np.sign(np.bincount(bins, gap, minlength=_BINS))
    return _mean(sign[bins] * gap)


def _auroc(label: np.ndarray, probabilities: np.ndarray) -> Measured:
    """Area under the ROC curve; of several classes the mean over those that occur, each against the rest."""
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    found = [_area(label == c, probabilities[:, c]) for c in classes if 0 < np.sum(label == c) < len(label)]
    if not found:
        return Measured(float("nan"), np.full(len(label), np.nan))
    return Measured(float(np.mean([m.score for m in found])), np.mean([m.of_texts for m in found], axis=0))


def _area(positive: np.ndarray, score: np.ndarray) -> Measured:
    """P(score of a positive > that of a negative), ties half; values from DeLong's placements."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    among_all = _ranks(score)
    placement = np.empty(len(score))
    placement[positive] = (among_all[positive] - _ranks(score[positive])) / negatives
    placement[~positive] = 1 - (among_all[~positive] - _ranks(score[~positive])) / positives
    area = float(placement[positive].mean())
    weight = np.where(positive, len(score) / positives, len(score) / negatives)
    return Measured(area, area + weight * (placement - area))


def _ranks(values: np.ndarray) -> np.ndarray:
    """float64 [N], from 1; equal values share the mean of theirs (`scipy.stats`, which has this, is slow to import)."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[which]


def _jackknife(label: np.ndarray, predicted: np.ndarray, num_classes: int, metric: str) -> Measured:
    """Pseudo-values of a score of the confusion matrix: texts of equal label and prediction have the same."""
    confusion = confusion_matrix(label, predicted, num_classes)
    hits, labelled, guessed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    rows, columns = np.nonzero(confusion)
    classes = np.arange(num_classes)
    without = macro_scores(
        hits - ((rows == columns)[:, None] & (rows[:, None] == classes)),
        labelled - (rows[:, None] == classes),
        guessed - (columns[:, None] == classes),
    )
    score = float(macro_scores(hits, labelled, guessed)[metric])
    of_cell = np.zeros((num_classes, num_classes))
    if len(label) == 1:  # without it, there is none
        return Measured(score, np.array([score]))
    of_cell[rows, columns] = len(label) * score - (len(label) - 1) * without[metric]
    return Measured(score, of_cell[label, predicted])
