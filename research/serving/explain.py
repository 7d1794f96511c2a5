"""Why a model says what it says: which words speak for the label, where it looks, and what dropout makes of it.

Integrated gradients (Sundararajan, Taly & Yan 2017, eq. 1) with word vectors of zero as the baseline: with x_i the
vector of token i and F the label's logit,

    attribution_i = x_i . integral over s from 0 to 1 of dF/dx_i at (s x_1, ..., s x_L)

x_i . dF/dx_i is the derivative of F by a factor of token i's vector, so one number a token is differentiated, at Gauss
and Legendre's nodes. Their sum is F(x) - F(0) ("completeness"): where it is not, within 1 %, the path has kinks, and is
divided further where they are.
A module without word vectors says itself what its tokens add (`contributions`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.batches import Batch, width_of
from research.data.tokenizer import PADDING_ID, UNKNOWN_ID
from research.models.layers.embedding import FixedEmbedding
from research.models.layers.masks import length_mask, positions
from research.runs.restore import RestoredRun
from research.settings import is_rate
from research.training.metric_sums import probabilities

ROWS = 32  # of a batch: nodes of one text's path, or samples of its dropout
_MOST_INTERVALS = 64 * ROWS  # of a path with kinks
_TOLERANCE, _NEGLIGIBLE = 0.01, 2e-5  # of completeness: as a share, and in the unit of a logit


def explainer(run: RestoredRun) -> Callable[[str], dict[str, Any]]:
    """A function that explains the run's prediction of a text, compiled for few shapes.

    It depends on nothing but the text. Its result, of JSON types:
      label: the predicted label.
      words: `{"word", "known", "attribution"}` for each token that is read; the attribution is in the unit of a logit
        and above 0 where the word speaks for the label. Unknown words share one vector.
      logit, baseline: the label's logit of the text, and of the text with vectors of zero.
      gap: the attributions' sum less (logit - baseline).
      nodes: how many the path took; 0 where the attribution is exact.
      attention: a list over the tokens for each layer or hop of attention, where the model has any.
      uncertainty: `{"samples", "mean": {label: p}, "deviation": {label: p}}` over dropout masks, where the model drops
        anything out (Gal & Ghahramani 2016).
    """
    module, variables, widths = run.module, run.variables, run.every_width
    path = jax.jit(functools.partial(along_path, module))
    dropped = jax.jit(functools.partial(_with_dropout, module))
    logits_of = jax.jit(functools.partial(module.apply, deterministic=True))
    contributions = jax.jit(functools.partial(module.apply, method="contributions"))

    def explain(text: str) -> dict[str, Any]:
        words = run.words(text)
        width = width_of(len(words), widths)
        ids = np.full((ROWS, width), PADDING_ID, np.int32)
        ids[:, : len(words)] = [token_id for _, token_id in words]
        lengths = np.full(ROWS, len(words), np.int32)
        alone = Batch(ids[:1], lengths[:1], np.zeros(1, np.int32), np.ones(1, np.float32))
        best = int(run.probabilities(alone)[0].argmax())
        towards = np.zeros(module.num_outputs, np.float32)
        towards[0 if len(towards) == 1 else best] = 1.0 if len(towards) > 1 or best else -1.0
        if hasattr(module, "contributions"):
            added = np.asarray(contributions(variables, alone.token_ids, alone.lengths), np.float64)
            attribution, found, attention = added[0, : len(words)] @ towards, {"nodes": 0}, []
            for name, length in (("logit", alone.lengths), ("baseline", 0 * alone.lengths)):
                found[name] = float(np.asarray(logits_of(variables, alone.token_ids, length))[0] @ towards)
        else:
            at = functools.partial(path, variables, ids, lengths, towards)
            attribution, found, attention = _integrate(at, len(words))
        found["gap"] = float(attribution.sum()) - (found["logit"] - found["baseline"])
        explained = [
            {"word": word, "known": token_id != UNKNOWN_ID, "attribution": float(value)}
            for (word, token_id), value in zip(words, attribution, strict=True)
        ]
        result = {"label": run.class_names[best], "words": explained} | found
        if attention:
            result["attention"] = attention
        if _drops(run):
            samples = np.asarray(dropped(variables, ids, lengths), np.float64)
            moments = {"mean": samples.mean(axis=0), "deviation": samples.std(axis=0)}
            of_labels = {name: dict(zip(run.class_names, of.tolist(), strict=True)) for name, of in moments.items()}
            result["uncertainty"] = {"samples": ROWS} | of_labels
        return result

    return explain


def along_path(
    module: nn.Module,
    variables: dict[str, Any],
    token_ids: jax.Array,
    lengths: jax.Array,
    towards: jax.Array,
    shares: jax.Array,
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Points on the straight path from word vectors of zero to those of the tokens.

    Args:
      module: a variant with an embedding.
      variables: its variables.
      token_ids: int32 [B, L]. lengths: int32 [B].
      towards: float32 [C], the weight of each logit in F.
      shares: float32 [B], where on the path each row stands, from 0 to 1.

    Returns:
      `(F [B], its derivative by a factor of each token's vector [B, L], attention weights, [B, L] a layer or hop)`;
      what is embedded besides the tokens, such as padding that is read as a word, is left as it is.
    """
    rows, width = token_ids.shape
    position = jnp.where(length_mask(lengths, width), 1 + positions(width), 0)
    read: list[jax.Array] = []  # which token stands where the embedding is read: counted from 1, 0 for none

    def note(ids: jax.Array, vectors: jax.Array) -> jax.Array:
        read.append(ids)
        return vectors

    _apply(module, variables, position, lengths, note)

    def logit_of(factors: jax.Array) -> tuple[jax.Array, Any]:
        factors = jnp.pad(factors, ((0, 0), (1, 0)), constant_values=1.0)

        def scale(ids: jax.Array, vectors: jax.Array) -> jax.Array:
            return vectors * jnp.take_along_axis(factors, read[0], axis=1)[:, :, None]

        logits, sown = _apply(module, variables, token_ids, lengths, scale)
        found = logits @ towards
        return jnp.sum(found), (found, sown)

    factors = jnp.broadcast_to(shares[:, None], (rows, width))
    slopes, (found, sown) = jax.grad(logit_of, has_aux=True)(factors)
    return found, slopes, [weights for layer in jax.tree.leaves(sown) for weights in _over_tokens(layer, lengths)]


def _apply(
    module: nn.Module,
    variables: dict[str, Any],
    token_ids: jax.Array,
    lengths: jax.Array,
    change: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, Any]:
    """The logits with `change(ids, vectors)` in the place of embedded vectors, and what is sown on the way."""

    def intercept(method: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        called = context.method_name == "__call__"
        if called and isinstance(context.module, nn.MultiHeadDotProductAttention):
            kwargs = kwargs | {"sow_weights": True}
        found = method(*args, **kwargs)
        return change(args[0], found) if called and isinstance(context.module, (nn.Embed, FixedEmbedding)) else found

    with nn.intercept_methods(intercept):
        return module.apply(variables, token_ids, lengths, deterministic=True, mutable="intermediates")


def _over_tokens(weights: jax.Array, lengths: jax.Array) -> list[jax.Array]:
    """[B, L], [B, hops, L] or [B, heads, queries, L] -> [B, L] each; the mean over heads and the text's own queries."""
    if weights.ndim == 2:
        return [weights]
    if weights.ndim == 3:
        return [weights[:, hop] for hop in range(weights.shape[1])]
    queries = length_mask(lengths, weights.shape[2])[:, None, :, None]
    total = jnp.sum(jnp.where(queries, weights, 0.0), axis=(1, 2))
    return [total / (weights.shape[1] * jnp.maximum(lengths, 1)).astype(total.dtype)[:, None]]


def _integrate(at: Callable[[np.ndarray], Any], length: int) -> tuple[np.ndarray, dict[str, Any], list[list[float]]]:
    """Attributions float64 [length] from `along_path` at shares [ROWS], what is known of them, and the attention."""
    nodes, weights = np.polynomial.legendre.leggauss(ROWS - 2)
    logits, slopes, attention = at(np.concatenate([[0.0, 1.0], (nodes + 1) / 2]).astype(np.float32))
    attribution, count = weights / 2 @ np.asarray(slopes, np.float64)[2:, :length], ROWS - 2
    baseline, logit = (float(of_end) for of_end in np.asarray(logits)[:2])
    if not _complete(attribution.sum() - (logit - baseline), logit - baseline):
        attribution, count = _integrate_kinks(at, logit - baseline, length)
    looks = [np.asarray(layer)[1, :length].tolist() for layer in attention]
    return attribution, {"nodes": count, "logit": logit, "baseline": baseline}, looks


def _complete(gap: float, change: float) -> bool:
    return abs(gap) <= max(_TOLERANCE * abs(change), _NEGLIGIBLE)


def _integrate_kinks(at: Callable[[np.ndarray], Any], change: float, length: int) -> tuple[np.ndarray, int]:
    """Attributions along a path whose slope jumps (rectifiers, maxima), and how many nodes they took.

    Completeness holds between any two points of the path: of the intervals, each with the slopes at its middle, those
    that miss their own difference of the logit by most are halved, until all together miss theirs by little.
    """

    def evaluate(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, slopes, _ = at(shares.astype(np.float32))
        return np.asarray(logits, np.float64), np.asarray(slopes, np.float64)[:, :length]

    left, width = np.arange(ROWS) / ROWS, np.full(ROWS, 1.0 / ROWS)
    below = evaluate(left)[0]  # the logit where an interval begins
    rise = np.append(below[1:], below[0] + change) - below
    middle, slopes = evaluate(left + width / 2)
    while True:
        gaps = width * slopes.sum(axis=1) - rise
        if _complete(gaps.sum(), change) or len(width) >= _MOST_INTERVALS:
            return width @ slopes, 2 * len(width)
        order = np.argsort(-np.abs(gaps))
        worst, rest = order[: ROWS // 2], order[ROWS // 2 :]
        half, lower = width[worst] / 2, middle[worst] - below[worst]
        halves = np.concatenate([left[worst], left[worst] + half])
        found = evaluate(halves + np.tile(half / 2, 2))
        left, width = np.append(left[rest], halves), np.append(width[rest], np.tile(half, 2))
        rise = np.concatenate([rise[rest], lower, rise[worst] - lower])
        below = np.concatenate([below[rest], below[worst], middle[worst]])
        middle, slopes = np.append(middle[rest], found[0]), np.concatenate([slopes[rest], found[1]])


def _drops(run: RestoredRun) -> bool:
    model = run.config.model
    rates = (getattr(model, field.name) for field in dataclasses.fields(model) if is_rate(field))
    return any(rate > 0 for rate in rates)


def _with_dropout(module: nn.Module, variables: dict[str, Any], token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
    """Probabilities float32 [B, C], each row with its own dropout masks, always the same."""
    rngs = {"dropout": jax.random.key(0)}
    return probabilities(module.apply(variables, token_ids, lengths, deterministic=False, rngs=rngs))
