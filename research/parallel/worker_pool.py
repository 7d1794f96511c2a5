"""A pool of worker processes, each on a core of its own. Training and prediction use the same one.

On CPU, runs in worker processes take 0.7 of the time of runs in threads: in one process XLA divides each product among
all cores, and runs wait for one another, for Python and for memory. A worker computes with one thread, so that a run
ends with the same bits on any number of cores.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from research.errors import UserError

# A signal may reach another thread than the main one, which then learns of it when it wakes up the next time.
LISTEN_SECONDS = 0.5
_REPORT_SECONDS = 0.2  # between two reports of a call


class Workers(NamedTuple):
    """The worker processes that a program may use."""

    count: int  # at most as many as this process may use cores
    set_up: Callable[[], None]  # called in each before JAX starts; importable


class Stopped(Exception):
    """Raised inside a call when the pool is closed before its end."""


class WorkerLost(UserError):
    """A worker process ended by itself, perhaps because memory ran out."""


class _Call(NamedTuple):
    future: Future[Any]
    on_report: Callable[..., None]
    title: str


class WorkerPool:
    """Worker processes that call functions `function(shared, *arguments, report)`; a context manager.

    `report(*values)` hands values to the caller's `on_report` now and then, and raises `Stopped` when the pool is
    closed. Leaving the context stops all calls and waits for the workers. Ctrl-C and SIGTERM do not reach the workers:
    the process that started them decides when they stop. They end when it ends, however it does.
    """

    def __init__(self, workers: Workers, shared: Any):
        """Prepare a pool.

        Args:
          workers: how many, and how each begins.
          shared: the first argument of every call, sent to each worker once.
        """
        self._workers, self._shared = workers, shared
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Connection] = []
        self._idle: list[Connection] = []
        self._calls: dict[Connection, _Call] = {}

    def __enter__(self) -> "WorkerPool":
        context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        try:
            with _signals_blocked():
                for core in cores_for(self._workers.count):
                    ours, theirs = context.Pipe()
                    self._pipes.append(ours)
                    process = context.Process(target=_work, args=(theirs, core, self._workers.set_up))
                    process.start()
                    self._processes.append(process)
                    theirs.close()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # even if half a message has been sent, or one waits to be received
        for process in self._processes:
            process.join()

    @property
    def has_idle(self) -> bool:
        """Whether a worker waits for a call."""
        return bool(self._idle)

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        title: str = "",
        on_report: Callable[..., None] = lambda *values: None,
    ) -> Future[Any]:
        """Have the worker that became idle last call a function; `has_idle` must hold.

        Args:
          function: importable; its result and its arguments can be pickled.
          *arguments: of the call.
          title: says what it does, in the message that the worker was lost.
          on_report: called by `listen` with what the call reports.
        """
        pipe, call = self._idle.pop(), _Call(Future(), on_report, title)
        self._calls[pipe] = call
        with _lost_is_an_error(title):
            pipe.send((function, arguments))
        return call.future

    def listen(self) -> None:
        """Wait shortly for the workers, hand on what they report and complete the futures of calls that ended.

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
                (call.future.set_result if kind == "result" else call.future.set_exception)(values[0])


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes that never receive SIGINT and SIGTERM, which a cluster may send to all processes."""
    resource_tracker.ensure_running()  # starting it later would block and unblock signals itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _lost_is_an_error(title: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise WorkerLost(
            f"a process{f' that {title}' if title else ''} was lost, perhaps because memory ran out. The same command "
            "goes on. With fewer cores (taskset -c 0,1 before it) fewer processes share the memory"
        ) from error


def cores_for(count: int) -> list[int | None]:
    """Return the cores that so many processes use, one each; None if other processes may want some of the cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if len(cores) == count else [None] * count


def _work(pipe: Connection, core: int | None, set_up: Callable[[], None]) -> None:
    """The life of a worker: it makes the calls that it is sent, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if core is not None:
        os.sched_setaffinity(0, {core})
    set_up()
    reported = 0.0

    def report(*values: Any) -> None:
        nonlocal reported
        if pipe.poll():  # nothing is sent to a worker that is busy: the pipe was closed
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


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _picklable(error: Exception) -> Exception:
    """Return an error that can be sent, with its traceback, which cannot, as a note."""
    shown = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever keeps it from being pickled
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(shown)
    return error
