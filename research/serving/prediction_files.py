"""Read texts and write predictions, one chunk at a time, so that files of any size need little memory."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from research.data.reader import Lines, json_object, require_once
from research.errors import UserError

MAX_CHUNK_TEXTS = 2048
_MAX_CHUNK_CHARACTERS = 1 << 22
MAX_LINE_BYTES = 1 << 26


class Chunk(NamedTuple):
    """Consecutive texts of the input."""

    texts: list[str]
    end: int  # bytes of the input that have been read up to the end of this chunk
    is_first: bool


def read_texts(source: BinaryIO, name: str, kind: str = "", column: str = "text") -> Iterator[tuple[str, int]]:
    """Yield each text and the number of bytes that have been read so far.

    Args:
      source: UTF-8; a byte-order mark is dropped.
      name: the name of the source in error messages.
      kind: ".csv" and ".jsonl" have a column of texts. Any other kind has one text in each line; an empty line is an
        empty text. A text of ".tsv" ends at the first tab, because the label of a corpus comes after it.
      column: the name of that column.

    Raises:
      UserError: a line is not UTF-8, is too long or is not of this kind; the message names the line.
    """
    lines = Lines(source, name, MAX_LINE_BYTES)
    if kind == ".csv":
        texts = _read_csv(lines, column)
    elif kind == ".jsonl":
        texts = (_parse_json_line(line, lines.place, column) for line in lines if line.strip())
    else:
        texts = (line.removesuffix("\n").removesuffix("\r") for line in lines)
        if kind == ".tsv":
            texts = (text.partition("\t")[0] for text in texts)
    return ((text, lines.read) for text in texts)


def _read_csv(lines: Lines, column: str) -> Iterator[str]:
    csv.field_size_limit(MAX_LINE_BYTES)  # a quote that is never closed must not fill the memory
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = reader.fieldnames or ()
        if not columns:
            raise UserError(f"{lines.place}: the file is empty, expected a column {column!r}")
        if column not in columns:
            names = ", ".join(columns)
            raise UserError(f"{lines.place}: no column {column!r}. Columns: {names}. Name yours with --text_column.")
        require_once(columns, (column,), lines.place)
        for row in reader:
            if row[column] is None:
                raise UserError(f"{lines.place}: fewer cells than the header has, expected {column!r} among them")
            yield row[column]
    except csv.Error as error:
        raise UserError(f"{lines.place}: {error}, expected comma-separated values") from error


def _parse_json_line(line: str, place: str, column: str) -> str:
    text = json_object(line, place).get(column)
    if not isinstance(text, str):
        raise UserError(f"{place}: no string {column!r}. Name the field of your texts with --text_column.")
    return text.encode("utf-8", "replace").decode()  # a lone surrogate could not be written to the output


def split_into_chunks(texts: Iterable[tuple[str, int]], max_texts: int = MAX_CHUNK_TEXTS) -> Iterator[Chunk]:
    """Yield what `read_texts` yields in chunks; without any text, one empty chunk.

    Args:
      texts: (text, number of bytes read so far).
      max_texts: the most texts in a chunk; long texts make it smaller.
    """
    chunk: list[str] = []
    characters = end = 0
    is_first = True
    for text, end in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) == max_texts or characters >= _MAX_CHUNK_CHARACTERS:
            yield Chunk(chunk, end, is_first)
            chunk, characters, is_first = [], 0, False
    if chunk or is_first:
        yield Chunk(chunk, end, is_first)


_encode_json = json.JSONEncoder(ensure_ascii=False).encode


def to_jsonl(
    texts: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    explanations: Sequence[dict[str, Any]] = (),
) -> str:
    """Return a line `{"text", "label", "probabilities": {label: p}}` for each text, with "explanation" if there is one.

    Args:
      texts: N texts.
      probabilities: float32 [N, C].
      class_names: C names.
      explanations: N explanations, or none.
    """
    lines = []
    names = list(map(_encode_json, class_names))
    rows, labels = probabilities.tolist(), probabilities.argmax(axis=1).tolist()
    for text, row, label, explanation in itertools.zip_longest(texts, rows, labels, explanations):
        # Twice as fast as `_encode_json` of a dict, which would take a tenth of the time of a prediction.
        pairs = ", ".join([f"{name}: {p!r}" for name, p in zip(names, row, strict=True)])
        suffix = f', "explanation": {_encode_json(explanation)}' if explanation else ""
        lines.append(
            f'{{"text": {_encode_json(text)}, "label": {names[label]}, "probabilities": {{{pairs}}}{suffix}}}\n'
        )
    return "".join(lines)


def csv_header(class_names: Sequence[str]) -> str:
    """Return the header line of the table that `to_csv` writes."""
    return _write_csv([["text", "label", *(f"probability_{name}" for name in class_names)]])


def to_csv(texts: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """Return a table row for each text: the text, its label and its probabilities. The arguments are `to_jsonl`'s."""
    rows, labels = probabilities.tolist(), probabilities.argmax(axis=1).tolist()
    return _write_csv([text, class_names[label], *row] for text, row, label in zip(texts, rows, labels, strict=True))


def _write_csv(rows: Iterable[Sequence[Any]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()
