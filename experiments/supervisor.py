"""Run one of several training processes as a child of this one.

If a process of a run is lost, JAX ends the others with a page of C++ traces. The parent passes on what its child
prints without these traces, and says in a sentence what happened.
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

_PEER_LOST = 75  # exit code of a child that lost another process of its run
_PARENT = "SUPERVISED_BY"  # environment variable that holds the parent's process id
_PEER_ERROR = re.compile("gloo|nccl|coordination|connection|collective", re.IGNORECASE)
_TRACE = re.compile(r"[EFIW]\d{4} |\*\*\* |    @ |\[Gloo\]|Additional GRPC|:UNKNOWN:")  # lines of C++ libraries


def supervise() -> None:
    """Run this command in a child and exit as the child does; in the child, return at once."""
    parent = os.environ.get(_PARENT)
    if parent is not None:
        threading.Thread(target=_end_with_parent, args=(int(parent),), daemon=True).start()
        return
    command = [sys.executable, "-P", "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]
    environment = os.environ | {_PARENT: str(os.getpid())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, env=environment, text=True, errors="replace", start_new_session=True, **pipes)

    def stop(number: int, frame: object) -> None:
        child.terminate()
        timer = threading.Timer(STOP_SECONDS, child.kill)
        timer.daemon = True
        timer.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    streams = ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    threads = [threading.Thread(target=_pass_on, args=source_and_target) for source_and_target in streams]
    for thread in threads:
        thread.start()
    code = child.wait()
    for thread in threads:
        thread.join()
    if code < 0 or code == _PEER_LOST:
        print(
            "a process of this run was lost or cannot be reached; start all of them again, and they go on from "
            "the last checkpoint",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(code)


@contextlib.contextmanager
def ends_with_peers() -> Iterator[None]:
    """End this process, the child, at once if a collective operation fails, instead of waiting for a lost peer."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _PEER_ERROR.search(str(error)):
            raise
        os._exit(_PEER_LOST)


def _pass_on(source: TextIO, target: TextIO) -> None:
    """Print the lines of `source` that are no traces to `target`."""
    for line in source:
        if not _TRACE.match(line):
            print(line, end="", file=target, flush=True)


def _end_with_parent(parent: int) -> None:
    """End this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
