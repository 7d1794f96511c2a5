"""BERT: a Transformer encoder that is pre-trained and then fine-tuned (Devlin et al. 2019), and its close relatives.

DistilBERT, RoBERTa and XLM-R differ from BERT by little more than names (`bert_families.py`).

The tokenizer of a pretrained encoder adds [CLS] and [SEP] to each text. An encoder that starts at random reads words of
the training texts, without either, and `pooling="cls"` then reads the first word. `bert_files.py` reads and writes
the files of pretrained encoders.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.models import bert_files
from research.models.bert_families import FAMILIES
from research.models.layers.activations import ACTIVATIONS
from research.models.layers.dropout import Dropout
from research.models.layers.embedding import head
from research.models.layers.masks import length_mask, positions
from research.models.layers.pooling import mean_over_time
from research.models.layers.transformer_block import Block
from research.models.layers.vocabulary import Guesses, Output
from research.settings import setting

HIDDEN_ACTIVATIONS = {
    # With erf, as in the paper. `nn.gelu` uses erfc, which takes XLA on CPU twice as long.
    "gelu": lambda x: 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_new": nn.gelu,  # with tanh instead of the error function
    "relu": nn.relu,
}
_NORMAL = nn.initializers.normal(0.02)


class Encoder(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> states float [B, L, D]`; states at padding mean nothing.

    `segment_ids` int32 [B, L] give each token's segment; without them, all tokens belong to the first segment.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    feed_forward: int
    max_positions: int
    first_position: int
    segments: int
    activation: str
    epsilon: float
    dropout: float
    attention_dropout: float
    remat: bool

    @nn.compact
    def __call__(
        self, token_ids: jax.Array, lengths: jax.Array, segment_ids: jax.Array | None = None, *, deterministic: bool
    ) -> jax.Array:
        tokens = nn.Embed(self.vocab_size, self.hidden_size, embedding_init=_NORMAL, name="embedding")
        rows = self.first_position + self.max_positions
        position_vectors = self.param("embedding_position", _NORMAL, (rows, self.hidden_size))
        # Only padding lies behind the last position.
        position = jnp.minimum(self.first_position + positions(token_ids.shape[1])[0], rows - 1)
        added = position_vectors[position][None]
        if self.segments:
            segment_vectors = self.param("embedding_segment", _NORMAL, (self.segments, self.hidden_size))
            added += segment_vectors[:1][None] if segment_ids is None else segment_vectors[segment_ids]
        states = tokens(token_ids) + added
        states = nn.LayerNorm(epsilon=self.epsilon, name="embedding_norm")(states)
        states = Dropout(self.dropout)(states, deterministic=deterministic)
        mask = length_mask(lengths, token_ids.shape[1])

        def apply(block: Block, states: jax.Array) -> jax.Array:
            return block(states, mask, deterministic=deterministic)

        apply = nn.remat(apply) if self.remat else apply
        for layer in range(self.layers):
            block = Block(
                self.heads,
                self.feed_forward,
                self.dropout,
                "post",
                attention_dropout=self.attention_dropout,
                activation=HIDDEN_ACTIVATIONS[self.activation],
                epsilon=self.epsilon,
                kernel_init=_NORMAL,
                name=f"block_{layer}",
            )
            states = apply(block, states)
        return states


class Bert(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    objective = "masked"  # pre-trained as a masked language model
    layer_pattern = r"block_(\d+)"

    vocab_size: int
    num_outputs: int
    family: str = setting(
        "bert",
        "kind of encoder: it decides the layer below the classifier, and how exported weights are named",
        choices=tuple(FAMILIES),
    )
    hidden_size: int = setting(128, "size of the vector of a token", low=1)
    layers: int = setting(2, "number of encoder blocks", low=1)
    heads: int = setting(2, "number of attention heads; it divides hidden_size", low=1)
    feed_forward: int = setting(512, "units of the hidden layer of the feed-forward network", low=1)
    max_positions: int = setting(512, "largest number of tokens of a text", low=1, limits_length=lambda model: True)
    first_position: int = setting(0, "number of the first position; other encoders than BERT may count from 2", low=0)
    segments: int = setting(2, "number of segment embeddings; 0 for encoders without segments", low=0)
    activation: str = setting("gelu", "activation of the feed-forward network", choices=tuple(HIDDEN_ACTIVATIONS))
    epsilon: float = setting(1e-12, "constant added to the variance in layer normalisation, for stability", low=0.0)
    dropout: float = setting(0.1, "dropout rate of embeddings and of the output of each layer", low=0.0, high=0.95)
    attention_dropout: float = setting(0.1, "dropout rate of the attention weights", low=0.0, high=0.95)
    pooling: str = setting(
        "cls",
        "cls: a layer on the first state, with tanh as in the paper (relu in distilbert); mean: the mean of the states",
        choices=("cls", "mean"),
    )
    remat: bool = setting(False, "save memory: compute blocks again for their gradients instead of keeping activations")

    def setup(self):
        names = {field.name for field in dataclasses.fields(Encoder)} - {"parent", "name"}
        self.encoder = Encoder(**{name: getattr(self, name) for name in names})
        self.pooler = nn.Dense(self.hidden_size, kernel_init=_NORMAL) if self.pooling == "cls" else None
        self.drop = Dropout(self.dropout)
        self.dense = head(self.num_outputs)
        # Only pre-training reads these.
        activation = HIDDEN_ACTIVATIONS[self.activation]
        self.predictions = Output(self.vocab_size, self.hidden_size, activation, self.epsilon, _NORMAL)
        self.next_sentence = nn.Dense(2, kernel_init=_NORMAL)

    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        pooled = self.pool(self.encoder(token_ids, lengths, deterministic=deterministic), lengths)
        return self.dense(self.drop(pooled, deterministic=deterministic))

    def guess(
        self,
        token_ids: jax.Array,
        segment_ids: jax.Array,
        lengths: jax.Array,
        positions: jax.Array,
        *,
        deterministic: bool,
    ) -> Guesses:
        """Guess the tokens at `positions` int32 [B, P], and whether segment b follows segment a (section 3.1).

        A row is [CLS] a [SEP] b [SEP].
        """
        states = self.encoder(token_ids, lengths, segment_ids, deterministic=deterministic)
        vectors, bias = self.predictions(jnp.take_along_axis(states, positions[:, :, None], axis=1))
        table = self.encoder.variables["params"]["embedding"]["embedding"]
        return Guesses(vectors, table, bias, self.next_sentence(self.pool(states, lengths)))

    def pool(self, states: jax.Array, lengths: jax.Array) -> jax.Array:
        """Return one vector for each text: float [B, L, D], int32 [B] -> float [B, D]."""
        if self.pooler is None:
            return mean_over_time(states, lengths)
        first = jnp.where((lengths > 0)[:, None], states[:, 0], 0.0)
        return ACTIVATIONS[FAMILIES[self.family].pooler_activation](self.pooler(first))

    def start_from(self, params: Any, tensors: dict[str, np.ndarray], source: str) -> Any:
        """Return the parameters, those of the encoder replaced by pretrained ones; see `bert_files.place`."""
        return bert_files.place(params, tensors, source, self.family)
