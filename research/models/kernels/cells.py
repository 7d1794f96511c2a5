"""The arithmetic of each recurrent cell, element by element, and its derivative. `fused_recurrence` does the rest.

States are flat, float [H B]: features before rows. So are the two products and the bias, whose sum is z, float [G H B]
with one block a gate. Sigmoid
gates are computed as sigmoid(x) = tanh(x / 2) / 2 + 1 / 2. The halving is put into their weights, so that one `tanh`
activates all gates at once.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.models.kernels.plain_recurrence import Arrays, Weights
from research.models.layers.activations import ACTIVATIONS, slope


class Cell(NamedTuple):
    """A step from the parts of z and the carry to the next carry.

    Attributes:
      num_carried: number of states that a step hands on; the first is h.
      num_kept: number of arrays, each as large as a state, that the derivative needs besides.
      forward: `(W^T x, U^T h, bias, carry) -> (carry, kept)`; an array of `kept` may hold several of
        the `num_kept` ones.
      backward: `(kept, carry before, carry after, gradients of the carry after) -> (gradients of z, one a gate,
        gradients of the carry before)`. It is linear in the gradients. The second result leaves out what reaches the
        carry through z.
    """

    num_carried: int
    num_kept: int
    forward: Callable[[jax.Array, jax.Array, jax.Array, Arrays], tuple[Arrays, Arrays]]
    backward: Callable[[Arrays, Arrays, Arrays, Arrays], tuple[Arrays, Arrays]]


def find_cell(name: str, activation: str, weights: Weights) -> tuple[Cell, Weights] | None:
    """Return a cell and the weights of its z, or None if only `plain_recurrence` can compute it.

    Arguments are as in `plain_recurrence`.
    """
    kernel, recurrent_kernel, bias = weights
    if name == "rnn":
        return _elman(activation), weights
    if name == "gru":
        return _gru(activation), _gru_weights(weights)
    if activation == "tanh":
        halves = _scales(kernel.dtype, recurrent_kernel.shape[0], (0.5, 0.5, 1.0, 0.5))
        return _LSTM, Weights(kernel * halves[None, :], recurrent_kernel * halves[None, :], bias * halves)
    return None


def _scales(dtype: jnp.dtype, hidden_size: int, gate_scales: tuple[float, ...]) -> jax.Array:
    return jnp.repeat(jnp.array(gate_scales, dtype), hidden_size)


@functools.cache
def _elman(activation: str) -> Cell:
    """Return the cell h' = a(z)."""

    def forward(of_input: jax.Array, of_state: jax.Array, bias: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
        return (ACTIVATIONS[activation](of_input + of_state + bias),), ()

    def backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
        d_h = gradients[0]
        return (d_h * slope(activation, after[0]),), (jnp.zeros_like(d_h),)

    return Cell(1, 0, forward, backward)


def _lstm_forward(of_input: jax.Array, of_state: jax.Array, bias: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
    activated = jnp.tanh(of_input + of_state + bias)
    i, f, g, o = jnp.split(activated, 4)
    c = 0.5 * ((f + 1.0) * carry[1] + (i + 1.0) * g)
    return (0.5 * (o + 1.0) * jnp.tanh(c), c), (activated,)


def _lstm_backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
    i, f, g, o = kept  # all are values of tanh, so the slope of each is 1 minus its square
    tanh_c = jnp.tanh(after[1])
    d_h = 0.5 * gradients[0]
    d_c = 0.5 * gradients[1] + 0.5 * d_h * (o + 1.0) * (1.0 - jnp.square(tanh_c))
    d_gates = (
        d_c * g * (1.0 - jnp.square(i)),
        d_c * before[1] * (1.0 - jnp.square(f)),
        d_c * (i + 1.0) * (1.0 - jnp.square(g)),
        d_h * tanh_c * (1.0 - jnp.square(o)),
    )
    return d_gates, (jnp.zeros_like(d_h), d_c * (f + 1.0))


_LSTM = Cell(2, 4, _lstm_forward, _lstm_backward)


def _gru_weights(weights: Weights) -> Weights:
    """Return weights for four blocks of z: the input's part of g, z, r, the state's part of g.

    The kernel adds to the first three, the recurrent kernel to the last three.
    """
    kernel, recurrent_kernel, bias = weights
    hidden_size = recurrent_kernel.shape[0]
    gates, candidate = slice(0, 2 * hidden_size), slice(2 * hidden_size, None)
    kernel = jnp.concatenate([kernel[:, candidate], 0.5 * kernel[:, gates]], axis=1)
    recurrent_kernel = jnp.concatenate([0.5 * recurrent_kernel[:, gates], recurrent_kernel[:, candidate]], axis=1)
    biases = [bias[0, candidate], 0.5 * (bias[0, gates] + bias[1, gates]), bias[1, candidate]]
    return Weights(kernel, recurrent_kernel, jnp.concatenate(biases))


@functools.cache
def _gru(activation: str) -> Cell:
    """Return the cell h' = z h + (1 - z) g with g = a(input part + r * state part)."""

    def forward(of_input: jax.Array, of_state: jax.Array, bias: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
        size = len(carry[0])
        gates = 0.5 * jnp.tanh(of_input[size:] + of_state[: 2 * size] + bias[size : 3 * size]) + 0.5
        z, r = jnp.split(gates, 2)
        state_part = of_state[2 * size :] + bias[3 * size :]
        g = ACTIVATIONS[activation](of_input[:size] + bias[:size] + r * state_part)
        return (z * carry[0] + (1.0 - z) * g,), (gates, g, state_part)

    def backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
        z, r, g, state_part = kept
        d_h = gradients[0]
        d_g = d_h * (1.0 - z) * slope(activation, g)
        # 2 because the arguments of z and r were halved.
        d_z, d_r = 2.0 * d_h * (before[0] - g) * z * (1.0 - z), 2.0 * d_g * state_part * r * (1.0 - r)
        return (d_g, d_z, d_r, d_g * r), (d_h * z,)

    return Cell(1, 4, forward, backward)
