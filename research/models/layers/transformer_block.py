"""A block of the Transformer's encoder (Vaswani et al. 2017, section 3.1)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError
from research.models.kernels.dense_product import dot_general
from research.models.layers.dropout import Dropout, dropout_mask


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    dropout_rng: jax.Array | None,
    dropout_rate: float,
    module: nn.Module | None = None,
) -> jax.Array:
    """Compute Flax' `dot_product_attention` with this project's dropout of the weights.

    Args:
      query: float [B, L, heads, D].
      key: float [B, L, heads, D].
      value: float [B, L, heads, D].
      mask: bool, broadcast to [B, heads, L, L]; true at positions that are attended to.
      dropout_rng: random key; None: no dropout.
      dropout_rate: share of the weights that is dropped.
      module: the module that sows the weights, if they are sown.

    Returns:
      float [B, L, heads, D].
    """
    weights = nn.dot_product_attention_weights(query, key, mask=mask, module=module)
    if dropout_rng is not None:
        rows, heads, width, _ = weights.shape
        # Like `sequence_mask`, along both axes of positions: one key for each position that is attended to.
        keys = jax.vmap(functools.partial(jax.random.fold_in, dropout_rng))(jnp.arange(width))
        mask_of = functools.partial(dropout_mask, shape=(width, rows, heads), rate=dropout_rate, dtype=weights.dtype)
        weights *= jax.vmap(mask_of)(keys).transpose(2, 3, 1, 0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual connection and a layer normalisation.

    Args of the call:
      states: float [B, L, D].
      mask: bool [B, L], true at real positions, the only ones attended to.
    """

    heads: int
    feed_forward: int
    dropout: float
    norm: str
    attention_dropout: float = 0.0  # dropout of attention weights
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    epsilon: float = 1e-6  # added to the variance in normalisations
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, states: jax.Array, mask: jax.Array, *, deterministic: bool) -> jax.Array:
        if states.shape[-1] % self.heads:
            raise UserError(
                f"config.model.heads is {self.heads}, expected a divisor of {states.shape[-1]}, the features"
            )

        def drop(values: jax.Array) -> jax.Array:
            return Dropout(self.dropout)(values, deterministic=deterministic)

        def attend(values: jax.Array) -> jax.Array:
            attend_to = nn.MultiHeadDotProductAttention(
                self.heads,
                dropout_rate=self.attention_dropout,
                deterministic=deterministic,
                kernel_init=self.kernel_init,
                qkv_dot_general=dot_general,
                out_dot_general=dot_general,
                attention_fn=attention,
                name="attention",
            )
            return drop(attend_to(values, mask=mask[:, None, None, :]))

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, kernel_init=self.kernel_init, dot_general=dot_general, name=name)

        def feed(values: jax.Array) -> jax.Array:
            hidden = self.activation(dense(self.feed_forward, "expand")(values))
            return drop(dense(values.shape[-1], "contract")(hidden))

        for i, sublayer in enumerate((attend, feed)):
            normalise = nn.LayerNorm(epsilon=self.epsilon, name=f"norm_{i}")
            # Post-norm as in the paper; pre-norm (Xiong et al. 2020) trains without a warm-up.
            if self.norm == "post":
                states = normalise(states + sublayer(states))
            else:
                states = states + sublayer(normalise(states))
        return states
