"""Read the user's files: TSV without a header, CSV and JSONL by column name.

Every format has one function `(path, content, columns) -> rows` in `_READERS`. Every error message starts with
`FILE:LINE:` and says what is wrong and how to fix it.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from research.errors import UserError

_MAX_SHOWN = 40  # characters of a label or of a column name in a message
_MAX_LABEL = 1_000  # characters
_MAX_TEXT = 10_000_000  # characters, about three long novels; the tokenizer needs 200 bytes for each
_FILE_NAMES = {  # split -> names of its file in a folder
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


class Columns(NamedTuple):
    """Column names of CSV and JSONL files. A split never separates texts of one (optional) `group`."""

    text: str = "text"
    label: str = "label"
    group: str = ""


class Row(NamedTuple):
    """One labelled text and its place, `FILE:LINE`."""

    text: str
    label: str
    group: str
    place: str


def read_path(path: Path, columns: Columns) -> dict[str, list[Row]]:
    """Read one file, or a folder with train, validation and test files.

    Returns:
      split -> rows; the only split of a single file is "all".

    Raises:
      UserError: the path does not exist, a file type is unknown, a split has two files, there is no training file, or
        a row is malformed.
    """
    if path.is_file():
        return {"all": read_rows(path, columns)}
    if not path.is_dir():
        raise UserError(f"{path}: neither a file nor a folder")
    files = {split: _find_file(path, split, names) for split, names in _FILE_NAMES.items()}
    if files["train"] is None:
        raise UserError(f"{path}: no training file in the folder, expected train{' or train'.join(_READERS)}")
    return {split: read_rows(file, columns) for split, file in files.items() if file is not None}


def _find_file(folder: Path, split: str, names: tuple[str, ...]) -> Path | None:
    paths = [folder / (name + suffix) for name in names for suffix in _READERS]
    files = [path for path in paths if path.is_file()]
    if len(files) > 1:
        raise UserError(f"{folder}: both {files[0].name} and {files[1].name}, expected one file for {split}")
    return files[0] if files else None


def read_rows(path: Path, columns: Columns = Columns()) -> list[Row]:
    """Return the rows of one file, in the order of the file.

    Raises:
      UserError: the suffix is unknown, the file is not UTF-8, a row is malformed, or there are no rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown file type. Save it as one of {', '.join(_READERS)}")
    rows = list(reader(path, read_text(path), columns))
    if not rows:
        raise UserError(f"{path}: no rows, expected at least one labelled text")
    for row in rows:
        if len(row.text) > _MAX_TEXT:
            size = f"a text of {len(row.text):,} characters"
            raise UserError(f"{row.place}: {size}, expected at most {_MAX_TEXT:,}: split or cut it")
    return rows


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, without a byte-order mark.

    Raises:
      UserError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1  # `error.object` excludes the byte-order mark
        byte = f"{error.object[error.start]:#04x}"
        raise UserError(f"{path}:{line}: byte {byte} is not UTF-8. Save the file as UTF-8") from None


class Lines:
    """Iterate over the lines of a binary source, line breaks included; `read` counts the bytes so far.

    Iteration raises:
      UserError: a line has more than `most` bytes, or is not UTF-8.
    """

    def __init__(self, source: BinaryIO, name: str, most: int):
        self._source, self._name, self._most = source, name, most
        self._number = self.read = 0

    @property
    def place(self) -> str:
        """Return `NAME:LINE` of the last line that was read."""
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
    """Parse a line of JSONL.

    Raises:
      UserError: the line is not a JSON object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error}), expected one object a line") from None
    if not isinstance(record, dict):
        raise UserError(f"{place}: a JSON {type(record).__name__}, expected an object")
    return record


def _lines(content: str) -> Iterator[tuple[int, str]]:
    # `splitlines` would also split at U+2028, form feeds and similar characters inside a text.
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _read_tsv(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    if columns.group:
        raise UserError(f"{path}: a TSV file has no column names. Use a CSV or JSONL file with --group_column")
    for number, line in _lines(content):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != 2:
            tabs = "no tab" if len(cells) == 1 else f"{len(cells) - 1} tabs"
            raise UserError(f"{path}:{number}: {tabs}, expected one between text and label: TEXT<TAB>LABEL")
        yield Row(cells[0], label_text(cells[1], f"{path}:{number}"), "", f"{path}:{number}")


def _read_csv(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # the module's limit is 128 KiB a cell
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return  # an empty file
        if len(header) == 1 and re.search(r"[;\t]", header[0]):
            raise UserError(f"{path}:1: no comma between the column names. Save the file with commas as separators")
        _check_columns(header, columns, f"{path}:1")
        require_once(header, [name for name in columns if name], f"{path}:1")
        # A quoted cell may span lines; messages name the line where a row starts.
        start = reader.line_num + 1
        for row in reader:
            place, start = f"{path}:{start}", reader.line_num + 1
            if not row:
                continue
            cells = dict(zip(header, row))  # noqa: B905 - the lengths may differ
            if len(row) > len(header):
                raise UserError(f"{place}: more cells than the header has, expected {len(header)}")
            if columns.text not in cells or columns.label not in cells:
                raise UserError(f"{place}: fewer cells than the header has, expected {len(header)}")
            group = cells.get(columns.group, "") if columns.group else ""
            yield Row(cells[columns.text], label_text(cells[columns.label], place), group, place)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}, expected comma-separated values") from error


def _read_jsonl(path: Path, content: str, columns: Columns) -> Iterator[Row]:
    for number, line in _lines(content):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        record = json_object(line, place)
        _check_columns(record, columns, place)
        text = record[columns.text]
        if not isinstance(text, str):
            raise UserError(f"{place}: {columns.text!r} is a {type(text).__name__}, expected a string")
        group = record[columns.group] if columns.group else None
        yield Row(text, label_text(record[columns.label], place), "" if group is None else str(group), place)


_READERS = {".tsv": _read_tsv, ".txt": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}


def _check_columns(names: Iterable[str], columns: Columns, place: str) -> None:
    """Raise UserError if a column that should be read is missing."""
    missing = {field: name for field, name in columns._asdict().items() if name and name not in names}
    if missing:
        absent = " and no column ".join(map(repr, missing.values()))
        present = ", ".join(" ".join(name.split())[:_MAX_SHOWN] for name in names)
        flags = " ".join(f"--{field}_column=NAME" for field in missing)
        raise UserError(f"{place}: no column {absent}. Columns: {present or 'none'}. Use {flags}")


def require_once(header: Sequence[str], names: Sequence[str], place: str) -> None:
    """Raise UserError if a column that should be read occurs twice."""
    if repeated := [name for name in names if header.count(name) > 1]:
        raise UserError(f"{place}: two columns are named {repeated[0]!r}, expected different names")


def label_text(value: Any, place: str) -> str:
    """Return a label, which must be one integer or one name, as a string."""
    if isinstance(value, (list, tuple)):
        raise UserError(f"{place}: more than one label, expected exactly one for each text")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{place}: the label is {json.dumps(value)}, expected an integer or a name")
    label = str(value).strip()
    if not label:
        raise UserError(f"{place}: no label, expected an integer or a name")
    if len(label) > _MAX_LABEL:
        shown = f"{label[:_MAX_SHOWN]}..."
        raise UserError(f"{place}: a label of {len(label):,} characters ({shown}), expected at most {_MAX_LABEL:,}")
    if label.encode("utf-8", "replace").decode() != label:
        raise UserError(f"{place}: the label is {label!r}, expected valid Unicode")
    return label
