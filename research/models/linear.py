"""Logistic regression on a TF-IDF bag of words and word pairs: the baseline that every table needs.

A linear model of n-grams beats recurrent networks trained from scratch on small corpora (Wang & Manning 2012), so a
comparison without it says little. The weights of the features are constants fitted on the training split; the
parameters are convex and fitted by L-BFGS. Word pairs are hashed into buckets (Weinberger et al. 2009), so that the
shapes do not depend on the corpus.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask
from research.settings import setting


def hash_pairs(first: jax.Array, second: jax.Array, buckets: int) -> jax.Array:
    """A bucket in `[0, buckets)` for each pair of ids (int32, any equal shapes): multiply and mix, modulo 2^32."""
    mixed = first.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) + second.astype(jnp.uint32)
    mixed = (mixed ^ (mixed >> jnp.uint32(15))) * jnp.uint32(0x85EBCA77)
    mixed = (mixed ^ (mixed >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE3D)
    return ((mixed ^ (mixed >> jnp.uint32(16))) % jnp.uint32(buckets)).astype(jnp.int32)


class Linear(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    The features of a text are its words and adjacent pairs: value count * idf, scaled to unit length, with
    idf = ln((1 + N) / (1 + df)) + 1 as in scikit-learn's `TfidfVectorizer`.
    """

    vocab_size: int
    num_outputs: int
    buckets: int = setting(2**18, low=1)

    def setup(self):
        features = self.vocab_size + self.buckets
        self.kernel = self.param("kernel", nn.initializers.zeros, (features, self.num_outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.num_outputs,))
        self.idf = self.variable("constants", "idf", jnp.ones, (features,))

    def features(self, token_ids: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The words and pairs of each text, sorted by feature, so that repeated ones stand together.

        Returns:
          `(ids int32 [B, F], mask bool [B, F], nth int32 [B, F])` with F = 2L - 1: the feature, whether it is real,
          and how many equal ones stand before it in its text.
        """
        width = token_ids.shape[1]
        pairs = self.vocab_size + hash_pairs(token_ids[:, :-1], token_ids[:, 1:], self.buckets)
        mask = jnp.concatenate([length_mask(lengths, width), length_mask(lengths - 1, width - 1)], axis=1)
        padding = self.vocab_size + self.buckets  # sorts last
        ids = jnp.sort(jnp.where(mask, jnp.concatenate([token_ids, pairs], axis=1), padding), axis=1)
        position = jnp.arange(ids.shape[1])
        starts = jnp.pad(ids[:, 1:] != ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
        nth = position[None, :] - jax.lax.cummax(jnp.where(starts, position[None, :], 0), axis=1)
        mask = ids < padding
        return jnp.where(mask, ids, 0), mask, nth

    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        ids, mask, nth = self.features(token_ids, lengths)
        idf = jnp.where(mask, self.idf.value[ids], 0.0)
        # Occurrences add up to count * idf in the product, and, as 1 + 3 + 5 + ... = count^2, to its square here.
        squared_norm = jnp.sum((2 * nth + 1).astype(idf.dtype) * jnp.square(idf), axis=1)
        scores = jnp.einsum("bf,bfc->bc", idf, self.kernel[ids])
        norm = jnp.sqrt(jnp.maximum(squared_norm, jnp.finfo(idf.dtype).tiny))
        return scores / norm[:, None] + self.bias[None, :]

    def fit_constants(self, token_ids: jax.Array, lengths: jax.Array) -> None:
        """Sets the inverse document frequencies from the training texts (int32 [N, L], [N])."""
        ids, mask, nth = self.features(token_ids, lengths)
        document_frequency = jnp.zeros_like(self.idf.value).at[ids].add((mask & (nth == 0)).astype(jnp.float32))
        idf = jnp.log((1.0 + ids.shape[0]) / (1.0 + document_frequency)) + 1.0
        self.idf.value = jnp.where(document_frequency > 0, idf, 0.0)  # what was never seen takes no part in the norm
