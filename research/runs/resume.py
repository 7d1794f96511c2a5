"""Log and save the epochs of a run, and resume it: which epoch is the best, when training stops, what is saved when."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.errors import UserError
from research.runs import run_files
from research.runs.checkpoints import Checkpoints
from research.settings import Pretraining, Training
from research.training.early_stopping import is_last, score_of
from research.training.step import TrainState

_LOG = logging.getLogger("research")
_NEVER_BEST = -1e300  # lower than what any epoch is chosen by
_EQUAL = 1e-7  # of scores: less than their steps, more than what breaks ties
SAVE_SECONDS = 30.0  # a checkpoint is written no oftener than this, and at the end


class History:
    """The epochs of a run in its folder. Those up to the last checkpoint are kept when a run is resumed."""

    def __init__(
        self, folder: Path, training: Training | Pretraining, checkpoints: Checkpoints, *, select: str, steps: int
    ):
        """Read the epochs that the folder holds.

        Args:
          folder: of the run.
          training: its settings.
          checkpoints: of the run.
          select: the validation score that chooses the epoch, see `early_stopping.chosen_by`.
          steps: optimizer steps in an epoch.

        Raises:
          UserError: `metrics.jsonl` lacks epochs that the last checkpoint was trained for.
        """
        self._folder, self._training, self._checkpoints = folder, training, checkpoints
        self._select, self._steps = select, steps
        records, validated, best = self._saved_epochs()
        if best is not None and best["step"] not in checkpoints.steps():
            _LOG.warning("%s: the checkpoint of its best epoch is damaged, so training begins anew", folder)
            checkpoints.clear()
            records, validated, best = [], [], None
        self._best = (score_of(select, best), best["epoch"]) if best else (-np.inf, 0)
        self._lowest = min(((r["loss"], r["epoch"]) for r in validated), default=(np.inf, 0))  # validation loss
        self._unsaved: TrainState | None = None  # the best so far, on the host, where it is not on disk
        last = checkpoints.last_step()
        self.seconds_before = 0.0 if last is None else checkpoints.seconds(last)  # of training, in earlier calls
        self._started = self._saved_at = time.monotonic()
        self.epochs = validated[-1]["epoch"] if validated else 0  # that are done
        self.is_over = self._is_last(self.epochs)
        kept = [r for r in records if self.is_over or r["split"] != "test"]
        run_files.write_metrics(folder, kept, append=False)

    def _saved_epochs(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any] | None]:
        """Return the records up to the last checkpoint, those of validation among them, and the best of these.

        The epoch of a checkpoint that was saved in the middle of it, or before its validation, does not count.
        """
        last, records = self._checkpoints.last_step(), []
        if last is not None:
            is_validated = self._checkpoints.selection(last) > _NEVER_BEST
            records = [r for r in run_files.read_metrics(self._folder) if r["step"] < last + is_validated]
            self._require_epochs([r for r in records if r["split"] == "validation"], last, is_validated)
        validated = [r for r in records if r["split"] == "validation"]
        chosen = max(validated, key=lambda r: (score_of(self._select, r), -r["epoch"]), default=None)
        kept = next((r for r in validated if r["step"] == self._checkpoints.best_step()), None)
        if kept is not None and abs(score_of(self._select, kept) - score_of(self._select, chosen)) < _EQUAL:
            chosen = kept  # an earlier version did not break ties by the loss
        return records, validated, chosen

    def _require_epochs(self, validated: Sequence[Mapping[str, Any]], last: int, is_validated: bool) -> None:
        """Raise UserError if epochs before the step `last` have no record, although they were trained."""
        done = -(-last // self._steps) - (not is_validated)
        if [(r["epoch"], r["step"]) for r in validated] != [(e, e * self._steps) for e in range(1, done + 1)]:
            raise UserError(
                f"{self._folder / run_files.METRICS} lacks epochs of the {done} that the checkpoint of step {last} was "
                "trained for, so nobody can say which was the best; delete the run's folder, or pass --overwrite"
            )

    def resume(self, fresh: TrainState) -> TrainState:
        """Return the state of the last checkpoint, or the fresh one."""
        last = self._checkpoints.last_step()
        return fresh if last is None else self._checkpoints.restore(last)

    def _is_last(self, epoch: int) -> bool:
        """Return whether training ends with this epoch."""
        return is_last(self._training, epoch, self._steps, best=self._best[1], lowest=self._lowest[1])

    def add(self, records: list[dict[str, Any]], state_of: Callable[[], TrainState]) -> None:
        """Log an epoch, and save the state after it if that is due.

        Args:
          records: of train and validation.
          state_of: returns the state after the epoch.
        """
        run_files.write_metrics(self._folder, records, append=True)
        epoch, score = records[1]["epoch"], score_of(self._select, records[1])
        if score > self._best[0]:
            self._best, self._unsaved = (score, epoch), state_of()
        self._lowest = min(self._lowest, (records[1]["loss"], epoch))
        self.is_over = self._is_last(epoch)
        if self.is_over or self.is_due():
            self.save(state_of(), score)

    def is_due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() - self._saved_at > SAVE_SECONDS

    def save(self, state: TrainState, selection: float = _NEVER_BEST) -> None:
        """Save a state to resume from; without `selection` it is in the middle of an epoch and never the best."""
        if self._unsaved is not None:
            if int(self._unsaved.step) == int(state.step):
                selection = self._best[0]
            else:
                self.save_best()
        self._write(state, selection)
        self._unsaved, self._saved_at = None, time.monotonic()

    def save_best(self) -> None:
        """Save the best state so far, if it is not on disk."""
        if self._unsaved is not None:
            self._write(self._unsaved, self._best[0])
            self._unsaved = None

    def _write(self, state: TrainState, selection: float) -> None:
        run_files.sync_metrics(self._folder)  # before the checkpoint, which is of no use without them
        seconds = self.seconds_before + time.monotonic() - self._started
        self._checkpoints.save(state, selection=selection, seconds=seconds)

    def best(self) -> TrainState:
        """Return the state of the best epoch, from its checkpoint."""
        return self._checkpoints.restore(self._checkpoints.best_step())
