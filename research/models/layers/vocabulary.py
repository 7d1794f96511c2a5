"""The output layer of pre-training, which scores every word of the vocabulary.

It shares its table with the embedding (Press & Wolf 2017; Devlin et al. 2019). The logits of the V words are
`vectors @ table.T + bias`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import linen as nn


class Guesses(NamedTuple):
    """Guesses for the tokens at P positions of each of B rows."""

    vectors: jax.Array  # float [B, P, E]
    table: jax.Array  # float [V, E]
    bias: jax.Array  # float [V]
    order: jax.Array | None  # float [B, 2], logits of: b follows a, b comes from another row


class Output(nn.Module):
    """`states float [B, P, D] -> (vectors float [B, P, features], bias float [vocab_size])`."""

    vocab_size: int
    features: int
    activation: Callable[[jax.Array], jax.Array] | None = None  # a layer normalisation follows it, as in BERT
    epsilon: float = 1e-6  # added to the variance in the normalisation
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        vectors = nn.Dense(self.features, kernel_init=self.kernel_init, name="transform")(states)
        if self.activation is not None:
            vectors = nn.LayerNorm(epsilon=self.epsilon, name="norm")(self.activation(vectors))
        return vectors, self.param("bias", nn.initializers.zeros, (self.vocab_size,))
