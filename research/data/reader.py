"""Reading the user's files: TSV in the article's format, CSV and JSONL by column name.

Every mistake ends in `FILE:LINE: what is wrong, what was expected`.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from research.errors import UserError

SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl")
_SHOWN = 40  # characters of a column's name or a label in a message
_MOST_LABEL = 1_000  # characters
_MOST_CHARACTERS = 10_000_000  # of a text, three long novels; the tokenizer takes 200 bytes for each
_PURPOSES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


class Columns(NamedTuple):
    """Names of the columns of CSV and JSONL files. A `group` (optional) never straddles a split."""

    text: str = "text"
    label: str = "label"
    group: str = ""


class Row(NamedTuple):
    """One labelled text and where it stands, `FILE:LINE`."""

    text: str
    label: str
    group: str
    place: str


def read_path(path: Path, columns: Columns) -> dict[str, list[Row]]:
    """Reads one file (`{"all": rows}`) or a folder with train, validation and test files.

    Raises:
      UserError: no such path, an unknown kind of file, two files for one split, no training file, a malformed row.
    """
    if path.is_file():
        return {"all": read_rows(path, columns)}
    if not path.is_dir():
        raise UserError(f"{path}: neither a file nor a folder, expected one that is there")
    files = {split: _file_of(path, split, names) for split, names in _PURPOSES.items()}
    if files["train"] is None:
        raise UserError(f"{path}: no training file, expected train{'|'.join(SUFFIXES)} in the folder")
    return {split: read_rows(file, columns) for split, file in files.items() if file is not None}


def _file_of(folder: Path, split: str, names: tuple[str, ...]) -> Path | None:
    found = [folder / (name + suffix) for name in names for suffix in SUFFIXES if (folder / (name + suffix)).is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: both {found[0].name} and {found[1].name}, expected one file for {split}")
    return found[0] if found else None


def read_rows(path: Path, columns: Columns = Columns()) -> list[Row]:
    """The rows of one file, in its order.

    Raises:
      UserError: not a known suffix, not UTF-8, a malformed row, or no row at all.
    """
    readers = {".tsv": _read_tsv, ".txt": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of file, expected one of {', '.join(SUFFIXES)}")
    rows = list(reader(path, read_text(path), columns))
    if not rows:
        raise UserError(f"{path}: no rows, expected at least one labelled text")
    for row in rows:
        if len(row.text) > _MOST_CHARACTERS:
            long = f"a text of {len(row.text):,} characters"
            raise UserError(f"{row.place}: {long}, expected at most {_MOST_CHARACTERS:,}: split or cut it")
    return rows


def read_text(path: Path) -> str:
    """The file as text: UTF-8, a byte-order mark dropped.

    Raises:
      UserError: it cannot be read or is not UTF-8; names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1  # the object is what stands behind a byte-order mark
        byte = f"{error.object[error.start]:#04x}"
        raise UserError(f"{path}:{line}: byte {byte} is not UTF-8, expected a UTF-8 file") from None


class Lines:
    """The lines of a source with their ends, one after the other, and how far it has been read.

    Raises while it is read:
      UserError: a line of more than `most` bytes, or one that is not UTF-8.
    """

    def __init__(self, source: BinaryIO, name: str, most: int):
        self._source, self._name, self._most = source, name, most
        self._number = self.read = 0

    @property
    def place(self) -> str:
        """`NAME:LINE` of the last one."""
        return f"{self._name}:{self._number or 1}"

    def __iter__(self) -> Iterator[str]:
        while line := self._source.readline(self._most):
            self._number += 1
            self.read += len(line)
            if len(line) == self._most and not line.endswith(b"\n"):
                raise UserError(f"{self.place}: a line of more than {self._most:,} bytes, expected shorter ones")
            line = line.removeprefix(b"\xef\xbb\xbf") if self._number == 1 else line
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"{line[error.start]:#04x}"
                raise UserError(f"{self.place}: byte {byte} is not UTF-8, expected UTF-8 texts") from None


def json_object(line: str, place: str) -> dict[str, Any]:
    """The object that a line of JSONL holds.

    Raises:
      UserError: it is none.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}), expected one object a line") from None
    if not isinstance(record, dict):
        raise UserError(f"{place}: a JSON {type(record).__name__}, expected an object")
    return record


def _lines(content: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(): a text may hold U+2028, form feeds and the like.
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _read_tsv(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    if columns.group:
        raise UserError(f"{path}: a TSV file has no column names, expected a CSV or JSONL file with --group_column")
    for number, line in _lines(content):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != 2:
            raise UserError(f"{path}:{number}: {len(cells) - 1} tabs, expected one between text and label")
        yield Row(cells[0], _label(cells[1], f"{path}:{number}"), "", f"{path}:{number}")


def _read_csv(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # the module's limit is 128 KiB a cell
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(header) == 1 and re.search(r"[;\t]", header[0]):
            raise UserError(f"{path}:1: no comma between the names of columns, expected comma-separated values")
        _require(header, columns, f"{path}:1")
        require_once(header, [name for name in columns if name], f"{path}:1")
        # A quoted cell may span lines, so a row is named by the line on which it starts.
        start = reader.line_num + 1
        for row in reader:
            place, start = f"{path}:{start}", reader.line_num + 1
            if not row:
                continue
            cells = dict(zip(header, row))  # noqa: B905 - of unequal length
            if len(row) > len(header):
                raise UserError(f"{place}: more cells than the header has, expected {len(header)}")
            if columns.text not in cells or columns.label not in cells:
                raise UserError(f"{place}: fewer cells than the header has, expected {len(header)}")
            group = cells.get(columns.group, "") if columns.group else ""
            yield Row(cells[columns.text], _label(cells[columns.label], place), group, place)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}, expected comma-separated values") from error


def _read_jsonl(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    for number, line in _lines(content):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        record = json_object(line, place)
        _require(record, columns, place)
        text = record[columns.text]
        if not isinstance(text, str):
            raise UserError(f"{place}: {columns.text!r} is a {type(text).__name__}, expected a string")
        group = record[columns.group] if columns.group else None
        yield Row(text, _label(record[columns.label], place), "" if group is None else str(group), place)


def _require(names: Any, columns: Columns, place: str) -> None:
    for field, name in columns._asdict().items():
        if name and name not in names:
            there = ", ".join(str(other)[:_SHOWN] for other in names)
            raise UserError(f"{place}: no column {name!r} among {there}, expected it, or --{field}_column with another")


def require_once(header: Sequence[str], names: Sequence[str], place: str) -> None:
    """Raises UserError where a column that is read stands twice."""
    if twice := [name for name in names if header.count(name) > 1]:
        raise UserError(f"{place}: two columns are named {twice[0]!r}, expected different names")


def _label(value: Any, place: str) -> str:
    """A label as a string: an integer or a name, exactly one a text."""
    if isinstance(value, (list, tuple)):
        raise UserError(f"{place}: more than one label, expected exactly one label a text")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{place}: the label is {json.dumps(value)}, expected an integer or a name")
    label = str(value).strip()
    if not label:
        raise UserError(f"{place}: no label, expected an integer or a name")
    if len(label) > _MOST_LABEL:
        shown = f"{label[:_SHOWN]}..."
        raise UserError(f"{place}: a label of {len(label):,} characters ({shown}), expected at most {_MOST_LABEL:,}")
    if label.encode("utf-8", "replace").decode() != label:
        raise UserError(f"{place}: the label is {label!r}, expected valid Unicode")
    return label
