"""Restored runs that answer many requests at once: compiled when the server starts, in batches, in threads."""

import asyncio
import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from research.runs.restore import RestoredRun
from research.serving.batching import ROWS, Batcher, compile_predictions, predict_few
from research.serving.explain import Explainer

_LOG = logging.getLogger(__name__)
_WAIT_SECONDS = 0.002  # how long a batch that is not full waits for more texts


class _ServedRun(NamedTuple):
    run: RestoredRun
    explain: Callable[[str], Any]
    predictions: Batcher
    explanations: Batcher


class ServedRuns:
    """Runs that answer requests while `running` is entered.

    One thread predicts and another explains, so that a slow explanation does not delay predictions.

    Args:
      runs: name -> run.
      max_waiting_texts: texts of a run that may wait for a prediction.
      max_waiting_explanations: texts of a run that may wait for an explanation.
    """

    def __init__(self, runs: Mapping[str, RestoredRun], max_waiting_texts: int, max_waiting_explanations: int):
        self._prediction_thread = ThreadPoolExecutor(1, "predict")
        self._explanation_thread = ThreadPoolExecutor(1, "explain")
        self._is_ready, self._is_stopping = threading.Event(), threading.Event()
        self._runs: dict[str, _ServedRun] = {}
        for name, run in runs.items():
            explain = Explainer(run).explain
            predictions = Batcher(
                functools.partial(predict_few, run),
                self._prediction_thread,
                max_texts=ROWS[-1],
                wait_seconds=_WAIT_SECONDS,
                max_waiting_texts=max_waiting_texts,
            )
            explanations = Batcher(
                lambda texts, explain=explain: list(map(explain, texts)),
                self._explanation_thread,
                max_texts=1,
                wait_seconds=0.0,
                max_waiting_texts=max_waiting_explanations,
            )
            self._runs[name] = _ServedRun(run, explain, predictions, explanations)

    @property
    def is_ready(self) -> bool:
        """Whether every program is compiled."""
        return self._is_ready.is_set()

    def describe(self) -> list[dict[str, Any]]:
        """Return what clients are told about each run."""
        return [describe(name, served.run) for name, served in self._runs.items()]

    async def classify(self, name: str, texts: list[str], explain: bool) -> dict[str, Any]:
        """Return labels and probabilities of the texts, and explanations if they are asked for.

        Raises:
          Busy: too many texts are waiting.
        """
        served = self._runs[name]
        classes = served.run.class_names
        probabilities = await served.predictions.ask(texts)
        answer: dict[str, Any] = {
            "model": name,
            "labels": [classes[best] for best in probabilities.argmax(axis=1).tolist()],
            "probabilities": [dict(zip(classes, row, strict=True)) for row in probabilities.tolist()],
        }
        if explain:
            # One text after the other: the rest is not begun if the client stops waiting.
            answer["explanations"] = [(await served.explanations.ask([text]))[0] for text in texts]
        return answer

    @contextlib.asynccontextmanager
    async def running(self, on_ready: Callable[[], None], on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Answer requests within this context, and compile every program first.

        Args:
          on_ready: called when every program is compiled.
          on_failure: called when a program cannot be compiled; the server is then of no use.
        """
        loop = asyncio.get_running_loop()
        batchers = [batcher for served in self._runs.values() for batcher in (served.predictions, served.explanations)]
        tasks = [loop.create_task(batcher.run()) for batcher in batchers]
        compilation = loop.run_in_executor(self._prediction_thread, self._compile, on_ready, on_failure)
        yield
        self._is_stopping.set()
        for task in tasks:
            task.cancel()
        await compilation
        self._prediction_thread.shutdown()
        self._explanation_thread.shutdown()

    def _compile(self, on_ready: Callable[[], None], on_failure: Callable[[], None]) -> None:
        programs = (compile_programs(served.run, served.explain) for served in self._runs.values())
        try:
            for _ in itertools.chain.from_iterable(programs):
                if self._is_stopping.is_set():
                    return
        except Exception:  # noqa: BLE001 - whatever failed, there are no answers without programs; no text is in it
            _LOG.exception("a program could not be compiled, so the server ends")
            on_failure()
            return
        self._is_ready.set()
        on_ready()


def describe(name: str, run: RestoredRun) -> dict[str, Any]:
    """Return what clients are told about a run."""
    return {
        "id": name,
        "hash": run.hash,
        "classes": list(run.class_names),
        "corpus": run.corpus_name,
        "max_tokens": run.config.data.max_length,
    }


def compile_programs(run: RestoredRun, explain: Callable[[str], Any]) -> Iterator[None]:
    """Compile every program that requests may need, one program a step."""
    yield from compile_predictions(run)
    around = len(run.words("x")) - 1  # tokens that every text has besides its words
    for width in run.every_width:
        explain("x " * (width - around))
        yield
