"""What a result was made with and on, for records and reports."""

import ctypes
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

from research.cores import peak_memory
from research.errors import UserError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")


def environment() -> dict[str, Any]:
    """Versions, machine, commit, date and peak memory of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": _processor(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.local_devices()],
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "peak_memory_bytes": peak_memory(),
    }


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
    """Of the machine; infinite where nobody says."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return math.inf


@functools.cache
def _processor() -> str:
    """The processor's name and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name}, {cores} core(s)"


@functools.cache
def _commit() -> str:
    """The commit of this code, marked where files differ from it; empty where it is no checkout."""
    here = Path(__file__).parent
    describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
