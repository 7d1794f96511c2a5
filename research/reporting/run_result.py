"""Read what a run's folder holds: its scores and predictions, and whether they are its own and worth judging."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation.intervals import Outcome
from research.evaluation.learning import HeldOut, Problem, problem_of
from research.evaluation.metrics import METRICS, evaluate_predictions
from research.json_files import missing_in
from research.runs import run_files
from research.settings import PLACES, leaves_of

CHANGED = "changed"  # the status of a run whose predictions are not those that it wrote
MISPLACED = "of another run"  # the status of a run folder that was copied from elsewhere
COLUMNS = (
    *("variant", "fold", "repeat", "status", *METRICS),
    *("parameters", "flops_per_text", "train_seconds", "compile_seconds", "predict_ms", "peak_memory_bytes"),
    *("best_epoch", "train_texts", "validation_texts", "not_trained", "near_copies", "unknown_sources"),
    *("model_code", "training_code", "predictions_sha256", "run_folder"),
)

_NUMBER = (int, float)
# What the record of a finished run must have to be read, and what it may have.
_RECORD_MAY_HAVE = {
    "texts": {"train": int, "validation": int},
    "label_counts": list,
    "near_copies": int,
    "flops_per_text": _NUMBER,
    "model_code": str,
    "training_code": str,
}
_RECORD_NEEDS = {
    "parameters": int,
    "best_epoch": int,
    "peak_memory_bytes": int,
    "seconds": {"train": _NUMBER, "compile": _NUMBER, "evaluate": _NUMBER},
}


class RunResult(NamedTuple):
    """What a run's folder holds."""

    row: dict[str, Any]  # with `COLUMNS`
    outcome: Outcome | None  # None of a run that is not finished, or whose predictions were changed
    curve: list[float]  # validation accuracy by epoch
    problem: Problem | None  # why it counts as not trained


def read_run(folder: Path, plan: dict[str, Any], variant: str, fold: int, repeat: int) -> RunResult:
    """Read one run of a comparison.

    Raises:
      UserError: a file of a finished run is damaged.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"variant": variant, "fold": fold, "repeat": repeat}
    record = run_files.read_record(folder)
    if record.get("status") != "done":
        status = record.get("status", "unfinished" if folder.exists() else "missing")
        return RunResult(row | {"status": status}, None, [], None)
    settings = plan["variants"][variant]["settings"]
    if _is_of_another_run(folder, plan, variant, fold, repeat):
        return RunResult(row | {"status": MISPLACED}, None, [], None)
    if problem := missing_in(record, _RECORD_NEEDS | {n: k for n, k in _RECORD_MAY_HAVE.items() if n in record}):
        raise UserError(
            f"{folder / run_files.RECORD}: {problem}; the file is damaged: delete the folder to train it anew"
        )
    if not all(isinstance(count, int) for count in record.get("label_counts", ())):
        raise UserError(f"{folder / run_files.RECORD}: 'label_counts' are no counts; the file is damaged")
    if run_files.has_changed_predictions(folder):
        return RunResult(row | {"status": CHANGED}, None, [], None)
    outcome, records = read_outcome(folder, (repeat, fold)), run_files.read_metrics(folder)
    problem = _problem_of(record, records, outcome, settings)
    row |= evaluate_predictions(outcome.label, outcome.probabilities)
    row |= {
        "status": "done",
        "parameters": record["parameters"],
        "flops_per_text": record.get("flops_per_text", ""),
        "train_seconds": record["seconds"]["train"],
        "compile_seconds": record["seconds"]["compile"],
        "predict_ms": round(1e3 * record["seconds"]["evaluate"] / max(len(outcome.label), 1), 4),
        "peak_memory_bytes": record["peak_memory_bytes"],
        "best_epoch": record["best_epoch"],
        "train_texts": record.get("texts", {}).get("train", ""),
        "validation_texts": record.get("texts", {}).get("validation", ""),
        "not_trained": "" if problem is None else problem.why,
        "near_copies": record.get("near_copies", 0),
        "unknown_sources": "" if record.get("knows_what_sources_saw", True) else "yes",
        "model_code": record.get("model_code", ""),
        "training_code": record.get("training_code", ""),
        "predictions_sha256": run_files.predictions_checksum(folder),
    }
    curve = [r.get("accuracy", np.nan) for r in records if r["split"] == "validation"]
    return RunResult(row, outcome, curve, problem)


def _is_of_another_run(folder: Path, plan: dict[str, Any], variant: str, fold: int, repeat: int) -> bool:
    """Return whether a folder holds another run than the plan says, as a copied one does."""
    if not (folder / run_files.CONFIG).exists():
        return False
    described = run_files.read_json(folder / run_files.CONFIG)
    needs = {"settings": dict, "corpus": {"checksum": str}, "fold": int, "repeat": int}
    if problem := missing_in(described, needs):
        raise UserError(f"{folder / run_files.CONFIG}: {problem}; the file is damaged")
    if (described["corpus"]["checksum"], described["fold"], described["repeat"]) != (
        plan["corpus"]["checksum"],
        fold,
        repeat,
    ):
        return True
    if plan["variants"][variant].get("tuned"):  # each run has settings of its own
        return False
    theirs, planned = leaves_of(described["settings"]), leaves_of(plan["variants"][variant]["settings"])
    common = (theirs.keys() & planned.keys()) - set(PLACES)
    return any(theirs[name] != planned[name] for name in common)


def problem_of_run(folder: Path) -> Problem | None:
    """Return why a finished run counts as not trained; None if it learned."""
    settings = run_files.read_json(folder / run_files.CONFIG)["settings"]
    return _problem_of(
        run_files.read_record(folder), run_files.read_metrics(folder), read_outcome(folder, (0, 0)), settings
    )


def _problem_of(
    record: dict[str, Any], records: list[dict[str, Any]], outcome: Outcome, settings: dict[str, Any]
) -> Problem | None:
    """Return why a run counts as not trained; without recorded label counts those of its test texts are taken."""
    predicted = outcome.probabilities.argmax(axis=1)
    counts = record.get("label_counts") or np.bincount(outcome.label, minlength=outcome.probabilities.shape[1])
    return problem_of(records, record["best_epoch"], np.asarray(counts), HeldOut(outcome.label, predicted), settings)


def read_outcome(folder: Path, run: tuple[int, int]) -> Outcome:
    """The predictions of a finished run, (repeat, fold)."""
    found = run_files.read_predictions(folder)
    order = np.argsort(found.id)
    group = None if found.group is None else found.group[order]
    return Outcome(run, found.id[order], found.label[order], found.probabilities[order], group)
