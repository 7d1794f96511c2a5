"""Check that a model fits into the memory of the device that trains it."""

import functools
import math
from typing import Any

import jax

from research.errors import UserError
from research.machine import memory_bytes


def require_memory(variables: Any) -> None:
    """Raises UserError where the device cannot hold variables (arrays or their shapes) while they are trained."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    needed, there = 16 * count, _memory_bytes()  # of a parameter itself, its gradient and two moments
    if needed > there:
        raise UserError(
            f"the model has {count:,} parameters, which take {needed / 1e9:,.0f} GB in training where there are "
            f"{there / 1e9:,.0f} GB, expected smaller sizes in --config.model or --config.data.vocab_size"
        )


@functools.cache
def _memory_bytes() -> float:
    """Of the default device, or of the machine where that is the device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", memory_bytes())
