"""Pooling of a sequence of states to one vector, without its padding."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask, masked, masked_softmax


def mean_over_time(states: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return the mean of the real states, zero for an empty text: float [B, L, H], int32 [B] -> float [B, H]."""
    total = jnp.sum(masked(states, lengths), axis=1)
    return total / jnp.maximum(lengths, 1).astype(states.dtype)[:, None]


def max_over_time(states: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return each feature's largest real value, zero for an empty text: float [B, L, H], int32 [B] -> float [B, H]."""
    largest = jnp.max(masked(states, lengths, jnp.finfo(states.dtype).min), axis=1)
    return jnp.where((lengths > 0)[:, None], largest, 0.0)


class AttentivePooling(nn.Module):
    """Weighted mean of the states: u = tanh(W h + b), a = softmax(u . v) (Yang et al. 2016, eq. 5-7).

    Args of the call:
      states: float [B, L, H].
      lengths: int32 [B].

    Returns:
      `(pooled [B, H], weights [B, L])`.
    """

    @nn.compact
    def __call__(self, states: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jnp.tanh(nn.Dense(states.shape[-1], name="hidden")(states))
        scores = nn.Dense(1, use_bias=False, name="context")(hidden)[:, :, 0]
        weights = masked_softmax(scores, length_mask(lengths, states.shape[1]))
        return jnp.einsum("bl,blh->bh", weights, states), weights
