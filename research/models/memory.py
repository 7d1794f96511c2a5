"""Several hops of attention over a memory of LSTM states (Sukhbaatar et al. 2015; cf. Kumar et al. 2016).

The article cites a paper on memory attention that could not be found under its title. This is the end-to-end memory
network, with encoder states in place of sentence embeddings. It starts from u_1, the last state. Hop k computes

    p = softmax(u_k . m_i),  m_i = A h_i      (eq. 1)
    o = sum_i p_i c_i,       c_i = C h_i      (eq. 2)
    u_{k+1} = H u_k + o                       (section 2.2, layer-wise tying: all hops share A, C and H)
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.kernels.options import Kernels
from research.models.layers.embedding import embedding, head
from research.models.layers.masks import length_mask, masked_softmax
from research.models.layers.recurrence import RecurrentLayer
from research.settings import setting


def hops(
    query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, update: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """Compute the hops above.

    Args:
      query: float [B, H], u_1.
      keys: float [B, L, H], m.
      values: float [B, L, H], c.
      mask: bool [B, L], true at real positions.
      update: float [H, H], H transposed.
      count: number of hops.

    Returns:
      `(u_{count + 1} [B, H], weights [B, count, L])`.
    """
    weights = []
    for _ in range(count):
        weights.append(masked_softmax(jnp.einsum("bh,blh->bl", query, keys), mask))
        query = query @ update + jnp.einsum("bl,blh->bh", weights[-1], values)
    return query, jnp.stack(weights, axis=1)


class Memory(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`.

    The attention weights [B, hops, L] are sown as `intermediates/attention_weights`.
    """

    only_looks_up = True
    layer_pattern = r"lstm(\d*)$"

    vocab_size: int
    num_outputs: int
    hops: int = setting(3, "number of attention steps over the text", low=1)
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    hidden_size: int = setting(128, "units of the LSTM", low=1)
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        inputs = embedding(self.vocab_size, self.embedding_size)(token_ids)
        states, last = RecurrentLayer("lstm", self.hidden_size, kernels=self.kernels, name="lstm")(inputs, lengths)
        keys = nn.Dense(self.hidden_size, use_bias=False, name="keys")(states)
        values = nn.Dense(self.hidden_size, use_bias=False, name="values")(states)
        update = self.param("update", nn.initializers.orthogonal(), (self.hidden_size, self.hidden_size))
        mask = length_mask(lengths, token_ids.shape[1])
        query, weights = hops(last, keys, values, mask, update, self.hops)
        self.sow("intermediates", "attention_weights", weights)
        return head(self.num_outputs)(query)
