"""Folders and archives: a file per split, a subfolder or a file per class, or what HuggingFace `datasets` has saved."""

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from research.data.formats.text_lines import is_hidden, read_lines
from research.errors import UserError

_SPLITS = {  # split -> names of its files and folders
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".json", ".ndjson", ".tab", ".parquet", ".arrow", ".feather", ".label")
_UNLABELLED = ("unsup", "unlabeled", "unlabelled")  # subfolders with texts of no class
_ABOUT = re.compile(r"readme|licen[cs]e|copying", re.IGNORECASE)  # files about a corpus
_MOST_CLASS_FILES = 20  # a folder with more files holds documents rather than classes
_SHARD = re.compile(r"-\d+-of-\d+$")


class SplitFiles(NamedTuple):
    """The files that hold a split: tables, a folder or file for each class, or a file of texts and one of labels."""

    files: Sequence[Path] = ()  # several only if they are parts of one, such as train-00000-of-00002.parquet
    classes: Path | None = None  # a folder with a subfolder per class
    labels: Path | None = None  # the labels of the only file, one a line
    class_files: Mapping[str, Path] = MappingProxyType({})  # class -> a file of its texts


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip of several files that are not an Office document."""
    if not zipfile.is_zipfile(path):
        return False
    names = [name for name in zipfile.ZipFile(path).namelist() if not is_hidden(name) and not name.endswith("/")]
    return len(names) > 1 and not {"[Content_Types].xml", "mimetype"} & set(names)


def find_splits(folder: Path) -> dict[str, SplitFiles]:
    """Return where the rows of each split of a folder are; "all" if it has no splits.

    Raises:
      UserError: a split has two files, or there is nothing to train on.
    """
    saved = _saved_dataset(folder)
    if saved:
        return saved
    if splits := _named_splits(folder, _is_name_of):
        return splits
    if class_folders(folder):
        return {"all": SplitFiles(classes=folder)}
    if splits := _named_splits(folder, _has_word_of):
        return splits
    folders = [entry for entry in _entries(folder) if entry.is_dir()]
    inner = [entry for entry in folders if class_folders(entry) or _find_split(entry, "train", _is_name_of)]
    if len(inner) == 1:  # such as `data/` of a repository of HuggingFace, or the only folder of a zip
        return find_splits(inner[0])
    if files := _class_files(folder):
        return {"all": SplitFiles(class_files=files)}
    names = ", ".join(sorted(entry.name for entry in _entries(folder))[:5]) or "nothing"
    raise UserError(
        f"{folder}: no training file in the folder, expected a file train{' or train'.join(_SUFFIXES[:6])}, or a "
        f"subfolder or text file for each class. There is {names}. Name one file with --corpus"
    )


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    return [entry for entry in entries if not is_hidden(entry.name)]


def _named_splits(folder: Path, is_of: Callable[[str, str], bool]) -> dict[str, SplitFiles]:
    """Return the splits whose files or folders have such names; empty without a training split."""
    splits = {split: _find_split(folder, split, is_of) for split in _SPLITS}
    return {split: files for split, files in splits.items() if files is not None} if splits["train"] else {}


def _is_name_of(name: str, split: str) -> bool:
    return _SHARD.sub("", name.partition(".")[0]).removesuffix("_text") in _SPLITS[split]


def _has_word_of(name: str, split: str) -> bool:
    """Return whether one word of a name says the split, and none another: `IMDB_train.csv`, `20news-bydate-test`."""
    words = set(re.split(r"[\W_]+", name))
    return [known for known, names in _SPLITS.items() if words.intersection(names)] == [split]


def _find_split(folder: Path, split: str, is_of: Callable[[str, str], bool]) -> SplitFiles | None:
    files: list[Path] = []
    labels = None
    for entry in _entries(folder):
        name = entry.name.lower()
        stem, _, rest = name.partition(".")
        if entry.is_dir():
            if is_of(name, split) and (_saved_dataset(entry) or class_folders(entry)):
                saved = _saved_dataset(entry)
                return saved["all"] if saved else SplitFiles(classes=entry)
        elif any(stem == f"{known}_labels" for known in _SPLITS[split]):
            labels = entry
        elif is_of(name, split) and any(f".{part}" in _SUFFIXES for part in rest.split(".")):
            files.append(entry)
    if len({_SHARD.sub("", file.name.partition(".")[0]) + file.suffix for file in files}) > 1 or (
        len(files) > 1 and not all(_SHARD.search(file.name.partition(".")[0]) for file in files)
    ):
        raise UserError(f"{folder}: both {files[1].name} and {files[0].name}, expected one file for {split}")
    if labels is not None and len(files) != 1:
        raise UserError(f"{folder}: {labels.name} without {labels.name.replace('labels', 'text')}, expected both")
    return SplitFiles(files, labels=labels) if files else None


def _saved_dataset(folder: Path) -> dict[str, SplitFiles]:
    """Return the files of a dataset that `datasets.save_to_disk` has written; empty if it is none."""
    state, splits = folder / "state.json", folder / "dataset_dict.json"
    if state.is_file():
        names = [entry["filename"] for entry in json.loads(state.read_text("utf-8"))["_data_files"]]
        return {"all": SplitFiles([folder / name for name in names])}
    if not splits.is_file():
        return {}
    names = json.loads(splits.read_text("utf-8"))["splits"]
    known = {split: name for name in names for split, others in _SPLITS.items() if name.lower() in others}
    if "train" not in known:
        raise UserError(f"{folder}: the splits are {', '.join(names)}, expected train among them")
    return {split: _saved_dataset(folder / name)["all"] for split, name in known.items()}


def class_folders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder that hold the texts of a class each; empty if there are none."""
    folders = [entry for entry in _entries(folder) if entry.is_dir() and entry.name.lower() not in _UNLABELLED]
    is_split = any(entry.name.lower() in names for entry in folders for names in _SPLITS.values())
    if len(folders) < 2 or is_split or any(not _holds_texts(entry) for entry in folders):
        return []
    return folders


def _holds_texts(folder: Path) -> bool:
    """Return whether a folder holds files, and all of them may be texts."""
    files = [entry for entry in _entries(folder) if entry.is_file()]
    return bool(files) and all(Path(file.name).suffix.lower() not in _SUFFIXES[2:10] for file in files)


def _class_files(folder: Path) -> dict[str, Path]:
    """Return the files that hold the texts of a class each, such as `pos.txt` or `rt-polarity.pos`, by class.

    Empty if there are none.
    """
    files = [entry for entry in _entries(folder) if entry.is_file() and not _ABOUT.match(entry.name)]
    names = [Path(file.name) for file in files]
    is_text = all(name.suffix.lower() not in _SUFFIXES or name.suffix.lower() == ".txt" for name in names)
    if not is_text or not 2 <= len(files) <= _MOST_CLASS_FILES:
        return {}
    for of_file in (lambda name: name.stem, lambda name: name.suffix[1:]):
        classes = dict(zip(map(of_file, names), files, strict=True))
        if len(classes) == len(files) and all(classes):
            return classes
    return {}


def unlabelled_folder(folder: Path) -> Path | None:
    """Return the subfolder whose texts have no class, as aclImdb has one."""
    return next((entry for entry in _entries(folder) if entry.name.lower() in _UNLABELLED), None)


def texts_of_classes(folder: Path, encoding: str) -> list[tuple[str, str, str]]:
    """Return the text, class and place of each file in the class folders; a file is one text.

    Raises:
      UserError: a file cannot be read.
    """
    rows = []
    for of_class in class_folders(folder):
        for file in _entries(of_class):
            if file.is_file():
                rows.append(("".join(read_lines(file, encoding)).rstrip("\r\n"), of_class.name, str(file)))
    return rows
