"""Masks over padded sequences. Positions `>= length` are padding."""

import jax
import jax.numpy as jnp


def positions(width: int) -> jax.Array:
    """Return 0 to `width` - 1, int32 [1, width]. It is one primitive, so `width` may be a symbol in exports."""
    return jax.lax.broadcasted_iota(jnp.int32, (1, width), 1)


def length_mask(lengths: jax.Array, width: int) -> jax.Array:
    """Return a padding mask, true at real positions.

    Args:
      lengths: int32 [B].
      width: the padded length L.

    Returns:
      bool [B, L].
    """
    return positions(width) < lengths[:, None]


def masked(states: jax.Array, lengths: jax.Array, fill: jax.typing.ArrayLike = 0.0) -> jax.Array:
    """Return the states with `fill` at padding: [B, L, F], int32 [B] -> [B, L, F]."""
    return jnp.where(length_mask(lengths, states.shape[1])[:, :, None], states, fill)


def reverse_rows(sequences: jax.Array, lengths: jax.Array) -> jax.Array:
    """Reverse the first `length` positions of each row; its padding stays behind them.

    Args:
      sequences: [B, L, ...].
      lengths: int32 [B].
    """
    position = positions(sequences.shape[1])
    source = jnp.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    return jnp.take_along_axis(sequences, source.reshape(source.shape + (1,) * (sequences.ndim - 2)), axis=1)


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the softmax over the positions of the last axis where `mask` is true; it is zero elsewhere.

    Args:
      scores: float [..., L].
      mask: bool [..., L], broadcastable.

    Returns:
      float [..., L] that sums to 1, or to 0 in a row without real positions.
    """
    # Not -inf: the gradient of an empty row would be NaN.
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jnp.where(mask, jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))), 0.0)
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), jnp.finfo(scores.dtype).tiny)
