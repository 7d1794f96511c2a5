"""Compute scores from a confusion matrix with NumPy alone; training chooses epochs by them.

Definitions and the treatment of empty classes are scikit-learn's. Macro averages run over the classes that occur among
labels or predictions (balanced accuracy: among labels). A class without support, or without predictions, scores 0.
"""

import numpy as np

UNBALANCED = 0.8  # If one class has a larger share of the texts, accuracy says little and macro F1 is the default.


def default_metric(labels: np.ndarray) -> str:
    """Return the metric that decides by default: accuracy, or macro F1 for unbalanced labels.

    Args:
      labels: int [N], N > 0.
    """
    return "macro_f1" if np.bincount(labels).max() > UNBALANCED * len(labels) else "accuracy"


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Return accuracy and macro averages.

    Args:
      confusion: [C, C], counts of label (row) and prediction (column).

    Returns:
      fractions `accuracy`, `macro_precision`, `macro_recall`, `macro_f1`, `balanced_accuracy`; NaN without counts.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, total = np.diag(confusion), confusion.sum()
    accuracy = float(hits.sum() / total) if total else float("nan")
    macro = macro_scores(hits, confusion.sum(axis=1), confusion.sum(axis=0))
    return {"accuracy": accuracy} | {name: float(value) for name, value in macro.items()}


def macro_scores(hits: np.ndarray, label_counts: np.ndarray, predicted_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return macro averages from counts.

    Args:
      hits: [..., C], texts of each class that are predicted as this class.
      label_counts: [..., C], texts of each class.
      predicted_counts: [..., C], predictions of each class.

    Returns:
      fractions [...]: `macro_precision`, `macro_recall`, `macro_f1`, `balanced_accuracy`.
    """
    occurs = label_counts + predicted_counts > 0
    recall = _divide(hits, label_counts)
    return {
        "macro_precision": _mean(_divide(hits, predicted_counts), occurs),
        "macro_recall": _mean(recall, occurs),
        "macro_f1": _mean(_divide(2 * hits, label_counts + predicted_counts), occurs),
        "balanced_accuracy": _mean(recall, label_counts > 0),
    }


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.asarray(b) != 0)


def _mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of the values under the mask, NaN where it is empty."""
    count = mask.sum(axis=-1)
    return np.where(count > 0, np.sum(values * mask, axis=-1) / np.maximum(count, 1), np.nan)
