"""Dropout (Srivastava et al. 2014), also for sequences (Gal & Ghahramani 2016)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

_LEVELS = 1 << 16  # a mask's probabilities are multiples of 1 / _LEVELS


class Dropout(nn.Module):
    """`values float [B, ...] -> values`: a share of `rate` is set to zero, and the rest is scaled up.

    If there are three axes or more, the second is that of positions, see `sequence_mask`.
    """

    rate: float

    @nn.compact
    def __call__(self, values: jax.Array, *, deterministic: bool) -> jax.Array:
        if deterministic or not self.rate:
            return values
        mask_of = sequence_mask if values.ndim > 2 else dropout_mask
        return values * mask_of(self.make_rng("dropout"), values.shape, self.rate, values.dtype)


def dropout_mask(key: jax.Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return a mask: 0 with probability `rate`, rounded to a multiple of 2^-16, else 1 / (1 - rate).

    Two elements share a random word of 32 bits. On CPU, drawing words is the main cost of dropout, and
    `jax.random.bernoulli` draws one word for each element.

    Args:
      key: random key.
      shape: the shape of the mask.
      rate: probability of 0.
      dtype: the type of the mask.
    """
    keep = max(1, round((1.0 - rate) * _LEVELS))
    if keep == _LEVELS:
        return jnp.ones(shape, dtype)
    *rows, last = shape or (1,)
    words = jax.random.bits(key, (*rows, math.ceil(last / 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :last].reshape(shape)
    return jnp.where(halves < keep, _LEVELS / keep, 0.0).astype(dtype)


def sequence_mask(key: jax.Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return a mask whose values do not depend on how far texts are padded.

    So a run does not depend on the runs that are trained beside it, or on the width of their batches.

    Args:
      key: random key.
      shape: [B, L, ...].
      rate: as in `dropout_mask`.
      dtype: the type of the mask.
    """
    rows, width, *rest = shape
    # A random word is a function of the key and of its index. With time first, words of padding come last.
    return dropout_mask(key, (width, rows, *rest), rate, dtype).swapaxes(0, 1)


def drop_word_types(key: jax.Array, token_ids: jax.Array, rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return a mask that drops whole word types: all occurrences of a word in a text, or none.

    Args:
      key: random key.
      token_ids: int32 [B, L].
      rate: probability of dropping a type.
      dtype: the type of the mask.

    Returns:
      `dtype` [B, L], with the values of `dropout_mask`.
    """
    mask = sequence_mask(key, token_ids.shape, rate, dtype)
    # Each position takes the value at the first occurrence of its word.
    first = jnp.argmax(token_ids[:, :, None] == token_ids[:, None, :], axis=-1)
    return jnp.take_along_axis(mask, first, axis=1)
