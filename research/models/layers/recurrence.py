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

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.kernels.cells import cell_of
from research.models.kernels.fused_recurrence import fused
from research.models.kernels.row_shards import by_shard
from research.models.layers.activations import ACTIVATIONS
from research.models.layers.masks import length_mask, reverse_rows

CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # how many gates
_PLAIN = contextvars.ContextVar("plain recurrences", default=False)


@contextlib.contextmanager
def plain_recurrences() -> Iterator[None]:
    """Within it, programs are traced with `plain_recurrence` everywhere: for who has to see how often a loop runs."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def recurrence(
    cell: str,
    activation: str,
    inputs: jax.Array,
    lengths: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    recurrent_mask: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What `plain_recurrence` computes, by `fused` where that can; arguments and result as there."""
    found = cell_of(cell, activation, kernel, recurrent_kernel, bias)
    if found is None or _PLAIN.get():
        return plain_recurrence(cell, activation, inputs, lengths, kernel, recurrent_kernel, bias, recurrent_mask)
    cell, weights = found
    mask_at = 1 if len(recurrent_mask) == len(inputs) else None
    run = by_shard(functools.partial(fused, cell), len(inputs), (1, None, None, None, mask_at, 0), (2, 1))
    states, last = run(inputs.swapaxes(0, 1), *weights, recurrent_mask.T, lengths)
    return states.transpose(2, 0, 1), last.T


def plain_recurrence(
    cell: str,
    activation: str,
    inputs: jax.Array,
    lengths: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    recurrent_mask: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs a recurrence from a zero state, step by step: the plain reference.

    Args:
      cell: a key of `CELLS`, with G gates.
      activation: `a` above, a key of `ACTIVATIONS`.
      inputs: float [B, L, E]. lengths: int32 [B].
      kernel: float [E, GH]. recurrent_kernel: float [H, GH].
      bias: float [GH]; of the GRU [2, GH], b and d above.
      recurrent_mask: float [B, H], [1, H] or [1, 1], multiplies the state before its product; the same at every step.

    Returns:
      `(states [B, L, H], last [B, H])`; a row's state stands still from its length on. What stands behind the longest
      row of the batch is not to be read.
    """
    activate = ACTIVATIONS[activation]
    zeros = jnp.zeros((inputs.shape[0], recurrent_kernel.shape[0]), inputs.dtype)
    bias, of_state = bias if cell == "gru" else (bias, None)
    gates_x = (inputs @ kernel + bias[None, None, :]).swapaxes(0, 1)  # what the inputs give to the gates, time first
    real = length_mask(lengths, inputs.shape[1]).T[:, :, None]

    def step(carry: tuple[jax.Array, ...], xs: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, ...], jax.Array]:
        x, real_t = xs
        h = carry[0]
        gates_h = (h * recurrent_mask) @ recurrent_kernel
        if cell == "rnn":
            new = (activate(x + gates_h),)
        elif cell == "gru":
            x_z, x_r, x_g = jnp.split(x, 3, axis=-1)
            h_z, h_r, h_g = jnp.split(gates_h + of_state[None, :], 3, axis=-1)
            z = jax.nn.sigmoid(x_z + h_z)
            new = (z * h + (1 - z) * activate(x_g + jax.nn.sigmoid(x_r + h_r) * h_g),)
        else:
            i, f, g, o = jnp.split(x + gates_h, 4, axis=-1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * activate(g)
            new = (jax.nn.sigmoid(o) * activate(c), c)
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
    """A recurrence with its parameters, forwards or backwards.

    Args of the call:
      inputs: float [B, L, E]. lengths: int32 [B]. recurrent_mask: float [B, H], [1, H] or None.

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
        if recurrent_mask is None:
            recurrent_mask = jnp.ones((1, 1), inputs.dtype)
        states, last = recurrence(self.cell, self.activation, inputs, lengths, kernel, recurrent, bias, recurrent_mask)
        return (reverse_rows(states, lengths) if self.backwards else states), last
