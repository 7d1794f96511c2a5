"""Metrics of saved predictions; definitions as in scikit-learn, which the tests compare with."""

import numpy as np

from research.scores import scores

# The order of the tables; `log_loss` is the one where lower is better.
METRICS = ("accuracy", "macro_recall", "macro_f1", "macro_precision", "log_loss")


def confusion_matrix(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [C, C] of label (row) and prediction (column); both int [N] in [0, C)."""
    counts = np.bincount(label.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def example_losses(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log probability of the label, float64 [N], in nats.

    Probabilities are clipped at the resolution of their dtype, as in scikit-learn's `log_loss`, so that one
    confident mistake does not make the mean infinite.
    """
    epsilon = np.finfo(probabilities.dtype).eps
    return -np.log(np.clip(probabilities[np.arange(len(label)), label].astype(np.float64), epsilon, 1 - epsilon))


def evaluate_predictions(label: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All of `METRICS`.

    Args:
      label: int [N].
      probabilities: float [N, C].

    Returns:
      metric -> value; fractions, and nats for `log_loss`.
    """
    values = scores(confusion_matrix(label, probabilities.argmax(axis=1), probabilities.shape[1]))
    values["log_loss"] = float(example_losses(label, probabilities).mean()) if len(label) else float("nan")
    return {name: values[name] for name in METRICS}
