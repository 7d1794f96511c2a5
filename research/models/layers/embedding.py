"""Word embeddings and the classifier's layer, initialised as in Keras, which the article uses."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def _uniform_embedding(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


def embedding(vocab_size: int, features: int) -> nn.Embed:
    """Return an embedding layer, uniform in +-0.05: ids int32 [...] -> float32 [..., features]."""
    return nn.Embed(vocab_size, features, embedding_init=_uniform_embedding, name="embedding")


class FixedEmbedding(nn.Module):
    """An embedding that is not trained, in the collection "constants". It starts like a trained one.

    Args of the call:
      token_ids: int32 [...].

    Returns:
      float32 [..., features].
    """

    vocab_size: int
    features: int

    @nn.compact
    def __call__(self, token_ids: jax.Array) -> jax.Array:
        def draw() -> jax.Array:
            return _uniform_embedding(self.make_rng("params"), (self.vocab_size, self.features))

        return self.variable("constants", "embedding", draw).value[token_ids]


def head(num_outputs: int) -> nn.Dense:
    """Return the layer that computes logits, with a Glorot-uniform kernel and zero bias."""
    return nn.Dense(num_outputs, kernel_init=nn.initializers.glorot_uniform(), name="head")
