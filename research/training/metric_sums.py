"""Compute metrics on the device as weighted sums, which merge by addition and are fetched once an epoch.

`zero(C)` is the identity of `merge`. Merged sums equal the sums over all rows at once. So a partial batch counts by its
rows, and filler rows have weight 0.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from research.evaluation.metrics import scores_of_confusion


@struct.dataclass
class Metrics:
    """Weighted sums over examples."""

    loss: jax.Array  # float32 [], sum of weight * loss
    weight: jax.Array  # float32 [], sum of the weights
    confusion: jax.Array  # float32 [C, C], label x prediction

    def merge(self, other: "Metrics") -> "Metrics":
        """Return the sums over the examples of both."""
        return jax.tree.map(operator.add, self, other)


def zero(num_classes: int) -> Metrics:
    """Return the sums over no examples, the identity of `merge`, as NumPy arrays."""
    return Metrics(np.zeros((), np.float32), np.zeros((), np.float32), np.zeros((num_classes,) * 2, np.float32))


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Return the binary cross-entropy of one logit, or the softmax cross-entropy of several.

    Args:
      logits: float32 [B, C], C = 1 for two classes.
      labels: int32 [B].
      smoothing: the share of the label's probability that is spread over all classes (Szegedy et al. 2016).

    Returns:
      losses float32 [B], in nats.
    """
    if logits.shape[1] == 1:
        targets = labels.astype(logits.dtype) * (1.0 - smoothing) + smoothing / 2
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets)
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def probabilities(logits: jax.Array) -> jax.Array:
    """Return the class probabilities float32 [B, max(C, 2)] of logits float32 [B, C]."""
    if logits.shape[1] == 1:
        return jax.nn.sigmoid(jnp.concatenate([-logits, logits], axis=1))
    return jax.nn.softmax(logits, axis=-1)


def measure(logits: jax.Array, labels: jax.Array, weights: jax.Array, losses: jax.Array) -> Metrics:
    """Return the metrics of a batch: logits [B, C], labels int32 [B], weights float32 [B], losses float32 [B]."""
    classes = max(logits.shape[1], 2)
    predicted = (logits[:, 0] > 0).astype(jnp.int32) if logits.shape[1] == 1 else jnp.argmax(logits, axis=-1)
    # Float32 counts exactly up to 2^24 texts a cell. All statistics read `predictions.npz`, which has no such limit.
    confusion = jnp.zeros((classes, classes), jnp.float32).at[labels, predicted].add(weights)
    return Metrics(jnp.sum(losses * weights), jnp.sum(weights), confusion)


def summarise(metrics: Metrics) -> dict[str, float]:
    """Return means on the host: `loss`, in nats an example, and the scores of its confusion matrix."""
    metrics = jax.device_get(metrics)
    return {"loss": float(metrics.loss) / max(float(metrics.weight), 1e-30)} | scores_of_confusion(metrics.confusion)
