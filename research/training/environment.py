"""What a result was made with and on, for records and reports."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import math
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

from research.cores import granted, peak_memory
from research.errors import UserError

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container: bytes, or "max"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")


def environment() -> dict[str, Any]:
    """Versions, machine, commit, date and peak memory of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": _processor(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.local_devices()],
        "commit": _commit(),
        "models": _models(),
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
    """Of the machine, or of the container where that has less; infinite where nobody says."""
    found = math.inf
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not POSIX
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ValueError, OSError):  # no container, or no limit
        found = min(found, int(_LIMIT.read_text()))
    return found


@functools.cache
def _processor() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name}, {granted()} core(s)"


@functools.cache
def _commit() -> str:
    """The commit of this code, marked where its files differ from it or are new; empty where it is no checkout."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", package.name, "configs", "experiments")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def _models() -> str:
    """A hash of the code in `research/models`, by which runs of a model that was edited meanwhile are told apart."""
    files = sorted((Path(__file__).parent.parent / "models").rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
