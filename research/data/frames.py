"""Turn texts that a Python program holds into rows: lists, DataFrames of pandas, and data sets of HuggingFace.

`Corpus.from_texts`, `Corpus.from_pandas` and `Corpus.from_dataset` call this file. Neither pandas nor datasets is
imported: who has a DataFrame has imported pandas.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.data.cells import label_text, text_of_cell
from research.data.reader import Row
from research.errors import UserError

_LOG = logging.getLogger("research")
_JOINT = " "  # between the texts of several columns, as in files
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_SPLITS |= {"test": "test"}
_MOST_PLACES = 5  # named in a message about missing values


class FrameColumns(NamedTuple):
    """The columns to read: names, and whether rows without a text or a label are left out."""

    text: str | int | Sequence[str | int]  # several columns are joined by a blank; pandas numbers those without a name
    label: str | int
    group: str | int | None = None
    drop_missing: bool = False

    @property
    def texts(self) -> list[str | int]:
        """The names of the text columns."""
        return [self.text] if isinstance(self.text, (str, int)) else list(self.text)

    @property
    def names(self) -> list[str | int]:
        """All names."""
        return [*self.texts, self.label, *([] if self.group is None else [self.group])]


class _Values(NamedTuple):
    """The content of a table."""

    texts: dict[str | int, list[Any]]  # column -> its cells
    labels: list[Any]
    groups: list[Any] | None
    place: Callable[[int], str]  # row -> where it is, as Python says it


def rows_of_texts(
    texts: Iterable[str], labels: Iterable[Any], groups: Iterable[Any] | None, *, drop_missing: bool
) -> list[Row]:
    """Return the rows of texts and labels.

    Raises:
      UserError: the lengths differ; a text is no string; a label is neither an integer nor a name; a value is missing.
    """
    arguments = {"texts": texts, "labels": labels} | ({} if groups is None else {"groups": groups})
    for name, values in arguments.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise UserError(f"{name} is a {type(values).__name__}, expected a list with one entry for each text")
        if getattr(values, "ndim", 1) != 1:
            raise UserError(
                f"{name} has {values.ndim} dimensions, expected one: a list, an array or a column of a table, such as "
                f'df["{name.removesuffix("s")}"]'
            )
    lists = {name: list(values) for name, values in arguments.items()}
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise UserError(f"there are {counts}, expected as many of each")
    for i, text in enumerate(lists["texts"]):
        if not isinstance(text, str) and _plain_cell(text) is not None:
            raise UserError(f"texts[{i}] is a {type(text).__name__}, expected a string")
    values = _Values({"texts": lists["texts"]}, lists["labels"], lists.get("groups"), lambda i: f"texts[{i}]")
    return _rows(values, drop_missing=drop_missing)


def rows_of_frame(frame: Any, columns: FrameColumns) -> list[Row]:
    """Return the rows of a pandas.DataFrame.

    Raises:
      UserError: it is no DataFrame; a column is missing or occurs twice; or as `rows_of_texts`.
    """
    if not all(hasattr(frame, name) for name in ("columns", "iloc", "index")):
        raise UserError(f"the frame is a {type(frame).__name__}, expected a pandas.DataFrame; load(path) reads a file")
    _check_columns(columns, list(frame.columns), "from_pandas")
    groups = None if columns.group is None else list(frame[columns.group])
    texts = {name: list(frame[name]) for name in columns.texts}
    place = functools.partial(_place_in_frame, list(frame.index))
    values = _Values(texts, list(frame[columns.label]), groups, place)
    return _rows(values, drop_missing=columns.drop_missing)


def _place_in_frame(index: Sequence[Any], row: int) -> str:
    return f"df.loc[{_plain_cell(index[row])!r}]"


def rows_of_dataset(dataset: Any, columns: FrameColumns) -> dict[str, list[Row]]:
    """Return the rows of a datasets.Dataset, or of each split of a datasets.DatasetDict.

    The names of a `ClassLabel` are the labels; its -1 is a missing label. A split without any label is left out.

    Returns:
      split -> rows, as `read_path`; "all" is the only split of a Dataset.

    Raises:
      UserError: it is no data set in memory or on disk, a split has an unknown name, or as `rows_of_frame`.
    """
    splits = dict(dataset) if isinstance(dataset, Mapping) else {"all": dataset}
    values = {name: _values_of_dataset(part, columns, name) for name, part in splits.items()}
    labelled = {name: part for name, part in values.items() if any(label is not None for label in part.labels)}
    if not labelled:
        raise UserError(f"no row has a label in the column {columns.label!r}, expected some; name another with label=")
    if left_out := [name for name in values if name not in labelled]:
        _LOG.warning("no row of %s has a label: left out", ", ".join(left_out))
    rows: dict[str, list[Row]] = {}
    for name, part in labelled.items():
        split = "all" if len(labelled) == 1 else _SPLITS.get(name)
        if split is None or split in rows:
            problem = "is no split that is known here" if split is None else f"is {split} too"
            raise UserError(
                f"the data set has the splits {', '.join(values)}, and {name} {problem}; expected train, validation "
                'and test. Choose some: from_dataset(DatasetDict({"train": ..., "test": ...}))'
            )
        rows[split] = _rows(part, drop_missing=columns.drop_missing)
    return rows


def _values_of_dataset(dataset: Any, columns: FrameColumns, split: str) -> _Values:
    if not all(hasattr(dataset, name) for name in ("column_names", "features", "num_rows")):
        kind = type(dataset).__name__
        raise UserError(f"the data set is a {kind}, expected a datasets.Dataset or DatasetDict, without streaming")
    _check_columns(columns, dataset.column_names, "from_dataset")
    labels = list(dataset[columns.label])
    if names := getattr(dataset.features[columns.label], "names", None):
        labels = [None if label is None or label < 0 else names[label] for label in labels]
    groups = None if columns.group is None else list(dataset[columns.group])
    name = "dataset" if split == "all" else f"dataset[{split!r}]"
    return _Values({text: list(dataset[text]) for text in columns.texts}, labels, groups, lambda i: f"{name}[{i}]")


def _check_columns(columns: FrameColumns, present: Sequence[Any], function: str) -> None:
    """Raise UserError if a column that should be read is missing or occurs twice; `function` reads it."""
    if not columns.texts:
        raise UserError("text= names no column, expected at least one")
    missing = [name for name in columns.names if name not in present]
    if missing:
        names_of = {"text": columns.texts, "label": [columns.label], "group": [columns.group]}
        arguments = [f"{name}=" for name, names in names_of.items() if set(names) & set(missing)]
        absent = " and no column ".join(map(repr, dict.fromkeys(missing)))
        listed = ", ".join(map(repr, present)) or "none"
        raise UserError(
            f"no column {absent}. Columns: {listed}. Name yours with {' and '.join(arguments)} of Corpus.{function}"
        )
    for name in columns.names:
        if list(present).count(name) > 1:
            raise UserError(f"two columns are named {name!r}, expected different names")
    if columns.label in columns.texts:
        raise UserError(f"text= and label= both name the column {columns.label!r}, expected different columns")


def _rows(values: _Values, *, drop_missing: bool) -> list[Row]:
    """Return checked rows, by the same rules as those of a file."""
    rows: list[Row] = []
    without: dict[str, list[int]] = {"text": [], "label": []}
    for i in range(len(values.labels)):
        place = values.place(i)
        texts = [text_of_cell(_plain_cell(cells[i]), name, place) for name, cells in values.texts.items()]
        label = label_text(_plain_cell(values.labels[i]), place)
        group = None if values.groups is None else _plain_cell(values.groups[i])
        present = [text for text in texts if text is not None]
        if not present:
            without["text"].append(i)
        if not label:
            without["label"].append(i)
        rows.append(Row(_JOINT.join(present), label, "" if group is None else str(group), place))
    dropped = {*without["text"], *without["label"]}
    if dropped and not drop_missing:
        raise UserError(_describe_missing(without, values))
    if len(dropped) == len(rows):
        raise UserError("there are no texts, expected texts of at least two classes")
    return [row for i, row in enumerate(rows) if i not in dropped]


def _describe_missing(without: Mapping[str, list[int]], values: _Values) -> str:
    """Return how many texts and labels are missing, and where."""
    parts = []
    for kind, rows in without.items():
        if rows:
            places = ", ".join(map(values.place, rows[:_MOST_PLACES])) + (", ..." if len(rows) > _MOST_PLACES else "")
            parts.append(f"{len(rows):,} of {len(values.labels):,} rows have no {kind} ({places})")
    return f"{' and '.join(parts)}; drop_missing=True leaves them out"


def _plain_cell(cell: Any) -> Any:
    """Return a value as one of Python's own types; None if it is missing, as pandas and NumPy write it."""
    cell = cell.tolist() if isinstance(cell, (np.generic, np.ndarray)) else cell
    is_missing = cell != cell if isinstance(cell, float) else type(cell).__name__ in ("NAType", "NaTType")
    return None if is_missing else cell
