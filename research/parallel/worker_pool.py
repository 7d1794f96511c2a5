"""A pool of worker processes with one core each, for training and prediction.

On CPU, worker processes are faster than one process that uses all cores (docs/speed.md). In one process, XLA divides
each product among the cores, which wait for each other, for Python and for memory. A worker computes with one thread,
so that the bits of a run do not depend on the number of cores.

On Linux, workers are forked from a process that has imported what they need, so that each module is imported once for
all of them (`start_server`). Elsewhere each worker is a fresh process.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, NamedTuple

from research.errors import UserError

# The system may deliver a signal to another thread. The main thread notices it only when it wakes up the next time.
LISTEN_SECONDS = 0.5
_PRELOADED = ("research.runs.train", "research.serving.prediction_stream")
_READ_ON_IMPORT = ("JAX_", "XLA_")  # environment variables that JAX reads when it is imported
_REPORT_SECONDS = 0.2  # between two reports of a call


class Workers(NamedTuple):
    """The worker processes that a program may use."""

    count: int  # at most the number of cores that this process may use
    set_up: Callable[[], None]  # an importable function, called in each worker before JAX starts


class Stopped(Exception):
    """Raised inside a call when the pool is closed before the call ends."""


class WorkerLost(UserError):
    """A worker process ended by itself, perhaps because memory ran out."""


class _Call(NamedTuple):
    future: Future[Any]
    on_report: Callable[..., None]
    title: str


@functools.cache
def start_server() -> dict[str, str]:
    """Start the process that workers are forked from; it imports JAX and more while this process does something else.

    A pool starts it otherwise. It has imported JAX but has not started it, so it has no threads that a fork would lose.

    Returns:
      the environment variables that JAX has read there.
    """
    if sys.platform == "linux":
        with _signals_blocked():
            forkserver.set_forkserver_preload(list(_PRELOADED))
            forkserver.ensure_running()
    return _read_on_import()


def _read_on_import() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_READ_ON_IMPORT)}


def _context() -> multiprocessing.context.BaseContext:
    """Return how processes are started. JAX's threads do not survive a fork of this process."""
    has_server = sys.platform == "linux" and start_server() == _read_on_import()
    return multiprocessing.get_context("forkserver" if has_server else "spawn")


class WorkerPool:
    """Worker processes that call `function(shared, *arguments, report)`; a context manager.

    `report(*values)` passes values to the caller's `on_report` now and then, and raises `Stopped` if the pool is
    closed. Leaving the context stops all calls and waits for the workers. Ctrl-C and SIGTERM do not reach the workers,
    so that only the process that started them stops them. If that process ends, they end too.
    """

    def __init__(self, workers: Workers, shared: Any):
        """Prepare a pool; entering its context starts the workers.

        Args:
          workers: the number of workers and their set-up.
          shared: the first argument of every call, sent to each worker once.
        """
        self._workers, self._shared = workers, shared
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Connection] = []
        self._idle: list[Connection] = []
        self._calls: dict[Connection, _Call] = {}

    def __enter__(self) -> "WorkerPool":
        context = _context()
        try:
            with _signals_blocked(), _main_module_hidden():
                for core in cores_for(self._workers.count):
                    ours, theirs = context.Pipe()
                    self._pipes.append(ours)
                    process = context.Process(target=_work, args=(theirs, core, self._workers.set_up, dict(os.environ)))
                    process.start()
                    self._processes.append(process)
                    theirs.close()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # even in the middle of a message
        for process in self._processes:
            process.join()

    @property
    def has_idle(self) -> bool:
        """Whether a worker waits for a call."""
        return bool(self._idle)

    @property
    def next_worker(self) -> int:
        """The number of the worker that the next call goes to; `has_idle` must hold."""
        return self._pipes.index(self._idle[-1])

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        title: str = "",
        on_report: Callable[..., None] = lambda *values: None,
    ) -> Future[Any]:
        """Call a function in the worker that became idle last; `has_idle` must hold.

        Args:
          function: an importable function. Its arguments and its result can be pickled.
          *arguments: the arguments after `shared`.
          title: what the call does, for the message that the worker was lost: "trained runs/lstm".
          on_report: called by `listen` with the values that the call reports.

        Raises:
          WorkerLost: the worker was lost.
        """
        pipe, call = self._idle.pop(), _Call(Future(), on_report, title)
        self._calls[pipe] = call
        with _lost_is_an_error(title):
            pipe.send((function, arguments))
        return call.future

    def listen(self) -> None:
        """Wait up to half a second for messages; call `on_report` and complete the futures of calls that ended.

        Raises:
          WorkerLost: a worker was lost.
        """
        for pipe in wait(self._pipes, LISTEN_SECONDS):
            call = self._calls.get(pipe)
            with _lost_is_an_error(call.title if call else ""):
                kind, *values = pipe.recv()
            if kind == "ready":
                with _lost_is_an_error(""):
                    pipe.send(self._shared)
                self._idle.append(pipe)
            elif kind == "report":
                call.on_report(*values)
            else:
                del self._calls[pipe]
                self._idle.append(pipe)
                if kind == "result":
                    call.future.set_result(values[0])
                else:
                    call.future.set_exception(values[0])


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM for processes that are started here; a cluster may send them to all processes."""
    resource_tracker.ensure_running()  # if it started later, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep processes that are started here from running the main module again.

    It may be a script of the user without `if __name__ == "__main__"`. Workers only call importable functions.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _lost_is_an_error(title: str) -> Iterator[None]:
    """Raise WorkerLost if the pipe to a worker breaks."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise WorkerLost(
            f"a process{f' that {title}' if title else ''} was lost, perhaps because memory ran out. Run the same "
            "command again to go on. With 'taskset -c 0,1' before it, only two processes share the memory"
        ) from error


def cores_for(count: int) -> list[int | None]:
    """Return a core for each of `count` processes, or None for each if there are more cores than processes."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if len(cores) == count else [None] * count


def _work(pipe: Connection, core: int | None, set_up: Callable[[], None], environment: dict[str, str]) -> None:
    """Make the calls that arrive, until the other end of the pipe is closed; the main function of a worker."""
    os.environ.update(environment)  # it may have changed since the server started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if core is not None:
        os.sched_setaffinity(0, {core})
    set_up()
    reported = 0.0

    def report(*values: Any) -> None:
        nonlocal reported
        if pipe.poll():  # a busy worker is sent nothing, so the pipe was closed
            raise Stopped
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            pipe.send(("report", *values))

    with contextlib.suppress(EOFError, OSError, Stopped):  # the other end is closed
        pipe.send(("ready",))
        shared = pipe.recv()
        while True:
            function, arguments = pipe.recv()
            try:
                result = function(shared, *arguments, report)
            except Stopped:
                raise
            except Exception as error:  # noqa: BLE001 - one failed call must not end the others
                pipe.send(("error", _picklable(error)))
            else:
                pipe.send(("result", result))
    os._exit(0)  # nothing is left to do, and taking JAX down would take half a second


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _picklable(error: Exception) -> Exception:
    """Return an error that can be sent. Its traceback cannot be sent, so that it becomes a note."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error may fail to be pickled in any way
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(trace)
    return error
