"""A linear probe: logistic regression on the sentence vectors of a frozen pretrained encoder.

Papers on embeddings compare them in this way (Conneau & Kiela 2018, "SentEval"). The encoder is not trained, so the
vectors of a corpus are computed once (`research/runs/sentence_vectors.py`), and a fit takes a second. A trained run
applies the encoder to new texts like any other model.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.tokenizer import Encoded
from research.models import bert_files
from research.models.bert import HIDDEN_ACTIVATIONS, Encoder
from research.models.bert_families import FAMILIES
from research.models.layers.embedding import head
from research.models.layers.pooling import mean_over_time
from research.models.linear_fit import FittedVariables, LogisticLoss, fit_logistic
from research.settings import setting


def _swap(variables: Any) -> Any:
    """Return the constants as parameters, and the parameters as constants."""
    return {"params": variables.get("constants", {}), "constants": variables.get("params", {})}


# Its parameters are in the collection "constants", which no optimizer changes.
_FrozenEncoder = nn.map_variables(Encoder, ("params", "constants"), _swap, _swap, mutable=True)
_ONLY_TRAINED = {"dropout": 0.0, "attention_dropout": 0.0, "remat": False}  # fields that a frozen encoder does not read


class Probe(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    The vectors are standardised by their mean and standard deviation over the training texts, as by scikit-learn's
    `StandardScaler`. So the same L2 penalty suits encoders whose vectors differ in length and spread.
    """

    layer_pattern = None  # no trained layers are stacked
    pretrained_collection = "constants"

    vocab_size: int
    num_outputs: int
    family: str = setting("bert", "the kind of encoder, which names its tensors", choices=tuple(FAMILIES))
    hidden_size: int = setting(128, low=1)
    layers: int = setting(2, low=1)
    heads: int = setting(2, low=1)
    feed_forward: int = setting(512, low=1)
    max_positions: int = setting(512, "largest number of tokens of a text", low=1, limits_length=lambda model: True)
    first_position: int = setting(0, "row of the table of positions that the first token of a text reads", low=0)
    segments: int = setting(2, "kinds of segments; a text to classify is of the first kind; 0: none", low=0)
    activation: str = setting("gelu", choices=tuple(HIDDEN_ACTIVATIONS))
    epsilon: float = setting(1e-12, "added to the variance in layer normalisations", low=0.0)
    pooling: str = setting(
        "mean", "the sentence vector. mean: the mean of the states; cls: the first state", choices=("mean", "cls")
    )
    normalize: bool = setting(True, "scale each sentence vector to length 1, as sentence-transformers' MiniLM does")

    def setup(self):
        names = {field.name for field in dataclasses.fields(Encoder)} - {"parent", "name", *_ONLY_TRAINED}
        self.encoder = _FrozenEncoder(**{name: getattr(self, name) for name in names}, **_ONLY_TRAINED)
        self.mean = self.variable("constants", "mean", jnp.zeros, (self.hidden_size,))
        self.scale = self.variable("constants", "scale", jnp.ones, (self.hidden_size,))
        self.dense = head(self.num_outputs)

    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        return self.classify(self.embed(token_ids, lengths))

    def embed(self, token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
        """Return the sentence vectors: int32 [B, L], int32 [B] -> float [B, D]; zero for a text without tokens."""
        states = self.encoder(token_ids, lengths, deterministic=True)
        if self.pooling == "mean":
            vectors = mean_over_time(states, lengths)
        else:
            vectors = jnp.where((lengths > 0)[:, None], states[:, 0], 0.0)
        if not self.normalize:
            return vectors
        squares = jnp.sum(jnp.square(vectors), axis=1, keepdims=True)
        return vectors / jnp.sqrt(jnp.maximum(squares, jnp.finfo(vectors.dtype).tiny))

    def classify(self, vectors: jax.Array) -> jax.Array:
        """Return the logits of sentence vectors: float [B, D] -> float [B, C]."""
        mean, scale = self.mean.value, self.scale.value
        return self.dense((vectors.astype(mean.dtype) - mean[None, :]) * scale[None, :])

    @nn.nowrap
    def fit(
        self,
        texts: Encoded,
        loss: LogisticLoss,
        max_iterations: int = 1000,
        on_progress: Callable[[int, float], None] = lambda iterations, loss: None,
    ) -> FittedVariables:
        """Fit the standardisation and the classifier to `texts.vectors` float32 [N, D]; see `fit_logistic`."""
        vectors = texts.vectors.astype(np.float64)
        mean, spread = vectors.mean(axis=0).astype(np.float32), vectors.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0).astype(np.float32)
        features, ones = (vectors - mean) * scale, np.ones((len(mean), 1), np.float32)
        fitted = fit_logistic(features, ones, texts.labels, self.num_outputs, loss, max_iterations, on_progress)
        variables = {
            "params": {"head": {"kernel": fitted.kernel, "bias": fitted.bias}},
            "constants": {"mean": mean, "scale": scale},
        }
        return FittedVariables(variables, fitted.iterations, fitted.loss)

    def start_from(self, constants: Any, tensors: dict[str, np.ndarray], source: str) -> Any:
        """Return the constants with the pretrained parameters of the encoder; see `bert_files.place`."""
        return constants | bert_files.place({"encoder": constants["encoder"]}, tensors, source, self.family)
