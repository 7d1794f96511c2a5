"""Files of texts and of predictions: a chunk at a time, in bounded memory."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from research.data.reader import Lines, json_object, require_once
from research.errors import UserError

_CHUNK_TEXTS, _CHUNK_CHARACTERS = 2048, 1 << 22  # predicted together, and with their like the most in memory
_LONGEST_LINE = 1 << 26  # bytes


class Chunk(NamedTuple):
    """Some texts, one after the other in the input."""

    texts: list[str]
    read: int  # bytes of the input up to here
    first: bool  # whether none stands before it


def read_texts(source: BinaryIO, name: str, kind: str = "", column: str = "text") -> Iterator[tuple[str, int]]:
    """Yields each text and how many bytes have been read by then.

    Args:
      source: UTF-8; a byte-order mark is dropped.
      name: of the source, for error messages.
      kind: ".csv" and ".jsonl" have a column of texts; any other has a text a line, an empty line being an empty text,
        and of ".tsv" what stands behind a tab, as the label of a corpus does, is no part of it.
      column: its name.

    Raises:
      UserError: a line that is not UTF-8, too long or not of this kind; says which.
    """
    lines = Lines(source, name, _LONGEST_LINE)
    if kind == ".csv":
        texts = _of_csv(lines, column)
    elif kind == ".jsonl":
        texts = (_of_json(line, lines.place, column) for line in lines if line.strip())
    else:
        texts = (line.removesuffix("\n").removesuffix("\r") for line in lines)
        texts = (text.partition("\t")[0] for text in texts) if kind == ".tsv" else texts
    return ((text, lines.read) for text in texts)


def _of_csv(lines: Lines, column: str) -> Iterator[str]:
    csv.field_size_limit(_LONGEST_LINE)  # of a cell: a quote that is never closed must not fill the memory
    reader = csv.DictReader(lines, strict=True)
    try:
        if column not in (reader.fieldnames or ()):
            there = ", ".join(reader.fieldnames or ())
            if not there:
                raise UserError(f"{lines.place}: the file is empty, expected a column {column!r}")
            raise UserError(
                f"{lines.place}: no column {column!r} among {there}, expected it, or --text_column with another"
            )
        require_once(reader.fieldnames, (column,), lines.place)
        for cells in reader:
            if cells[column] is None:
                raise UserError(f"{lines.place}: fewer cells than the header has, expected {column!r} among them")
            yield cells[column]
    except csv.Error as error:
        raise UserError(f"{lines.place}: {error}, expected comma-separated values") from error


def _of_json(line: str, place: str, column: str) -> str:
    record = json_object(line, place)
    if not isinstance(record.get(column), str):
        raise UserError(f"{place}: no string {column!r}, expected an object with one (--text_column names another)")
    return record[column].encode("utf-8", "replace").decode()  # a lone surrogate cannot be written again


def chunks(texts: Iterable[tuple[str, int]]) -> Iterator[Chunk]:
    """What `read_texts` yields, some texts at a time; where there are none, one chunk of none."""
    some: list[str] = []
    characters = end = cut = 0
    for text, end in texts:
        some.append(text)
        characters += len(text)
        if len(some) == _CHUNK_TEXTS or characters >= _CHUNK_CHARACTERS:
            yield Chunk(some, end, first=not cut)
            some, characters, cut = [], 0, cut + 1
    if some or not cut:
        yield Chunk(some, end, first=not cut)


_encode_json = json.JSONEncoder(ensure_ascii=False).encode


def to_jsonl(
    texts: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    explanations: Sequence[dict[str, Any]] = (),
) -> str:
    """A line `{"text", "label", "probabilities": {label: p}}` for each text, with "explanation" where there are.

    Args:
      texts: N texts.
      probabilities: float32 [N, C].
      class_names: C names.
      explanations: N of them, or none.
    """
    lines, names = [], list(map(_encode_json, class_names))
    rows, best = probabilities.tolist(), probabilities.argmax(axis=1).tolist()
    for text, row, label, explanation in itertools.zip_longest(texts, rows, best, explanations):
        # As `_encode_json` would write the whole, in half the time: this is a tenth of labelling a text.
        of_classes = ", ".join([f"{name}: {p!r}" for name, p in zip(names, row, strict=True)])
        more = f', "explanation": {_encode_json(explanation)}' if explanation else ""
        lines.append(
            f'{{"text": {_encode_json(text)}, "label": {names[label]}, "probabilities": {{{of_classes}}}{more}}}'
        )
    return "\n".join([*lines, ""])


def csv_header(class_names: Sequence[str]) -> str:
    """The first line of a table of `to_csv`."""
    return _csv([["text", "label", *(f"probability_{name}" for name in class_names)]])


def to_csv(texts: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """A row for each text: the text, its label and a probability a class; arguments as of `to_jsonl`."""
    rows, best = probabilities.tolist(), probabilities.argmax(axis=1).tolist()
    return _csv([text, class_names[label], *row] for text, row, label in zip(texts, rows, best, strict=True))


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()
