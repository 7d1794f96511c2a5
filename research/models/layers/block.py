"""A block of the Transformer's encoder (Vaswani et al. 2017, section 3.1)."""

from collections.abc import Callable

import jax
from flax import linen as nn

from research.errors import UserError


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual and a layer normalisation.

    Args of the call:
      states: float [B, L, D]. mask: bool [B, L], the real positions, the only ones attended to.
    """

    heads: int
    feed_forward: int
    dropout: float
    norm: str
    attention_dropout: float = 0.0  # of attention weights
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    epsilon: float = 1e-6  # of the normalisations
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, states: jax.Array, mask: jax.Array, *, deterministic: bool) -> jax.Array:
        if states.shape[-1] % self.heads:
            raise UserError(
                f"config.model.heads is {self.heads}, expected a divisor of {states.shape[-1]}, the features"
            )

        def drop(values: jax.Array) -> jax.Array:
            return nn.Dropout(self.dropout, deterministic=deterministic)(values)

        def attend(values: jax.Array) -> jax.Array:
            attention = nn.MultiHeadDotProductAttention(
                self.heads,
                dropout_rate=self.attention_dropout,
                broadcast_dropout=False,
                deterministic=deterministic,
                kernel_init=self.kernel_init,
                name="attention",
            )
            return drop(attention(values, mask=mask[:, None, None, :]))

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, kernel_init=self.kernel_init, name=name)

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
