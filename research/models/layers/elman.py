"""The Elman RNN's recurrence with its derivative written out: what `recurrence.recur` computes.

The slope of the activation is known from its value, so the states are all that is stored; the loop back carries the
gradient of h alone, and that of the recurrent weights is one product after it (see `lstm`).
"""

import functools

import jax
import jax.numpy as jnp

from research.models.layers.activations import ACTIVATIONS, slope


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def elman(
    activation: str, gates_x: jax.Array, recurrent_kernel: jax.Array, recurrent_mask: jax.Array, real: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs the Elman RNN of `recur` from a zero state.

    Args:
      activation: a key of `ACTIVATIONS`.
      gates_x: float [L, B, H], what the inputs and the bias give.
      recurrent_kernel: float [H, H].
      recurrent_mask: float [B, H] or [1, 1], multiplies the state before its product; it gets no gradient.
      real: bool [L, B], false at padding.

    Returns:
      `(states [L, B, H], last [B, H])`; a row's state stands still at padding.
    """
    return _forward(activation, gates_x, recurrent_kernel, recurrent_mask, real)[0]


def _forward(activation: str, gates_x: jax.Array, kernel: jax.Array, mask: jax.Array, real: jax.Array) -> tuple:
    def step(h: jax.Array, xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, real_t = xs
        h = jnp.where(real_t, ACTIVATIONS[activation](x + (h * mask) @ kernel), h)
        return h, h

    zeros = jnp.zeros((gates_x.shape[1], kernel.shape[0]), gates_x.dtype)
    last, states = jax.lax.scan(step, zeros, (gates_x, real[:, :, None]))
    return (states, last), (states, kernel, mask, real)


def _backward(activation: str, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    states, kernel, mask, real = residuals
    of_states, of_last = cotangents
    on = real[:, :, None].astype(states.dtype)

    def step(dh: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        of_state, of_argument, off = xs
        dh = dh + of_state
        dz = dh * of_argument
        return (dz @ kernel.T) * mask + dh * off, dz

    xs = (of_states, on * slope(activation, states), 1.0 - on)
    _, of_gates_x = jax.lax.scan(step, of_last, xs, reverse=True)
    states_before = jnp.pad(states, ((1, 0), (0, 0), (0, 0)))[:-1]
    return of_gates_x, jnp.einsum("lbh,lbg->hg", states_before * mask[None], of_gates_x), None, None


elman.defvjp(_forward, _backward)
