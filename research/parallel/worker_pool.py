"""Runs trained side by side in processes, each on a core of its own.

On CPU that takes 0.7 of the time of a thread a core: in one process XLA cuts each run's products among all cores, and
runs wait for one another, for Python and for memory. A run is computed by one thread, and so is one that is trained
alone: both end with the same bits, on any number of cores.
"""

import collections
import contextlib
import gc
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import jax

from research.data.assets import ASSETS, fetch
from research.data.corpora import Corpus
from research.data.fingerprints import fingerprint_corpus
from research.errors import UserError
from research.machine import release_memory
from research.models import config_from_dict
from research.parallel.worker_process import begin_on, places
from research.runs.prepare import Run
from research.runs.train import train_together
from research.settings import Config, to_dict

# A signal may reach another thread than the main one, which then knows of it when it wakes up the next time.
LISTEN_SECONDS = 0.5
_TICK_SECONDS = 0.2  # between two messages of a run


class Workers(NamedTuple):
    """Processes to train in."""

    count: int  # at most as many as this process may use cores
    set_up: Callable[[], None]  # called in each before JAX starts; what a process can import


class Stopped(Exception):
    """Raised inside a job by its `check` when all are to stop."""


def takes_all_cores(config: Config) -> bool:
    """Whether a run is trained by all cores at once: the products of a pretrained encoder are large enough for that."""
    return config.data.weights != "none"


def train_in_processes(
    asked: Sequence[Run],
    programs: Sequence[str],
    corpus: Corpus,
    workers: Workers,
    *,
    folds: int | None,
    test: bool,
    tick: Callable[[int, float, float], None],
    done: Callable[[int, Exception | None], None],
) -> None:
    """Trains runs into their folders, each as `train_together` trains it alone.

    Args:
      asked: the runs.
      programs: what each run's compiled programs are a function of; a process takes runs of one after the other, so
        that no two compile the same.
      corpus, folds, test, tick: as in `train_many`, but that all is told from this thread.
      workers: the processes.
      done: as in `train_many`; what it raises, like a UserError of a run or Ctrl-C, stops all at their next step.

    Raises:
      UserError: as in `train`, or a process was lost.
    """
    for vectors in {run.config.data.vectors for run in asked} & ASSETS.keys():
        fetch(vectors)  # not by each process
    fingerprint_corpus(corpus)  # where that takes long it is cached on disk, for all processes
    left = list(range(len(asked)))
    with _started(min(workers.count, len(asked)), workers.set_up) as pipes:
        idle, busy = dict[Connection, str](), dict[Connection, int]()  # what each has compiled last, or trains
        while left or busy:
            while left and idle:
                pipe = next(iter(idle))
                at = _next(left, programs, idle.pop(pipe), {programs[of_other] for of_other in busy.values()})
                left.remove(at)
                busy[pipe] = at
                with _unless_lost():
                    pipe.send((asked[at]._replace(config=None), to_dict(asked[at].config), programs[at]))
            for pipe in wait(pipes, LISTEN_SECONDS):
                with _unless_lost(asked[busy[pipe]].folder if pipe in busy else None):
                    what, *told = pipe.recv()
                if what == "ready":
                    with _unless_lost():
                        pipe.send((corpus, folds, test))
                    idle[pipe] = ""
                elif what == "tick":
                    tick(busy[pipe], *told)
                elif what == "refused":
                    raise told[0]
                else:
                    at = busy.pop(pipe)
                    idle[pipe] = programs[at]
                    done(at, *told)


def _next(left: Sequence[int], programs: Sequence[str], own: str, others: set[str]) -> int:
    """Which run a process takes that has compiled `own` while others train `others`.

    The first process begins with the first program, the others with the last, where the larger ones usually are: so
    that no large one is left to the end, when every process would have to compile it or wait.
    """
    waiting = collections.Counter(programs[at] for at in left)
    fresh = [program for program in waiting if program not in others]
    preferred = (own, *(fresh[-1:] if others else fresh[:1]), waiting.most_common(1)[0][0])
    program = next(program for program in preferred if program in waiting)
    return next(at for at in left if programs[at] == program)


@contextlib.contextmanager
def _started(count: int, set_up: Callable[[], None]) -> Iterator[list[Connection]]:
    """Processes at the other ends of pipes; these are closed at the end, which stops them, and they are waited for."""
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    processes, pipes = [], []
    try:
        with _signals_held():
            for core in places(count):
                ours, theirs = context.Pipe()
                pipes.append(ours)
                process = context.Process(target=_work, args=(theirs, core, set_up))
                process.start()
                processes.append(process)
                theirs.close()
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()  # even where half a message has been sent, or one waits to be received
        for process in processes:
            process.join()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that are started within never hear of Ctrl-C and SIGTERM: whoever started them says when to stop.

    From their first moment, and of the SIGTERM too that a cluster sends to all.
    """
    resource_tracker.ensure_running()  # which would hold and release signals itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _unless_lost(folder: Path | None = None) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise UserError(
            f"a process{f' that trained {folder}' if folder else ''} was lost, perhaps for want of memory; the same "
            "command goes on, with fewer processes where it may use fewer cores (taskset -c 0,1 before it)"
        ) from error


def _work(pipe: Connection, core: int | None, set_up: Callable[[], None]) -> None:
    """The life of a process: it says that it is ready, is given a corpus, and trains the runs that are sent."""
    begin_on(core, set_up)
    with contextlib.suppress(EOFError, OSError, Stopped):  # the other end is closed
        pipe.send(("ready",))
        _train_what_comes(pipe, *pipe.recv())


def _train_what_comes(pipe: Connection, corpus: Corpus, folds: int | None, test: bool) -> None:
    """Trains until the other end of the pipe is closed, perhaps while it trains."""
    told, compiled = 0.0, ""

    def tick(_: int, epochs: float, loss: float) -> None:
        nonlocal told
        if pipe.poll():  # nothing is sent to a process that trains: this is the end
            raise Stopped
        if time.monotonic() - told > _TICK_SECONDS:
            told = time.monotonic()
            pipe.send(("tick", epochs, loss))

    while True:
        run, settings, programs = pipe.recv()
        if programs != compiled:
            _forget_programs()
        run, compiled = run._replace(config=config_from_dict(settings)), programs
        try:
            pipe.send(("ended", *train_together([run], corpus, folds=folds, test=test, tick=tick)))
        except Stopped:
            raise
        except UserError as error:
            pipe.send(("refused", error))
        except Exception as error:  # noqa: BLE001 - one run's failure must not end the others
            pipe.send(("ended", _to_send(error)))


def _forget_programs() -> None:
    """Lets go of all that was compiled: some 50 MB a variant."""
    jax.clear_caches()
    gc.collect()  # programs refer to one another
    release_memory()


def _to_send(error: Exception) -> Exception:
    """With the lines that it came from, which do not travel, in a note."""
    told = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever keeps it from travelling
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(told)
    return error
