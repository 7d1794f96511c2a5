"""Attention over encoder states with one query a text (Luong, Pham & Manning 2015, section 3)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask, masked_softmax, positions

SCORES = ("dot", "general", "concat", "location", "local_m", "local_p")


class LuongAttention(nn.Module):
    """Attention that returns the attentional vector h~ = tanh(W_c [c; h_t]), eq. 5.

    c = sum_s a_s h_s with a = softmax(score) over the text, eq. 7. The score is one of eq. 8:
      dot       h_t . h_s
      general   h_t W_a h_s
      concat    v_a . tanh(W_a [h_t; h_s])
      location  (W_a h_t)_s, a function of the position s alone
    The local kinds read only the states within `window` positions of p_t, scored by "general":
      local_m   p_t = t, monotonic. The query is the last state, so p_t is the end of the text.
      local_p   p_t = S sigmoid(v_p . tanh(W_p h_t)), eq. 9, with S the length. The softmax is multiplied by
                exp(-(s - p_t)^2 / (2 (window / 2)^2)), eq. 10, and not normalised again.

    Args of the call:
      query: float [B, H].
      states: float [B, L, H].
      lengths: int32 [B].

    Returns:
      `(attentional vector [B, H], weights [B, L])`; weights are zero at padding.
    """

    score: str
    window: int = 10  # D
    positions: int = 100  # positions that "location" scores; later ones get no weight

    @nn.compact
    def __call__(self, query: jax.Array, states: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, width = states.shape[-1], states.shape[1]
        mask = length_mask(lengths, width)
        position = positions(width).astype(states.dtype)
        if self.score == "concat":
            # W_a [h_t; h_s] is the sum of one product with h_t and one with h_s.
            query_part = nn.Dense(features, use_bias=False, name="score_query")(query)
            state_part = nn.Dense(features, use_bias=False, name="score_states")(states)
            scores = nn.Dense(1, use_bias=False, name="score")(jnp.tanh(query_part[:, None] + state_part))[:, :, 0]
        elif self.score == "location":
            position_scores = nn.Dense(self.positions, use_bias=False, name="score")(query)
            scores = jnp.take(position_scores, jnp.minimum(positions(width)[0], self.positions - 1), axis=1)
            mask &= position < self.positions
        else:
            projected = query if self.score == "dot" else nn.Dense(features, use_bias=False, name="score")(query)
            scores = jnp.einsum("bh,blh->bl", projected, states)
        if self.score == "local_m":
            mask &= jnp.abs(position - (lengths - 1).astype(position.dtype)[:, None]) <= self.window
        weights = masked_softmax(scores, mask)
        if self.score == "local_p":
            hidden = jnp.tanh(nn.Dense(features, use_bias=False, name="position_hidden")(query))
            share = nn.sigmoid(nn.Dense(1, use_bias=False, name="position")(hidden))
            distance = position - lengths.astype(share.dtype)[:, None] * share
            # The softmax runs over the window, whose centre moves with p_t.
            weights = masked_softmax(scores, mask & (jnp.abs(distance) <= self.window))
            weights = weights * jnp.exp(-2.0 * jnp.square(distance / self.window))
        context = jnp.einsum("bl,blh->bh", weights, states)
        combined = nn.Dense(features, use_bias=False, name="combine")(jnp.concatenate([context, query], axis=-1))
        return jnp.tanh(combined), weights
