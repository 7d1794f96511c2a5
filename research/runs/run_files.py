"""Reading and writing run folders: the one place that knows their files. All but `metrics.jsonl`,
which grows by whole lines, are there whole or not at all.
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
SEEN = "seen_texts.npy"  # fingerprints of the texts that a run, and those that it started from, have seen
ENCODER = "encoder"  # of a pre-trained one, as HuggingFace's libraries lay it out
STREAM = "stream"  # the tokens that it is trained on, while it is
PLAN = "plan.json"  # of a comparison: its variants and runs
_SEEN_DTYPE = "[('words', '<u8'), ('sketch', '<u2', (12,)), ('trained', '?')]"  # `data.seen.SEEN`
LOCK = "lock"  # there while a process writes, and where one was killed


class Predictions(NamedTuple):
    """What a run says about the texts that were held out from it."""

    id: np.ndarray  # str [N], content hash and occurrence
    label: np.ndarray  # int32 [N]
    probabilities: np.ndarray  # float32 [N, C]
    group: np.ndarray | None = None  # int32 [N], equal for texts that are no independent evidence; None where unknown


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
      UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        a_run = min((*path.parent.glob(f"*/{CONFIG}"), *path.parent.glob(f"*/*/{CONFIG}")), default=path).parent
        if path.name == CONFIG and (a_run != path.parent or (path.parent / PLAN).exists()):
            raise UserError(f"{path.parent} is a comparison, expected a run of it, such as {a_run}") from None
        raise UserError(f"{path}: no such file, expected a run folder that `train` or `compare` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def read_record(folder: Path) -> dict[str, Any]:
    """`record.json`, which is written last; empty where there is none.

    Raises:
      UserError: it is not JSON, or no object.
    """
    path = folder / RECORD
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise UserError(f"{path}: a JSON {type(record).__name__}, expected an object")
    return record


def write_metrics(folder: Path, records: Iterable[dict[str, Any]], *, append: bool) -> None:
    """Writes records of evaluations, one JSON object a line."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if append:
        with (folder / METRICS).open("a", encoding="utf-8", newline="\n") as file:
            file.write(lines)
    else:
        write_text(folder / METRICS, lines)


def sync_metrics(folder: Path) -> None:
    """Waits until `metrics.jsonl` is on the disk, if there is one."""
    if (folder / METRICS).exists():
        sync_file(folder / METRICS)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records in `metrics.jsonl`, each with `step`, `epoch` and `split`; none where there is no such file.

    A torn last line is left out.

    Raises:
      UserError: it is damaged.
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
        values = dict.fromkeys({"loss", "accuracy"} & set(record), (int, float)) if isinstance(record, dict) else {}
        if problem := missing_in(record, {"step": int, "epoch": int, "split": str} | values):
            raise UserError(f"{path}:{number}: {problem}; the file is damaged")
    return records


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes plain arrays; nothing in the file needs unpickling."""
    with whole_file(folder / PREDICTIONS) as file:
        np.savez_compressed(file, **{name: array for name, array in predictions._asdict().items() if array is not None})


def read_predictions(folder: Path) -> Predictions:
    """Reads `predictions.npz`.

    Raises:
      UserError: it is missing or damaged.
    """
    path = folder / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Predictions(arrays["id"], arrays["label"], arrays["probabilities"], arrays.get("group"))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not _fit(found):
        raise UserError(f"{path}: its arrays do not fit each other, expected those that a run writes")
    return found


def _fit(predictions: Predictions) -> bool:
    """Whether arrays are what `Predictions` says of each other."""
    texts, label, probabilities, group = predictions
    kinds = (texts.dtype.kind, label.dtype.kind, probabilities.dtype.kind)
    if kinds != ("U", "i", "f") or (texts.ndim, label.ndim, probabilities.ndim) != (1, 1, 2):
        return False
    if not len(texts) == len(label) == len(probabilities) == len(texts if group is None else group):
        return False
    is_class = np.all((label >= 0) & (label < probabilities.shape[1]))
    return bool(is_class and np.isfinite(probabilities).all())


def write_seen(folder: Path, parts: Iterable[np.ndarray], count: int) -> None:
    """Writes fingerprints (`data.seen.SEEN`), `count` in all, which need not fit into memory."""
    path = folder / SEEN
    parts = iter(parts)
    first = next(parts)
    with whole_file(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in itertools.chain([first], parts):
            file.write(part.tobytes())


def read_seen(folder: Path) -> np.ndarray | None:
    """The fingerprints in a folder, mapped into memory; None where an earlier version, or somebody else, made it.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / SEEN
    if not path.exists():
        return None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if str(found.dtype) != _SEEN_DTYPE or found.ndim != 1:
        raise UserError(f"{path}: no fingerprints of texts, expected those that a run writes")
    return found


def predictions_checksum(folder: Path) -> str:
    """SHA-256 of `predictions.npz`; empty where there is none."""
    path = folder / PREDICTIONS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def has_changed_predictions(folder: Path) -> bool:
    """Whether `predictions.npz` is not what a finished run has written; of an earlier version's run nobody knows."""
    written = read_record(folder).get("predictions_sha256")
    return written is not None and written != predictions_checksum(folder)


def is_finished(folder: Path) -> bool:
    """Whether the run ended well: its record is written last."""
    return read_record(folder).get("status") == "done"


def is_run(folder: Path) -> bool:
    """Whether it holds a run, finished or not; other programs write a `config.json` too."""
    if not (folder / CONFIG).exists():
        return False
    try:
        return {"hash", "settings"} <= read_json(folder / CONFIG).keys()
    except UserError:  # damaged
        return (folder / CHECKPOINTS).is_dir() or (folder / METRICS).exists()


def has_diverged(folder: Path) -> bool:
    """Whether the run ended because its loss was not finite any more; it would do so again."""
    return read_record(folder).get("status") == "diverged"


def has_ended(folder: Path) -> bool:
    """Whether nothing is left of the run to be trained."""
    return read_record(folder).get("status") in ("done", "diverged")


def folder_name(variant: str) -> str:
    """A name that is safe on every file system and for rsync: `luong:general` -> `luong-general`."""
    return re.sub(r"[^\w.=+-]", "-", variant.replace("[", "--").replace(",", "--").replace("]", ""), flags=re.ASCII)


def run_name(fold: int, repeat: int, folds: int) -> str:
    """The folder of a run below its variant's."""
    return f"fold{fold}-repeat{repeat}" if folds else f"repeat{repeat}"
