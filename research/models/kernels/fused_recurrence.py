"""Recurrences with their derivative written out: faster than `plain_recurrence`, which is their reference.

A step is z_t = W^T x_t + U^T h_{t-1} + b and then the cell's own arithmetic on z_t, element by element (`cells`). With
dz_t the gradient of z_t,

    dx_t = W dz_t,                 dh_{t-1} = U dz_t + (what the cell itself hands back to h_{t-1}),
    dW = sum over t of x_t dz_t^T, dU = sum over t of h_{t-1} dz_t^T

If W has fewer columns than b, they belong to the first elements of z_t, and those of U to the last ones (the GRU).

In names, `d_` stands for the gradient of what follows. Four things make the difference:
  Time ends with the longest text of the batch, however far it is padded. So one program serves all lengths.
  Features stand before rows, [H, B]. XLA multiplies a weight matrix with such states at the processor's full rate, and
  with states [B, H] it does not. Inputs stay [B, E] and are summed over E, which is as fast and saves a transposition.
  dW, dU and dx are products over a block of steps and all rows, not many small ones.
  Elementwise arrays are flat, [H B], and gates are kept one by one. Otherwise XLA on CPU does not use the processor's
  vectors: over rows of 32, or if one slice is read twice.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from research.models.kernels.cells import Cell
from research.models.kernels.plain_recurrence import Arrays

_BLOCK = 4  # steps of which dW, dU and dx are computed together


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_recurrence(
    cell: Cell,
    inputs: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    mask: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Run a recurrence from a zero state.

    Args:
      cell: its arithmetic, with GH rows of z.
      inputs: float [L, B, E], time first.
      kernel: float [E, <= GH], W above.
      recurrent_kernel: float [H, <= GH], U above.
      bias: float [GH].
      mask: float [H, B], [H, 1] or [1, 1]. It multiplies the state before its product and gets no gradient.
      lengths: int32 [B], each at most L.

    Returns:
      `(states [L, H, B], last [H, B])`. A row's state stays the same from its length on. States behind the longest row
      are zero.
    """
    return _forward(cell, inputs, kernel, recurrent_kernel, bias, mask, lengths)[0]


class _Saved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    inputs: jax.Array
    kernel: jax.Array
    recurrent_kernel: jax.Array
    bias: jax.Array
    mask: jax.Array
    lengths: jax.Array
    carries: jax.Array  # float [L + 1, num_carried * H B], row t before step t
    kept: jax.Array  # float [L, num_kept * H B]


@jax.custom_batching.custom_vmap
def _longest(lengths: jax.Array) -> jax.Array:
    """Return the longest length. Under `vmap` it is that of all members, because their loops are one loop."""
    return jnp.max(lengths, initial=0)


@_longest.def_vmap
def _longest_of_members(axis_size: int, in_batched: list[bool], lengths: jax.Array) -> tuple[jax.Array, bool]:
    return _longest(lengths.reshape(-1)), False


def _read(array: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(array, t, keepdims=False)


def _write(array: jax.Array, value: jax.Array, t: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(array, value, t, 0)


def _read_states(array: jax.Array, t: jax.Array, size: int) -> Arrays:
    """Return what `_write_states` wrote into row t, in arrays of `size`."""
    starts = range(0, array.shape[1], size)
    return tuple(lax.dynamic_slice(array, (t, start), (1, size))[0] for start in starts)


def _write_states(array: jax.Array, values: Arrays, t: jax.Array) -> jax.Array:
    """Write flat values into row t, one behind the other."""
    start = 0
    for value in values:
        array = lax.dynamic_update_slice(array, value[None], (t, start))
        start += len(value)
    return array


def _flatten(lengths: jax.Array, mask: jax.Array, hidden_size: int) -> tuple[jax.Array, jax.Array]:
    """Return the length and the mask of each element of a flat state: int32 and float [H B]."""
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
) -> tuple[tuple[jax.Array, jax.Array], _Saved]:
    width, rows, _ = inputs.shape
    hidden_size = len(recurrent_kernel)
    size = hidden_size * rows
    kernel_t, recurrent_kernel_t, flat_bias = kernel.T, recurrent_kernel.T, jnp.repeat(bias, rows)
    ends, flat_mask = _flatten(lengths, mask, hidden_size)
    zero = (jnp.zeros(size, inputs.dtype),) * cell.num_carried

    def step(t: jax.Array, loop: tuple) -> tuple:
        carry, carries, kept = loop
        input_part = lax.dot_general(kernel_t, _read(inputs, t), (((1,), (1,)), ((), ())))
        state_part = recurrent_kernel_t @ (carry[0] * flat_mask).reshape(hidden_size, rows)
        new_carry, kept_t = cell.forward(input_part.reshape(-1), state_part.reshape(-1), flat_bias, carry)
        carry = tuple(jnp.where(t < ends, new, old) for new, old in zip(new_carry, carry, strict=True))
        return carry, _write_states(carries, carry, t + 1), _write_states(kept, kept_t, t)

    carries = jnp.zeros((width + 1, cell.num_carried * size), inputs.dtype)
    kept = jnp.zeros((width, cell.num_kept * size), inputs.dtype)
    carry, carries, kept = lax.fori_loop(0, _longest(lengths), step, (zero, carries, kept))
    states = carries[1:, :size].reshape(width, hidden_size, rows)
    saved = _Saved(inputs, kernel, recurrent_kernel, bias, mask, lengths, carries, kept)
    return (states, carry[0].reshape(hidden_size, rows)), saved


def _forward_of_symbolic(cell: Cell, *arguments: CustomVJPPrimal) -> tuple[tuple[jax.Array, jax.Array], _Saved]:
    return _forward(cell, *(argument.value for argument in arguments))


class _BackwardPass(NamedTuple):
    """What every step of the backward pass reads."""

    cell: Cell
    saved: _Saved
    d_states: jax.Array | None  # float [L, H B]; None if the loss reads no states
    ends: jax.Array  # int32 [H B]
    flat_mask: jax.Array  # float [H B]
    longest: jax.Array  # int32 []
    blocks: jax.Array  # int32 [], how many


class _Step(NamedTuple):
    """What a step of the backward pass hands to the next."""

    d_carry: Arrays  # float [H B] each
    dz: jax.Array  # float [GH B], overwritten at every step
    block_dz: jax.Array  # float [GH, _BLOCK, B]
    block_read: jax.Array  # float [E + H, _BLOCK, B], x_t and h_{t-1}


class _Gradients(NamedTuple):
    """The gradients that blocks add to."""

    d_inputs: jax.Array  # float [L, B, E], L rounded up to whole blocks
    d_kernels: Arrays  # float32, dW above dU if both are one product, else dW and dU
    d_bias: jax.Array  # float32 [GH]


def _backward(cell: Cell, saved: _Saved, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    d_states, d_last = cotangents
    (width, rows, features), dtype = saved.inputs.shape, saved.inputs.dtype
    hidden_size, gates = len(saved.recurrent_kernel), len(saved.bias)
    size = hidden_size * rows
    d_states = None if isinstance(d_states, SymbolicZero) else d_states.reshape(width, size)
    ends, flat_mask = _flatten(saved.lengths, saved.mask, hidden_size)
    longest = _longest(saved.lengths)
    run = _BackwardPass(cell, saved, d_states, ends, flat_mask, longest, (longest + _BLOCK - 1) // _BLOCK)

    d_last = jnp.zeros(size, dtype) if isinstance(d_last, SymbolicZero) else d_last.reshape(size)
    d_carry = (d_last, *(jnp.zeros(size, dtype) for _ in range(cell.num_carried - 1)))
    shapes = (gates * rows,), (gates, _BLOCK, rows), (features + hidden_size, _BLOCK, rows)
    step = _Step(d_carry, *(jnp.zeros(shape, dtype) for shape in shapes))
    d_inputs = jnp.zeros((-(-width // _BLOCK) * _BLOCK, rows, features), dtype)
    shapes = [(read.stop - read.start, z.stop - z.start) for read, z in _products(saved)]
    d_kernels = tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)
    gradients = _Gradients(d_inputs, d_kernels, jnp.zeros(gates, jnp.float32))
    _, gradients = lax.fori_loop(0, run.blocks, functools.partial(_backward_block, run), (step, gradients))
    d_kernels = gradients.d_kernels
    if len(d_kernels) == 1:
        d_kernels = jnp.split(d_kernels[0], [features])
    d_kernels = (d_kernel.astype(dtype) for d_kernel in d_kernels)
    return gradients.d_inputs[:width], *d_kernels, gradients.d_bias.astype(dtype), None, None


def _products(saved: _Saved) -> list[tuple[slice, slice]]:
    """Return the rows of [x_t; h_{t-1}] and those of z_t whose products are dW and dU.

    Both are one product, which is faster, if W and U add to the same rows of z_t.
    """
    (features, width), (hidden_size, recurrent_width) = saved.kernel.shape, saved.recurrent_kernel.shape
    gates = len(saved.bias)
    if width == recurrent_width == gates:
        return [(slice(0, features + hidden_size), slice(0, gates))]
    of_state = slice(gates - recurrent_width, gates)
    return [(slice(0, features), slice(0, width)), (slice(features, features + hidden_size), of_state)]


def _backward_block(run: _BackwardPass, i: jax.Array, loop: tuple[_Step, _Gradients]) -> tuple[_Step, _Gradients]:
    """Take the steps of a block, the last block first, and add what they contribute to the gradients."""
    saved, (step, gradients) = run.saved, loop
    _, rows, features = saved.inputs.shape
    start = (run.blocks - 1 - i) * _BLOCK
    first = jnp.maximum(0, start + _BLOCK - run.longest)  # skips the steps of the last block behind the longest row

    def one_step(j: jax.Array, before: _Step) -> _Step:
        s = _BLOCK - 1 - j
        return _backward_step(run, start + s, s, before)

    step = lax.fori_loop(first, _BLOCK, one_step, step)
    block_dz, block_read = (buffer.reshape(len(buffer), -1) for buffer in (step.block_dz, step.block_read))
    d_kernels = tuple(
        d_kernel
        + lax.dot_general(block_read[read], block_dz[z], (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        for d_kernel, (read, z) in zip(gradients.d_kernels, _products(saved), strict=True)
    )
    d_inputs = (saved.kernel @ block_dz[: saved.kernel.shape[1]]).reshape(features, _BLOCK, rows)
    d_inputs = lax.dynamic_update_slice(gradients.d_inputs, d_inputs.transpose(1, 2, 0), (start, 0, 0))
    d_bias = gradients.d_bias + block_dz.sum(axis=1, dtype=jnp.float32)
    return step, _Gradients(d_inputs, d_kernels, d_bias)


def _backward_step(run: _BackwardPass, t: jax.Array, s: jax.Array, loop: _Step) -> _Step:
    """Take the step at time t back, which is step s of its block."""
    saved, d_carry, dz, block_read = run.saved, loop.d_carry, loop.dz, loop.block_read
    _, rows, features = saved.inputs.shape
    (hidden_size, width), gates = saved.recurrent_kernel.shape, len(saved.bias)
    size = hidden_size * rows
    before, after = _read_states(saved.carries, t, size), _read_states(saved.carries, t + 1, size)
    if run.d_states is not None:
        d_carry = (d_carry[0] + _read(run.d_states, t), *d_carry[1:])
    # The cell is linear in the gradients: without those of rows that have ended, its results are 0 there.
    is_running = t < run.ends
    running = tuple(jnp.where(is_running, gradient, 0) for gradient in d_carry)
    ended = tuple(jnp.where(is_running, 0, gradient) for gradient in d_carry)
    d_gates, d_before = run.cell.backward(_read_states(saved.kept, t, size), before, after, running)
    for gate, d_gate in enumerate(d_gates):  # written one by one: a concatenation takes longer
        dz = lax.dynamic_update_slice(dz, d_gate, (gate * size,))
    dz_t = dz.reshape(gates, rows)
    d_state = saved.recurrent_kernel @ dz_t[gates - width :]
    block_dz = lax.dynamic_update_slice(loop.block_dz, dz_t[:, None], (0, s, 0))
    inputs_t, state = _read(saved.inputs, t).T, (before[0] * run.flat_mask).reshape(hidden_size, rows)
    for row, value in ((0, inputs_t), (features, state)):
        block_read = lax.dynamic_update_slice(block_read, value[:, None], (row, s, 0))
    d_before = tuple(handed + kept for handed, kept in zip(d_before, ended, strict=True))
    d_carry = (d_before[0] + d_state.reshape(size) * run.flat_mask, *d_before[1:])
    return _Step(d_carry, dz, block_dz, block_read)


fused_recurrence.defvjp(_forward_of_symbolic, _backward, symbolic_zeros=True)
