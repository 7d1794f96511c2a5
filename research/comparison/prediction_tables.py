"""Read predictions that were made elsewhere from a CSV file, for the test texts of every run of a comparison.

The file has the columns id, repeat and fold, as `./launch.sh splits` writes them, and the predicted label or one
probability for each class (`probability_NAME`, or NAME alone). Other columns, and the order of rows, do not matter.
"""

import contextlib
import csv
import gzip
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from research.comparison.foreign_models import ModelOutput, are_wrong, label_index, one_hot, shorten_names
from research.data.corpora import Corpus
from research.errors import UserError

_SHOWN_IDS = 3  # in a message
_NAMES = ("id", "repeat", "fold", "part", "label")  # the columns that are read, beside those of classes
_DELIMITERS = ",;\t"
_MAKE_SPLITS = "Take id, repeat and fold from a file of ./launch.sh splits"


class PredictionTable(NamedTuple):
    """The predictions in a file."""

    file: Path
    kind: str  # "labels" or "probabilities"
    of_run: dict[tuple[int, int], ModelOutput]  # (repeat, fold) -> predictions, in the order of the test split
    unused_repeats: int  # number of repeats in the file that were not asked for

    def checksum(self, repeat: int, fold: int) -> str:
        """Return a checksum of the predictions of one run. The order of rows and other columns do not change it."""
        output = self.of_run[repeat, fold]
        return hashlib.sha256(output.kind.encode() + output.scores.tobytes()).hexdigest()[:16]


class _Columns(NamedTuple):
    """The positions of the columns that are read."""

    id: int
    repeat: int | None
    fold: int | None
    part: int | None
    label: int | None
    probabilities: Sequence[int]  # by class; empty if labels are read


class _Row(NamedTuple):
    line: int
    repeat: int
    fold: int
    id: str
    values: Sequence[float]  # the probabilities, or the class of the label


def read_predictions(file: Path, corpus: Corpus, tests: Mapping[tuple[int, int], np.ndarray]) -> PredictionTable:
    """Read predictions and require that they are complete and unique.

    Args:
      file: the CSV file, perhaps compressed by gzip.
      corpus: the corpus.
      tests: (repeat, fold) -> int [N], the test texts of each run.

    Raises:
      UserError: a column is missing, a value is no label or probability, or an id is missing, doubled, unknown, or
        tested in another fold.
    """
    kind, rows = _read_table(file, corpus)
    position = {run: {corpus.ids[i]: n for n, i in enumerate(texts)} for run, texts in tests.items()}
    repeats = 1 + max(repeat for repeat, _ in tests)
    values: dict[tuple[int, int], dict[int, _Row]] = {run: {} for run in tests}
    misplaced, doubled, unused = [], [], set()
    for row in rows:
        run = (row.repeat, row.fold)
        if row.repeat >= repeats:
            unused.add(row.repeat)
        elif row.id not in position.get(run, ()):
            misplaced.append(row)
        else:
            n = position[run][row.id]
            if n in values[run]:
                doubled.append((row, values[run][n].line))
            values[run].setdefault(n, row)
    if misplaced:
        raise UserError(_describe_misplaced(file, corpus, position, misplaced))
    if doubled:
        row, line = doubled[0]
        raise UserError(
            f"{file}:{row.line}: id {row.id}, repeat {row.repeat}, fold {row.fold} is in line {line} already"
            f"{_more(doubled)}; expected each test text once"
        )
    missing = [
        (run, text_id) for run, of_run in position.items() for text_id, n in of_run.items() if n not in values[run]
    ]
    if missing:
        raise UserError(_describe_missing(file, missing, values))
    of_run = {run: _output([of_run[n] for n in range(len(of_run))], kind, corpus) for run, of_run in values.items()}
    return PredictionTable(file, kind, of_run, len(unused))


def _output(rows: Sequence[_Row], kind: str, corpus: Corpus) -> ModelOutput:
    if kind == "labels":
        return ModelOutput(one_hot([int(row.values[0]) for row in rows], len(corpus.class_names)), kind)
    scores = np.array([row.values for row in rows], np.float64)
    return ModelOutput((scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), kind)


def _more(problems: Sequence[object]) -> str:
    return f" ({len(problems) - 1:,} more lines like this)" if len(problems) > 1 else ""


def _describe_misplaced(
    file: Path, corpus: Corpus, position: Mapping[tuple[int, int], Mapping[str, int]], rows: Sequence[_Row]
) -> str:
    """Return what is wrong with rows whose id is not tested in their run: first those of unknown ids."""
    known = set(corpus.ids)
    unknown = [row for row in rows if row.id not in known]
    if unknown:
        row = unknown[0]
        return f"{file}:{row.line}: there is no id {row.id!r:.60} in {corpus.name}{_more(unknown)}. {_MAKE_SPLITS}"
    row = rows[0]
    folds = sorted(fold for (repeat, fold), ids in position.items() if repeat == row.repeat and row.id in ids)
    where = f"but in fold {folds[0]}" if folds else "nor in any other, because it is no test text"
    return (
        f"{file}:{row.line}: id {row.id} is not tested in fold {row.fold} of repeat {row.repeat}, {where}"
        f"{_more(rows)}. {_MAKE_SPLITS}, with the same corpus, --folds and --seed"
    )


def _describe_missing(
    file: Path, missing: Sequence[tuple[tuple[int, int], str]], values: Mapping[tuple[int, int], Mapping[int, _Row]]
) -> str:
    repeats = 1 + max(repeat for repeat, _ in values)
    covered = {repeat for (repeat, _), rows in values.items() if rows}
    is_cut_off = covered == set(range(len(covered))) and covered.isdisjoint(repeat for (repeat, _), _ in missing)
    if covered and is_cut_off:
        return (
            f"{file} has predictions for {len(covered)} repeat(s), expected {repeats}. Use --repeats={len(covered)} "
            f"(with --until=decided: --max_repeats={len(covered)}), or predict all of ./launch.sh splits "
            f"--repeats={repeats}"
        )
    shown = ", ".join(f"id {text_id} (repeat {run[0]}, fold {run[1]})" for run, text_id in missing[:_SHOWN_IDS])
    more = f" and {len(missing) - _SHOWN_IDS:,} more" if len(missing) > _SHOWN_IDS else ""
    total = len(missing) + sum(map(len, values.values()))
    return f"{file}: {len(missing):,} of {total:,} predictions are missing: {shown}{more}"


def _read_table(file: Path, corpus: Corpus) -> tuple[str, list[_Row]]:
    """Return the kind of the predictions in a file, and its rows of test texts."""
    opened = gzip.open if file.suffix == ".gz" else open
    csv.field_size_limit(1 << 30)  # texts of any length may stand in other columns
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
            rows = _split_lines(lines)
            _, header = next(rows, (1, ()))
            if not header:
                raise UserError(f"{file} is empty, expected a CSV file of predictions")
            columns = _find_columns(file, header, corpus)
            values_of = _read_probabilities if columns.probabilities else _read_label
            read = []
            for line, cells in rows:
                place = f"{file}:{line}"
                if len(cells) != len(header):
                    raise UserError(f"{place}: {len(cells)} values, expected {len(header)} as in the first line")
                if columns.part is None or cells[columns.part].strip().lower() == "test":
                    repeat = _read_number(cells, columns.repeat, "repeat", place)
                    fold = _read_number(cells, columns.fold, "fold", place)
                    text_id = cells[columns.id].strip(" \"'")  # some tools write quotes of their own
                    read.append(_Row(line, repeat, fold, text_id, values_of(cells, columns, corpus, place)))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error.reason}), expected a CSV file in UTF-8") from error
    except (OSError, EOFError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}), expected a CSV file of predictions") from error
    if not columns.probabilities:
        return "labels", read
    wrong = are_wrong(np.array([row.values for row in read]).reshape(len(read), -1)) if read else np.array([])
    if wrong.any():
        row = read[int(np.argmax(wrong))]
        values = ", ".join(f"{value:g}" for value in row.values[:5]) + (", ..." if len(row.values) > 5 else "")
        raise UserError(f"{file}:{row.line}: the probabilities are {values}, expected numbers that sum to 1")
    return "probabilities", read


def _split_lines(lines: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of each row that is not empty; the first row decides the delimiter."""
    first = lines.readline()
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
    return ((reader.line_num, cells) for cells in reader if cells)


def _find_columns(file: Path, header: Sequence[str], corpus: Corpus) -> _Columns:
    names = [name.strip() for name in header]
    lowered, shown = [name.lower() for name in names], ", ".join(names)[:200]
    columns = {name: lowered.index(name) if name in lowered else None for name in _NAMES}
    for name in ("id",) if corpus.has("test") else ("id", "fold"):
        if columns[name] is None:
            raise UserError(f"{file}:1: no column {name!r}. Columns: {shown}. {_MAKE_SPLITS}")
    classes = list(corpus.class_names)
    prefixed = [f"probability_{name}" for name in classes]
    if any(name in names for name in prefixed):
        if lacking := [name for name in prefixed if name not in names]:
            raise UserError(f"{file}:1: no column {lacking[0]!r}, expected a probability for each class")
        return _Columns(**columns, probabilities=[names.index(name) for name in prefixed])
    if all(name in names for name in classes) and not set(classes) & set(_NAMES):
        return _Columns(**columns, probabilities=[names.index(name) for name in classes])
    if columns["label"] is None:
        raise UserError(
            f"{file}:1: no column 'label', and no probability for each class ({shorten_names(prefixed)}). "
            f"Columns: {shown}"
        )
    return _Columns(**columns, probabilities=())


def _read_number(cells: Sequence[str], column: int | None, name: str, place: str) -> int:
    """Return a repeat or a fold: 0 if there is no such column."""
    if column is None:
        return 0
    number = _as_number(cells[column])
    if number is None or number < 0 or not number.is_integer():
        raise UserError(f"{place}: {name} is {cells[column]!r:.40}, expected a whole number from 0")
    return int(number)


def _read_probabilities(cells: Sequence[str], columns: _Columns, corpus: Corpus, place: str) -> list[float]:
    values = [_as_number(cells[column]) for column in columns.probabilities]
    if None in values:
        n = values.index(None)
        cell, name = cells[columns.probabilities[n]], corpus.class_names[n]
        raise UserError(f"{place}: the probability of {name!r:.40} is {cell!r:.40}, expected a number")
    return values


def _read_label(cells: Sequence[str], columns: _Columns, corpus: Corpus, place: str) -> list[float]:
    cell = cells[columns.label]
    index = label_index(corpus.class_names)
    for label in (cell, cell.strip(), _as_number(cell)):  # some tools write 1 as 1.0
        if label in index:
            return [index[label]]
    raise UserError(f"{place}: the label is {cell!r:.60}, expected one of {shorten_names(corpus.class_names)}")


def _as_number(cell: str) -> float | None:
    """Return the finite number that a cell holds, if any."""
    with contextlib.suppress(ValueError):
        number = float(cell)
        return number if math.isfinite(number) else None
    return None
