"""Fit the logistic regressions of `linear.py` and `probe.py` with SciPy, outside the training step.

A text in words is one sparse row of features, so that it costs its words and not its padding. The loss is convex, and
L-BFGS-B (Byrd et al. 1995) walks from zeros to its minimum in float64. SciPy is imported where it is used: a model is
built, restored and served without it.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from research.data.tokenizer import Encoded

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_GRADIENT_TOLERANCE = 1e-7  # on the largest component of the gradient of the mean loss
_HISTORY = 20  # pairs of steps and gradients that approximate the curvature; 10 take up to three times the iterations


def hash_pairs(first: Any, second: Any, buckets: int) -> Any:
    """Return a bucket in `[0, buckets)` for each pair of token ids, by multiplying and mixing modulo 2^32.

    Args:
      first: int32, any shape; NumPy or JAX.
      second: the same shape.
      buckets: number of buckets.

    Returns:
      int32, the same shape, in the library of the arguments.
    """
    mixed = first.astype(np.uint32) * np.uint32(0x9E3779B1) + second.astype(np.uint32)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x85EBCA77)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE3D)
    return ((mixed ^ (mixed >> np.uint32(16))) % np.uint32(buckets)).astype(np.int32)


def count_features(texts: Encoded, vocab_size: int, buckets: int) -> "csr_array":
    """Count the words and the hashed pairs of neighbouring words of N texts.

    Returns:
      float64 [N, vocab_size + buckets], sparse: words by their ids, then pairs by their buckets.
    """
    from scipy.sparse import coo_array

    text_of_token = np.repeat(np.arange(len(texts.labels), dtype=np.int32), texts.lengths)
    is_pair = text_of_token[:-1] == text_of_token[1:]
    pairs = vocab_size + hash_pairs(texts.tokens[:-1], texts.tokens[1:], buckets)
    columns = np.concatenate([texts.tokens, pairs[is_pair]])
    rows = np.concatenate([text_of_token, text_of_token[1:][is_pair]])
    shape = (len(texts.labels), vocab_size + buckets)
    return coo_array((np.ones(len(columns)), (rows, columns)), shape).tocsr()  # adds up equal ones


def weigh_features(counts: "csr_array", labels: np.ndarray, num_outputs: int, weighting: str) -> np.ndarray:
    """Compute the weights of all features from the training texts; see `Linear` for the formulas.

    Args:
      counts: [N, F], of `count_features`.
      labels: int32 [N].
      num_outputs: K, 1 for two classes.
      weighting: "tfidf" or "nb".

    Returns:
      float32 [F, K] of "nb", [F, 1] of "tfidf"; 0 for a feature that no text has.
    """
    label_of_entry = np.repeat(labels, np.diff(counts.indptr))
    # [F, C]: how many texts of each class have the feature.
    of_classes = [counts.indices[label_of_entry == label] for label in range(max(num_outputs, 2))]
    num_texts = np.stack([np.bincount(columns, minlength=counts.shape[1]) for columns in of_classes], axis=1)
    used = np.flatnonzero(num_texts.any(axis=1))
    inside = num_texts[used]
    every = inside.sum(axis=1, keepdims=True)
    if weighting == "tfidf":
        weights = np.log((1 + counts.shape[0]) / (1 + every)) + 1
    else:
        shares = [(1 + texts) / (1 + texts).sum(axis=0) for texts in (inside, every - inside)]
        weights = np.log(shares[0] / shares[1])[:, -num_outputs:]  # of two classes, those of class 1
    all_weights = np.zeros((counts.shape[1], weights.shape[1]), np.float32)
    all_weights[used] = weights
    return all_weights


def scale_features(counts: "csr_array", weights: np.ndarray, weighting: str) -> "csr_array":
    """Return the features float64 [N, F], sparse, of which the logits are `features @ (weights * kernel) + bias`.

    They are the presence of a feature for "nb". For "tfidf" they are its count over the length of the text's vector.
    """
    features = counts.copy()
    if weighting == "nb":
        features.data = np.ones_like(counts.data)
    else:
        squares = counts.power(2) @ np.square(weights[:, 0].astype(np.float64))
        norms = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
        features.data = counts.data / np.repeat(norms, np.diff(counts.indptr))
    return features


class LogisticLoss(NamedTuple):
    """The loss of a logistic regression: the weighted mean of the cross-entropy of N texts, and a penalty."""

    l2: float = 0.0  # the penalty is l2 / (2 N) * |kernel|^2; the bias has none
    class_weights: np.ndarray | None = None  # float32 [C]; None: all texts weigh the same
    label_smoothing: float = 0.0  # this much of a label's probability is spread over all classes


class LogisticFit(NamedTuple):
    """The parameters at the minimum of the loss."""

    kernel: np.ndarray  # float32 [F, K]
    bias: np.ndarray  # float32 [K]
    iterations: int
    loss: float


class FittedVariables(NamedTuple):
    """The variables of a module that was fitted as a whole, and how its fit went."""

    variables: dict[str, dict[str, np.ndarray]]
    iterations: int
    loss: float


class _Problem(NamedTuple):
    """What the loss is computed from: N texts, the A features that occur in them, K outputs."""

    features: "csr_array | np.ndarray"  # float64 [N, A]
    weights: np.ndarray  # float64 [A, K] or [A, 1]
    targets: np.ndarray  # float64 [N, K], the probabilities to learn
    text_weights: np.ndarray  # float64 [N, 1], with sum 1
    penalty: float

    def split(self, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel [A, K] and the bias [K] of parameters [A * K + K]."""
        num_outputs = self.targets.shape[1]
        return params[:-num_outputs].reshape(-1, num_outputs), params[-num_outputs:]

    def loss_and_gradient(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient [A * K + K]."""
        kernel, bias = self.split(params)
        logits = self.features @ (self.weights * kernel) + bias
        if len(bias) == 1:
            normalizers = np.logaddexp(0.0, logits)
        else:
            normalizers = np.logaddexp.reduce(logits, axis=1, keepdims=True)
        losses = normalizers - np.sum(self.targets * logits, axis=1, keepdims=True)
        loss = np.sum(self.text_weights * losses) + 0.5 * self.penalty * np.sum(np.square(kernel))
        errors = self.text_weights * (np.exp(logits - normalizers) - self.targets)
        kernel_gradient = self.weights * (self.features.T @ errors) + self.penalty * kernel
        return float(loss), np.concatenate([kernel_gradient.ravel(), errors.sum(axis=0)])


def _smooth_targets(labels: np.ndarray, num_outputs: int, smoothing: float) -> np.ndarray:
    """Return the probabilities float64 [N, K] to learn: of class 1 for two classes, else of every class."""
    num_classes = max(num_outputs, 2)
    targets = np.eye(num_classes)[labels] * (1.0 - smoothing) + smoothing / num_classes
    return targets[:, -num_outputs:]


def _weigh_texts(labels: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
    """Return the share float64 [N, 1] of each text in the mean loss."""
    weights = np.ones(len(labels)) if class_weights is None else class_weights.astype(np.float64)[labels]
    return (weights / weights.sum())[:, None]


def fit_logistic(
    features: "csr_array | np.ndarray",
    weights: np.ndarray,
    labels: np.ndarray,
    num_outputs: int,
    loss: LogisticLoss,
    max_iterations: int = 1000,
    on_progress: Callable[[int, float], None] = lambda iterations, loss: None,
) -> LogisticFit:
    """Minimise the loss of the logits `features @ (weights * kernel) + bias`, from zeros.

    Args:
      features: float64 [N, F], sparse or dense; the kernel stays 0 where no text has the feature.
      weights: float32 [F, 1] or [F, K].
      labels: int32 [N].
      num_outputs: K, 1 for two classes.
      loss: what is minimised.
      max_iterations: stop here if the minimum is not reached before.
      on_progress: called after each iteration with the number of iterations and the loss.
    """
    from scipy.optimize import OptimizeResult, minimize

    used = np.flatnonzero(abs(features).sum(axis=0))
    problem = _Problem(
        features=features[:, used],
        weights=weights[used].astype(np.float64),
        targets=_smooth_targets(labels, num_outputs, loss.label_smoothing),
        text_weights=_weigh_texts(labels, loss.class_weights),
        penalty=loss.l2 / len(labels),
    )
    iterations = itertools.count(1)

    def report(intermediate_result: OptimizeResult) -> None:  # SciPy asks for this name
        on_progress(next(iterations), float(intermediate_result.fun))

    result = minimize(
        problem.loss_and_gradient,
        np.zeros((len(used) + 1) * num_outputs),
        jac=True,
        method="L-BFGS-B",
        callback=report,
        options={
            "maxiter": max_iterations,
            "maxfun": 50 * max_iterations,
            "maxcor": _HISTORY,
            "gtol": _GRADIENT_TOLERANCE,
            "ftol": 0.0,  # the gradient alone decides
        },
    )
    kernel_of_used, bias = problem.split(result.x)
    kernel = np.zeros((features.shape[1], num_outputs), np.float32)
    kernel[used] = kernel_of_used
    return LogisticFit(kernel, bias.astype(np.float32), int(result.nit), float(result.fun))
