"""The arithmetic of each recurrent cell, element by element, and its derivative; `fused` does the rest.

States are flat, float [H B] (features before rows), and so is z, [G H B], a block for each gate. Sigmoid gates are
computed as sigmoid(x) = tanh(x / 2) / 2 + 1 / 2 with the halving put into their weights, so that one `tanh` activates
all at once.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.models.layers.activations import ACTIVATIONS, slope

Arrays = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """A step between z and the next state.

    carried: how many states a step hands on; the first is h.
    kept: how many arrays like a state the derivative needs besides.
    forward: `(z, carry) -> (carry, kept)`, what is kept in arrays of one or several of these.
    backward: `(kept, carry before, carry after, gradients of the carry after) -> (gradients of z, a block a gate,
      gradients of the carry before, without what z makes of it)`; linear in the gradients.
    """

    carried: int
    kept: int
    forward: Callable[[jax.Array, Arrays], tuple[Arrays, Arrays]]
    backward: Callable[[Arrays, Arrays, Arrays, Arrays], tuple[Arrays, Arrays]]


class Weights(NamedTuple):
    """What makes z of an input and a state."""

    kernel: jax.Array  # float [E, GH]
    recurrent_kernel: jax.Array  # float [H, GH]
    bias: jax.Array  # float [GH]


def cell_of(
    name: str, activation: str, kernel: jax.Array, recurrent_kernel: jax.Array, bias: jax.Array
) -> tuple[Cell, Weights] | None:
    """The cell and the weights of its z, from the parameters of `plain_recurrence`; None where there is none."""
    if name == "rnn":
        return _elman(activation), Weights(kernel, recurrent_kernel, bias)
    if name == "gru":
        return _gru(activation), _gru_weights(kernel, recurrent_kernel, bias)
    if activation == "tanh":
        halves = _halves(kernel.dtype, recurrent_kernel.shape[0], (0.5, 0.5, 1.0, 0.5))
        return _LSTM, Weights(kernel * halves[None, :], recurrent_kernel * halves[None, :], bias * halves)
    return None


def _halves(dtype: jnp.dtype, hidden_size: int, of_gates: tuple[float, ...]) -> jax.Array:
    return jnp.repeat(jnp.array(of_gates, dtype), hidden_size)


@functools.cache
def _elman(activation: str) -> Cell:
    """h' = a(z)."""

    def forward(z: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
        return (ACTIVATIONS[activation](z),), ()

    def backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
        of_h = gradients[0]
        return (of_h * slope(activation, after[0]),), (jnp.zeros_like(of_h),)

    return Cell(1, 0, forward, backward)


def _lstm_forward(z: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
    activated = jnp.tanh(z)
    i, f, g, o = jnp.split(activated, 4)
    c = 0.5 * ((f + 1.0) * carry[1] + (i + 1.0) * g)
    return (0.5 * (o + 1.0) * jnp.tanh(c), c), (activated,)


def _lstm_backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
    i, f, g, o = kept  # tanh values all, so 1 - square is the slope of each
    tanh_c = jnp.tanh(after[1])
    of_h = 0.5 * gradients[0]
    of_c = 0.5 * gradients[1] + 0.5 * of_h * (o + 1.0) * (1.0 - jnp.square(tanh_c))
    parts = (
        of_c * g * (1.0 - jnp.square(i)),
        of_c * before[1] * (1.0 - jnp.square(f)),
        of_c * (i + 1.0) * (1.0 - jnp.square(g)),
        of_h * tanh_c * (1.0 - jnp.square(o)),
    )
    return parts, (jnp.zeros_like(of_h), of_c * (f + 1.0))


_LSTM = Cell(2, 4, _lstm_forward, _lstm_backward)


def _gru_weights(kernel: jax.Array, recurrent_kernel: jax.Array, bias: jax.Array) -> Weights:
    """Four blocks of z instead of three: (z, r, what the input gives to g, what the state gives to g)."""
    hidden_size = recurrent_kernel.shape[0]
    of_gates, of_g = slice(0, 2 * hidden_size), slice(2 * hidden_size, None)
    halves = _halves(kernel.dtype, hidden_size, (0.5, 0.5, 1.0, 1.0))

    def nothing(weights: jax.Array) -> jax.Array:
        return jnp.zeros_like(weights[:, of_g])

    kernel = jnp.concatenate([kernel, nothing(kernel)], axis=1)
    parts = [recurrent_kernel[:, of_gates], nothing(recurrent_kernel), recurrent_kernel[:, of_g]]
    bias = jnp.concatenate([bias[0, of_gates] + bias[1, of_gates], bias[0, of_g], bias[1, of_g]])
    return Weights(kernel * halves[None, :], jnp.concatenate(parts, axis=1) * halves[None, :], bias * halves)


@functools.cache
def _gru(activation: str) -> Cell:
    """h' = z h + (1 - z) g, g = a(of input + r * of state)."""

    def forward(z: jax.Array, carry: Arrays) -> tuple[Arrays, Arrays]:
        gates, of_input, of_state = jnp.split(z, [len(z) // 2, 3 * len(z) // 4])
        gates = 0.5 * jnp.tanh(gates) + 0.5
        z, r = jnp.split(gates, 2)
        g = ACTIVATIONS[activation](of_input + r * of_state)
        return (z * carry[0] + (1.0 - z) * g,), (gates, g, of_state)

    def backward(kept: Arrays, before: Arrays, after: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
        z, r, g, of_state = kept
        of_h = gradients[0]
        of_g = of_h * (1.0 - z) * slope(activation, g)
        # 2 because the arguments of z and r were halved.
        of_z, of_r = 2.0 * of_h * (before[0] - g) * z * (1.0 - z), 2.0 * of_g * of_state * r * (1.0 - r)
        return (of_z, of_r, of_g, of_g * r), (of_h * z,)

    return Cell(1, 4, forward, backward)
