"""Add up the progress of all runs of a comparison, and say how each of them ended."""

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from research.comparison.foreign_runs import ForeignRun
from research.errors import Diverged
from research.parallel.train_runs import Outcome
from research.runs import run_files
from research.runs.prepare import Run
from research.runs.record import write_record

OnProgress = Callable[[str, float, float], None]  # (title of a run, total of runs done, a recent loss)


class RunBoard:
    """Adds up the progress of all runs, and logs how each run ended."""

    def __init__(self, on_progress: OnProgress, log: Callable[[str], None]):
        self._report, self.log = on_progress, log
        self._titles: dict[Path, str] = {}
        self._ended: set[Path] = set()  # the runs that ended before this call
        self._done: dict[Path, float] = {}  # the share of each run that is done

    def start(self, runs: Mapping[str, Run | ForeignRun], ended: Sequence[Run | ForeignRun]) -> None:
        """Begin with runs, by title; `ended` are those that ended before this call."""
        self._titles = {run.folder: title for title, run in runs.items()}
        self._ended = {run.folder for run in ended}
        self._done = {}

    def on_progress(self, run: Run, epochs: float, loss: float) -> None:
        """Report the progress of a run as the total of runs done."""
        self._advance(run.folder, epochs / run.config.training.epochs, loss)

    def on_run_end(self, run: Run | ForeignRun, outcome: Outcome) -> None:
        """Log how a run ended, unless it had ended before."""
        if run.folder in self._ended:
            return
        self._advance(run.folder, 1.0, float("nan"))  # it may have ended before its last epoch
        self.log(f"{self._titles[run.folder]}: {_describe_end(run, outcome)}")

    def _advance(self, folder: Path, share: float, loss: float) -> None:
        self._done[folder] = share
        self._report(self._titles[folder], len(self._ended) + sum(self._done.values()), loss)


def _describe_end(run: Run | ForeignRun, outcome: Outcome) -> str:
    """Return how a run ended, as a phrase; write the record of a run that failed."""
    if isinstance(outcome, Diverged):
        return f"diverged ({outcome.message})"
    if outcome is not None:
        problem = f"{type(outcome).__name__}: {outcome}".splitlines()[0]
        trace = "".join(traceback.format_exception(outcome))
        with contextlib.suppress(OSError):  # a run without a record counts as unfinished
            run.folder.mkdir(parents=True, exist_ok=True)
            write_record(run.folder, "failed", run.command, error=problem, traceback=trace)
        return f"failed ({problem})"
    record = run_files.read_record(run.folder)
    if isinstance(run, ForeignRun):
        predictions, seconds = run_files.read_predictions(run.folder), record["seconds"]
        accuracy = (predictions.probabilities.argmax(axis=1) == predictions.label).mean()
        return f"test accuracy {accuracy:.4f}, " + (f"{seconds['train']:.1f} s" if seconds else "from its file")
    test = next(r for r in run_files.read_metrics(run.folder) if r["split"] == "test")
    seconds = record["seconds"]["compile"] + record["seconds"]["train"]
    origin = "the last" if run.config.training.select == "last" else "chosen"
    return f"test accuracy {test['accuracy']:.4f}, epoch {record['best_epoch']}, {origin}, {seconds:.1f} s"
