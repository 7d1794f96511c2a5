"""Dropout for sequences (Gal & Ghahramani 2016; Srivastava et al. 2014)."""

import jax
import jax.numpy as jnp


def dropout_mask(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Zeros with probability `rate`, else 1 / (1 - rate): float32 of `shape`."""
    return jax.random.bernoulli(key, 1.0 - rate, shape).astype(jnp.float32) / (1.0 - rate)


def drop_word_types(key: jax.Array, token_ids: jax.Array, rate: float) -> jax.Array:
    """A mask that drops whole word types: all occurrences of a word in a text, or none.

    Args:
      key: random key.
      token_ids: int32 [B, L].
      rate: probability of dropping a type.

    Returns:
      float32 [B, L], zeros and 1 / (1 - rate).
    """
    mask = dropout_mask(key, token_ids.shape, rate)
    # Each position takes what was drawn at the first occurrence of its word.
    first = jnp.argmax(token_ids[:, :, None] == token_ids[:, None, :], axis=-1)
    return jnp.take_along_axis(mask, first, axis=1)
