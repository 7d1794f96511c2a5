"""Explain a prediction: which words support the label, where the model attends, how much dropout changes the answer.

The attributions are integrated gradients (Sundararajan, Taly & Yan 2017, eq. 1) with word vectors of zero as baseline.
With x_i the vector of token i and F the label's logit,

    attribution_i = x_i . integral over s from 0 to 1 of dF/dx_i at (s x_1, ..., s x_L)

x_i . dF/dx_i is the derivative of F with respect to a factor of token i's vector, so each token needs only one
derivative. The integral is computed by Gauss-Legendre quadrature. The attributions must sum to F(x) - F(0)
("completeness"). If they miss it by more than 1 %, the path has kinks, and is divided further near them.
A module without word vectors returns what its tokens add by itself (`contributions`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.batches import Batch, width_of
from research.data.tokenizer import PADDING_ID
from research.models.layers.embedding import FixedEmbedding
from research.models.layers.masks import length_mask, positions
from research.runs.restore import RestoredRun
from research.settings import is_rate
from research.training.metric_sums import probabilities

ROWS = 32  # batch size: points on the path of one text, or dropout samples
_MAX_INTERVALS = 64 * ROWS  # on a path with kinks
_RELATIVE_TOLERANCE, _ABSOLUTE_TOLERANCE = 0.01, 2e-5  # of completeness; the absolute one in units of a logit


class PathPoints(NamedTuple):
    """The model at points of the path from word vectors of zero to those of a text."""

    logits: jax.Array  # [B], F
    slopes: jax.Array  # [B, L], the derivative of F with respect to a factor of each token's vector
    attention: list[jax.Array]  # [B, L] for each layer or hop of attention


EvaluatePath = Callable[[np.ndarray], PathPoints]  # shares of the path, float32 [ROWS] -> the model there


class Attribution(NamedTuple):
    """What each token adds to the label's logit."""

    values: np.ndarray  # float64 [L]
    logit: float
    baseline: float  # the logit with word vectors of zero
    nodes: int  # points at which the path was evaluated; 0 if the values are exact
    attention: list[list[float]]  # weights over the tokens, for each layer or hop of attention


class Explainer:
    """Explain predictions of a run. Few shapes are compiled, and an explanation depends on nothing but its text."""

    def __init__(self, run: RestoredRun):
        self._run, self._variables = run, run.variables
        self._path = jax.jit(functools.partial(along_path, run.module))
        self._sample = jax.jit(functools.partial(_probabilities_with_dropout, run.module))
        self._logits = jax.jit(functools.partial(run.module.apply, deterministic=True))
        self._contributions = jax.jit(functools.partial(run.module.apply, method="contributions"))

    def explain(self, text: str) -> dict[str, Any]:
        """Return an explanation of JSON types.

        Returns:
          label: the predicted label.
          words: `{"word", "known", "attribution"}` for each token that is read. The attribution is in units of a logit,
            and above 0 if the word supports the label. Unknown words share one vector.
          logit, baseline: the label's logit for the text, and for the text with word vectors of zero.
          gap: the sum of the attributions minus (logit - baseline).
          nodes: the points of the path that were evaluated; 0 if the attributions are exact.
          attention: a list of weights over the tokens for each layer or hop of attention, if the model has any.
          uncertainty: `{"samples", "mean": {label: p}, "deviation": {label: p}}` over dropout masks, if the model has
            dropout (Gal & Ghahramani 2016).
        """
        run, variables = self._run, self._variables
        words = run.words(text)
        width = width_of(len(words), run.every_width)
        ids = np.full((ROWS, width), PADDING_ID, np.int32)
        ids[:, : len(words)] = [token_id for _, token_id in words]
        lengths = np.full(ROWS, len(words), np.int32)
        single = Batch(ids[:1], lengths[:1], np.zeros(1, np.int32), np.ones(1, np.float32))
        label = int(run.probabilities(single)[0].argmax())
        direction = _label_direction(label, run.module.num_outputs)
        if hasattr(run.module, "contributions"):
            attribution = self._exact_attribution(single, direction)
        else:
            evaluate = functools.partial(self._path, variables, ids, lengths, direction)
            attribution = integrate_path(evaluate, len(words))
        result = {
            "label": run.class_names[label],
            "words": [
                {"word": word, "known": token_id != run.unknown_id, "attribution": float(value)}
                for (word, token_id), value in zip(words, attribution.values, strict=True)
            ],
            "nodes": attribution.nodes,
            "logit": attribution.logit,
            "baseline": attribution.baseline,
            "gap": float(attribution.values.sum()) - (attribution.logit - attribution.baseline),
        }
        if attribution.attention:
            result["attention"] = attribution.attention
        if _has_dropout(run):
            samples = np.asarray(self._sample(variables, ids, lengths), np.float64)
            mean, deviation = samples.mean(axis=0).tolist(), samples.std(axis=0).tolist()
            result["uncertainty"] = {
                "samples": ROWS,
                "mean": dict(zip(run.class_names, mean, strict=True)),
                "deviation": dict(zip(run.class_names, deviation, strict=True)),
            }
        return result

    def _exact_attribution(self, single: Batch, direction: np.ndarray) -> Attribution:
        """Return the exact attribution of a module that knows what its tokens add."""
        variables, ids = self._variables, single.token_ids
        added = np.asarray(self._contributions(variables, ids, single.lengths), np.float64)
        logit, baseline = (
            float(np.asarray(self._logits(variables, ids, lengths))[0] @ direction)
            for lengths in (single.lengths, 0 * single.lengths)
        )
        return Attribution(added[0, : single.lengths[0]] @ direction, logit, baseline, 0, [])


def _label_direction(label: int, num_outputs: int) -> np.ndarray:
    """Return the weight of each output in the label's logit, float32 [C]. One output is the logit of label 1."""
    direction = np.zeros(num_outputs, np.float32)
    if num_outputs == 1:
        direction[0] = 1.0 if label == 1 else -1.0
    else:
        direction[label] = 1.0
    return direction


def along_path(
    module: nn.Module,
    variables: dict[str, Any],
    token_ids: jax.Array,
    lengths: jax.Array,
    direction: jax.Array,
    shares: jax.Array,
) -> PathPoints:
    """Evaluate a model on the straight path from word vectors of zero to those of the tokens.

    What is embedded besides the tokens, such as padding that is read as a word, keeps its vector.

    Args:
      module: a variant with an embedding.
      variables: its variables.
      token_ids: int32 [B, L]. lengths: int32 [B].
      direction: float32 [C], the weight of each output in F.
      shares: float32 [B], the position of each row on the path, from 0 to 1.
    """
    rows, width = token_ids.shape
    position = jnp.where(length_mask(lengths, width), 1 + positions(width), 0)
    # The token whose vector is read at each place of the embedding's input, counted from 1; 0 if it is none.
    read_tokens: list[jax.Array] = []

    def note_tokens(ids: jax.Array, vectors: jax.Array) -> jax.Array:
        read_tokens.append(ids)
        return vectors

    _apply(module, variables, position, lengths, note_tokens)

    def logit_of(factors: jax.Array) -> tuple[jax.Array, Any]:
        factors = jnp.pad(factors, ((0, 0), (1, 0)), constant_values=1.0)

        def scale(ids: jax.Array, vectors: jax.Array) -> jax.Array:
            return vectors * jnp.take_along_axis(factors, read_tokens[0], axis=1)[:, :, None]

        outputs, sown = _apply(module, variables, token_ids, lengths, scale)
        logits = outputs @ direction
        return jnp.sum(logits), (logits, sown)

    factors = jnp.broadcast_to(shares[:, None], (rows, width))
    slopes, (logits, sown) = jax.grad(logit_of, has_aux=True)(factors)
    attention = [weights for layer in jax.tree.leaves(sown) for weights in _over_tokens(layer, lengths)]
    return PathPoints(logits, slopes, attention)


def _apply(
    module: nn.Module,
    variables: dict[str, Any],
    token_ids: jax.Array,
    lengths: jax.Array,
    change: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, Any]:
    """Return the logits with `change(ids, vectors)` instead of the embedded vectors, and the sown intermediates."""

    def intercept(method: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        is_call = context.method_name == "__call__"
        if is_call and isinstance(context.module, nn.MultiHeadDotProductAttention):
            kwargs = kwargs | {"sow_weights": True}
        output = method(*args, **kwargs)
        if is_call and isinstance(context.module, (nn.Embed, FixedEmbedding)):
            return change(args[0], output)
        return output

    with nn.intercept_methods(intercept):
        return module.apply(variables, token_ids, lengths, deterministic=True, mutable="intermediates")


def _over_tokens(weights: jax.Array, lengths: jax.Array) -> list[jax.Array]:
    """Return attention weights over the tokens, [B, L] for each layer or hop.

    Args:
      weights: [B, L], [B, hops, L], or [B, heads, queries, L], which is averaged over heads and the text's own queries.
      lengths: int32 [B].
    """
    if weights.ndim == 2:
        return [weights]
    if weights.ndim == 3:
        return [weights[:, hop] for hop in range(weights.shape[1])]
    queries = length_mask(lengths, weights.shape[2])[:, None, :, None]
    total = jnp.sum(jnp.where(queries, weights, 0.0), axis=(1, 2))
    return [total / (weights.shape[1] * jnp.maximum(lengths, 1)).astype(total.dtype)[:, None]]


def integrate_path(evaluate: EvaluatePath, length: int) -> Attribution:
    """Return the integrated gradients of a text.

    Args:
      evaluate: `along_path` of the text, repeated in `ROWS` rows.
      length: the tokens of the text.
    """
    nodes, weights = np.polynomial.legendre.leggauss(ROWS - 2)
    points = evaluate(np.concatenate([[0.0, 1.0], (nodes + 1) / 2]).astype(np.float32))
    values, count = weights / 2 @ np.asarray(points.slopes, np.float64)[2:, :length], ROWS - 2
    baseline, logit = (float(value) for value in np.asarray(points.logits)[:2])
    if not _is_complete(values.sum() - (logit - baseline), logit - baseline):
        values, count = _integrate_kinks(evaluate, logit - baseline, length)
    attention = [np.asarray(layer)[1, :length].tolist() for layer in points.attention]
    return Attribution(values, logit, baseline, count, attention)


def _is_complete(gap: float, change: float) -> bool:
    return abs(gap) <= max(_RELATIVE_TOLERANCE * abs(change), _ABSOLUTE_TOLERANCE)


def _integrate_kinks(evaluate_path: EvaluatePath, change: float, length: int) -> tuple[np.ndarray, int]:
    """Integrate along a path whose slope jumps (rectifiers, maxima); return attributions and the number of nodes.

    Completeness holds between any two points of the path. Each interval uses the slopes at its middle. The intervals
    that miss their own change of the logit most are halved, until the sum of all is close enough.
    """

    def evaluate(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = evaluate_path(shares.astype(np.float32))
        return np.asarray(points.logits, np.float64), np.asarray(points.slopes, np.float64)[:, :length]

    left, width = np.arange(ROWS) / ROWS, np.full(ROWS, 1.0 / ROWS)
    start, _ = evaluate(left)  # the logit at the left end of each interval
    rise = np.append(start[1:], start[0] + change) - start
    middle, slopes = evaluate(left + width / 2)
    while True:
        gaps = width * slopes.sum(axis=1) - rise
        if _is_complete(gaps.sum(), change) or len(width) >= _MAX_INTERVALS:
            return width @ slopes, 2 * len(width)
        order = np.argsort(-np.abs(gaps))
        worst, rest = order[: ROWS // 2], order[ROWS // 2 :]
        half, lower_rise = width[worst] / 2, middle[worst] - start[worst]
        halves = np.concatenate([left[worst], left[worst] + half])
        new_middle, new_slopes = evaluate(halves + np.tile(half / 2, 2))
        left, width = np.append(left[rest], halves), np.append(width[rest], np.tile(half, 2))
        rise = np.concatenate([rise[rest], lower_rise, rise[worst] - lower_rise])
        start = np.concatenate([start[rest], start[worst], middle[worst]])
        middle, slopes = np.append(middle[rest], new_middle), np.concatenate([slopes[rest], new_slopes])


def _has_dropout(run: RestoredRun) -> bool:
    model = run.config.model
    rates = (getattr(model, field.name) for field in dataclasses.fields(model) if is_rate(field))
    return any(rate > 0 for rate in rates)


def _probabilities_with_dropout(
    module: nn.Module, variables: dict[str, Any], token_ids: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Return probabilities float32 [B, C]. Each row has its own dropout masks, which are the same in every call."""
    rngs = {"dropout": jax.random.key(0)}
    return probabilities(module.apply(variables, token_ids, lengths, deterministic=False, rngs=rngs))
