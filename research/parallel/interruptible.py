"""Run a job that a signal stops only at the points that the job chooses."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from research.parallel.worker_pool import LISTEN_SECONDS, Stopped

Result = TypeVar("Result")


def run_interruptibly(job: Callable[[Callable[[], None]], Result]) -> Result:
    """Run a job in a separate thread, so that Ctrl-C cannot interrupt it in the middle of a step; return its result.

    Args:
      job: a function of `check`. It calls `check` wherever it may stop. `check` raises `Stopped` once the main thread
        has received an exception, such as that of Ctrl-C or SIGTERM.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            future = pool.submit(job, check)
            while not future.done():
                wait([future], LISTEN_SECONDS)
        except BaseException:
            stop.set()
            raise
        return future.result()
