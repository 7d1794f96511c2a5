"""Recurrences with their derivative written out: what `recurrence.plain_recurrence` computes, faster.

A step is z_t = W^T x_t + U^T h_{t-1} + b and then the cell's own arithmetic on z_t, element by element (`cells`). With
K = [W; U], read_t = [x_t; h_{t-1}] and dz_t the gradient of z_t,

    dread_t = K dz_t + (what the cell itself hands back to h_{t-1}),    dK = sum over t of read_t dz_t^T

Four things make the difference; `plain_recurrence` is the plain reference (`tests/test_recurrent.py` holds them equal):
  Time ends with the longest text of the batch, whatever it is padded to, so one program serves all lengths.
  Features stand before rows, [H, B]: XLA's products of a weight matrix with such states run at the processor's rate,
  which those of [B, H] do not. Inputs stay [B, E], summed over E, which is as fast and saves turning all of them round.
  dK is one product over a block of steps and all rows, not a sum of small ones.
  Element by element, arrays are flat, [H B], and gates are kept one by one: over rows of 32, or where one slice is read
  twice, XLA on CPU does not use the processor's vectors.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from research.models.kernels.cells import Arrays, Cell

_BLOCK = 4  # steps whose contributions to dK are summed in one product


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused(
    cell: Cell,
    inputs: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    mask: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs a recurrence from a zero state.

    Args:
      cell: its arithmetic, with GH rows of z.
      inputs: float [L, B, E], time first.
      kernel: float [E, GH], W above. recurrent_kernel: float [H, GH], U. bias: float [GH].
      mask: float [H, B], [H, 1] or [1, 1], multiplies the state before its product; it gets no gradient.
      lengths: int32 [B], each at most L.

    Returns:
      `(states [L, H, B], last [H, B])`; a row's state stands still from its length on, and states are zero behind the
      longest row.
    """
    return _forward(cell, inputs, kernel, recurrent_kernel, bias, mask, lengths)[0]


@jax.custom_batching.custom_vmap
def _longest(lengths: jax.Array) -> jax.Array:
    """The longest of all rows, those of other members of a `vmap` too, whose loops are one loop."""
    return jnp.max(lengths, initial=0)


@_longest.def_vmap
def _longest_of_members(axis_size: int, in_batched: list[bool], lengths: jax.Array) -> tuple[jax.Array, bool]:
    return _longest(lengths.reshape(-1)), False


def _at(array: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(array, t, keepdims=False)


def _put(array: jax.Array, value: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(array, value, t, 0)


def _states_at(array: jax.Array, t: jax.Array, size: int) -> Arrays:
    """What `_put_states` put there, in arrays of `size`; read one by one (see above)."""
    ends = range(0, array.shape[1], size)
    return tuple(lax.dynamic_slice(array, (t, end), (1, size))[0] for end in ends)


def _put_states(array: jax.Array, values: Arrays, t: jax.Array) -> jax.Array:
    """Puts flat values into row t, one behind the other."""
    end = 0
    for value in values:
        array = lax.dynamic_update_slice(array, value[None], (t, end))
        end += len(value)
    return array


def _flat(lengths: jax.Array, mask: jax.Array, hidden_size: int) -> tuple[jax.Array, jax.Array]:
    """Lengths and mask, for each element of a state: int32 and float [H B]."""
    rows = lengths.shape[0]
    return jnp.tile(lengths, hidden_size), jnp.broadcast_to(mask, (hidden_size, rows)).reshape(-1)


def _forward(
    cell: Cell,
    inputs: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    mask: jax.Array,
    lengths: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    width, rows, _ = inputs.shape
    hidden_size, gates = recurrent_kernel.shape
    of_input, of_state, bias = kernel.T, recurrent_kernel.T, jnp.repeat(bias, rows)
    ends, flat_mask = _flat(lengths, mask, hidden_size)
    zero = (jnp.zeros(hidden_size * rows, inputs.dtype),) * cell.carried

    def step(t: jax.Array, loop: tuple) -> tuple:
        carry, passed, kept = loop
        of_x = lax.dot_general(of_input, _at(inputs, t), (((1,), (1,)), ((), ())))
        z = of_x + of_state @ (carry[0] * flat_mask).reshape(hidden_size, rows)
        new, kept_t = cell.forward(z.reshape(gates * rows) + bias, carry)
        carry = tuple(jnp.where(t < ends, n, old) for n, old in zip(new, carry, strict=True))
        return carry, _put_states(passed, carry, t + 1), _put_states(kept, kept_t, t)

    size = hidden_size * rows
    passed = jnp.zeros((width + 1, cell.carried * size), inputs.dtype)  # begins with the zero state
    kept = jnp.zeros((width, cell.kept * size), inputs.dtype)
    carry, passed, kept = lax.fori_loop(0, _longest(lengths), step, (zero, passed, kept))
    states = passed[1:, :size].reshape(width, hidden_size, rows)
    of_backward = (inputs, kernel, recurrent_kernel, mask, lengths, passed, kept)
    return (states, carry[0].reshape(hidden_size, rows)), of_backward


def _forward_of_symbolic(cell: Cell, *arguments: CustomVJPPrimal) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    return _forward(cell, *(argument.value for argument in arguments))


def _backward(cell: Cell, of_backward: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    inputs, kernel, recurrent_kernel, mask, lengths, passed, kept = of_backward
    of_states, of_last = cotangents
    width, rows, features = inputs.shape
    hidden_size, gates = recurrent_kernel.shape
    size, both = hidden_size * rows, jnp.concatenate([kernel, recurrent_kernel])
    states_are_read = not isinstance(of_states, SymbolicZero)
    if states_are_read:
        of_states = of_states.reshape(width, size)
    ends, flat_mask = _flat(lengths, mask, hidden_size)
    longest = _longest(lengths)
    blocks = (longest + _BLOCK - 1) // _BLOCK

    def block(i: jax.Array, loop: tuple) -> tuple:
        start = (blocks - 1 - i) * _BLOCK
        first = jnp.maximum(0, start + _BLOCK - longest)  # of the last steps' block, what lies behind the longest row

        def step(j: jax.Array, loop: tuple) -> tuple:
            gradients, of_inputs, dz, block_dz, block_read = loop
            s = _BLOCK - 1 - j
            t = start + s
            before, after = _states_at(passed, t, size), _states_at(passed, t + 1, size)
            if states_are_read:
                gradients = (gradients[0] + _at(of_states, t), *gradients[1:])
            # The cell is linear in the gradients: without those of rows that have ended, its results are 0 there.
            on = t < ends
            running = tuple(jnp.where(on, gradient, 0) for gradient in gradients)
            ended = tuple(jnp.where(on, 0, gradient) for gradient in gradients)
            parts, handed = cell.backward(_states_at(kept, t, size), before, after, running)
            for gate, part in enumerate(parts):  # into their places one by one: one concatenation takes longer
                dz = lax.dynamic_update_slice(dz, part, (gate * size,))
            dz_t = dz.reshape(gates, rows)
            of_read = both @ dz_t
            block_dz = lax.dynamic_update_slice(block_dz, dz_t[:, None], (0, s, 0))
            for row, value in ((0, _at(inputs, t).T), (features, (before[0] * flat_mask).reshape(hidden_size, rows))):
                block_read = lax.dynamic_update_slice(block_read, value[:, None], (row, s, 0))
            of_inputs = _put(of_inputs, of_read[:features].T, t)
            handed = tuple(h + e for h, e in zip(handed, ended, strict=True))
            gradients = (handed[0] + of_read[features:].reshape(size) * flat_mask, *handed[1:])
            return gradients, of_inputs, dz, block_dz, block_read

        gradients, of_inputs, of_both, of_bias, *rooms = loop
        gradients, of_inputs, *rooms = lax.fori_loop(first, _BLOCK, step, (gradients, of_inputs, *rooms))
        block_dz, block_read = (room.reshape(len(room), -1) for room in rooms[1:])
        product = lax.dot_general(block_read, block_dz, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        of_bias = of_bias + block_dz.sum(axis=1, dtype=jnp.float32)
        return gradients, of_inputs, of_both + product, of_bias, *rooms

    dtype = inputs.dtype
    of_last = jnp.zeros(size, dtype) if isinstance(of_last, SymbolicZero) else of_last.reshape(size)
    gradients = (of_last, *(jnp.zeros(size, dtype) for _ in range(cell.carried - 1)))
    sums = jnp.zeros(both.shape, jnp.float32), jnp.zeros(gates, jnp.float32)
    shapes = (gates * rows,), (gates, _BLOCK, rows), (len(both), _BLOCK, rows)
    loop = (gradients, jnp.zeros_like(inputs), *sums, *(jnp.zeros(shape, dtype) for shape in shapes))
    _, of_inputs, of_both, of_bias, *_ = lax.fori_loop(0, blocks, block, loop)
    of_kernel, of_recurrent = jnp.split(of_both.astype(dtype), [features])
    return of_inputs, of_kernel, of_recurrent, of_bias.astype(dtype), None, None


fused.defvjp(_forward_of_symbolic, _backward, symbolic_zeros=True)
