"""Logistic regression on a bag of words and word pairs: the baseline that every table needs.

A linear model of n-grams beats recurrent networks trained from scratch on small corpora (Wang & Manning 2012), so a
comparison without it says little. The weights of the features are constants fitted on the training split; the
parameters are convex and fitted by L-BFGS. Word pairs are hashed into buckets (Weinberger et al. 2009), so that the
shapes do not depend on the corpus.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.data.tokenizer import Encoded
from research.models.layers.masks import length_mask, positions
from research.models.linear_fit import (
    FittedVariables,
    LogisticLoss,
    count_features,
    fit_logistic,
    hash_pairs,
    scale_features,
    weigh_features,
)
from research.settings import setting


class Linear(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    The features of a text are its words and adjacent pairs, weighted by
      tfidf  count * idf, scaled to unit length. idf = ln((1 + N) / (1 + df)) + 1, as in scikit-learn's
             `TfidfVectorizer`.
      nb     presence * r. r_c is the log ratio of a feature's share among the texts of class c and among the other
             texts, each counted from 1 (Wang & Manning 2012, eq. 2; with logistic loss as in Mesnil et al. 2014).
    A feature that no training text has weighs nothing.
    """

    layer_pattern = None  # no layers are stacked

    vocab_size: int
    num_outputs: int
    weighting: str = setting(
        "tfidf", "weights of the words: TF-IDF, or naive-Bayes log-count ratios", choices=("tfidf", "nb")
    )
    buckets: int = setting(2**18, "number of buckets that word pairs are hashed into", low=1)

    def setup(self):
        features = self.vocab_size + self.buckets
        self.kernel = self.param("kernel", nn.initializers.zeros, (features, self.num_outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.num_outputs,))
        columns = self.num_outputs if self.weighting == "nb" else 1
        self.weights = self.variable("constants", "weights", jnp.ones, (features, columns))

    def _occurrences(self, token_ids: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the words, then the pairs of neighbours, int32 [B, F], and which of them are real, bool [B, F]."""
        width = token_ids.shape[1]
        pairs = self.vocab_size + hash_pairs(token_ids[:, :-1], token_ids[:, 1:], self.buckets)
        mask = jnp.concatenate([length_mask(lengths, width), length_mask(lengths - 1, width - 1)], axis=1)
        return jnp.concatenate([token_ids, pairs], axis=1), mask

    def features(self, token_ids: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the words and pairs of each text, sorted by feature, so that equal ones are neighbours.

        Returns:
          `(ids int32 [B, F], mask bool [B, F], nth int32 [B, F])` with F = 2L - 1: the feature, whether it is real,
          and the number of equal ones before it in its text.
        """
        occurrences, mask = self._occurrences(token_ids, lengths)
        padding = self.vocab_size + self.buckets  # sorts last
        ids = jnp.sort(jnp.where(mask, occurrences, padding), axis=1)
        position = positions(ids.shape[1])
        starts = jnp.pad(ids[:, 1:] != ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
        nth = position - jax.lax.cummax(jnp.where(starts, position, 0), axis=1)
        mask = ids < padding
        return jnp.where(mask, ids, 0), mask, nth

    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        ids, mask, nth = self.features(token_ids, lengths)
        if self.weighting == "nb":
            mask &= nth == 0
        weights = jnp.where(mask[:, :, None], self.weights.value[ids], 0.0)
        # Occurrences add up to count * idf here, and, as 1 + 3 + 5 + ... = count^2, to its square below.
        scores = jnp.sum(weights * self.kernel[ids], axis=1)
        if self.weighting == "tfidf":
            squares = (2 * nth + 1).astype(weights.dtype) * jnp.square(weights[:, :, 0])
            norm = jnp.sqrt(jnp.maximum(jnp.sum(squares, axis=1), jnp.finfo(weights.dtype).tiny))
            scores = scores / norm[:, None]
        return scores + self.bias[None, :]

    def contributions(self, token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
        """Return what each token adds to the logits, float32 [B, L, C]; their sum is the logits without the bias.

        The two tokens of a pair share its part equally. With `nb`, all occurrences of a feature share its part.
        """
        ids, mask = self._occurrences(token_ids, lengths)
        count = jnp.sum((ids[:, :, None] == ids[:, None, :]) & mask[:, None, :], axis=2, dtype=jnp.float32)
        weights = jnp.where(mask[:, :, None], self.weights.value[ids], 0.0)
        scores = weights * self.kernel[ids]
        if self.weighting == "nb":
            scores = scores / jnp.maximum(count, 1.0)[:, :, None]
        else:
            squares = jnp.sum(count * jnp.square(weights[:, :, 0]), axis=1)
            scores = scores / jnp.sqrt(jnp.maximum(squares, jnp.finfo(weights.dtype).tiny))[:, None, None]
        of_words, of_pairs = jnp.split(scores, [token_ids.shape[1]], axis=1)
        return of_words + sum(jnp.pad(of_pairs / 2, ((0, 0), side, (0, 0))) for side in ((0, 1), (1, 0)))

    @nn.nowrap
    def fit_constants(self, texts: Encoded) -> dict[str, Any]:
        """Return the constants that steps start from, computed from the training texts: the weights of the features."""
        counts = count_features(texts, self.vocab_size, self.buckets)
        return {"weights": weigh_features(counts, texts.labels, self.num_outputs, self.weighting)}

    @nn.nowrap
    def fit(
        self,
        texts: Encoded,
        loss: LogisticLoss,
        max_iterations: int = 1000,
        on_progress: Callable[[int, float], None] = lambda iterations, loss: None,
    ) -> FittedVariables:
        """Fit weights and parameters to the training texts on the host, without padding; see `fit_logistic`."""
        counts = count_features(texts, self.vocab_size, self.buckets)
        weights = weigh_features(counts, texts.labels, self.num_outputs, self.weighting)
        features = scale_features(counts, weights, self.weighting)
        fitted = fit_logistic(features, weights, texts.labels, self.num_outputs, loss, max_iterations, on_progress)
        variables = {"params": {"kernel": fitted.kernel, "bias": fitted.bias}, "constants": {"weights": weights}}
        return FittedVariables(variables, fitted.iterations, fitted.loss)
