"""Masks over padded sequences. Positions `>= length` are padding."""

import jax
import jax.numpy as jnp


def positions(width: int) -> jax.Array:
    """0 to `width` - 1, int32 [1, width]: as one primitive, so that a width which is a symbol can be exported."""
    return jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)


def length_mask(lengths: jax.Array, width: int) -> jax.Array:
    """True at the real positions.

    Args:
      lengths: int32 [B].
      width: padded length L.

    Returns:
      bool [B, L].
    """
    return positions(width) < lengths[:, None]


def masked(states: jax.Array, lengths: jax.Array, fill: jax.typing.ArrayLike = 0.0) -> jax.Array:
    """The states with `fill` at padding: [B, L, F], int32 [B] -> [B, L, F]."""
    return jnp.where(length_mask(lengths, states.shape[1])[:, :, None], states, fill)


def reverse_rows(sequences: jax.Array, lengths: jax.Array) -> jax.Array:
    """Turns the first `length` positions of each row round and leaves its padding behind them.

    Args:
      sequences: [B, L, ...].
      lengths: int32 [B].
    """
    position = positions(sequences.shape[1])
    source = jnp.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    return jnp.take_along_axis(sequences, source.reshape(source.shape + (1,) * (sequences.ndim - 2)), axis=1)


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax over the last axis among positions where `mask` is true; zero elsewhere and in empty rows.

    Args:
      scores: float [..., L].
      mask: bool [..., L], broadcastable.

    Returns:
      float [..., L], summing to 1 (to 0 where a row has no real position).
    """
    # Finite stand-ins instead of -inf: the gradient of an empty row would be NaN.
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jnp.where(mask, jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))), 0.0)
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), jnp.finfo(scores.dtype).tiny)
