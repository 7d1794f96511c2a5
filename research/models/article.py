"""The article's listing as it computes: texts are padded in front to a fixed width, and padding is read as words.

`pad_sequences` puts zeros before a text, and `Embedding` without `mask_zero` reads row 0 for them. So a short review is
mostly the word "padding". The variant measures what reading only the text is worth.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.kernels.options import Kernels
from research.models.layers.embedding import embedding, head
from research.models.layers.recurrence import RecurrentLayer
from research.settings import setting


def pad_front(token_ids: jax.Array, lengths: jax.Array, width: int) -> jax.Array:
    """Move each row's last `width` tokens to the right end of `width` columns, with zeros before them.

    Args:
      token_ids: int32 [B, L].
      lengths: int32 [B].
      width: number of columns of the result.

    Returns:
      int32 [B, width].
    """
    source = jnp.arange(width)[None, :] - (width - lengths)[:, None]
    tokens = jnp.take_along_axis(token_ids, jnp.clip(source, 0, token_ids.shape[1] - 1), axis=1)
    return jnp.where(source >= 0, tokens, 0)


class Article(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    skips_padding = True  # the recurrence ends with the longest text
    reads_padding = True  # as the token 0
    layer_pattern = r"lstm(\d*)$"

    vocab_size: int
    num_outputs: int
    width: int = setting(100, "number of tokens that each text is padded to", low=1, limits_length=lambda model: True)
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    hidden_size: int = setting(128, "units of the LSTM", low=1)
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(pad_front(token_ids, lengths, self.width))
        _, last = RecurrentLayer("lstm", self.hidden_size, kernels=self.kernels, name="lstm")(
            inputs, jnp.full_like(lengths, self.width)
        )
        return head(self.num_outputs)(last)
