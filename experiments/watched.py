"""Runs one of several training processes as a child, because JAX ends with a page of traces where another is lost.

The parent passes on what its child says but for that page, and says in a sentence what happened.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from experiments.program import STOP_SECONDS

LOST = 75  # exit code of a child that lost the others
_WATCHER = "WATCHED_BY"
_OF_OTHERS = re.compile("gloo|nccl|coordination|connection|collective", re.IGNORECASE)
_TRACES = re.compile(r"[EFIW]\d{4} |\*\*\* |    @ |\[Gloo\]|Additional GRPC|:UNKNOWN:")  # what C++ libraries write


def watched() -> None:
    """Starts this command in a child and ends as that does; returns in the child."""
    watcher = os.environ.get(_WATCHER)
    if watcher is not None:
        threading.Thread(target=_end_with, args=(int(watcher),), daemon=True).start()
        return
    command = [sys.executable, "-P", "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]
    environment = os.environ | {_WATCHER: str(os.getpid())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, env=environment, text=True, errors="replace", start_new_session=True, **pipes)

    def stop(number: int, frame: object) -> None:
        child.terminate()
        timer = threading.Timer(STOP_SECONDS, child.kill)
        timer.daemon = True
        timer.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    passing = [
        threading.Thread(target=_pass_on, args=both)
        for both in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    ]
    for thread in passing:
        thread.start()
    code = child.wait()
    for thread in passing:
        thread.join()
    if code < 0 or code == LOST:
        print(
            "a process of this run was lost or cannot be reached; start all of them again, and they go on from "
            "the last checkpoint",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(code)


@contextlib.contextmanager
def ends_with_the_others() -> Iterator[None]:
    """In the child: a failed collective operation ends the process at once, without waiting for who is not there."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _OF_OTHERS.search(str(error)):
            raise
        os._exit(LOST)


def _pass_on(source: TextIO, target: TextIO) -> None:
    for line in source:
        if not _TRACES.match(line):
            print(line, end="", file=target, flush=True)


def _end_with(watcher: int) -> None:
    while os.getppid() == watcher:
        time.sleep(0.5)
    os._exit(1)
