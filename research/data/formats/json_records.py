"""JSON: an object in each line, an array, or what pandas and HuggingFace write. Nested fields are called row.text."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.data.formats.columns import is_usual_name
from research.data.formats.table import OnProgress, Record, Table
from research.data.formats.text_lines import read_lines
from research.data.read_options import ReadOptions
from research.errors import UserError

_SAMPLE_RECORDS = 1_000
_DECODER = json.JSONDecoder()


def is_json(sample: str, suffix: str) -> bool:
    """Return whether a file holds JSON, given its first characters; a text may begin with a bracket too."""
    start = sample.lstrip("\ufeff \t\r\n")[:1]
    if suffix in (".json", ".jsonl", ".ndjson"):
        return True
    if start not in ("{", "["):
        return False
    first_line = next((line for line in sample.split("\n") if line.strip()), "")
    return _parses(first_line) or (bool(re.match(r'\s*(\[\s*(\{|"|\[)|\{\s*")', sample)) and not _parses_later(sample))


def _parses(line: str) -> bool:
    try:
        return isinstance(json.loads(line), (dict, list))
    except (ValueError, RecursionError):
        return False


def _parses_later(sample: str) -> bool:
    """Return whether the lines of a file are plain texts of which the first merely begins like JSON."""
    try:
        _DECODER.raw_decode(sample.strip())
    except json.JSONDecodeError as error:
        return error.pos < len(sample.strip()) - 200 and len(sample) < 1 << 19
    except RecursionError:
        return True
    return False


def json_table(path: Path, sample: str, options: ReadOptions) -> Table:
    """Return the table of a JSON file.

    Raises:
      UserError: it is not JSON, or holds no list of records.
    """
    first_line = next((line for line in sample.split("\n") if line.strip()), "")
    is_lines = _parses(first_line) and not (
        first_line.lstrip().startswith("[") and sample.strip() == first_line.strip()
    )
    if not is_lines and path.suffix.lower() in (".jsonl", ".ndjson") and not sample.lstrip().startswith("["):
        is_lines = True  # so that the message names the line
    is_lines = is_lines and not _is_one_document(sample, first_line)

    def records(on_progress: OnProgress) -> Iterator[tuple[str, Any]]:
        return _line_records(path, options, on_progress) if is_lines else _array_records(path, options)

    columns: dict[str, None] = {}
    for place, record in itertools.islice(records(lambda count: None), _SAMPLE_RECORDS):
        columns |= dict.fromkeys(_flat(record, place))
    names = tuple(columns)
    if not names:
        raise UserError(f"{path}: no rows, expected a list of objects with a text each")

    def rows(on_progress: OnProgress) -> Iterator[Record]:
        for place, record in records(on_progress):
            cells = _flat(record, place)
            yield place, [cells.get(name) for name in names]

    has_names = not all(name.isdigit() for name in names)
    return Table(names, rows, "JSON lines" if is_lines else "a JSON array", {}, has_names)


def _is_one_document(sample: str, first_line: str) -> bool:
    """Return whether the only line of a file is an object that holds the records."""
    if sample.strip() != first_line.strip():
        return False
    record = json.loads(first_line) if _parses(first_line) else None
    return isinstance(record, dict) and (_holds_lists(record) or _inner_records(record) is not None)


def _line_records(path: Path, options: ReadOptions, on_progress: OnProgress) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_lines(path, options.encoding, on_progress=on_progress), start=1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{place}: not JSON ({_what(error)}), expected one object a line") from None


def _array_records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Any]]:
    content = "".join(read_lines(path, options.encoding))
    start = re.match(r"\s*\[?", content).end()
    if not content.strip():
        return
    if content.strip().startswith("["):
        yield from _elements(path, content, start)
        return
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}{line}: not JSON ({_what(error)}), expected an array or one object a line") from None
    inner = _inner_records(record) if isinstance(record, dict) else None
    if inner is None and _holds_lists(record):
        listed = ", ".join(f"{name} ({len(value):,})" for name, value in itertools.islice(record.items(), 5))
        raise UserError(
            f"{path}: an object with the lists {listed}, expected one list of records. Are they splits? Save each to a "
            "file in one folder: train.json, test.json"
        )
    if inner is None:
        yield f"{path}:1", record
        return
    for number, element in enumerate(inner, start=1):
        yield f"{path} (record {number})", element


def _elements(path: Path, content: str, position: int) -> Iterator[tuple[str, Any]]:
    """Yield the elements of an array, each with the line where it starts."""
    line, counted = 1, 0
    blank = re.compile(r"\s*")
    while True:
        position = blank.match(content, position).end()
        line += content.count("\n", counted, position)
        counted = position
        if content[position : position + 1] == "]":
            return
        try:
            element, position = _DECODER.raw_decode(content, position)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "lineno", line)
            raise UserError(f"{path}:{at}: not JSON ({_what(error)}), expected an array of objects") from None
        yield f"{path}:{line}", element
        position = blank.match(content, position).end()
        if content[position : position + 1] not in (",", "]"):
            at = content.count("\n", 0, position) + 1
            raise UserError(f"{path}:{at}: the JSON array does not go on or end here, expected , or ]")
        position += content[position : position + 1] == ","


def _what(error: Exception) -> str:
    """Return what is wrong, without the place within the string that was parsed."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _inner_records(document: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the records within a document: its only list of objects, or its columns as pandas writes them."""
    lists = [value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    kinds = {frozenset(records[0]) for records in lists}
    if lists and len(kinds) == len(lists):  # others describe the columns, as in answers of HuggingFace's server
        return max(lists, key=len)
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        return [dict(zip(document["columns"], row, strict=False)) for row in document["data"]]
    columns = list(document.values())
    if len(columns) > 1 and all(isinstance(column, dict) for column in columns):
        keys = columns[0].keys()
        if any(map(is_usual_name, keys)) and not any(map(is_usual_name, document)):
            return columns  # an object for each key
        if keys and all(column.keys() == keys for column in columns):
            return [{name: column[key] for name, column in document.items()} for key in keys]
    if columns and _are_columns(columns) and len(set(map(len, columns))) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _holds_lists(record: Any) -> bool:
    return isinstance(record, dict) and len(record) > 1 and all(isinstance(value, list) for value in record.values())


def _are_columns(values: Sequence[Any]) -> bool:
    """Return whether these are lists of cells, and not of records."""
    return all(isinstance(value, list) for value in values) and not all(
        isinstance(cell, (list, dict)) for value in values for cell in value[:1]
    )


def _flat(record: Any, place: str) -> dict[str, Any]:
    """Return the fields of a record: one within another is named `outer.inner`, elements of a list by number.

    An object that is alone in a list is a field within another too.
    """
    if isinstance(record, str):
        return {"text": record}
    if isinstance(record, list):
        return {str(number): element for number, element in enumerate(record, start=1)}
    if not isinstance(record, dict):
        raise UserError(f"{place}: a JSON {type(record).__name__}, expected an object")
    fields: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict) and value:
            fields |= {f"{name}.{inner}": cell for inner, cell in _flat(value, place).items()}
        else:
            fields[name] = value
    return fields
