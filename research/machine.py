"""What this machine grants a process: cores and memory."""

import contextlib
import ctypes
import math
import os
import platform
import re
import resource
import sys
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of work in so many, or "max"
_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container: bytes, or "max"


def granted() -> int:
    """How many cores' time this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        work, period = _QUOTA.read_text().split()
        return max(1, min(there, int(work) // int(period)))
    except (OSError, ValueError):  # no container, or no limit
        return there


def peak_memory(process: int | str = "self") -> int:
    """Bytes that a process has held at most; 0 of another one where the system does not say."""
    # Not `ru_maxrss`, which begins with what the process held that started this one.
    status = Path(f"/proc/{process}/status")
    if found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else ""):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if process == "self" else 0


def memory_bytes() -> float:
    """Of the machine, or of the container where that has less; infinite where nobody says."""
    found = math.inf
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not POSIX
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ValueError, OSError):  # no container, or no limit
        found = min(found, int(_LIMIT.read_text()))
    return found


def release_memory() -> None:
    """Gives free memory back to the system, where the C library is glibc: compilers and readers leave much of it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
