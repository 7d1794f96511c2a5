"""Processes that work for another one, each on a core of its own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable


def cores() -> list[int]:
    """Those that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


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
