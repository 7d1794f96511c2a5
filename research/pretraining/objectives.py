"""What a model is pre-trained to do: guess masked tokens and the order of segments, or the next token.

Each makes examples of the rows of a batch, anew at every step, so that no epoch masks like another one; how well a
module guesses them is measured in the same way.
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

MASKED = 0.15  # share of the tokens that are guessed
_BY_MASK, _BY_RANDOM = 0.8, 0.1  # of these; the rest stay as they are
BLOCK_TOKENS = 512  # tokens whose logits are there at a time


class Examples(NamedTuple):
    """Rows [..., L] of tokens and P positions in each that are guessed, but for those of weight 0."""

    token_ids: jax.Array  # int32 [..., L]
    segment_ids: jax.Array  # int32 [..., L]
    lengths: jax.Array  # int32 [...]
    positions: jax.Array  # int32 [..., P]
    targets: jax.Array  # int32 [..., P]
    weights: jax.Array  # float32 [..., P]
    order: jax.Array  # int32 [...], as in `Rows`


@struct.dataclass
class Sums:
    """Over guesses, float32 []; they merge by addition."""

    loss: jax.Array  # nats
    weight: jax.Array
    correct: jax.Array
    order_loss: jax.Array
    order_weight: jax.Array
    order_correct: jax.Array

    def merge(self, other: "Sums") -> "Sums":
        return jax.tree.map(operator.add, self, other)


def zero() -> Sums:
    """The identity of `merge`."""
    return Sums(*(np.zeros((), np.float32) for _ in range(6)))


def summarise(sums: Sums) -> dict[str, float]:
    """Means: `loss` in nats a guessed token, `accuracy`, and the same of the order of segments where any is known."""
    found = {name: float(value) for name, value in vars(jax.device_get(sums)).items()}
    means = {name: found[name] / max(found["weight"], 1.0) for name in ("loss", "correct")}
    result = {"loss": means["loss"], "accuracy": means["correct"]}
    if found["order_weight"]:
        result |= {
            "order_loss": found["order_loss"] / found["order_weight"],
            "order_accuracy": found["order_correct"] / found["order_weight"],
        }
    return result


def examples_of(objective: str, key: jax.Array, rows: Rows, special: Special | None, pieces: int) -> Examples:
    """The examples of an objective.

    Args:
      objective: "masked" (Devlin et al. 2019, section 3.1) or "next".
      key: of this step.
      rows: [..., L].
      special: ids of [CLS], [SEP], which are never guessed, and of [MASK]; None of a language model.
      pieces: how many ids there are to draw a random one from.
    """
    if objective == "masked":
        token_ids, *guessed = mask_tokens(key, rows.token_ids, rows.lengths, special, pieces)
        return Examples(token_ids, rows.segment_ids, rows.lengths, *guessed, rows.order)
    width = rows.token_ids.shape[-1]
    positions = jnp.broadcast_to(jnp.arange(width - 1, dtype=jnp.int32), (*rows.lengths.shape, width - 1))
    weights = (positions < rows.lengths[..., None] - 1).astype(jnp.float32)
    return Examples(
        rows.token_ids, rows.segment_ids, rows.lengths, positions, rows.token_ids[..., 1:], weights, rows.order
    )


def mask_tokens(
    key: jax.Array, token_ids: jax.Array, lengths: jax.Array, special: Special, pieces: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Hides 15 % of each row's tokens: 80 % of them behind [MASK], 10 % behind a random one, the rest not at all.

    Args:
      key: of this step; each row draws its own part of what the key gives, however the rows are split up.
      token_ids: int32 [..., L].
      lengths: int32 [...].
      special: as in `examples_of`.
      pieces: as in `examples_of`.

    Returns:
      the rows as the module sees them, int32 [..., L], and positions, targets and weights [..., P], P = 15 % of L. Of a
      row with n tokens that are not special, round(0.15 n) weigh 1.
    """
    choose, how, which = jax.random.split(key, 3)
    width = token_ids.shape[-1]
    most = max(1, round(MASKED * width))
    plain = length_mask(lengths.reshape(-1), width).reshape(token_ids.shape)
    for token in (special.start, special.end):
        plain &= token_ids != token
    scores = jnp.where(plain, jax.random.uniform(choose, token_ids.shape), -1.0)
    positions = jax.lax.top_k(scores, most)[1].astype(jnp.int32)
    count = jnp.round(MASKED * plain.sum(axis=-1, keepdims=True)).astype(jnp.int32)
    guessed = jax.lax.broadcasted_iota(jnp.int32, positions.shape, positions.ndim - 1) < count
    targets = jnp.take_along_axis(token_ids, positions, axis=-1)
    chance = jax.random.uniform(how, targets.shape)
    drawn = jax.random.randint(which, targets.shape, 0, pieces, jnp.int32)
    shown = jnp.where(chance < _BY_MASK, special.mask, jnp.where(chance < _BY_MASK + _BY_RANDOM, drawn, targets))
    shown = jnp.where(guessed, shown, targets)
    hidden = jnp.put_along_axis(token_ids, positions, shown, axis=-1, inplace=False)
    return hidden, positions, targets, guessed.astype(jnp.float32)


def measure(module: nn.Module, variables: dict[str, Any], examples: Examples, key: jax.Array | None = None) -> Sums:
    """How well B rows are guessed; with dropout where there is a key."""
    rngs = None if key is None else {"dropout": key}
    token_ids, segment_ids, lengths, positions, targets, weights, order = examples
    given = (token_ids, segment_ids, lengths, positions)
    guesses: Guesses = module.apply(variables, *given, deterministic=key is None, rngs=rngs, method="guess")
    loss, correct = token_losses(guesses, targets, weights)
    of_order = (jnp.zeros(()),) * 3
    if guesses.order is not None:
        known = (order >= 0).astype(jnp.float32)
        losses, right = _cross_entropy(guesses.order.astype(jnp.float32), jnp.maximum(order, 0))
        of_order = jnp.sum(losses * known), jnp.sum(known), jnp.sum(right * known)
    return Sums(loss, jnp.sum(weights), correct, *of_order)


def token_losses(guesses: Guesses, targets: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of the softmax cross-entropy over the vocabulary, and of the guesses that are right.

    A block of positions at a time: one product with the table of V words. Where there are several, their logits are not
    kept but computed anew for the gradient, because [tokens, V] numbers are more than all else.
    Blocks of a few hundred tokens were the fastest on CPU.

    Args:
      guesses: of B rows with P positions.
      targets: int32 [B, P].
      weights: float32 [B, P].
    """
    rows, count = targets.shape
    blocks = min(count, -(-rows * count // BLOCK_TOKENS))
    width = -(-count // blocks)

    def in_blocks(array: jax.Array) -> jax.Array:
        padding = [(0, 0), (0, blocks * width - count)] + [(0, 0)] * (array.ndim - 2)
        return jnp.moveaxis(jnp.pad(array, padding).reshape(rows, blocks, width, *array.shape[2:]), 1, 0)

    def of_block(block: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        vectors, targets, weights = block
        logits = jnp.einsum("bpe,ve->bpv", vectors, guesses.table, preferred_element_type=jnp.float32)
        losses, right = _cross_entropy(logits + guesses.bias.astype(jnp.float32)[None, None], targets)
        return jnp.sum(losses * weights), jnp.sum(right * weights)

    given = tuple(map(in_blocks, (guesses.vectors, targets, weights)))
    if blocks == 1:
        return of_block(jax.tree.map(lambda array: array[0], given))
    losses, right = jax.lax.map(jax.checkpoint(of_block), given)
    return jnp.sum(losses), jnp.sum(right)


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """In nats, and 1 where no logit is above that of the target: float32 [..., V], int32 [...] -> float32 [...]."""
    of_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    right = (of_target >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - of_target, jax.lax.stop_gradient(right)
