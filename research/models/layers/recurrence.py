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

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.activations import ACTIVATIONS
from research.models.layers.elman import elman
from research.models.layers.gru import gru
from research.models.layers.lstm import lstm
from research.models.layers.masks import length_mask, reverse_rows

CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # how many gates


def gates_of_inputs(inputs: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """What the inputs give to the gates, without recurrence and so outside the loop, time first.

    Args:
      inputs: float [B, L, E]. kernel: float [E, GH]. bias: float [GH].

    Returns:
      float [L, B, GH].
    """
    rows, width, features = inputs.shape
    # One flat product: with the axes kept apart it and its gradient take twice as long on CPU.
    flat = inputs.swapaxes(0, 1).reshape(width * rows, features) @ kernel + bias[None, :]
    return flat.reshape(width, rows, -1)


def recur(
    cell: str,
    gates_x: jax.Array,
    recurrent_kernel: jax.Array,
    recurrent_mask: jax.Array,
    real: jax.Array,
    activation: str = "tanh",
    recurrent_bias: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs a recurrence from a zero state: the plain reference of `lstm`, `gru` and `elman`.

    Args:
      cell: a key of `CELLS`, with G gates.
      gates_x: float [L, B, GH], of `gates_of_inputs`.
      recurrent_kernel: float [H, GH].
      recurrent_mask: float [B, H] or [1, 1], multiplies the state before its product; the same at every step.
      real: bool [L, B], false at padding.
      activation: `a` above, a key of `ACTIVATIONS`.
      recurrent_bias: float [GH], d above, of the GRU alone.

    Returns:
      `(states [L, B, H], last [B, H])`; a row's state stands still at padding, and starts as zero.
    """
    activate = ACTIVATIONS[activation]
    zeros = jnp.zeros((gates_x.shape[1], recurrent_kernel.shape[0]), gates_x.dtype)

    def step(carry: tuple[jax.Array, ...], xs: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, ...], jax.Array]:
        x, real_t = xs
        h = carry[0]
        gates_h = (h * recurrent_mask) @ recurrent_kernel
        if cell == "rnn":
            new = (activate(x + gates_h),)
        elif cell == "gru":
            x_z, x_r, x_g = jnp.split(x, 3, axis=-1)
            h_z, h_r, h_g = jnp.split(gates_h + recurrent_bias[None, :], 3, axis=-1)
            z = jax.nn.sigmoid(x_z + h_z)
            new = (z * h + (1 - z) * activate(x_g + jax.nn.sigmoid(x_r + h_r) * h_g),)
        else:
            i, f, g, o = jnp.split(x + gates_h, 4, axis=-1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * activate(g)
            new = (jax.nn.sigmoid(o) * activate(c), c)
        carry = tuple(jnp.where(real_t, n, old) for n, old in zip(new, carry, strict=True))
        return carry, carry[0]

    carry, states = jax.lax.scan(step, (zeros,) * (2 if cell == "lstm" else 1), (gates_x, real[:, :, None]))
    return states, carry[0]


def _initial_bias(cell: str, hidden_size: int) -> nn.initializers.Initializer:
    def make(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        bias = jnp.zeros(shape, dtype)
        return bias.at[hidden_size : 2 * hidden_size].set(1.0) if cell == "lstm" else bias

    return make


class RecurrentLayer(nn.Module):
    """A recurrence with its parameters, forwards or backwards; by `recur` where no derivative is written out.

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
        real = length_mask(lengths, inputs.shape[1]).T
        if recurrent_mask is None:
            recurrent_mask = jnp.ones((1, 1), inputs.dtype)
        if self.cell == "gru":
            bias, of_state = bias
        gates_x = gates_of_inputs(inputs, kernel, bias)
        arguments = (gates_x, recurrent, recurrent_mask, real)
        if self.cell == "rnn":
            states, last = elman(self.activation, *arguments)
        elif self.cell == "gru":
            states, last = gru(self.activation, *arguments, of_state)
        elif self.activation == "tanh":
            states, last = lstm(*arguments)
        else:
            states, last = recur(self.cell, *arguments, self.activation)
        states = states.swapaxes(0, 1)
        return (reverse_rows(states, lengths) if self.backwards else states), last
