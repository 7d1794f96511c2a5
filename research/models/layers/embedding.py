"""Word embeddings and the output layer, initialised as in Keras, whose listing is the reference."""

import jax
from flax import linen as nn


def _uniform_embedding(key, shape, dtype=float):
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


def embedding(vocab_size: int, features: int) -> nn.Embed:
    """A table [vocab_size, features], uniform in +-0.05; ids int32 [...] -> float32 [..., features]."""
    return nn.Embed(vocab_size, features, embedding_init=_uniform_embedding, name="embedding")


def head(num_outputs: int) -> nn.Dense:
    """The layer that makes logits; Glorot-uniform, zero bias."""
    return nn.Dense(num_outputs, kernel_init=nn.initializers.glorot_uniform(), name="head")
