"""Recurrent layers over padded sequences: LSTM, GRU and the Elman RNN.

With `x_t` an input, `h` (and `c`) the state and `a` the activation (tanh unless set otherwise),

    rnn    h' = a(x_t W + h U + b)                                                       (Elman 1990)
    lstm   i, f, o = sigmoid(x_t W + h U + b)_{i, f, o}    g = a(x_t W + h U + b)_g
           c' = f * c + i * g                              h' = o * a(c')                (Hochreiter & Schmidhuber 1997)
    gru    z, r = sigmoid(x_t W + b + h U + d)_{z, r}      g = a((x_t W + b)_g + r * (h U + d)_g)
           h' = z * h + (1 - z) * g                                                      (Cho et al. 2014)

A row's state stands still from its length on, so the last carry is its last valid state. Gates are laid out as in
Keras, (i, f, g, o) and (z, r, g), and so are the parameters and their initialisation: Glorot-uniform W, orthogonal U,
zero bias but 1 for the LSTM's forget gate (Jozefowicz et al. 2015).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.masks import length_mask, reverse_rows

Activation = Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[str, Activation] = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}
CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # how many gates


def recur(
    cell: str,
    inputs: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    lengths: jax.Array,
    activation: Activation = jnp.tanh,
    recurrent_mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs a recurrence from a zero state.

    Args:
      cell: a key of `CELLS`, with G gates.
      inputs: float [B, L, E].
      kernel: float [E, GH].
      recurrent_kernel: float [H, GH].
      bias: float [GH]; for the GRU [2, GH], of the inputs and of the state.
      lengths: int32 [B], each at most L; 0 gives the zero state.
      activation: `a` above.
      recurrent_mask: float [B, H], multiplies the state before its product; the same at every step.

    Returns:
      `(states [B, L, H], last [B, H])`; states at padding repeat the last valid one.
    """
    hidden_size = recurrent_kernel.shape[0]
    zeros = jnp.zeros((inputs.shape[0], hidden_size), inputs.dtype)
    # The product with the inputs has no recurrence in it: one large product outside the loop, time first.
    gates_x = jnp.einsum("ble,eg->lbg", inputs, kernel) + jnp.atleast_2d(bias)[0][None, None, :]
    real = length_mask(lengths, inputs.shape[1]).T[:, :, None]

    def recurrent(h: jax.Array) -> jax.Array:
        return (h if recurrent_mask is None else h * recurrent_mask) @ recurrent_kernel

    def step(carry: tuple[jax.Array, ...], xs: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, ...], jax.Array]:
        x, real_t = xs
        h = carry[0]
        if cell == "rnn":
            new = (activation(x + recurrent(h)),)
        elif cell == "gru":
            x_z, x_r, x_g = jnp.split(x, 3, axis=-1)
            h_z, h_r, h_g = jnp.split(recurrent(h) + bias[1][None, :], 3, axis=-1)
            z = jax.nn.sigmoid(x_z + h_z)
            new = (z * h + (1 - z) * activation(x_g + jax.nn.sigmoid(x_r + h_r) * h_g),)
        else:
            i, f, g, o = jnp.split(x + recurrent(h), 4, axis=-1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * activation(g)
            new = (jax.nn.sigmoid(o) * activation(c), c)
        carry = tuple(jnp.where(real_t, n, old) for n, old in zip(new, carry, strict=True))
        return carry, carry[0]

    carry, states = jax.lax.scan(step, (zeros,) * (2 if cell == "lstm" else 1), (gates_x, real))
    return states.swapaxes(0, 1), carry[0]


def _initial_bias(cell: str, hidden_size: int) -> nn.initializers.Initializer:
    def make(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        bias = jnp.zeros(shape, dtype)
        return bias.at[hidden_size : 2 * hidden_size].set(1.0) if cell == "lstm" else bias

    return make


class RecurrentLayer(nn.Module):
    """`recur` with its parameters, forwards or backwards.

    Args of the call:
      inputs: float [B, L, E]. lengths: int32 [B]. recurrent_mask: float [B, H] or None.

    Returns:
      `(states [B, L, H], last [B, H])`; backwards, `last` is the state at the first token and states stand at their
      tokens.
    """

    cell: str
    hidden_size: int
    activation: str = "tanh"
    backwards: bool = False

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.Array, recurrent_mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        gates = CELLS[self.cell] * self.hidden_size
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (inputs.shape[-1], gates))
        recurrent = self.param("recurrent_kernel", nn.initializers.orthogonal(), (self.hidden_size, gates))
        shape = (2, gates) if self.cell == "gru" else (gates,)
        bias = self.param("bias", _initial_bias(self.cell, self.hidden_size), shape)
        if self.backwards:  # a row's own tokens turned round; its padding stays behind them
            inputs = reverse_rows(inputs, lengths)
        activation = ACTIVATIONS[self.activation]
        states, last = recur(self.cell, inputs, kernel, recurrent, bias, lengths, activation, recurrent_mask)
        return (reverse_rows(states, lengths) if self.backwards else states), last
