"""Reading and writing run folders: the one place that knows their files. All but `metrics.jsonl`,
which grows by whole lines, are there whole or not at all.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.whole import make_folder, whole_file

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
PREDICTIONS = "predictions.npz"
RECORD = "record.json"
ENCODER = "encoder"  # of a pre-trained one, as HuggingFace's libraries lay it out
STREAM = "stream"  # the tokens that it is trained on, while it is
PLAN = "plan.json"  # of a comparison: its variants and runs
LOCK = "lock"  # there while a process writes, and where one was killed
_OF_COMPARISON = (
    *(PLAN, "results.csv", "comparison.json", "report.md", "report.html", "report.tex"),
    *(f"plots/{name}.png" for name in ("accuracy", "curves", "cost", "calibration", "confusion", "settings")),
)
# What a plan must have to be read, with the types of the values.
_PLAN_NEEDS = {
    "corpus": {"name": str, "checksum": str, "texts": int},
    "classes": list,
    "folds": int,
    "repeats": int,
    "command": str,
    "variants": dict,
    "python": str,
    "versions": dict,
    "devices": list,
    "commit": str,
}
_VARIANT_NEEDS = {
    "folder": str,
    "settings": {"model": {"module": str}, "optimizer": {"name": str}, "training": {"epochs": int, "select": str}},
}


class Predictions(NamedTuple):
    """What a run says about the texts that were held out from it."""

    id: np.ndarray  # str [N], content hash and occurrence
    label: np.ndarray  # int32 [N]
    probabilities: np.ndarray  # float32 [N, C]
    group: np.ndarray | None = None  # int32 [N], equal for texts that are no independent evidence; None where unknown


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    with whole_file(path, text=True) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, keys as given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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


def read_plan(folder: Path) -> dict[str, Any]:
    """`plan.json` of a comparison, checked: whoever reads it finds what is needed, and no folder outside of this one.

    Raises:
      UserError: the folder holds no comparison, or its plan is damaged, or of a version that this one cannot read.
    """
    path = folder / PLAN
    if not path.exists():
        raise UserError(f"{folder}: no {PLAN}, expected a folder that `compare` wrote")
    plan = read_json(path)
    if problem := _problem_of_plan(plan):
        raise UserError(
            f"{path}: {problem}; the file is damaged, or a newer version wrote it: name another --workdir, or mend it"
        )
    return plan


def _problem_of_plan(plan: Any) -> str:
    """What is wrong with a plan, in words; empty where nothing is."""
    if problem := _problem(plan, _PLAN_NEEDS):
        return problem
    if plan["folds"] < 0 or plan["repeats"] < 1 or not plan["variants"]:
        return f"folds={plan['folds']}, repeats={plan['repeats']} and {len(plan['variants'])} variants"
    for name, entry in plan["variants"].items():
        if problem := _problem(entry, _VARIANT_NEEDS):
            return f"of the variant {name!r} {problem}"
        if entry["folder"] != folder_name(entry["folder"]) or entry["folder"] in ("", ".", ".."):
            return f"the folder of the variant {name!r} is {entry['folder']!r}, expected one of this comparison's own"
    return ""


def _problem(value: Any, needs: dict[str, Any]) -> str:
    """The first thing that is not there or of another type, in words; empty where all is well."""
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__} where an object is expected"
    for name, kind in needs.items():
        if name not in value:
            return f"no {name!r}"
        if isinstance(kind, dict):
            if problem := _problem(value[name], kind):
                return f"in {name!r} {problem}"
        elif not isinstance(value[name], kind) or isinstance(value[name], bool):
            return f"{name!r} is {value[name]!r:.40}, expected a value of type {kind.__name__}"
    return ""


def write_metrics(folder: Path, records: Iterable[dict[str, Any]], *, append: bool) -> None:
    """Writes records of evaluations, one JSON object a line."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if append:
        with (folder / METRICS).open("a", encoding="utf-8", newline="\n") as file:
            file.write(lines)
    else:
        write_text(folder / METRICS, lines)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records in `metrics.jsonl`; none where there is no such file, a torn last line left out.

    Raises:
      UserError: it is damaged.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    try:
        complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in complete.split("\n") if line]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


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
            return Predictions(arrays["id"], arrays["label"], arrays["probabilities"], arrays.get("group"))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def require_free(folder: Path) -> None:
    """Makes sure that a folder may be written to: there is none, or it holds half-written files of ours and no others.

    Raises:
      UserError: it holds something else.
    """
    if (folder / PLAN).exists():
        raise UserError(f"{folder} holds a comparison, expected no folder there, or an empty one, for a run")
    if folder.is_file():
        raise UserError(f"{folder} is a file, expected a folder for --workdir")
    if folder.exists() and (not folder.is_dir() or not all(map(_is_ours, folder.iterdir()))):
        raise UserError(f"{folder} holds neither a run nor a comparison, and is not empty; name another --workdir")


def _is_ours(path: Path) -> bool:
    return path.suffix == ".tmp" or path.name == LOCK


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into a folder; the system lets go of it when this one ends, however it does.

    Raises:
      UserError: another process writes into it, or it cannot be written to.
    """
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            try:
                file = stack.enter_context(path.open("a+", encoding="utf-8"))
            except OSError as error:
                raise UserError(f"{folder}: cannot be written to ({error.strerror})") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"{folder} is being written by {file.read() or 'another process'}; wait for it"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break  # else whoever had it has removed it meanwhile
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def owned(folder: Path, description: str) -> Iterator[None]:
    """A folder that is made, or holds a file of this name or nothing but half-written files, kept from other processes.

    Raises:
      UserError: it holds something else, or as `locked` and `make_folder`.
    """
    was_there = folder.exists()
    if not (folder / description).exists():
        require_free(folder)
    make_folder(folder)
    try:
        with locked(folder):
            yield
    finally:
        if not was_there:
            _remove_if_empty(folder)


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


def short_names(folders: Sequence[str]) -> list[str]:
    """The shortest ends of paths that tell runs apart, with the variant's name where they are of a comparison.

    Raises:
      UserError: a folder is named twice.
    """
    parts = [Path(folder).resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(path[-count:]) for path in parts]
        if len(set(found)) == len(found) and not any(re.match(r"(fold\d+-)?repeat\d+(/|$)", name) for name in found):
            return found
    raise UserError(f"--workdir={','.join(folders)} names a folder twice, expected different ones")


def clear(folder: Path) -> None:
    """Removes a run or a comparison, and nothing else that may lie in the folder.

    Raises:
      UserError: the folder is not empty and holds neither, or another process writes into it.
    """
    if not (folder / PLAN).exists() and not is_run(folder):
        require_free(folder)
        return
    with locked(folder):
        if (folder / PLAN).exists():
            _clear_comparison(folder)
        else:
            _clear_run(folder)
    _remove_if_empty(folder)


def _clear_comparison(folder: Path) -> None:
    variants = [folder / entry["folder"] for entry in read_plan(folder)["variants"].values()]
    every_run = [run for variant in variants for run in variant.glob("*repeat*/")]
    for path in (*variants, *every_run):
        if path.is_symlink():
            raise UserError(f"{path} is a link, and what it leads to is not deleted: remove the link")
    for run in every_run:
        with locked(run):
            _clear_run(run)
        _remove_if_empty(run)
    for variant in variants:
        _remove_if_empty(variant)
    for name in _OF_COMPARISON:
        (folder / name).unlink(missing_ok=True)
    _remove_if_empty(folder / "plots")
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _clear_run(folder: Path) -> None:
    files = (folder / name for name in (RECORD, PREDICTIONS, METRICS, TOKENIZER, CONFIG))
    for path in (*files, *folder.glob("*.tmp")):
        path.unlink(missing_ok=True)
    for name in (CHECKPOINTS, ENCODER, STREAM):
        shutil.rmtree(folder / name, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
