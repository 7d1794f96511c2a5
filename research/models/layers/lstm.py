"""The LSTM's recurrence with its derivative written out: what `recurrence.recur` computes, faster.

Three things make the difference; `recur` is the plain reference (`tests/test_recurrent.py` holds them equal).
  One `tanh` activates all gates at once: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, and the halving is put into the weights.
  The derivative stores the activated gates, and the loop back carries the gradients of h and c and nothing else; every
  factor that does not depend on them is computed before it, for all steps at once.
  The gradient of the recurrent weights is one product over steps x rows after the loop, not a sum inside it.
"""

import jax
import jax.numpy as jnp


def lstm(
    gates_x: jax.Array,
    recurrent_kernel: jax.Array,
    recurrent_mask: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs the LSTM of `recur` from a zero state.

    Args:
      gates_x: float [L, B, 4H], what the inputs and the bias give to the gates (i, f, g, o).
      recurrent_kernel: float [H, 4H].
      recurrent_mask: float [B, H] or [1, 1], multiplies the state before its product; it gets no gradient.
      real: bool [L, B], false at padding.

    Returns:
      `(states [L, B, H], last [B, H])`; a row's state stands still at padding.
    """
    hidden_size = recurrent_kernel.shape[0]
    # sigmoid gates are halved, the candidate g is not.
    halves = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5], gates_x.dtype), hidden_size)
    return _lstm(gates_x * halves[None, None, :], recurrent_kernel * halves[None, :], recurrent_mask, real)


@jax.custom_vjp
def _lstm(gates_x: jax.Array, kernel: jax.Array, mask: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _forward(gates_x, kernel, mask, real)[0]


def _forward(gates_x: jax.Array, kernel: jax.Array, mask: jax.Array, real: jax.Array) -> tuple:
    hidden_size = kernel.shape[0]
    zeros = jnp.zeros((gates_x.shape[1], hidden_size), gates_x.dtype)

    def step(carry: tuple[jax.Array, jax.Array], xs: tuple[jax.Array, jax.Array]) -> tuple:
        h, c = carry
        x, real_t = xs
        activated = jnp.tanh(x + (h * mask) @ kernel)
        i, f, g, o = jnp.split(activated, 4, axis=-1)
        c_new = 0.5 * ((f + 1.0) * c + (i + 1.0) * g)
        h_new = 0.5 * (o + 1.0) * jnp.tanh(c_new)
        h, c = jnp.where(real_t, h_new, h), jnp.where(real_t, c_new, c)
        return (h, c), (h, c, activated)

    (last, _), (states, cells, activated) = jax.lax.scan(step, (zeros, zeros), (gates_x, real[:, :, None]))
    return (states, last), (states, cells, activated, kernel, mask, real)


def _backward(residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    states, cells, activated, kernel, mask, real = residuals
    of_states, of_last = cotangents
    i, f, g, o = jnp.split(activated, 4, axis=-1)
    i, f, o = 0.5 * (i + 1.0), 0.5 * (f + 1.0), 0.5 * (o + 1.0)
    before = ((1, 0), (0, 0), (0, 0))
    cells_before, states_before = (jnp.pad(array, before)[:-1] for array in (cells, states))
    tanh_c = jnp.tanh(cells)
    on = real[:, :, None].astype(states.dtype)
    # What h gives to c, and c and h to each gate's argument; 2 because that argument was halved. Nothing at padding.
    of_c = on * o * (1.0 - jnp.square(tanh_c))
    of_gates = on * jnp.concatenate(
        [2.0 * g * i * (1.0 - i), 2.0 * cells_before * f * (1.0 - f), i * (1.0 - g * g), 2.0 * tanh_c * o * (1.0 - o)],
        axis=-1,
    )
    keep_c = jnp.where(real[:, :, None], f, 1.0)

    def step(carry: tuple[jax.Array, jax.Array], xs: tuple[jax.Array, ...]) -> tuple:
        dh, dc = carry
        of_state, of_c, of_gates, keep_c, on = xs
        dh = dh + of_state
        dc = dc + dh * of_c
        dz = jnp.concatenate([dc, dc, dc, dh], axis=-1) * of_gates
        return ((dz @ kernel.T) * mask + dh * (1.0 - on), dc * keep_c), dz

    xs = (of_states, of_c, of_gates, keep_c, on)
    _, of_gates_x = jax.lax.scan(step, (of_last, jnp.zeros_like(of_last)), xs, reverse=True)
    of_kernel = jnp.einsum("lbh,lbg->hg", states_before * mask[None], of_gates_x)
    return of_gates_x, of_kernel, None, None


_lstm.defvjp(_forward, _backward)
