"""A multilayer perceptron on the mean of the word vectors: the article's a' = sigmoid(W a + b).

A deep averaging network (Iyyer et al. 2015) has several layers and drops whole tokens from the mean during training.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.activations import ACTIVATIONS
from research.models.layers.dropout import sequence_mask
from research.models.layers.embedding import embedding, head
from research.models.layers.masks import length_mask
from research.settings import setting


class MLP(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    only_looks_up = True
    layer_pattern = r"hidden_(\d+)"

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    hidden_size: int = setting(128, "units of each hidden layer", low=1)
    layers: int = setting(1, "number of hidden layers", low=1)
    activation: str = setting("sigmoid", "activation of the hidden layers", choices=tuple(ACTIVATIONS))
    word_dropout: float = setting(0.0, "dropout rate of whole tokens of a text in training", low=0.0, high=0.95)

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        vectors = embedding(self.vocab_size, self.embedding_size)(token_ids)
        is_read = length_mask(lengths, token_ids.shape[1])
        if self.word_dropout and not deterministic:
            is_read &= sequence_mask(self.make_rng("dropout"), is_read.shape, self.word_dropout) > 0
        total = jnp.sum(jnp.where(is_read[:, :, None], vectors, 0.0), axis=1)
        hidden = total / jnp.maximum(jnp.sum(is_read, axis=1), 1).astype(total.dtype)[:, None]
        for layer in range(self.layers):
            dense = nn.Dense(self.hidden_size, kernel_init=nn.initializers.glorot_uniform(), name=f"hidden_{layer}")
            hidden = ACTIVATIONS[self.activation](dense(hidden))
        return head(self.num_outputs)(hidden)
