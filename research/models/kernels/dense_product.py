"""The product of a dense layer, with its derivative written out.

Of y = x W the gradients are dx = dy W^T and dW = x^T dy. JAX's own derivative asks for dW as the transpose of dy^T x,
which XLA on CPU turns into a copy of dy and a product at 40 % of the rate of this one
(`tests/test_product.py` holds the two equal).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_vjp
def product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """float [N, I], float [I, O] -> float [N, O]."""
    return inputs @ kernel


def _forward(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return inputs @ kernel, (inputs, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = kept
    of_inputs = gradient @ kernel.T
    if kernel.shape[0] <= kernel.shape[1]:
        return of_inputs, jnp.einsum("ni,no->io", inputs, gradient)
    # XLA is faster where the wider array stands on the right; the barrier keeps it from turning them round again.
    return of_inputs, jax.lax.optimization_barrier(jnp.einsum("no,ni->oi", gradient, inputs)).T


product.defvjp(_forward, _backward)


def dot_general(
    inputs: jax.Array, kernel: jax.Array, dimension_numbers: tuple[tuple[Sequence[int], ...], ...], **_: Any
) -> jax.Array:
    """`product` in the place of `jax.lax.dot_general` in Flax' dense layers, over the last n axes of the inputs.

    Args:
      inputs: float [..., I1, ..., In].
      kernel: float [I1, ..., In, ...].
      dimension_numbers: of which n, the number of axes, is read; Flax' layers take the last and the kernel's first.

    Returns:
      float, the other axes of the inputs and of the kernel.
    """
    n = len(dimension_numbers[0][0])
    flat = product(inputs.reshape(-1, math.prod(kernel.shape[:n])), kernel.reshape(math.prod(kernel.shape[:n]), -1))
    return flat.reshape(*inputs.shape[: inputs.ndim - n], *kernel.shape[n:])
