"""The article's classifier: Embedding -> LSTM -> last valid state -> Dense."""

import jax
from flax import linen as nn

from research.models.layers.embedding import embedding, head
from research.models.layers.recurrence import LSTM
from research.settings import setting


class Recurrent(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, low=1)
    hidden_size: int = setting(128, low=1)

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(token_ids)
        _, last = LSTM(self.hidden_size, name="lstm")(inputs, lengths)
        return head(self.num_outputs)(last)
