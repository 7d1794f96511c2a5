"""Scores from a confusion matrix, NumPy alone: what training chooses epochs by and what evaluation reports.

Definitions and the treatment of empty classes are scikit-learn's: macro averages run over the classes that occur among
labels or predictions, and a class without support (or without predictions) scores 0.
"""

import numpy as np


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.asarray(b) != 0)


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy and macro averages.

    Args:
      confusion: [C, C], counts of label (row) and prediction (column).

    Returns:
      fractions `accuracy`, `macro_precision`, `macro_recall`, `macro_f1`; accuracy is NaN where there are no counts.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, labelled, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = labelled + predicted > 0
    total = confusion.sum()

    def macro(values: np.ndarray) -> float:
        return float(values[occurs].mean()) if occurs.any() else float("nan")

    return {
        "accuracy": float(hits.sum() / total) if total else float("nan"),
        "macro_precision": macro(_divide(hits, predicted)),
        "macro_recall": macro(_divide(hits, labelled)),
        "macro_f1": macro(_divide(2 * hits, labelled + predicted)),
    }
