"""The LSTM over padded sequences (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

With `x_t` a token's embedding and `h, c` the state,

    i, f, o = sigmoid(x_t W + h U + b)_{i, f, o}      g = tanh(x_t W + h U + b)_g
    c' = f * c + i * g                                h' = o * tanh(c')

A row's state stands still from its length on, so the last carry is its last valid state.
Gates are laid out (i, f, g, o) as in Keras, whose initialisation is used too: Glorot-uniform W, orthogonal U,
zero bias but 1 for the forget gate (Jozefowicz et al. 2015).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask


def lstm(
    inputs: jax.Array, kernel: jax.Array, recurrent_kernel: jax.Array, bias: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs the recurrence from a zero state.

    Args:
      inputs: float [B, L, E].
      kernel: float [E, 4H].
      recurrent_kernel: float [H, 4H].
      bias: float [4H].
      lengths: int32 [B], each at most L; 0 gives the zero state.

    Returns:
      `(states [B, L, H], last [B, H])`; states at padding repeat the last valid one.
    """
    hidden_size = recurrent_kernel.shape[0]
    zeros = jnp.zeros((inputs.shape[0], hidden_size), inputs.dtype)
    # The product with the inputs has no recurrence in it: one large product outside the loop, time first.
    gates_x = jnp.einsum("ble,eg->lbg", inputs, kernel) + bias[None, None, :]
    mask = length_mask(lengths, inputs.shape[1]).T[:, :, None]

    def step(carry, xs):
        h, c = carry
        gates_x_t, real = xs
        i, f, g, o = jnp.split(gates_x_t + h @ recurrent_kernel, 4, axis=-1)
        new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
        h, c = jnp.where(real, new_h, h), jnp.where(real, new_c, c)
        return (h, c), h

    (last, _), states = jax.lax.scan(step, (zeros, zeros), (gates_x, mask))
    return states.swapaxes(0, 1), last


def _forget_gate_bias(key, shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1.0)


class LSTM(nn.Module):
    """`lstm` with its parameters.

    Args of the call:
      inputs: float [B, L, E]. lengths: int32 [B].

    Returns:
      `(states [B, L, H], last [B, H])`.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, inputs: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        gates = 4 * self.hidden_size
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (inputs.shape[-1], gates))
        recurrent = self.param("recurrent_kernel", nn.initializers.orthogonal(), (self.hidden_size, gates))
        bias = self.param("bias", _forget_gate_bias, (gates,))
        return lstm(inputs, kernel, recurrent, bias, lengths)
