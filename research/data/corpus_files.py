"""Read what a user names as a corpus: one file, a folder or an archive with a file per split, or class folders."""

import contextlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from research.data.cells import label_text
from research.data.formats.columns import NoColumn
from research.data.formats.folders import find_splits, is_archive, texts_of_classes, unlabelled_folder
from research.data.formats.text_lines import read_lines
from research.data.read_options import ReadOptions
from research.data.reader import Reading, Row, find_reading, rows_of
from research.errors import UserError

_PLACEHOLDERS = {"-1", "?"}  # labels of published test files whose labels are kept secret


class CorpusRows(NamedTuple):
    """The rows of a corpus, and what its user should know about how they were read."""

    of_split: dict[str, list[Row]]  # "train", "validation" and "test", or "all"
    notes: list[str]
    unlabelled: tuple["UnlabelledFile", ...] = ()  # the test files without labels


class UnlabelledFile(NamedTuple):
    """A test file that came without labels, and how its texts are read."""

    path: Path
    options: ReadOptions


def read_corpus(path: Path, options: ReadOptions = ReadOptions()) -> CorpusRows:
    """Read one file, or a folder with train, validation and test files, or with a subfolder or file per class.

    A validation or test file without labels is left out.

    Raises:
      UserError: the path does not exist, there is nothing to train on, a split has two files, or a row is malformed.
    """
    if path.is_file() and is_archive(path):
        path = zipfile.Path(path)
    elif path.is_file():
        rows, notes = rows_of(find_reading(path, options))
        return CorpusRows({"all": rows}, notes)
    elif not path.is_dir():
        raise UserError(f"{path}: neither a file nor a folder")
    of_split: dict[str, list[Row]] = {}
    notes: list[str] = []
    unlabelled: list[UnlabelledFile] = []
    trained: Reading | None = None
    for split, files in find_splits(path).items():
        if files.classes is not None:
            rows, more = _class_rows(files.classes, options)
        elif files.class_files:
            rows, more = _rows_of_class_files(files.class_files, options)
        elif files.labels is not None:
            rows, more = _paired_rows(files.files[0], files.labels, options)
        else:
            readings = [reading for reading in (_reading_of(f, options, trained) for f in files.files) if reading]
            trained = trained or readings[0]
            rows, more = _rows_of_files(readings)
            is_guess = not all(reading.choice.by_name for reading in readings)
            if not rows or _are_no_labels(rows, of_split, is_guess):
                note = f"{files.files[0]}: no labels, so there is no {split} split; the other files are trained on"
                rows, more = [], [note]
                if split == "test" and isinstance(path, Path):  # `predict` reads no files within an archive
                    unlabelled += [_unlabelled_file(file, options, trained) for file in files.files]
        notes += more
        if rows:
            of_split[split] = rows
    return CorpusRows(of_split, notes, tuple(unlabelled))


def _reading_of(file: Path, options: ReadOptions, trained: Reading | None) -> Reading | None:
    """Return how a file of a folder is read; None if it has texts and no labels.

    Args:
      file: the file.
      options: the flags.
      trained: how the training file is read: a column that holds labels there holds them here.
    """
    if trained is None:
        return find_reading(file, options)
    with contextlib.suppress(NoColumn):
        same = trained.resolved._replace(header=options.header, separator=options.separator)
        reading = find_reading(file, same)
        if reading.table.has_names == trained.table.has_names:  # numbers of columns say nothing about named ones
            return reading
    try:
        reading = find_reading(file, options)
    except NoColumn as error:
        if error.kinds == {"label"}:
            return None
        raise
    return reading if reading.choice.by_name or not trained.table.has_names else None


def _rows_of_files(readings: list[Reading]) -> tuple[list[Row], list[str]]:
    """Return the rows of files that are parts of one, and what to know about the first."""
    read = [rows_of(reading) for reading in readings]
    return [row for part in read for row in part.rows], [note for part in read[:1] for note in part.notes]


def _are_no_labels(rows: list[Row], of_split: dict[str, list[Row]], is_guess: bool) -> bool:
    """Return whether what was read as labels is none: no class of the training texts, but -1 in each row or a guess."""
    labels = {row.label for row in rows}
    is_known = not labels.isdisjoint({row.label for row in of_split.get("train", [])})
    return not is_known and "train" in of_split and (is_guess or labels <= _PLACEHOLDERS)


def _unlabelled_file(file: Path, options: ReadOptions, trained: Reading) -> UnlabelledFile:
    """Return a file of texts without labels; its texts are in the column of the training texts, if it has that."""
    options = options._replace(label="", group="", drop_missing=False)
    if trained.table.has_names:
        same = options._replace(text=trained.resolved.text)
        with contextlib.suppress(UserError):
            find_reading(file, same, labelled=False)
            return UnlabelledFile(file, same)
    return UnlabelledFile(file, options)


def _class_rows(folder: Path, options: ReadOptions) -> tuple[list[Row], list[str]]:
    rows = [
        Row(text, label_text(label, place), "", place)
        for text, label, place in texts_of_classes(folder, options.encoding)
    ]
    notes = []
    if unlabelled := unlabelled_folder(folder):
        notes.append(f"{unlabelled}: texts without a class, which are left out; pretrain can read them")
    return rows, notes


def _rows_of_class_files(files: Mapping[str, Path], options: ReadOptions) -> tuple[list[Row], list[str]]:
    rows = []
    for label, file in files.items():
        reading = find_reading(file, options, labelled=False)
        for record in reading.records():
            text = reading.text_of(record)
            if text and text.strip():
                rows.append(Row(text, label_text(label, record[0]), "", record[0]))
    names = ", ".join(file.name for file in files.values())
    return rows, [f"{next(iter(files.values())).parent}: read as a class a file ({names}), with one text a line"]


def _paired_rows(texts: Path, labels: Path, options: ReadOptions) -> tuple[list[Row], list[str]]:
    """Return the rows of a file of texts and a file of their labels, line by line."""
    lines, values = ([line.rstrip("\r\n") for line in read_lines(path, options.encoding)] for path in (texts, labels))
    if len(lines) != len(values):
        raise UserError(f"{labels}: {len(values):,} labels for {len(lines):,} texts in {texts.name}, expected as many")
    rows = []
    for number, (text, value) in enumerate(zip(lines, values, strict=True), start=1):
        label = label_text(value, f"{labels}:{number}")
        if not label:
            raise UserError(f"{labels}:{number}: no label, expected one for each line of {texts.name}")
        rows.append(Row(text, label, "", f"{texts}:{number}"))
    return rows, [f"{texts}: read as one text a line, with its label in {labels.name}"]
