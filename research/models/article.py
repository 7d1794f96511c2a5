"""The article's listing as it computes: texts padded in front to a fixed width, and the padding read as words.

`pad_sequences` puts zeros before a text and `Embedding` without `mask_zero` looks row 0 up for them, so a short
review is mostly the word "padding". Kept to measure what reading only the text is worth.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.embedding import embedding, head
from research.models.layers.recurrence import RecurrentLayer
from research.settings import setting


def pad_front(token_ids: jax.Array, lengths: jax.Array, width: int) -> jax.Array:
    """Moves each row's tokens to the right end of `width` columns; zeros before them, the last `width` tokens kept.

    Args:
      token_ids: int32 [B, L].
      lengths: int32 [B].
      width: columns of the result.

    Returns:
      int32 [B, width].
    """
    source = jnp.arange(width)[None, :] - (width - lengths)[:, None]
    tokens = jnp.take_along_axis(token_ids, jnp.clip(source, 0, token_ids.shape[1] - 1), axis=1)
    return jnp.where(source >= 0, tokens, 0)


class Article(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    skips_padding = True  # the recurrence ends with the longest text: one width is enough

    vocab_size: int
    num_outputs: int
    width: int = setting(100, "tokens of a padded text", low=1, limits_length=lambda model: True)
    embedding_size: int = setting(64, low=1)
    hidden_size: int = setting(128, low=1)

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(pad_front(token_ids, lengths, self.width))
        _, last = RecurrentLayer("lstm", self.hidden_size, name="lstm")(inputs, jnp.full_like(lengths, self.width))
        return head(self.num_outputs)(last)
