"""Global attention over encoder states (Luong, Pham & Manning 2015, section 3.1)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask, masked_softmax


class GlobalAttention(nn.Module):
    """Weights states by their score with a query and returns the attentional vector.

    score(h_t, h_s) = h_t . h_s ("dot") or h_t W_a h_s ("general"), eq. 8; a = softmax(score), eq. 7;
    c = sum_s a_s h_s; h~ = tanh(W_c [c; h_t]), eq. 5.

    Args of the call:
      query: float [B, H]. states: float [B, L, H]. lengths: int32 [B].

    Returns:
      `(attentional vector [B, H], weights [B, L])`; weights are zero at padding.
    """

    score: str

    @nn.compact
    def __call__(self, query: jax.Array, states: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = states.shape[-1]
        projected = query if self.score == "dot" else nn.Dense(features, use_bias=False, name="score")(query)
        scores = jnp.einsum("bh,blh->bl", projected, states)
        weights = masked_softmax(scores, length_mask(lengths, states.shape[1]))
        context = jnp.einsum("bl,blh->bh", weights, states)
        combined = nn.Dense(features, use_bias=False, name="combine")(jnp.concatenate([context, query], axis=-1))
        return jnp.tanh(combined), weights
