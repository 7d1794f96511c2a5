"""The start of a worker process: it takes a core of its own and ends with the process that started it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable


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
