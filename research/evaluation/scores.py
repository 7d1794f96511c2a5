"""Scores from a confusion matrix, NumPy alone: what training chooses epochs by and what evaluation reports.

Definitions and the treatment of empty classes are scikit-learn's: macro averages run over the classes that occur among
labels or predictions (balanced accuracy: among labels), and a class without support (or without predictions) scores 0.
"""

import numpy as np

UNBALANCED = 0.8  # where one class has more of the texts than this, accuracy says little, and macro F1 is taken


def default_metric(labels: np.ndarray) -> str:
    """What texts are judged by where nothing else is asked for: accuracy, or macro F1 of unbalanced labels.

    Args:
      labels: int [N], N > 0.
    """
    return "macro_f1" if np.bincount(labels).max() > UNBALANCED * len(labels) else "accuracy"


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy and macro averages.

    Args:
      confusion: [C, C], counts of label (row) and prediction (column).

    Returns:
      fractions `accuracy`, `macro_precision`, `macro_recall`, `macro_f1`, `balanced_accuracy`; NaN where there are no
      counts.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, total = np.diag(confusion), confusion.sum()
    accuracy = float(hits.sum() / total) if total else float("nan")
    macro = macro_scores(hits, confusion.sum(axis=1), confusion.sum(axis=0))
    return {"accuracy": accuracy} | {name: float(value) for name, value in macro.items()}


def macro_scores(hits: np.ndarray, labelled: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Macro averages from counts.

    Args:
      hits: [..., C], texts of each class predicted as such.
      labelled: [..., C], texts of each class.
      predicted: [..., C], predictions of each class.

    Returns:
      fractions [...]: `macro_precision`, `macro_recall`, `macro_f1`, `balanced_accuracy`.
    """
    occurs = labelled + predicted > 0
    recall = _divide(hits, labelled)
    return {
        "macro_precision": _mean(_divide(hits, predicted), occurs),
        "macro_recall": _mean(recall, occurs),
        "macro_f1": _mean(_divide(2 * hits, labelled + predicted), occurs),
        "balanced_accuracy": _mean(recall, labelled > 0),
    }


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.asarray(b) != 0)


def _mean(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    count = among.sum(axis=-1)
    return np.where(count > 0, np.sum(values * among, axis=-1) / np.maximum(count, 1), np.nan)
