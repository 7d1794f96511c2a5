"""Convolutions of several widths with max-pooling over time (Kim 2014)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError
from research.models.layers.activations import ACTIVATIONS
from research.models.layers.convolution import Convolution
from research.models.layers.dropout import Dropout
from research.models.layers.embedding import FixedEmbedding, embedding, head
from research.models.layers.masks import masked
from research.models.layers.pooling import max_over_time
from research.settings import setting


class CNN(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    `channels` chooses the word vectors: "trained" (CNN-rand, or CNN-non-static with pretrained vectors), "fixed"
    (CNN-static), or "both" (CNN-multichannel). With both, a filter has weights for each channel and adds their results.
    Windows reach over both ends of a text into zeros, as in Kim's code. Windows wholly outside the text are masked.
    """

    layer_pattern = None  # no layers are stacked

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, "size of the word vectors of each channel", low=1)
    channels: str = setting(
        "trained",
        "word vectors that are trained, that stay fixed, or both side by side",
        choices=("trained", "fixed", "both"),
    )
    features: int = setting(100, "number of filters of each width", low=1)
    widths: tuple[int, ...] = setting((3, 4, 5), "widths of the filters, in tokens", low=1)
    activation: str = setting(
        "relu", "activation after the convolutions; the article has sigmoid", choices=tuple(ACTIVATIONS)
    )
    dropout: float = setting(0.5, "dropout rate before the classifier", low=0.0, high=0.95)

    @property
    def only_looks_up(self) -> bool:
        """Whether another numbering of the trained rows would do; fixed rows have numbers of their own."""
        return self.channels == "trained"

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        if len(set(self.widths)) < len(self.widths):
            raise UserError(f"config.model.widths is {self.widths}, expected different widths")
        channels = []
        if self.channels != "fixed":
            channels.append(embedding(self.vocab_size, self.embedding_size)(token_ids))
        if self.channels != "trained":
            channels.append(FixedEmbedding(self.vocab_size, self.embedding_size, name="fixed")(token_ids))
        inputs = jnp.concatenate(channels, axis=-1)
        inputs = masked(inputs, lengths)
        pooled = []
        for width in self.widths:
            maps = Convolution(self.features, width, "full", name=f"width_{width}")(inputs)
            windows = jnp.where(lengths > 0, lengths + width - 1, 0)
            pooled.append(max_over_time(ACTIVATIONS[self.activation](maps), windows))
        hidden = jnp.concatenate(pooled, axis=-1)
        return head(self.num_outputs)(Dropout(self.dropout)(hidden, deterministic=deterministic))
