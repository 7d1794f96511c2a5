"""Batching of requests: those that arrive together are answered together, one batch after the other."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from research.data.batches import evaluation_order, gather, width_of
from research.runs.restore import RestoredRun

ROWS = (1, 8, 64)  # batch sizes; with the run's widths these are all the shapes that are compiled


class Busy(Exception):
    """So many texts are waiting that no more are accepted."""


class Batcher:
    """Collect the texts of waiting requests and answer them in batches.

    Args:
      answer: texts -> one answer for each.
      executor: where `answer` is called, one call at a time.
      max_texts: texts in a batch; a single request may have more.
      wait_seconds: how long a batch that is not full waits for more texts.
      max_waiting_texts: texts that may wait.
    """

    def __init__(
        self,
        answer: Callable[[list[str]], Sequence[Any]],
        executor: Executor,
        *,
        max_texts: int,
        wait_seconds: float,
        max_waiting_texts: int,
    ):
        self._answer, self._executor = answer, executor
        self._max_texts, self._wait_seconds, self._max_waiting_texts = max_texts, wait_seconds, max_waiting_texts
        self._requests: deque[tuple[list[str], asyncio.Future]] = deque()
        self._waiting_texts = 0
        self._arrived = asyncio.Event()

    async def ask(self, texts: list[str]) -> Sequence[Any]:
        """Return the answers to these texts. If the caller is cancelled, its texts are skipped.

        Raises:
          Busy: there is no room for these texts.
        """
        if self._waiting_texts + len(texts) > self._max_waiting_texts:
            raise Busy
        answers = asyncio.get_running_loop().create_future()
        self._requests.append((texts, answers))
        self._waiting_texts += len(texts)
        self._arrived.set()
        return await answers

    async def run(self) -> None:
        """Answer requests until this task is cancelled."""
        while True:
            await self._arrived.wait()
            if self._waiting_texts < self._max_texts:
                await asyncio.sleep(self._wait_seconds)
            batch = self._take_batch()
            texts = [text for texts, _ in batch for text in texts]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, texts)
            except Exception as error:  # noqa: BLE001 - it concerns this batch alone, and its callers get it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            end = 0
            for texts, future in batch:
                if not future.done():
                    future.set_result(answers[end : end + len(texts)])
                end += len(texts)

    def _take_batch(self) -> list[tuple[list[str], asyncio.Future]]:
        batch, size = [], 0
        while self._requests and (not batch or size + len(self._requests[0][0]) <= self._max_texts):
            batch.append(self._requests.popleft())
            size += len(batch[-1][0])
        self._waiting_texts -= size
        if not self._requests:
            self._arrived.clear()
        return [(texts, future) for texts, future in batch if not future.done()]


def predict_few(run: RestoredRun, texts: Sequence[str]) -> np.ndarray:
    """Return probabilities float32 [N, C] as `run.predict_proba` does, in smaller batches: faster for few texts."""
    encoded = run.encode(texts)
    probabilities = np.empty((len(texts), len(run.class_names)), np.float32)
    for index in evaluation_order(encoded.lengths, ROWS[-1]):
        rows = next(rows for rows in ROWS if rows >= len(index))
        width = width_of(int(encoded.lengths[index].max(initial=0)), run.every_width)
        probabilities[index] = run.probabilities(gather(encoded, index, rows, (width,)))[: len(index)]
    return probabilities


def compile_predictions(run: RestoredRun) -> Iterator[None]:
    """Compile every program that `predict_few` may need, one program a step."""
    no_texts = run.encode([])
    for width in run.every_width:
        for rows in ROWS:
            run.probabilities(gather(no_texts, np.arange(0), rows, (width,)))
            yield
