"""The recurrent family: embedding, layers of a recurrent cell, readout, classifier.

With its defaults this is the article's classifier: one LSTM with 128 units, its last valid state.

There are two kinds of dropout (Gal & Ghahramani 2016, section 4):
  *variational*: each text has one mask for a layer's inputs, one for its state and one for the readout, the same at
  every step. Whole word types are dropped from the embedding.
  *naive*: inputs and readout have new masks at every step, and the state has none (Zaremba et al. 2014).
If `monte_carlo` is above 0, the deterministic forward pass averages the probabilities of that many dropout masks
(section 3). Otherwise it scales the weights. All rows share these masks, so a prediction does not depend on its batch.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError
from research.models.kernels.options import Kernels
from research.models.kernels.plain_recurrence import CELLS
from research.models.layers.activations import ACTIVATIONS
from research.models.layers.dropout import drop_word_types, dropout_mask, sequence_mask
from research.models.layers.embedding import embedding, head
from research.models.layers.pooling import AttentivePooling, max_over_time, mean_over_time
from research.models.layers.recurrence import RecurrentLayer
from research.models.layers.vocabulary import Guesses, Output
from research.settings import setting


class Recurrent(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    objective = "next"  # pre-trained as a language model
    skips_padding = True  # the recurrence ends with the longest text
    only_looks_up = True
    layer_pattern = r"(?:forwards|backwards)_(\d+)"

    vocab_size: int
    num_outputs: int
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    hidden_size: int = setting(128, "units of the recurrent layer, in each direction", low=1)
    cell: str = setting("lstm", "kind of recurrent cell", choices=tuple(CELLS))
    activation: str = setting("tanh", "activation of the cell", choices=tuple(ACTIVATIONS))
    layers: int = setting(1, "number of stacked recurrent layers", low=1)
    bidirectional: bool = setting(False, "read texts backwards too")
    readout: str = setting(
        "last",
        "how the states of a text become one vector: the last state, or mean, maximum or attention over all",
        choices=("last", "mean", "max", "attention"),
    )
    dropout_kind: str = setting(
        "variational",
        "variational: one dropout mask for all steps of a text (Gal & Ghahramani 2016); naive: a new one each step",
        choices=("variational", "naive"),
        read=lambda model: model.dropout > 0,
    )
    dropout: float = setting(0.0, "dropout rate of the inputs and states of the recurrent layers", low=0.0, high=0.95)
    word_dropout: float = setting(
        0.0,
        "dropout rate of words in training; all occurrences of a word in a text are dropped together",
        low=0.0,
        high=0.95,
    )
    monte_carlo: int = setting(
        0,
        "Monte Carlo dropout: number of dropout masks that a prediction averages; 0: no dropout in predictions",
        low=0,
        read=lambda model: model.dropout > 0 or model.word_dropout > 0,
    )
    kernels: Kernels = Kernels()

    def setup(self):
        directions = ("forwards", "backwards") if self.bidirectional else ("forwards",)
        self.embed = embedding(self.vocab_size, self.embedding_size)
        self.stack = [
            [
                RecurrentLayer(
                    self.cell,
                    self.hidden_size,
                    self.activation,
                    backwards=direction == "backwards",
                    kernels=self.kernels,
                    name=f"{direction}_{layer}",
                )
                for direction in directions
            ]
            for layer in range(self.layers)
        ]
        self.pool = AttentivePooling(name="pool") if self.readout == "attention" else None
        self.dense = head(self.num_outputs)
        self.predictions = Output(self.vocab_size, self.embedding_size)  # only pre-training reads it

    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        drops = self.dropout > 0 or self.word_dropout > 0
        if not drops or (deterministic and not self.monte_carlo):
            return self._logits(token_ids, lengths)
        if not deterministic:
            return self._logits(token_ids, lengths, self.make_rng("dropout"))
        keys = [jax.random.key(sample) for sample in range(self.monte_carlo)]
        samples = [self._logits(token_ids, lengths, key, shared=True) for key in keys]
        return average_probabilities(jnp.stack(samples))

    def guess(
        self,
        token_ids: jax.Array,
        segment_ids: jax.Array,
        lengths: jax.Array,
        positions: jax.Array,
        *,
        deterministic: bool,
    ) -> Guesses:
        """Guess the token after each of `positions` int32 [B, P], as a language model (Dai & Le 2015, section 2).

        `segment_ids` are not read.
        """
        if self.bidirectional:
            raise UserError(
                "config.model.bidirectional sees the words that a language model is to guess, expected false"
            )
        key = None if deterministic else self.make_rng("dropout")
        states, _ = self._states(token_ids, lengths, key, shared=False)
        states = self._drop(states, key, 3 * len(self.stack) + 1, token_ids.shape[0])
        vectors, bias = self.predictions(jnp.take_along_axis(states, positions[:, :, None], axis=1))
        return Guesses(vectors, self.embed.embedding, bias, None)

    def _states(
        self, token_ids: jax.Array, lengths: jax.Array, key: jax.Array | None, shared: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Return the states of the highest layer at each token, [B, L, H], and at the end, [B, H].

        A key switches dropout on. With `shared`, all rows have the same masks.
        """
        states, last = self.embed(token_ids), None
        rows = 1 if shared else token_ids.shape[0]
        if key is not None and self.word_dropout:
            word_key = jax.random.fold_in(key, 0)
            if shared:  # the same types in every text
                mask = dropout_mask(word_key, (self.vocab_size,), self.word_dropout, states.dtype)[token_ids]
            else:
                mask = drop_word_types(word_key, token_ids, self.word_dropout, states.dtype)
            states = states * mask[:, :, None]
        for i, layers in enumerate(self.stack):
            outputs = []
            states = self._drop(states, key, 3 * i + 1, rows)
            for j, layer in enumerate(layers):
                mask = None
                if key is not None and self.dropout and self.dropout_kind == "variational":
                    state_key = jax.random.fold_in(jax.random.fold_in(key, 3 * i + 2), j)
                    mask = dropout_mask(state_key, (rows, self.hidden_size), self.dropout, states.dtype)
                outputs.append(layer(states, lengths, mask))
            states = jnp.concatenate([layer_states for layer_states, _ in outputs], axis=-1)
            last = jnp.concatenate([layer_last for _, layer_last in outputs], axis=-1)
        return states, last

    def _logits(
        self, token_ids: jax.Array, lengths: jax.Array, key: jax.Array | None = None, shared: bool = False
    ) -> jax.Array:
        states, last = self._states(token_ids, lengths, key, shared)
        rows = 1 if shared else token_ids.shape[0]
        if self.readout == "last":
            pooled = last
        elif self.readout == "attention":
            pooled, weights = self.pool(states, lengths)
            self.sow("intermediates", "attention_weights", weights)
        else:
            pooled = (mean_over_time if self.readout == "mean" else max_over_time)(states, lengths)
        return self.dense(self._drop(pooled[:, None], key, 3 * len(self.stack) + 1, rows)[:, 0])

    def _drop(self, sequences: jax.Array, key: jax.Array | None, stream: int, rows: int) -> jax.Array:
        if key is None or not self.dropout:
            return sequences
        key = jax.random.fold_in(key, stream)
        if self.dropout_kind == "variational":
            mask = dropout_mask(key, (rows, sequences.shape[-1]), self.dropout, sequences.dtype)
            return sequences * mask[:, None, :]
        return sequences * sequence_mask(key, (rows, *sequences.shape[1:]), self.dropout, sequences.dtype)


def average_probabilities(samples: jax.Array) -> jax.Array:
    """Return logits [B, C] whose probabilities are the means over S samples of logits, float32 [S, B, C]."""
    count = jnp.log(samples.shape[0])
    if samples.shape[-1] > 1:
        return jax.nn.logsumexp(jax.nn.log_softmax(samples, axis=-1), axis=0) - count
    log_p = jax.nn.logsumexp(jax.nn.log_sigmoid(samples), axis=0)
    return log_p - jax.nn.logsumexp(jax.nn.log_sigmoid(-samples), axis=0)
