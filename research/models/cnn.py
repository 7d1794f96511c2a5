"""Convolutions of several widths with max-pooling over time (Kim 2014)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.embedding import embedding, head
from research.models.layers.masks import length_mask
from research.settings import setting


class WindowConvolution(nn.Module):
    """One feature map a window of `width` tokens, over every window that touches the text (zeros outside it).

    Args of the call:
      inputs: float [B, L, E], zero at padding. lengths: int32 [B].

    Returns:
      `(maps [B, L + width - 1, features], mask [B, L + width - 1])`: the windows that touch a real token.
    """

    features: int
    width: int

    @nn.compact
    def __call__(self, inputs: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (self.width, inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        windows = inputs.shape[1] + self.width - 1
        padded = jnp.pad(inputs, ((0, 0), (self.width - 1, self.width - 1), (0, 0)))
        # A sum of plain products: on CPU several times faster than the convolution primitive and its gradient.
        maps = sum(padded[:, k : k + windows] @ kernel[k] for k in range(self.width)) + bias[None, None, :]
        return maps, length_mask(jnp.where(lengths > 0, lengths + self.width - 1, 0), windows)


class CNN(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, low=1)
    features: int = setting(100, low=1)  # maps of each width
    widths: tuple[int, ...] = setting((3, 4, 5), low=1)
    dropout: float = setting(0.5, low=0.0, high=0.99)

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(token_ids)
        inputs = jnp.where(length_mask(lengths, token_ids.shape[1])[:, :, None], inputs, 0.0)
        pooled = []
        for width in self.widths:
            maps, mask = WindowConvolution(self.features, width, name=f"width_{width}")(inputs, lengths)
            # relu is at least 0, so a 0 at padding leaves the maximum as it is, and an empty text gives 0.
            pooled.append(jnp.max(jnp.where(mask[:, :, None], nn.relu(maps), 0.0), axis=1))
        hidden = jnp.concatenate(pooled, axis=-1)
        return head(self.num_outputs)(nn.Dropout(self.dropout, deterministic=deterministic)(hidden))
