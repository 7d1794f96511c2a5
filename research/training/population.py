"""Many runs at once: independent runs side by side, one to a device.

On CPU a program makes one device of each core (`experiments.flags`), because one small recurrence cannot use two
cores while two runs can; on accelerators it is one run to each.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import jax

Job = Callable[[Callable[[], None]], None]  # called with `check`, which it calls now and then


class Stopped(Exception):
    """Raised inside a job by `check` when all are to stop."""


def side_by_side(jobs: Sequence[Job]) -> None:
    """Runs every job once, each on a device of its own while it lasts.

    The first exception of a job, or Ctrl-C, stops the others at their next `check` and is raised.
    """
    devices: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in jax.local_devices():
        devices.put(device)
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    def on_free_device(job: Job) -> None:
        check()
        device = devices.get()
        try:
            with jax.default_device(device):
                job(check)
        finally:
            devices.put(device)

    with ThreadPoolExecutor(max_workers=len(jax.local_devices())) as pool:
        futures = [pool.submit(on_free_device, job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop.set()
            raise
        failed = [future for future in done if future.exception() is not None]
        if failed:
            stop.set()
            raise failed[0].exception()
