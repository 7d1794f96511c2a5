"""Attention over LSTM states with the last state as query (Luong, Pham & Manning 2015)."""

from typing import Any

import jax
from flax import linen as nn

from research.models.kernels.options import Kernels
from research.models.layers.attention import SCORES, LuongAttention
from research.models.layers.embedding import embedding, head
from research.models.layers.recurrence import RecurrentLayer
from research.settings import setting


def _is_local(model: Any) -> bool:
    return model.score.startswith("local")


def _is_location(model: Any) -> bool:
    return model.score == "location"


class Luong(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    The attention weights [B, L] are sown as `intermediates/attention_weights`.
    """

    skips_padding = True  # the recurrence ends with the longest text
    only_looks_up = True
    layer_pattern = r"lstm(\d*)$"

    vocab_size: int
    num_outputs: int
    score: str = setting("general", "score of the attention (Luong et al. 2015)", choices=SCORES)
    window: int = setting(10, "local attention: number of positions that it reads on each side", low=1, read=_is_local)
    positions: int = setting(
        100,
        "location attention: number of positions that it can score",
        low=1,
        limits_length=_is_location,
        read=_is_location,
    )
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    hidden_size: int = setting(128, "units of the LSTM", low=1)
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(token_ids)
        states, last = RecurrentLayer("lstm", self.hidden_size, kernels=self.kernels, name="lstm")(inputs, lengths)
        attention = LuongAttention(self.score, self.window, self.positions, name="attention")
        attended, weights = attention(last, states, lengths)
        self.sow("intermediates", "attention_weights", weights)
        return head(self.num_outputs)(attended)
