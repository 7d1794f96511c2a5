"""Run a job so that a signal ends it only where it allows that."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from research.parallel.worker_pool import LISTEN_SECONDS, Stopped

Result = TypeVar("Result")


def run_interruptibly(job: Callable[[Callable[[], None]], Result]) -> Result:
    """Run a job in a thread of its own, so that Ctrl-C cannot break in between two steps, and return its result.

    Args:
      job: takes `check`, which it calls where it may be ended: after Ctrl-C or SIGTERM, `check` raises `Stopped`.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(job, check)
        try:
            while not future.done():
                wait([future], LISTEN_SECONDS)
        except BaseException:
            stop.set()
            raise
        return future.result()
