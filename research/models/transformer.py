"""The Transformer's encoder over a text, with the mean of its states (Vaswani et al. 2017)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.models.layers.dropout import Dropout
from research.models.layers.embedding import embedding, head
from research.models.layers.masks import length_mask, positions
from research.models.layers.pooling import mean_over_time
from research.models.layers.transformer_block import Block
from research.settings import setting


def sinusoidal_positions(length: int, features: int) -> jax.Array:
    """Return PE(pos, 2i) = sin(pos / 10000^(2i/d)) and PE(pos, 2i+1) = cos(same), section 3.5.

    Returns:
      float32 [length, features].
    """
    column = np.arange(features)
    rates = (10_000.0 ** (-2 * (column // 2) / features)).astype(np.float32)
    angles = positions(length).astype(jnp.float32).T * rates[None, :]
    return jnp.where(column[None, :] % 2 == 1, jnp.cos(angles), jnp.sin(angles))


class Transformer(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    only_looks_up = True
    layer_pattern = r"block_(\d+)"

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    layers: int = setting(2, "number of encoder blocks", low=1)
    heads: int = setting(4, "number of attention heads; it divides embedding_size", low=1)
    feed_forward: int = setting(256, "units of the hidden layer of the feed-forward network", low=1)
    dropout: float = setting(
        0.1, "dropout rate of the embeddings and of the output of each sublayer", low=0.0, high=0.95
    )
    norm: str = setting(
        "pre", "layer normalisation before each sublayer (pre) or after it (post)", choices=("pre", "post")
    )

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        vectors = embedding(self.vocab_size, self.embedding_size)(token_ids)
        position_vectors = sinusoidal_positions(token_ids.shape[1], self.embedding_size)[None].astype(vectors.dtype)
        # Unit size: the embedding starts at +-0.05. The paper's starts near 1 / sqrt(d) and is multiplied by sqrt(d).
        states = 20.0 * vectors + position_vectors
        states = Dropout(self.dropout)(states, deterministic=deterministic)
        mask = length_mask(lengths, token_ids.shape[1])
        for layer in range(self.layers):
            block = Block(self.heads, self.feed_forward, self.dropout, self.norm, name=f"block_{layer}")
            states = block(states, mask, deterministic=deterministic)
        if self.norm == "pre":
            states = nn.LayerNorm(name="norm")(states)
        return head(self.num_outputs)(mean_over_time(states, lengths))
