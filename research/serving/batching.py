"""Requests that arrive together are answered together: one batch after the other, on a thread of its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from research.data.batches import evaluation_order, gather, width_of
from research.runs.restore import RestoredRun

ROWS = (1, 8, 64)  # that a batch may have; with the run's widths these are all shapes that are compiled


class Busy(Exception):
    """So many texts are waiting that no more are taken."""


class Batcher:
    """Asks `answer` about the texts of whatever requests are waiting.

    Args:
      answer: texts -> an answer each.
      executor: where it is called, one call at a time.
      most: texts of a batch; a single request may have more.
      wait: seconds that a batch which is not full waits for more.
      room: texts that may wait.
    """

    def __init__(
        self, answer: Callable[[list[str]], Sequence[Any]], executor: Executor, *, most: int, wait: float, room: int
    ):
        self._answer, self._executor = answer, executor
        self._most, self._wait, self._room = most, wait, room
        self._requests: deque[tuple[list[str], asyncio.Future]] = deque()
        self._waiting = 0  # texts
        self._arrived = asyncio.Event()

    async def ask(self, texts: list[str]) -> Sequence[Any]:
        """The answers to these texts; whoever stops waiting for them is passed over.

        Raises:
          Busy: there is no room for them.
        """
        if self._waiting + len(texts) > self._room:
            raise Busy
        answers = asyncio.get_running_loop().create_future()
        self._requests.append((texts, answers))
        self._waiting += len(texts)
        self._arrived.set()
        return await answers

    async def run(self) -> None:
        """Answers until it is cancelled."""
        while True:
            await self._arrived.wait()
            if self._waiting < self._most:
                await asyncio.sleep(self._wait)
            batch = self._take()
            texts = [text for texts, _ in batch for text in texts]
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, texts)
            except Exception as error:  # noqa: BLE001 - of this batch alone; whoever asked is told
                for _, answers in batch:
                    if not answers.done():
                        answers.set_exception(error)
                continue
            end = 0
            for texts, answers in batch:
                if not answers.done():
                    answers.set_result(found[end : end + len(texts)])
                end += len(texts)

    def _take(self) -> list[tuple[list[str], asyncio.Future]]:
        batch, texts = [], 0
        while self._requests and (not batch or texts + len(self._requests[0][0]) <= self._most):
            batch.append(self._requests.popleft())
            texts += len(batch[-1][0])
        self._waiting -= texts
        if not self._requests:
            self._arrived.clear()
        return [(texts, answers) for texts, answers in batch if not answers.done()]


def predict_few(run: RestoredRun, texts: Sequence[str]) -> np.ndarray:
    """`run.predict_proba` in batches as small as they may be: quick for few texts."""
    encoded = run.encode(texts)
    found = np.empty((len(texts), len(run.class_names)), np.float32)
    for index in evaluation_order(encoded.lengths, ROWS[-1]):
        rows = next(rows for rows in ROWS if rows >= len(index))
        width = width_of(int(encoded.lengths[index].max(initial=0)), run.every_width)
        found[index] = run.probabilities(gather(encoded, index, rows, (width,)))[: len(index)]
    return found


def warm(run: RestoredRun) -> Iterator[np.ndarray]:
    """Compiles all that `predict_few` may ask for, a program a step."""
    nothing = run.encode([])
    for width in run.every_width:
        for rows in ROWS:
            yield run.probabilities(gather(nothing, np.arange(0), rows, (width,)))
