"""Report the cores and the memory that a process may use."""

import contextlib
import ctypes
import math
import os
import platform
import re
import resource
import sys
from pathlib import Path

# Limits of a container: "MICROSECONDS_OF_WORK PERIOD" or "max PERIOD", and bytes or "max".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_cores() -> int:
    """Return the number of cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        work, period = _QUOTA.read_text().split()
        return max(1, min(cores, int(work) // int(period)))
    except (OSError, ValueError):  # no container, or no limit
        return cores


def peak_memory(process: int | str = "self") -> int:
    """Return the peak memory of a process in bytes; 0 if the system does not report it for another process."""
    # `ru_maxrss` would include the memory of the parent process, so it is only the fallback.
    status = Path(f"/proc/{process}/status")
    if peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else ""):
        return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # `ru_maxrss` is in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if process == "self" else 0


def memory_bytes() -> float:
    """Return the memory of the machine in bytes, or of its container if that has less; infinite if unknown."""
    memory = math.inf
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not POSIX
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ValueError, OSError):  # no container, or no limit
        memory = min(memory, int(_LIMIT.read_text()))
    return memory


def release_memory() -> None:
    """Return free memory to the system; glibc keeps much of it after compilation and reading."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
