"""Read one run's folder: its scores and predictions, and whether they are its own and worth judging."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation.learning import HeldOut, Problem, problem_of, problem_of_predictions
from research.evaluation.metrics import METRICS, evaluate_predictions
from research.evaluation.outcome import Outcome
from research.json_files import missing_in
from research.runs import run_files
from research.settings import without_places

FAILED = "failed"  # a status in `record.json`: the run ended with an error
# Statuses beside those in `record.json`:
CHANGED = "changed"  # the predictions are not those that the run wrote
MISPLACED = "of another run"  # the folder was copied from elsewhere
COLUMNS = (
    *("variant", "fold", "repeat", "status", *METRICS),
    *("parameters", "flops_per_text", "train_seconds", "compile_seconds", "predict_ms", "peak_memory_bytes"),
    *("best_epoch", "train_texts", "validation_texts", "not_trained", "near_copies", "unknown_sources"),
    *("frozen_parameters", "encoding_seconds"),
    *("model_code", "training_code", "predictions_sha256", "run_folder"),
)

_NUMBER = (int, float)
# The types of what the record of a finished run must have, and of what it may have.
_RECORD_MAY_HAVE = {
    "texts": {"train": int, "validation": int},
    "label_counts": list,
    "near_copies": int,
    "flops_per_text": _NUMBER,
    "frozen_parameters": int,
    "encoding_seconds": _NUMBER,
    "model_code": str,
    "training_code": str,
}
_RECORD_NEEDS = {
    "parameters": int,
    "best_epoch": int,
    "peak_memory_bytes": int,
    "seconds": {"train": _NUMBER, "compile": _NUMBER, "evaluate": _NUMBER},
}
# Of a model that is not of this project, less is known.
_FOREIGN_NEEDS = {"texts": {"train": int, "validation": int}, "label_counts": list, "seconds": dict}


class RunResult(NamedTuple):
    """What a run's folder holds."""

    row: dict[str, Any]  # with `COLUMNS`
    outcome: Outcome | None = None  # None if the run is not finished, or its predictions were changed
    curve: Sequence[float] = ()  # validation accuracy by epoch
    problem: Problem | None = None  # why the run counts as not trained
    failure: str = ""  # the error that ended a failed run


def read_run(comparison: Path, plan: dict[str, Any], variant: str, *, fold: int, repeat: int) -> RunResult:
    """Read one run of a comparison.

    Raises:
      UserError: a file of a finished run is damaged.
    """
    run_folder = f"{plan['variants'][variant]['folder']}/{run_files.run_name(fold, repeat, plan['folds'])}"
    folder = comparison / run_folder
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"variant": variant, "fold": fold, "repeat": repeat, "run_folder": run_folder}
    record = run_files.read_record(folder)
    if record.get("status") != "done":
        status = record.get("status", "unfinished" if folder.exists() else "missing")
        return RunResult(row | {"status": status}, failure=record.get("error", "") if status == FAILED else "")
    if _is_of_another_run(folder, plan, variant, fold, repeat):
        return RunResult(row | {"status": MISPLACED})
    entry = plan["variants"][variant]
    is_foreign = "foreign" in entry
    _check_record(folder, record, _FOREIGN_NEEDS if is_foreign else _RECORD_NEEDS)
    checksum = run_files.predictions_checksum(folder)
    if record.get("predictions_sha256") not in (None, checksum):  # earlier versions recorded none
        return RunResult(row | {"status": CHANGED})
    outcome, records = read_outcome(folder, (repeat, fold)), run_files.read_metrics(folder)
    if is_foreign:
        problem = problem_of_predictions(np.asarray(record["label_counts"]), _held_out(outcome))
    else:
        problem = _problem_of(record, records, outcome, entry["settings"])
    row |= evaluate_predictions(outcome.label, outcome.probabilities, outcome.kind)
    seconds = record["seconds"]
    if "evaluate" in seconds:  # not in a file of predictions
        row["predict_ms"] = round(1e3 * seconds["evaluate"] / max(len(outcome.label), 1), 4)
    row |= {
        "status": "done",
        "parameters": record.get("parameters", ""),
        "flops_per_text": record.get("flops_per_text", ""),
        "train_seconds": seconds.get("train", ""),
        "compile_seconds": seconds.get("compile", ""),
        "peak_memory_bytes": "" if is_foreign else record["peak_memory_bytes"],
        "best_epoch": record.get("best_epoch", ""),
        "train_texts": record.get("texts", {}).get("train", ""),
        "validation_texts": record.get("texts", {}).get("validation", ""),
        "not_trained": "" if problem is None else problem.why,
        "near_copies": record.get("near_copies", 0),
        "unknown_sources": "" if record.get("knows_what_sources_saw", True) else "yes",
        "frozen_parameters": record.get("frozen_parameters", ""),
        "encoding_seconds": record.get("encoding_seconds", ""),
        "model_code": record.get("model_code", ""),
        "training_code": record.get("training_code", ""),
        "predictions_sha256": checksum,
    }
    curve = [r.get("accuracy", np.nan) for r in records if r["split"] == "validation"]
    return RunResult(row, outcome, curve, problem)


def _check_record(folder: Path, record: dict[str, Any], needs: dict[str, Any]) -> None:
    """Raise a `UserError` if the record of a finished run is damaged."""
    types = needs | {name: kind for name, kind in _RECORD_MAY_HAVE.items() if name in record}
    if problem := missing_in(record, types):
        raise UserError(
            f"{folder / run_files.RECORD}: {problem}; the file is damaged: delete the folder to train it anew"
        )
    if not all(isinstance(count, int) for count in record.get("label_counts", ())):
        raise UserError(f"{folder / run_files.RECORD}: 'label_counts' are no counts; the file is damaged")


def _is_of_another_run(folder: Path, plan: dict[str, Any], variant: str, fold: int, repeat: int) -> bool:
    """Return whether a folder holds another run than the plan says, as a copied one does."""
    if not (folder / run_files.CONFIG).exists():
        return False
    described = run_files.read_json(folder / run_files.CONFIG)
    entry = plan["variants"][variant]
    content = "foreign" if "foreign" in entry else "settings"
    needs = {content: dict, "corpus": {"checksum": str}, "fold": int, "repeat": int}
    if problem := missing_in(described, needs):
        raise UserError(f"{folder / run_files.CONFIG}: {problem}; the file is damaged")
    if (described["fold"], described["repeat"]) != (fold, repeat):
        return True
    if described["corpus"]["checksum"] != plan["corpus"]["checksum"]:
        return True
    if entry.get("tuned"):  # each run has settings of its own
        return False
    settings, planned = without_places(described[content]), without_places(entry[content])
    return any(settings[name] != planned[name] for name in settings.keys() & planned.keys())


def problem_of_run(folder: Path) -> Problem | None:
    """Return why a finished run counts as not trained; None if it learned."""
    settings = run_files.read_json(folder / run_files.CONFIG)["settings"]
    outcome = read_outcome(folder, (0, 0))
    return _problem_of(run_files.read_record(folder), run_files.read_metrics(folder), outcome, settings)


def _problem_of(
    record: dict[str, Any], records: list[dict[str, Any]], outcome: Outcome, settings: dict[str, Any]
) -> Problem | None:
    """Return why a run counts as not trained. Earlier versions recorded no label counts: the test texts' are taken."""
    counts = record.get("label_counts") or np.bincount(outcome.label, minlength=outcome.probabilities.shape[1])
    return problem_of(records, record["best_epoch"], np.asarray(counts), _held_out(outcome), settings)


def _held_out(outcome: Outcome) -> HeldOut:
    return HeldOut(outcome.label, outcome.probabilities.argmax(axis=1))


def read_outcome(folder: Path, run: tuple[int, int]) -> Outcome:
    """Return the predictions of a finished run, sorted by text id; `run` is its (repeat, fold)."""
    predictions = run_files.read_predictions(folder)
    order = np.argsort(predictions.id)
    group = None if predictions.group is None else predictions.group[order]
    label, scores = predictions.label[order], predictions.probabilities[order]
    return Outcome(run, predictions.id[order], label, scores, group, predictions.kind)
