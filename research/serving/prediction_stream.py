"""Predict any number of texts in bounded memory: one chunk after the other, in the order of the input.

On CPU, a worker process per core is faster than one process that uses all cores (docs/speed.md): there, XLA splits the
arithmetic of each batch among the cores, which wait for one another.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from research.errors import UserError
from research.parallel.worker_pool import WorkerLost, WorkerPool, Workers
from research.serving.prediction_files import Chunk, to_csv, to_jsonl

if TYPE_CHECKING:  # imported where it is used: a process that only reads and writes starts without JAX
    from research.runs.averaged_runs import AveragedRuns
    from research.runs.restore import RestoredRun

Explain = Callable[[str], dict[str, Any]]


class Predictor(NamedTuple):
    """The run that predicts, or the runs of a variant of a comparison."""

    folder: Path | str
    variant: str = ""  # if set, `folder` is a comparison, and the runs of this variant predict together


class OutputFormat(NamedTuple):
    """What is written for each text."""

    csv: bool = False  # a table; otherwise JSON lines
    explain: bool = False  # with explanations; JSON lines only


def predict_here(
    predictor: Predictor, chunks: Iterable[Chunk], output_format: OutputFormat
) -> Iterator[tuple[Chunk, str]]:
    """Yield each chunk with its output, predicted in this process.

    Args:
      predictor: what predicts.
      chunks: the texts; a chunk is taken only shortly before it is predicted.
      output_format: what is written for each text.

    Raises:
      UserError: the run cannot be restored; no chunk has been taken then.
    """
    run, explain = _restore(predictor, output_format.explain)
    for chunk in chunks:
        yield chunk, _predict(run, explain, output_format, chunk)


def predict_in_workers(
    predictor: Predictor, chunks: Iterable[Chunk], output_format: OutputFormat, workers: Workers
) -> Iterator[tuple[Chunk, str]]:
    """Yield what `predict_here` yields, predicted in worker processes with a core each.

    Args:
      predictor, chunks, output_format: see `predict_here`.
      workers: the processes.

    Raises:
      UserError: the run cannot be restored, or a process was lost.
    """
    try:
        with WorkerPool(workers, (predictor, output_format)) as pool:
            yield from _in_order(pool, chunks, 2 * workers.count)
    except WorkerLost as error:
        raise UserError(
            f"one of {workers.count} processes was lost, perhaps for want of memory: a smaller input takes fewer"
        ) from error


def _in_order(pool: WorkerPool, chunks: Iterable[Chunk], most: int) -> Iterator[tuple[Chunk, str]]:
    """Yield each chunk and its output in the order of the chunks, of which at most `most` are pending."""
    pending: deque[tuple[Chunk, Future[str]]] = deque()
    for chunk in chunks:
        while not pool.has_idle or len(pending) > most:
            pool.listen()
            while pending and pending[0][1].done():
                oldest, output = pending.popleft()
                yield oldest, output.result()
        pending.append((chunk, pool.submit(_predict_in_worker, chunk)))
    for oldest, output in pending:
        while not output.done():
            pool.listen()
        yield oldest, output.result()


def _predict_in_worker(shared: tuple[Predictor, OutputFormat], chunk: Chunk, report: Callable[..., None]) -> str:
    predictor, output_format = shared
    report()  # raises if the pool was closed
    return _predict(*_restore_once(predictor, output_format.explain), output_format, chunk)


def _restore(predictor: Predictor, with_explainer: bool) -> "tuple[RestoredRun | AveragedRuns, Explain | None]":
    from research.runs.restore import restore
    from research.serving.explain import Explainer

    run = restore(*predictor)
    return run, Explainer(run).explain if with_explainer else None


_restore_once = functools.lru_cache(maxsize=1)(_restore)  # a worker process restores the run for its first chunk


def _predict(
    run: "RestoredRun | AveragedRuns", explain: Explain | None, output_format: OutputFormat, chunk: Chunk
) -> str:
    """Return what is written for a chunk."""
    probabilities = run.predict_proba(chunk.texts)
    if output_format.csv:
        return to_csv(chunk, probabilities, run.class_names)
    explanations = [explain(text) for text in chunk.texts] if explain else []
    return to_jsonl(chunk.texts, probabilities, run.class_names, explanations)
