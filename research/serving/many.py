"""Answers to any number of texts: a chunk at a time, in bounded memory, in the order of the input.

In one process there is a thread a device. On CPU a process a core takes two thirds of the time: in a process that sees
several cores XLA cuts the arithmetic of each text among them, and those who answer wait for one another.
"""

import functools
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from research.errors import UserError
from research.parallel.worker_process import begin_on, places
from research.serving import lines
from research.serving.lines import Chunk

if TYPE_CHECKING:  # imported where used, because a process that only reads and writes starts without JAX
    from research.runs.restore import RestoredRun

Explain = Callable[[str], dict[str, Any]]


class Form(NamedTuple):
    """What is written of each text."""

    csv: bool = False  # a table; JSON lines otherwise
    explain: bool = False  # in JSON lines alone


def in_threads(folder: Path | str, chunks: Iterable[Chunk], form: Form) -> Iterator[tuple[Chunk, str]]:
    """Yields each chunk with what is to be written of it, predicted on all devices of this process.

    Args:
      folder: of a run.
      chunks: of `lines.chunks`, taken as the answers are.
      form: of the answers.

    Raises:
      UserError: as `restore`, before a chunk is taken.
    """
    import jax

    run, explain = _restore(folder, form.explain)
    copies = itertools.cycle([run.on(device) for device in jax.local_devices()])
    threads = len(jax.local_devices())
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(lambda chunk: pool.submit(_written, next(copies), explain, form, chunk), chunks, threads)


def in_processes(
    folder: Path | str, chunks: Iterable[Chunk], form: Form, *, processes: int, set_up: Callable[[], None]
) -> Iterator[tuple[Chunk, str]]:
    """What `in_threads` yields, predicted in so many processes, each on a core of its own.

    Args:
      folder, chunks, form: as of `in_threads`.
      processes: at most as many as this one may use cores.
      set_up: called in each before JAX starts; what a process can import.

    Raises:
      UserError: as `restore`, or a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    queue = context.Queue()
    for core in places(processes):
        queue.put(core)
    with ProcessPoolExecutor(processes, context, _begin, (queue, set_up)) as pool:
        try:
            yield from _in_order(lambda chunk: pool.submit(_answer, folder, form, chunk), chunks, processes)
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes was lost, perhaps for want of memory: a smaller input takes fewer"
            ) from error


def _in_order(
    submit: Callable[[Chunk], "Future[str]"], chunks: Iterable[Chunk], workers: int
) -> Iterator[tuple[Chunk, str]]:
    waiting: deque[tuple[Chunk, Future[str]]] = deque()
    for chunk in chunks:
        waiting.append((chunk, submit(chunk)))
        if len(waiting) > 2 * workers:
            chunk, answer = waiting.popleft()
            yield chunk, answer.result()
    for chunk, answer in waiting:
        yield chunk, answer.result()


def _begin(cores: "Queue[int | None]", set_up: Callable[[], None]) -> None:
    begin_on(cores.get(), set_up)


def _answer(folder: Path | str, form: Form, chunk: Chunk) -> str:
    return _written(*_restored(folder, form.explain), form, chunk)


def _restore(folder: Path | str, explain: bool) -> "tuple[RestoredRun, Explain | None]":
    from research.runs.restore import restore
    from research.serving.explain import explainer

    run = restore(folder)
    return run, explainer(run) if explain else None


_restored = functools.lru_cache(maxsize=1)(_restore)  # once a process


def _written(run: "RestoredRun", explain: Explain | None, form: Form, chunk: Chunk) -> str:
    probabilities = run.predict_proba(chunk.texts)
    if form.csv:
        header = lines.csv_header(run.class_names) if chunk.first else ""
        return header + lines.to_csv(chunk.texts, probabilities, run.class_names)
    explanations = [explain(text) for text in chunk.texts] if explain else []
    return lines.to_jsonl(chunk.texts, probabilities, run.class_names, explanations)
