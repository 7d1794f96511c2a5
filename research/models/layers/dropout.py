"""Dropout (Srivastava et al. 2014), for sequences too (Gal & Ghahramani 2016)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

_LEVELS = 1 << 16  # a mask's probabilities are multiples of one over it


class Dropout(nn.Module):
    """`values float [B, ...] -> values with zeros in the place of a share of `rate` of them, and the rest scaled up`.

    The second of three and more axes is taken for positions, as of `sequence_mask`.
    """

    rate: float

    @nn.compact
    def __call__(self, values: jax.Array, *, deterministic: bool) -> jax.Array:
        if deterministic or not self.rate:
            return values
        mask_of = sequence_mask if values.ndim > 2 else dropout_mask
        return values * mask_of(self.make_rng("dropout"), values.shape, self.rate, values.dtype)


def dropout_mask(key: jax.Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Zeros with probability `rate`, to a multiple of 2^-16, and else one over the probability of that.

    Two elements share a random word of 32 bits: on CPU drawing them costs more than all else in dropout, and
    `jax.random.bernoulli` draws a word for each.

    Returns:
      `dtype` of `shape`.
    """
    keep = max(1, round((1.0 - rate) * _LEVELS))
    if keep == _LEVELS:
        return jnp.ones(shape, dtype)
    *rows, last = shape or (1,)
    words = jax.random.bits(key, (*rows, math.ceil(last / 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :last].reshape(shape)
    return jnp.where(halves < keep, _LEVELS / keep, 0.0).astype(dtype)


def sequence_mask(key: jax.Array, shape: tuple[int, ...], rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """A mask whose values do not depend on how far texts are padded, so that a run is the same in any company.

    Args:
      key: random key.
      shape: [B, L, ...].
      rate: as of `dropout_mask`.
      dtype: of the mask.

    Returns:
      `dtype` of `shape`.
    """
    rows, width, *rest = shape
    # JAX' random words are a function of the key and of how many stand before them: time first, padding comes last.
    return dropout_mask(key, (width, rows, *rest), rate, dtype).swapaxes(0, 1)


def drop_word_types(key: jax.Array, token_ids: jax.Array, rate: float, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """A mask that drops whole word types: all occurrences of a word in a text, or none.

    Args:
      key: random key.
      token_ids: int32 [B, L].
      rate: probability of dropping a type.
      dtype: of the mask.

    Returns:
      `dtype` [B, L], zeros and what `dropout_mask` has in their place.
    """
    mask = sequence_mask(key, token_ids.shape, rate, dtype)
    # Each position takes what was drawn at the first occurrence of its word.
    first = jnp.argmax(token_ids[:, :, None] == token_ids[:, None, :], axis=-1)
    return jnp.take_along_axis(mask, first, axis=1)
