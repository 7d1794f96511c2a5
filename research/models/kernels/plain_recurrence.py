"""Recurrences step by step, as their equations say: the plain reference of `fused_recurrence`.

With `x_t` an input, `h` (and `c`) the state and `a` the activation (tanh by default),

    rnn    h' = a(x_t W + h U + b)                                                       (Elman 1990)
    lstm   i, f, o = sigmoid(x_t W + h U + b)_{i, f, o}    g = a(x_t W + h U + b)_g
           c' = f * c + i * g                              h' = o * a(c')                (Hochreiter & Schmidhuber 1997)
    gru    z, r = sigmoid(x_t W + b + h U + d)_{z, r}      g = a((x_t W + b)_g + r * (h U + d)_g)
           h' = z * h + (1 - z) * g                                                      (Cho et al. 2014)

Gates are laid out as in Keras: (i, f, g, o) and (z, r, g).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.models.layers.activations import ACTIVATIONS
from research.models.layers.masks import length_mask

CELLS = {"rnn": 1, "gru": 3, "lstm": 4}  # name -> number of gates
Arrays = tuple[jax.Array, ...]


class Weights(NamedTuple):
    """The parameters of a recurrence with G gates."""

    kernel: jax.Array  # float [E, GH], W above
    recurrent_kernel: jax.Array  # float [H, GH], U above
    bias: jax.Array  # float [GH], b above; [2, GH] for the GRU, b and d above


def plain_recurrence(
    cell: str,
    activation: str,
    inputs: jax.Array,
    lengths: jax.Array,
    weights: Weights,
    recurrent_mask: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Run a recurrence from a zero state, step by step.

    Args:
      cell: a key of `CELLS`.
      activation: `a` above, a key of `ACTIVATIONS`.
      inputs: float [B, L, E].
      lengths: int32 [B].
      weights: the parameters.
      recurrent_mask: float [B, H], [1, H] or [1, 1]. It multiplies the state before its product, at every step.

    Returns:
      `(states [B, L, H], last [B, H])`. A row's state stays the same from its length on. Do not read the states behind
      the longest row of the batch: the kernels differ there.
    """
    kernel, recurrent_kernel, bias = weights
    zeros = jnp.zeros((inputs.shape[0], recurrent_kernel.shape[0]), inputs.dtype)
    bias, state_bias = bias if cell == "gru" else (bias, None)
    input_gates = (inputs @ kernel + bias[None, None, :]).swapaxes(0, 1)  # time first
    real = length_mask(lengths, inputs.shape[1]).T[:, :, None]

    def step(carry: Arrays, at_t: Arrays) -> tuple[Arrays, jax.Array]:
        input_gates_t, real_t = at_t
        state_gates = (carry[0] * recurrent_mask) @ recurrent_kernel
        new_carry = _next_carry(cell, ACTIVATIONS[activation], input_gates_t, state_gates, state_bias, carry)
        carry = tuple(jnp.where(real_t, new, old) for new, old in zip(new_carry, carry, strict=True))
        return carry, carry[0]

    carry, states = jax.lax.scan(step, (zeros,) * (2 if cell == "lstm" else 1), (input_gates, real))
    return states.swapaxes(0, 1), carry[0]


def _next_carry(
    cell: str,
    activate: Callable[[jax.Array], jax.Array],
    input_gates: jax.Array,
    state_gates: jax.Array,
    state_bias: jax.Array | None,
    carry: Arrays,
) -> Arrays:
    """Return h', and c' for the LSTM, by the equations above: gates float [B, GH], `state_bias` d of the GRU."""
    if cell == "rnn":
        return (activate(input_gates + state_gates),)
    if cell == "gru":
        input_z, input_r, input_g = jnp.split(input_gates, 3, axis=-1)
        state_z, state_r, state_g = jnp.split(state_gates + state_bias[None, :], 3, axis=-1)
        z = jax.nn.sigmoid(input_z + state_z)
        return (z * carry[0] + (1 - z) * activate(input_g + jax.nn.sigmoid(input_r + state_r) * state_g),)
    i, f, g, o = jnp.split(input_gates + state_gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * activate(g)
    return jax.nn.sigmoid(o) * activate(c), c
