"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
}


def slope(activation: str, value: jax.Array) -> jax.Array:
    """Return the derivative of an activation, computed from its value (float, any shape)."""
    if activation == "tanh":
        return 1.0 - jnp.square(value)
    if activation == "sigmoid":
        return value * (1.0 - value)
    return (value > 0).astype(value.dtype)
