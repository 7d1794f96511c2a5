"""Read texts and write predictions, one chunk at a time, so that files of any size need little memory."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from research.data.formats.text_lines import decode_lines
from research.data.reader import Reading
from research.errors import UserError

MAX_CHUNK_TEXTS = 2048
_MAX_CHUNK_CHARACTERS = 1 << 22


class InputText(NamedTuple):
    """A text of the input."""

    text: str
    end: int  # bytes of the input that have been read so far
    others: Sequence[Any] = ()  # the cells of the other columns


class Chunk(NamedTuple):
    """Consecutive texts of the input."""

    texts: list[str]
    end: int  # bytes of the input that have been read up to the end of this chunk
    is_first: bool
    others: list[Sequence[Any]]  # the cells of the other columns of each text
    columns: tuple[str, ...] = ()  # the names of the other columns


class Input(NamedTuple):
    """The texts to predict, and the names of the other columns of their file."""

    texts: Iterator[InputText]
    columns: tuple[str, ...] = ()


def read_file(reading: Reading) -> Input:
    """Return the texts of a file, which is read as they are taken.

    Iteration raises:
      UserError: a row is malformed or has no text; the message names the line.
    """
    names, chosen = reading.table.columns, reading.choice.text
    is_one_of_many = len(chosen) == 1
    others = [i for i in range(len(names)) if not (is_one_of_many and i in chosen)]
    columns = tuple(names[i] for i in others)
    return Input(
        _read_rows(reading, others), columns if reading.table.has_names else tuple(f"column_{n}" for n in columns)
    )


def _read_rows(reading: Reading, others: Sequence[int]) -> Iterator[InputText]:
    position = 0

    def on_progress(count: int) -> None:
        nonlocal position
        position = count

    for record in reading.records(on_progress):
        place, cells = record
        text = reading.text_of(record)
        if text is None:
            if not reading.options.drop_missing:
                raise UserError(f"{place}: no text; --drop_missing leaves out rows without one")
            continue
        yield InputText(text, position, [cells[i] for i in others])


def read_stream(source: BinaryIO, name: str, encoding: str = "") -> Input:
    """Return the texts of a pipe or a terminal: one in each line; an empty line is an empty text.

    Iteration raises:
      UserError: a line is too long, or not of the encoding.
    """

    def texts() -> Iterator[InputText]:
        end = 0
        for line in decode_lines(source, name, encoding):
            end += len(line.encode())
            yield InputText(line.removesuffix("\n").removesuffix("\r"), end)

    return Input(texts())


def split_into_chunks(source: Input, max_texts: int = MAX_CHUNK_TEXTS) -> Iterator[Chunk]:
    """Yield texts in chunks; without any text, one empty chunk.

    Args:
      source: the texts.
      max_texts: the most texts in a chunk; long texts make it smaller.
    """
    chunk: list[InputText] = []
    characters, is_first = 0, True

    def take() -> Chunk:
        end = chunk[-1].end if chunk else 0
        return Chunk([item.text for item in chunk], end, is_first, [item.others for item in chunk], source.columns)

    for item in source.texts:
        chunk.append(item)
        characters += len(item.text)
        if len(chunk) == max_texts or characters >= _MAX_CHUNK_CHARACTERS:
            yield take()
            chunk, characters, is_first = [], 0, False
    if chunk or is_first:
        yield take()


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


def to_csv(chunk: Chunk, probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """Return a table row for each text: the text, its label, its probabilities, and the other columns of the input.

    The header comes with the first chunk. A column of the input that is named like one of these gets `input_` before
    its name.

    Args:
      chunk: N texts with their other columns.
      probabilities: float32 [N, C].
      class_names: C names.
    """
    rows, labels = probabilities.tolist(), probabilities.argmax(axis=1).tolist()
    names = ["text", "label", *(f"probability_{name}" for name in class_names)]
    lines: list[Sequence[Any]] = []
    if chunk.is_first:
        lines.append([*names, *(f"input_{name}" if name in names else name for name in chunk.columns)])
    for text, label, row, others in zip(chunk.texts, labels, rows, chunk.others, strict=True):
        lines.append([text, class_names[label], *row, *others])
    return _write_csv(lines)


def _write_csv(rows: Iterable[Sequence[Any]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()
