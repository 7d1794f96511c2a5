"""Log and save the epochs of a run, and resume it: which epoch is best, when training stops, and when to save."""

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
_NEVER_BEST = -1e300  # the `selection` of a state in the middle of an epoch; lower than the score of any epoch
_SAME_SCORE = 1e-7  # scores that differ by less are equal; the loss that breaks ties changes them by less
SAVE_SECONDS = 30.0  # the shortest time between two checkpoints; the last epoch is always saved


class History:
    """The logged and saved epochs of a run. When a run is resumed, the epochs up to its last checkpoint are kept."""

    def __init__(
        self, folder: Path, training: Training | Pretraining, checkpoints: Checkpoints, *, select: str, steps: int
    ):
        """Read the epochs that are saved in a run folder.

        Args:
          folder: the run's folder.
          training: the run's training settings.
          checkpoints: the run's checkpoints.
          select: the validation score that chooses the epoch, see `early_stopping.chosen_by`.
          steps: optimizer steps in an epoch.

        Raises:
          UserError: `metrics.jsonl` lacks epochs before the last checkpoint.
        """
        self._folder, self._training, self._checkpoints = folder, training, checkpoints
        self._select, self._steps = select, steps
        records, validated, best = self._saved_epochs()
        if best is not None and best["step"] not in checkpoints.steps():
            _LOG.warning("%s: the checkpoint of its best epoch is damaged; training starts from the beginning", folder)
            checkpoints.clear()
            records, validated, best = [], [], None
        self._best = (score_of(select, best), best["epoch"]) if best else (-np.inf, 0)
        self._lowest = min(((r["loss"], r["epoch"]) for r in validated), default=(np.inf, 0))  # validation loss
        self._unsaved: TrainState | None = None  # the best state so far, on the host, if it is not on disk
        last = checkpoints.last_step()
        self.seconds_before = 0.0 if last is None else checkpoints.seconds(last)  # training time of earlier calls
        self._started = self._saved_at = time.monotonic()
        self.epochs = validated[-1]["epoch"] if validated else 0  # the number of completed epochs
        self.is_over = self._is_last(self.epochs)
        records = [r for r in records if self.is_over or r["split"] != "test"]
        run_files.write_metrics(folder, records, append=False)

    def _saved_epochs(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any] | None]:
        """Return the records up to the last checkpoint, the validation records among them, and the best of these.

        If the last checkpoint was saved before its epoch was validated, that epoch is left out.
        """
        last, records = self._checkpoints.last_step(), []
        if last is not None:
            is_validated = self._checkpoints.selection(last) > _NEVER_BEST
            records = [r for r in run_files.read_metrics(self._folder) if r["step"] < last + is_validated]
            self._require_epochs(_judged(records), last, is_validated)
        validated = _judged(records)
        best = max(validated, key=lambda r: (score_of(self._select, r), -r["epoch"]), default=None)
        saved = next((r for r in validated if r["step"] == self._checkpoints.best_step()), None)
        if saved is not None and abs(score_of(self._select, saved) - score_of(self._select, best)) < _SAME_SCORE:
            best = saved  # an earlier version did not break ties by the loss
        return records, validated, best

    def _require_epochs(self, validated: Sequence[Mapping[str, Any]], last: int, is_validated: bool) -> None:
        """Raise UserError if an epoch that was completed before the step `last` has no record."""
        done = -(-last // self._steps) - (not is_validated)
        if [(r["epoch"], r["step"]) for r in validated] != [(e, e * self._steps) for e in range(1, done + 1)]:
            raise UserError(
                f"{self._folder / run_files.METRICS} lacks some of the {done} epochs before the checkpoint of step "
                f"{last}, so the best epoch is unknown; pass --overwrite to train the run again"
            )

    def resume(self, fresh: TrainState) -> TrainState:
        """Return the state of the last checkpoint, or the fresh state if there is none."""
        last = self._checkpoints.last_step()
        return fresh if last is None else self._checkpoints.restore(last)

    def _is_last(self, epoch: int) -> bool:
        """Return whether training ends with this epoch."""
        return is_last(self._training, epoch, self._steps, best=self._best[1], lowest=self._lowest[1])

    def add(self, records: list[dict[str, Any]], get_state: Callable[[], TrainState]) -> None:
        """Log an epoch, and save the state after it if it is time to.

        Args:
          records: the records of the epoch, of train and, if there are validation texts, of validation.
          get_state: returns the state after the epoch.
        """
        run_files.write_metrics(self._folder, records, append=True)
        judged = records[-1]
        epoch, score = judged["epoch"], score_of(self._select, judged)
        if score > self._best[0]:
            self._best, self._unsaved = (score, epoch), get_state()
        self._lowest = min(self._lowest, (judged["loss"], epoch))
        self.is_over = self._is_last(epoch)
        if self.is_over or self.is_due():
            self.save(get_state(), score)

    def is_due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() - self._saved_at > SAVE_SECONDS

    def save(self, state: TrainState, selection: float = _NEVER_BEST) -> None:
        """Save a state to resume from. A state in the middle of an epoch has no `selection` and is never the best."""
        if self._unsaved is not None:
            if int(self._unsaved.step) == int(state.step):
                selection = self._best[0]
            else:
                self.save_best()
        self._write(state, selection)
        self._unsaved, self._saved_at = None, time.monotonic()

    def save_best(self) -> None:
        """Save the best state so far, unless it is on disk."""
        if self._unsaved is not None:
            self._write(self._unsaved, self._best[0])
            self._unsaved = None

    def _write(self, state: TrainState, selection: float) -> None:
        run_files.sync_metrics(self._folder)  # first, because a checkpoint without its metrics is useless
        seconds = self.seconds_before + time.monotonic() - self._started
        self._checkpoints.save(state, selection=selection, seconds=seconds)

    def best(self) -> TrainState:
        """Return the state of the best epoch, from its checkpoint."""
        return self._checkpoints.restore(self._checkpoints.best_step())


def _judged(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records by which epochs are judged: of validation, or of training if nothing is held out."""
    split = "validation" if any(r["split"] == "validation" for r in records) else "train"
    return [r for r in records if r["split"] == split]
