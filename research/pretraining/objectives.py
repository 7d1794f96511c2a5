"""Define the objectives of pre-training: guess masked tokens and the order of segments, or guess the next token.

Examples are made from the rows of a batch at every step, so each epoch masks other tokens. Both objectives measure the
guesses in the same way.
"""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from research.data.token_stream import Rows
from research.data.word_pieces import Special
from research.models.layers.masks import length_mask
from research.models.layers.vocabulary import Guesses

_GUESSED = 0.15  # the fraction of tokens that are guessed
_MASKED, _RANDOM = 0.8, 0.1  # fractions of the guessed tokens; the others stay as they are
CHUNK_TOKENS = 512  # tokens whose logits are computed at a time


class Examples(NamedTuple):
    """Rows of L tokens, and P positions in each row to guess; positions of weight 0 do not count."""

    token_ids: jax.Array  # int32 [..., L]
    segment_ids: jax.Array  # int32 [..., L]
    lengths: jax.Array  # int32 [...]
    positions: jax.Array  # int32 [..., P]
    targets: jax.Array  # int32 [..., P]
    weights: jax.Array  # float32 [..., P]
    order: jax.Array  # int32 [...], as in `Rows`


@struct.dataclass
class Sums:
    """Sums over guesses, float32 []; they merge by addition."""

    loss: jax.Array  # in nats
    weight: jax.Array
    correct: jax.Array
    order_loss: jax.Array
    order_weight: jax.Array
    order_correct: jax.Array

    def merge(self, other: "Sums") -> "Sums":
        return jax.tree.map(operator.add, self, other)


def zero() -> Sums:
    """Return the identity of `merge`."""
    return Sums(*(np.zeros((), np.float32) for _ in range(6)))


def summarise(sums: Sums) -> dict[str, float]:
    """Return means: `loss` in nats per guessed token and `accuracy`; the same for the order of segments if known."""
    total: Sums = jax.tree.map(float, jax.device_get(sums))
    weight = max(total.weight, 1.0)
    means = {"loss": total.loss / weight, "accuracy": total.correct / weight}
    if total.order_weight:
        means["order_loss"] = total.order_loss / total.order_weight
        means["order_accuracy"] = total.order_correct / total.order_weight
    return means


def make_examples(objective: str, key: jax.Array, rows: Rows, special: Special | None, num_ids: int) -> Examples:
    """Make the examples of an objective.

    Args:
      objective: "masked" (Devlin et al. 2019, section 3.1) or "next".
      key: the random key of this step.
      rows: rows [..., L].
      special: the ids of [CLS], [SEP] and [MASK]; None for "next". [CLS] and [SEP] are never guessed.
      num_ids: the number of ids that random tokens are drawn from.
    """
    if objective == "masked":
        token_ids, *guessed = mask_tokens(key, rows.token_ids, rows.lengths, special, num_ids)
        return Examples(token_ids, rows.segment_ids, rows.lengths, *guessed, rows.order)
    width = rows.token_ids.shape[-1]
    positions = jnp.broadcast_to(jnp.arange(width - 1, dtype=jnp.int32), (*rows.lengths.shape, width - 1))
    weights = (positions < rows.lengths[..., None] - 1).astype(jnp.float32)
    return Examples(
        rows.token_ids, rows.segment_ids, rows.lengths, positions, rows.token_ids[..., 1:], weights, rows.order
    )


def mask_tokens(
    key: jax.Array, token_ids: jax.Array, lengths: jax.Array, special: Special, num_ids: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Choose 15 % of each row's tokens to guess, and replace 80 % of these by [MASK] and 10 % by a random token.

    Args:
      key: the random key of this step. A row draws the same numbers however the batch is divided.
      token_ids: int32 [..., L].
      lengths: int32 [...].
      special: as in `make_examples`.
      num_ids: as in `make_examples`.

    Returns:
      the rows with replaced tokens, int32 [..., L], and positions, targets and weights [..., P], where P is 15 % of L.
      In a row with n tokens that are not special, round(0.15 n) positions have weight 1, the others 0.
    """
    position_key, action_key, token_key = jax.random.split(key, 3)
    width = token_ids.shape[-1]
    num_positions = max(1, round(_GUESSED * width))
    is_plain = length_mask(lengths.reshape(-1), width).reshape(token_ids.shape)
    for token in (special.start, special.end):
        is_plain &= token_ids != token
    scores = jnp.where(is_plain, jax.random.uniform(position_key, token_ids.shape), -1.0)
    positions = jax.lax.top_k(scores, num_positions)[1].astype(jnp.int32)
    count = jnp.round(_GUESSED * is_plain.sum(axis=-1, keepdims=True)).astype(jnp.int32)
    is_guessed = jax.lax.broadcasted_iota(jnp.int32, positions.shape, positions.ndim - 1) < count
    targets = jnp.take_along_axis(token_ids, positions, axis=-1)
    chance = jax.random.uniform(action_key, targets.shape)
    random_ids = jax.random.randint(token_key, targets.shape, 0, num_ids, jnp.int32)
    shown = jnp.where(chance < _MASKED, special.mask, jnp.where(chance < _MASKED + _RANDOM, random_ids, targets))
    shown = jnp.where(is_guessed, shown, targets)
    masked = jnp.put_along_axis(token_ids, positions, shown, axis=-1, inplace=False)
    return masked, positions, targets, is_guessed.astype(jnp.float32)


def measure(module: nn.Module, variables: dict[str, Any], examples: Examples, key: jax.Array | None = None) -> Sums:
    """Return how well a module guesses B rows of examples; with dropout if there is a key."""
    rngs = None if key is None else {"dropout": key}
    inputs = (examples.token_ids, examples.segment_ids, examples.lengths, examples.positions)
    guesses: Guesses = module.apply(variables, *inputs, deterministic=key is None, rngs=rngs, method="guess")
    loss, correct = token_losses(guesses, examples.targets, examples.weights)
    order_sums = (jnp.zeros(()),) * 3
    if guesses.order is not None:
        is_known = (examples.order >= 0).astype(jnp.float32)
        losses, is_correct = _cross_entropy(guesses.order.astype(jnp.float32), jnp.maximum(examples.order, 0))
        order_sums = jnp.sum(losses * is_known), jnp.sum(is_known), jnp.sum(is_correct * is_known)
    return Sums(loss, jnp.sum(examples.weights), correct, *order_sums)


def token_losses(guesses: Guesses, targets: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the weighted sums of the softmax cross-entropy in nats, and of the correct guesses, float32 [].

    The logits of all tokens, [tokens, V], would need more memory than everything else. So they are computed for a chunk
    of positions at a time, and again for the gradient. Chunks of a few hundred tokens were the fastest on CPU.

    Args:
      guesses: the guesses for B rows with P positions.
      targets: int32 [B, P].
      weights: float32 [B, P].
    """
    rows, count = targets.shape
    chunks = min(count, -(-rows * count // CHUNK_TOKENS))
    width = -(-count // chunks)

    def in_chunks(array: jax.Array) -> jax.Array:
        padding = [(0, 0), (0, chunks * width - count)] + [(0, 0)] * (array.ndim - 2)
        return jnp.moveaxis(jnp.pad(array, padding).reshape(rows, chunks, width, *array.shape[2:]), 1, 0)

    def chunk_losses(chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        vectors, targets, weights = chunk
        logits = jnp.einsum("bpe,ve->bpv", vectors, guesses.table, preferred_element_type=jnp.float32)
        losses, is_correct = _cross_entropy(logits + guesses.bias.astype(jnp.float32)[None, None], targets)
        return jnp.sum(losses * weights), jnp.sum(is_correct * weights)

    arrays = tuple(map(in_chunks, (guesses.vectors, targets, weights)))
    if chunks == 1:
        return chunk_losses(jax.tree.map(lambda array: array[0], arrays))
    losses, correct = jax.lax.map(jax.checkpoint(chunk_losses), arrays)
    return jnp.sum(losses), jnp.sum(correct)


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the cross-entropy in nats, and 1 if no logit exceeds the target's, else 0.

    Args:
      logits: float32 [..., V].
      targets: int32 [...].

    Returns:
      two arrays float32 [...].
    """
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    is_correct = (target_logits >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - target_logits, jax.lax.stop_gradient(is_correct)
