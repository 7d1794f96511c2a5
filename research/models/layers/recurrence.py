"""Recurrent layers over padded sequences: LSTM, GRU and the Elman RNN.

The equations are in `kernels/plain_recurrence.py`. A row's state stays the same from its length on, so the last carry
is its last valid state. Parameters are laid out and initialised as in Keras: Glorot-uniform W, orthogonal U, and a bias
of zero, but 1 for the LSTM's forget gate (Jozefowicz et al. 2015).
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.kernels.cells import find_cell
from research.models.kernels.fused_recurrence import fused_recurrence
from research.models.kernels.options import Kernels
from research.models.kernels.plain_recurrence import CELLS, Weights, plain_recurrence
from research.models.kernels.row_shards import by_shard
from research.models.layers.masks import reverse_rows


def run_recurrence(
    cell: str,
    activation: str,
    inputs: jax.Array,
    lengths: jax.Array,
    weights: Weights,
    recurrent_mask: jax.Array,
    kernels: Kernels = Kernels(),
) -> tuple[jax.Array, jax.Array]:
    """Compute `plain_recurrence` by the kernel that `kernels` chooses. Other arguments and the result are as there."""
    fused = find_cell(cell, activation, weights)
    if fused is None or kernels.plain:
        return plain_recurrence(cell, activation, inputs, lengths, weights, recurrent_mask)
    fused_cell, fused_weights = fused
    mask_at = 1 if len(recurrent_mask) == len(inputs) else None
    run = functools.partial(fused_recurrence, fused_cell)
    run = by_shard(run, kernels.mesh, len(inputs), (1, None, None, None, mask_at, 0), (2, 1))
    states, last = run(inputs.swapaxes(0, 1), *fused_weights, recurrent_mask.T, lengths)
    return states.transpose(2, 0, 1), last.T


def _bias_init(cell: str, hidden_size: int) -> nn.initializers.Initializer:
    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        bias = jnp.zeros(shape, dtype)
        return bias.at[hidden_size : 2 * hidden_size].set(1.0) if cell == "lstm" else bias

    return init


class RecurrentLayer(nn.Module):
    """A recurrence with its parameters, forwards or backwards.

    Args of the call:
      inputs: float [B, L, E].
      lengths: int32 [B].
      recurrent_mask: float [B, H], [1, H] or None.

    Returns:
      `(states [B, L, H], last [B, H])`. Backwards, `last` is the state at the first token, and states stay at their
      tokens.
    """

    cell: str
    hidden_size: int
    activation: str = "tanh"
    backwards: bool = False
    kernels: Kernels = Kernels()

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.Array, recurrent_mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        gates = CELLS[self.cell] * self.hidden_size
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (inputs.shape[-1], gates))
        recurrent_kernel = self.param("recurrent_kernel", nn.initializers.orthogonal(), (self.hidden_size, gates))
        shape = (2, gates) if self.cell == "gru" else (gates,)
        bias = self.param("bias", _bias_init(self.cell, self.hidden_size), shape)
        if self.backwards:  # turns the tokens of a row round; its padding stays behind them
            inputs = reverse_rows(inputs, lengths)
        if recurrent_mask is None:
            recurrent_mask = jnp.ones((1, 1), inputs.dtype)
        weights = Weights(kernel, recurrent_kernel, bias)
        states, last = run_recurrence(
            self.cell, self.activation, inputs, lengths, weights, recurrent_mask, self.kernels
        )
        return (reverse_rows(states, lengths) if self.backwards else states), last
