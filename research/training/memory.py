"""How much memory there is, whether a model fits into it, and giving back what is not used."""

import contextlib
import ctypes
import functools
import math
import os
import platform
from pathlib import Path
from typing import Any

import jax

from research.errors import UserError

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container: bytes, or "max"


def release_memory() -> None:
    """Gives free memory back to the system, where the C library is glibc: compilers and readers leave much of it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


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


def memory_bytes() -> float:
    """Of the machine, or of the container where that has less; infinite where nobody says."""
    found = math.inf
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not POSIX
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ValueError, OSError):  # no container, or no limit
        found = min(found, int(_LIMIT.read_text()))
    return found
