"""Predict any number of texts in bounded memory: one chunk after the other, in the order of the input.

In one process, each device has a thread. On CPU, one process per core takes two thirds of that time: where a process
sees several cores, XLA splits the arithmetic of each batch among them, and the threads wait for one another.
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
from research.serving.prediction_files import Chunk, csv_header, to_csv, to_jsonl

if TYPE_CHECKING:  # imported where it is used: a process that only reads and writes starts without JAX
    from research.runs.restore import RestoredRun

Explain = Callable[[str], dict[str, Any]]


class OutputFormat(NamedTuple):
    """What is written for each text."""

    csv: bool = False  # a table; otherwise JSON lines
    explain: bool = False  # with explanations; JSON lines only


def predict_in_threads(
    folder: Path | str, chunks: Iterable[Chunk], output_format: OutputFormat
) -> Iterator[tuple[Chunk, str]]:
    """Yield each chunk with its output, predicted on all devices of this process.

    Args:
      folder: the run's folder.
      chunks: the texts; a chunk is taken only shortly before it is predicted.
      output_format: what is written for each text.

    Raises:
      UserError: the run cannot be restored; no chunk has been taken then.
    """
    import jax

    run, explain = _restore(folder, output_format.explain)
    devices = jax.local_devices()
    copies = itertools.cycle([run.on(device) for device in devices])
    with ThreadPoolExecutor(len(devices)) as pool:

        def submit(chunk: Chunk) -> Future[str]:
            return pool.submit(_predict, next(copies), explain, output_format, chunk)

        yield from _in_order(submit, chunks, len(devices))


def predict_in_processes(
    folder: Path | str,
    chunks: Iterable[Chunk],
    output_format: OutputFormat,
    *,
    processes: int,
    set_up: Callable[[], None],
) -> Iterator[tuple[Chunk, str]]:
    """Yield what `predict_in_threads` yields, predicted in worker processes with a core each.

    Args:
      folder, chunks, output_format: see `predict_in_threads`.
      processes: the number of processes, at most the number of cores that this process may use.
      set_up: called in each process before JAX starts; a function that a process can import.

    Raises:
      UserError: the run cannot be restored, or a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    cores = context.Queue()
    for core in places(processes):
        cores.put(core)
    with ProcessPoolExecutor(processes, context, _start_worker, (cores, set_up)) as pool:
        try:
            yield from _in_order(
                lambda chunk: pool.submit(_predict_in_worker, folder, output_format, chunk), chunks, processes
            )
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes was lost, perhaps for want of memory: a smaller input takes fewer"
            ) from error


def _in_order(
    submit: Callable[[Chunk], "Future[str]"], chunks: Iterable[Chunk], workers: int
) -> Iterator[tuple[Chunk, str]]:
    """Yield each chunk and its output in the order of the chunks, with a few chunks for each worker at hand."""
    pending: deque[tuple[Chunk, Future[str]]] = deque()
    for chunk in chunks:
        pending.append((chunk, submit(chunk)))
        if len(pending) > 2 * workers:
            oldest, output = pending.popleft()
            yield oldest, output.result()
    for oldest, output in pending:
        yield oldest, output.result()


def _start_worker(cores: "Queue[int | None]", set_up: Callable[[], None]) -> None:
    begin_on(cores.get(), set_up)


def _predict_in_worker(folder: Path | str, output_format: OutputFormat, chunk: Chunk) -> str:
    run, explain = _restore_once(folder, output_format.explain)
    return _predict(run, explain, output_format, chunk)


def _restore(folder: Path | str, with_explainer: bool) -> "tuple[RestoredRun, Explain | None]":
    from research.runs.restore import restore
    from research.serving.explain import Explainer

    run = restore(folder)
    return run, Explainer(run).explain if with_explainer else None


_restore_once = functools.lru_cache(maxsize=1)(_restore)  # a worker process restores the run for its first chunk


def _predict(run: "RestoredRun", explain: Explain | None, output_format: OutputFormat, chunk: Chunk) -> str:
    """Return what is written for a chunk; the header of a table comes with the first chunk."""
    probabilities = run.predict_proba(chunk.texts)
    if output_format.csv:
        header = csv_header(run.class_names) if chunk.is_first else ""
        return header + to_csv(chunk.texts, probabilities, run.class_names)
    explanations = [explain(text) for text in chunk.texts] if explain else []
    return to_jsonl(chunk.texts, probabilities, run.class_names, explanations)
