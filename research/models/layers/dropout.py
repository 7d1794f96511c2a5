"""Dropout for sequences (Gal & Ghahramani 2016; Srivastava et al. 2014)."""

import jax
import jax.numpy as jnp


def dropout_mask(key: jax.Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Zeros with probability `rate`, else 1 / (1 - rate): `dtype` of `shape`."""
    return jax.random.bernoulli(key, 1.0 - rate, shape).astype(dtype) / (1.0 - rate)


def drop_word_types(key: jax.Array, token_ids: jax.Array, rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """A mask that drops whole word types: all occurrences of a word in a text, or none.

    Args:
      key: random key.
      token_ids: int32 [B, L].
      rate: probability of dropping a type.
      dtype: of the mask.

    Returns:
      [B, L], zeros and 1 / (1 - rate).
    """
    mask = dropout_mask(key, token_ids.shape, rate, dtype)
    # Each position takes what was drawn at the first occurrence of its word.
    first = jnp.argmax(token_ids[:, :, None] == token_ids[:, None, :], axis=-1)
    return jnp.take_along_axis(mask, first, axis=1)
