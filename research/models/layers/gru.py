"""The GRU's recurrence with its derivative written out: what `recurrence.recur` computes.

As in `lstm`: one `tanh` activates both sigmoid gates, whose arguments are halved in the weights; the loop back carries
the gradient of h and nothing else. With `dh` that gradient and `y` the value of a gate, the gates' arguments get

    z   dh (h - g) z (1 - z)        g   dh (1 - z) a'(g)        r   (that of g) (h U + d)_g r (1 - r)

so each is `dh` times a factor that does not depend on the loop, and so is what h gets: z, and through its product with
U the factors of z and r, and r times that of g.
"""

import functools

import jax
import jax.numpy as jnp

from research.models.layers.activations import ACTIVATIONS, slope


def gru(
    activation: str,
    gates_x: jax.Array,
    recurrent_kernel: jax.Array,
    recurrent_mask: jax.Array,
    real: jax.Array,
    recurrent_bias: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs the GRU of `recur` from a zero state.

    Args:
      activation: of the candidate, a key of `ACTIVATIONS`.
      gates_x: float [L, B, 3H], what the inputs and their bias give to the gates (z, r, g).
      recurrent_kernel: float [H, 3H].
      recurrent_mask: float [B, H] or [1, 1], multiplies the state before its product; it gets no gradient.
      real: bool [L, B], false at padding.
      recurrent_bias: float [3H].

    Returns:
      `(states [L, B, H], last [B, H])`; a row's state stands still at padding.
    """
    halves = jnp.repeat(jnp.array([0.5, 0.5, 1.0], gates_x.dtype), recurrent_kernel.shape[0])
    arguments = (gates_x * halves[None, None, :], recurrent_kernel * halves[None, :], recurrent_bias * halves)
    return _gru(activation, *arguments, recurrent_mask, real)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gru(activation: str, *arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _forward(activation, *arguments)[0]


def _forward(
    activation: str, gates_x: jax.Array, kernel: jax.Array, bias: jax.Array, mask: jax.Array, real: jax.Array
) -> tuple:
    hidden_size = kernel.shape[0]

    def step(h: jax.Array, xs: tuple[jax.Array, jax.Array]) -> tuple:
        x, real_t = xs
        gates_h = (h * mask) @ kernel + bias[None, :]
        of_state = gates_h[:, 2 * hidden_size :]
        z, r = jnp.split(0.5 * jnp.tanh((x + gates_h)[:, : 2 * hidden_size]) + 0.5, 2, axis=-1)
        g = ACTIVATIONS[activation](x[:, 2 * hidden_size :] + r * of_state)
        h = jnp.where(real_t, z * h + (1.0 - z) * g, h)
        return h, (h, z, r, g, of_state)

    zeros = jnp.zeros((gates_x.shape[1], hidden_size), gates_x.dtype)
    last, (states, *gates) = jax.lax.scan(step, zeros, (gates_x, real[:, :, None]))
    return (states, last), (states, gates, kernel, mask, real)


def _backward(activation: str, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    states, (z, r, g, of_state), kernel, mask, real = residuals
    of_states, of_last = cotangents
    states_before = jnp.pad(states, ((1, 0), (0, 0), (0, 0)))[:-1]
    on = real[:, :, None].astype(states.dtype)
    # 2 because the arguments of z and r were halved. Nothing at padding.
    of_z = on * 2.0 * (states_before - g) * z * (1.0 - z)
    of_g = on * (1.0 - z) * slope(activation, g)
    of_r = 2.0 * of_g * of_state * r * (1.0 - r)
    of_gates_h = jnp.concatenate([of_z, of_r, of_g * r], axis=-1)
    keep = jnp.where(real[:, :, None], z, 1.0)

    def step(dh: jax.Array, xs: tuple[jax.Array, ...]) -> tuple:
        of_state, of_gates_h, keep = xs
        dh = dh + of_state
        before = ((jnp.concatenate([dh, dh, dh], axis=-1) * of_gates_h) @ kernel.T) * mask + dh * keep
        return before, dh

    _, dh = jax.lax.scan(step, of_last, (of_states, of_gates_h, keep), reverse=True)
    dh = jnp.concatenate([dh, dh, dh], axis=-1)
    of_gates_h = dh * of_gates_h
    of_kernel = jnp.einsum("lbh,lbg->hg", states_before * mask[None], of_gates_h)
    return dh * jnp.concatenate([of_z, of_r, of_g], axis=-1), of_kernel, of_gates_h.sum(axis=(0, 1)), None, None


_gru.defvjp(_forward, _backward)
