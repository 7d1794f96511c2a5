"""One run's epochs: what is logged, which epoch is the best so far, what is saved and when."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from research import runs
from research.settings import Training
from research.training.checkpoints import Checkpoints
from research.training.step import TrainState

_LOG = logging.getLogger("research")
_NEVER_BEST = -1e300  # lower than what any epoch is chosen by
_SAVE_SECONDS = 30.0  # a checkpoint is written no oftener than this, and at the end


class History:
    """The epochs of a run in its folder; those up to its last checkpoint are taken over."""

    def __init__(self, folder: Path, training: Training, checkpoints: Checkpoints):
        self._folder, self._training, self._checkpoints = folder, training, checkpoints
        records, validated, best = self._saved_epochs()
        if best is not None and best["step"] not in checkpoints.steps():
            _LOG.warning("%s: the checkpoint of its best epoch is damaged, so training begins anew", folder)
            checkpoints.clear()
            records, validated, best = [], [], None
        self._best = (_selection(training.select, best), best["epoch"]) if best else (-np.inf, 0)
        self._unsaved: TrainState | None = None  # the best so far, on the host, where it is not on disk
        last = checkpoints.last_step()
        self.seconds_before = 0.0 if last is None else checkpoints.seconds(last)  # of training, in earlier processes
        self._begun = self._saved_at = time.monotonic()
        self.epochs = validated[-1]["epoch"] if validated else 0  # that are done
        self.is_over = self._is_last(self.epochs)
        kept = [r for r in records if self.is_over or r["split"] != "test"]
        runs.write_metrics(folder, kept, append=False)

    def _saved_epochs(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any] | None]:
        """The records up to the last checkpoint, those of validation among them, and the best of these.

        Of a checkpoint that was kept in the midst of an epoch, or before its validation, the epoch is not counted.
        """
        last, records = self._checkpoints.last_step(), []
        if last is not None:
            end = last + (self._checkpoints.selection(last) > _NEVER_BEST)
            records = [r for r in runs.read_metrics(self._folder) if r["step"] < end]
        validated = [r for r in records if r["split"] == "validation"]
        chosen = max(validated, key=lambda r: (_selection(self._training.select, r), -r["epoch"]), default=None)
        return records, validated, chosen

    def resume(self, fresh: TrainState) -> TrainState:
        """The state to go on from: that of the last checkpoint, or a fresh one."""
        last = self._checkpoints.last_step()
        return fresh if last is None else self._checkpoints.restore(last)

    def _is_last(self, epoch: int) -> bool:
        """Whether training ends with this epoch: it was the last one, or patience ran out."""
        return epoch >= self._training.epochs or 0 < self._training.patience <= epoch - self._best[1]

    def add(self, records: list[dict[str, Any]], state_of: Callable[[], TrainState]) -> None:
        """Takes in an epoch: its records of train and validation, and the state after it, where that is to be kept."""
        runs.write_metrics(self._folder, records, append=True)
        epoch, selection = records[1]["epoch"], _selection(self._training.select, records[1])
        if selection > self._best[0]:
            self._best, self._unsaved = (selection, epoch), state_of()
        self.is_over = self._is_last(epoch)
        if self.is_over or self.is_due():
            self.keep(state_of(), selection)

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved_at > _SAVE_SECONDS

    def keep(self, state: TrainState, selection: float = _NEVER_BEST) -> None:
        """Saves a state to go on from, in the midst of an epoch where nothing is said of its quality."""
        if self._unsaved is not None:
            if int(self._unsaved.step) == int(state.step):
                selection = self._best[0]
            else:
                self.save_best()
        self._save(state, selection)
        self._unsaved, self._saved_at = None, time.monotonic()

    def save_best(self) -> None:
        """Saves the best state so far, if it is not saved already."""
        if self._unsaved is not None:
            self._save(self._unsaved, self._best[0])
            self._unsaved = None

    def _save(self, state: TrainState, selection: float) -> None:
        seconds = self.seconds_before + time.monotonic() - self._begun
        self._checkpoints.save(state, selection=selection, seconds=seconds)

    def best(self) -> TrainState:
        """The state of the best epoch, from its checkpoint."""
        return self._checkpoints.restore(self._checkpoints.best_step())


def _selection(select: str, record: dict[str, Any]) -> float:
    """What the best epoch is chosen by, higher is better."""
    if select == "last":
        return float(record["epoch"])
    return -record["loss"] if select == "log_loss" else record[select]
