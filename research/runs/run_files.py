"""Read and write the files of run folders. Only this file knows their names and formats.

Each file appears complete or not at all, except `metrics.jsonl`, which grows line by line.
"""

import hashlib
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.atomic_files import sync_file, whole_file, write_text
from research.errors import UserError
from research.json_files import missing_in

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
PREDICTIONS = "predictions.npz"
RECORD = "record.json"
SEEN = "seen_texts.npy"  # fingerprints of the texts seen by a run and by the runs that it started from
LABELS = "labels.json"  # the labels of a `TextClassifier`, with their types
ENCODER = "encoder"  # a pre-trained encoder in the layout of HuggingFace's libraries
STREAM = "stream"  # the tokens of pre-training; exists only during training
PLAN = "plan.json"  # a comparison's variants and runs
LOCK = "lock"  # exists while a process writes; a killed process leaves it
# The name of the array of a model's predictions, by their kind: what are no probabilities is not called so.
_ARRAY_OF = {"probabilities": "probabilities", "scores": "scores", "labels": "one_hot"}
_SEEN_DTYPE = "[('words', '<u8'), ('sketch', '<u2', (12,)), ('trained', '?')]"  # `data.fingerprints.FINGERPRINT`


class Predictions(NamedTuple):
    """A run's predictions for N texts that were held out from it, in C classes."""

    id: np.ndarray  # str [N], content hash and occurrence
    label: np.ndarray  # int32 [N]
    probabilities: np.ndarray  # float32 [N, C]; scores whose largest is the prediction, if `kind` says so
    group: np.ndarray | None = None  # int32 [N], equal for texts that depend on each other; None if unknown
    kind: str = "probabilities"  # "probabilities"; "scores" of any size; "labels": 1 for the predicted class, else 0


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
      UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        runs = (*path.parent.glob(f"*/{CONFIG}"), *path.parent.glob(f"*/*/{CONFIG}"))
        example = min(runs, default=path).parent
        if path.name == CONFIG and (runs or (path.parent / PLAN).exists()):
            raise UserError(f"{path.parent} is a comparison, expected a run of it, such as {example}") from None
        raise UserError(f"{path}: no such file, expected a run folder that `train` or `compare` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of `record.json`, which is written last; empty if there is no such file.

    Raises:
      UserError: the file is not JSON, or not an object.
    """
    path = folder / RECORD
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise UserError(f"{path}: a JSON {type(record).__name__}, expected an object")
    return record


def write_metrics(folder: Path, records: Iterable[dict[str, Any]], *, append: bool) -> None:
    """Write the records of evaluations to `metrics.jsonl`, one JSON object per line."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if append:
        with (folder / METRICS).open("a", encoding="utf-8", newline="\n") as file:
            file.write(lines)
    else:
        write_text(folder / METRICS, lines)


def sync_metrics(folder: Path) -> None:
    """Wait until `metrics.jsonl` is on the disk, if it exists."""
    if (folder / METRICS).exists():
        sync_file(folder / METRICS)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the records in `metrics.jsonl`, each with `step`, `epoch` and `split`; none if there is no such file.

    An incomplete last line is left out.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    try:
        complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        records = [json.loads(line) for line in complete.split("\n") if line]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    for number, record in enumerate(records, 1):
        needs: dict[str, Any] = {"step": int, "epoch": int, "split": str}
        if isinstance(record, dict):
            needs |= dict.fromkeys({"loss", "accuracy"} & record.keys(), (int, float))
        if problem := missing_in(record, needs):
            raise UserError(f"{path}:{number}: {problem}; the file is damaged")
    return records


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write `predictions.npz`; its arrays are plain, so reading them needs no unpickling."""
    arrays = {"id": predictions.id, "label": predictions.label, _ARRAY_OF[predictions.kind]: predictions.probabilities}
    if predictions.group is not None:
        arrays["group"] = predictions.group
    with whole_file(folder / PREDICTIONS) as file:
        np.savez_compressed(file, **arrays)


def read_predictions(folder: Path) -> Predictions:
    """Return the content of `predictions.npz`.

    Raises:
      UserError: the file is missing or damaged.
    """
    path = folder / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kind = next((kind for kind, name in _ARRAY_OF.items() if name in arrays), "probabilities")
            scores = arrays[_ARRAY_OF[kind]]
            predictions = Predictions(arrays["id"], arrays["label"], scores, arrays.get("group"), kind)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not _are_consistent(predictions):
        raise UserError(f"{path}: its arrays do not fit each other, expected those that a run writes")
    return predictions


def _are_consistent(predictions: Predictions) -> bool:
    """Return whether the arrays have the kinds and shapes that `Predictions` states."""
    ids, label, probabilities, group, _ = predictions
    kinds = (ids.dtype.kind, label.dtype.kind, probabilities.dtype.kind)
    if kinds != ("U", "i", "f") or (ids.ndim, label.ndim, probabilities.ndim) != (1, 1, 2):
        return False
    if not len(ids) == len(label) == len(probabilities) == len(ids if group is None else group):
        return False
    is_class = np.all((label >= 0) & (label < probabilities.shape[1]))
    return bool(is_class and np.isfinite(probabilities).all())


def write_seen(folder: Path, parts: Iterable[np.ndarray], count: int) -> None:
    """Write the fingerprints of seen texts, which need not fit into memory.

    Args:
      folder: the run's folder.
      parts: one or more arrays of `data.fingerprints.FINGERPRINT`.
      count: the total number of fingerprints.
    """
    parts = iter(parts)
    first = next(parts)
    with whole_file(folder / SEEN) as file:
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in itertools.chain([first], parts):
            file.write(part.tobytes())


def read_seen(folder: Path) -> np.ndarray | None:
    """Return the fingerprints in a folder, mapped into memory; None if there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / SEEN
    if not path.exists():
        return None
    try:
        fingerprints = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if str(fingerprints.dtype) != _SEEN_DTYPE or fingerprints.ndim != 1:
        raise UserError(f"{path}: no fingerprints of texts, expected those that a run writes")
    return fingerprints


def predictions_checksum(folder: Path) -> str:
    """Return the SHA-256 of `predictions.npz`; empty if there is no such file."""
    path = folder / PREDICTIONS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def has_changed_predictions(folder: Path) -> bool:
    """Return whether `predictions.npz` was changed after the run wrote it; False if the run recorded no checksum."""
    recorded = read_record(folder).get("predictions_sha256")
    return recorded is not None and recorded != predictions_checksum(folder)


def is_finished(folder: Path) -> bool:
    """Return whether the run is complete; its record is written last."""
    return read_record(folder).get("status") == "done"


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run, finished or unfinished. A `config.json` alone may be of another program."""
    if not (folder / CONFIG).exists():
        return False
    try:
        return {"hash", "settings"} <= read_json(folder / CONFIG).keys()
    except UserError:  # damaged
        return (folder / CHECKPOINTS).is_dir() or (folder / METRICS).exists()


def has_diverged(folder: Path) -> bool:
    """Return whether the run ended because its loss was not finite; it would do so again."""
    return read_record(folder).get("status") == "diverged"


def has_ended(folder: Path) -> bool:
    """Return whether the run is finished or diverged, so that there is nothing left to train."""
    return read_record(folder).get("status") in ("done", "diverged")


def folder_name(variant: str) -> str:
    """Return a name that is safe on every file system and for rsync: `luong:general` -> `luong-general`."""
    return re.sub(r"[^\w.=+-]", "-", variant.replace("[", "--").replace(",", "--").replace("]", ""), flags=re.ASCII)


def run_name(fold: int, repeat: int, folds: int) -> str:
    """Return the name of a run's folder inside its variant's folder."""
    return f"fold{fold}-repeat{repeat}" if folds else f"repeat{repeat}"
