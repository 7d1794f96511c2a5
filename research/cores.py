"""Processes that work for another one, each on a core of its own; and how much memory a process takes."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of work in so many, or "max"


def granted() -> int:
    """How many cores' time this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        work, period = _QUOTA.read_text().split()
        return max(1, min(there, int(work) // int(period)))
    except (OSError, ValueError):  # no container, or no limit
        return there


def places(count: int) -> list[int | None]:
    """The cores that so many processes go to, one each; None where others may want some: the system chooses."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return there if len(there) == count else [None] * count


def begin_on(core: int | None, set_up: Callable[[], None]) -> None:
    """The first thing that a process does: it takes a core, and ends with whoever started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if core is not None:
        os.sched_setaffinity(0, {core})
    set_up()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def peak_memory(process: int | str = "self") -> int:
    """Bytes that a process has held at most; 0 of another one where the system does not say."""
    # Not `ru_maxrss`, which begins with what the process held that started this one.
    status = Path(f"/proc/{process}/status")
    if found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else ""):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if process == "self" else 0
