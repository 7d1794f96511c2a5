"""Convolution over time as one matrix product. On CPU it is several times faster than XLA's convolution."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.kernels.dense_product import product


class Convolution(nn.Module):
    """Convolution over windows of `width` positions.

    Args of the call:
      inputs: float [B, L, E], zero at padding.

    Returns:
      float: for "same" [B, L, features], centred windows; for "full" [B, L + width - 1, features], every window that
      overlaps the inputs.
    """

    features: int
    width: int
    padding: str = "same"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        shape = (self.width, inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        left = self.width - 1 if self.padding == "full" else (self.width - 1) // 2
        right = self.width - 1 if self.padding == "full" else self.width // 2
        padded = jnp.pad(inputs, ((0, 0), (left, right), (0, 0)))
        windows = padded.shape[1] - self.width + 1
        unfolded = jnp.concatenate([padded[:, k : k + windows] for k in range(self.width)], axis=-1)
        maps = product(unfolded.reshape(-1, shape[0] * shape[1]), kernel.reshape(-1, self.features))
        return maps.reshape(-1, windows, self.features) + bias[None, None, :]
