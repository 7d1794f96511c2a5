"""Load corpora: labelled texts with a name or a path, and sometimes with fixed splits.

Texts are sorted by their content hashes, so no result depends on the order of rows in a file.
"""

import collections
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.data.cells import NO_VALUE
from research.data.components import join_groups
from research.data.corpus_files import UnlabelledFile, read_corpus
from research.data.frames import FrameColumns, rows_of_dataset, rows_of_frame, rows_of_texts
from research.data.known_corpora import KNOWN
from research.data.label_checks import are_scores, joined_labels
from research.data.read_options import FIELDS, ReadOptions
from research.data.reader import Row, suffix_of
from research.errors import UserError, expected, in_python_words, shorten

_DEFAULT_OPTIONS = ReadOptions()
_MAX_DIGITS = 20  # of a label that counts as a number; Python refuses integers with thousands of digits


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Labelled texts, sorted by (content hash, label, split). Corpora with equal checksums are equal.

    `load` reads one from a file or a folder. `from_pandas`, `from_texts` and `from_dataset` make one of what a Python
    program holds; like a file, it is the same corpus if its texts, labels and groups are the same in any order.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray  # int32 [N], indices into class_names
    class_names: tuple[str, ...]
    splits: np.ndarray  # <U10 [N]: "train", "validation", "test", or "all" without fixed splits
    groups: np.ndarray  # int32 [N]; a split never separates texts of one group (exact copies, the user's groups)
    ids: np.ndarray  # str [N], content hash and occurrence, such as "0123456789abcdef-0"
    checksum: str
    source: str = ""  # the known name or resolved path that `load` has read
    options: ReadOptions = _DEFAULT_OPTIONS  # how `load` has read it
    cleaned: bool = False  # whether `audit.clean` has removed texts
    notes: tuple[str, ...] = ()  # what a user should know about how it was read
    unlabelled: tuple[UnlabelledFile, ...] = ()  # its test files, if they came without labels

    def __len__(self) -> int:
        return len(self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)

    def __repr__(self) -> str:
        classes = ", ".join(self.class_names[:10]) + (", ..." if len(self.class_names) > 10 else "")
        lines = [f"<Corpus {self.name}: {len(self):,} texts, {len(self.class_names)} classes ({classes})>"]
        return "\n".join([*lines, *map(in_python_words, self.notes)])

    @classmethod
    def from_pandas(
        cls,
        frame: Any,
        text: str | int | Sequence[str | int] = "text",
        label: str | int = "label",
        group: str | int | None = None,
        *,
        name: str = "dataframe",
        drop_missing: bool = False,
    ) -> "Corpus":
        """Return the rows of a DataFrame as a corpus.

        Args:
          frame: a pandas.DataFrame.
          text: the column of texts; a list of columns is joined by blanks.
          label: the column of labels: numbers, booleans or names.
          group: a column of groups; a split never separates the texts of one group.
          name: the name of the corpus in reports.
          drop_missing: whether to leave out rows without a text or a label; otherwise they are an error.

        Raises:
          UserError: a column, a text or a label is missing, a label is wrong, or there are fewer than two classes.
        """
        rows = rows_of_frame(frame, FrameColumns(text, label, group, drop_missing))
        return make_corpus(name, {"all": rows})

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        labels: Iterable[Any],
        groups: Iterable[Any] | None = None,
        *,
        name: str = "texts",
        drop_missing: bool = False,
    ) -> "Corpus":
        """Return N texts, their N labels and perhaps N groups as a corpus; see `from_pandas`.

        Raises:
          UserError: the lengths differ, or as `from_pandas`.
        """
        return make_corpus(name, {"all": rows_of_texts(texts, labels, groups, drop_missing=drop_missing)})

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        text: str | Sequence[str] = "text",
        label: str = "label",
        group: str | None = None,
        *,
        name: str = "dataset",
        drop_missing: bool = False,
    ) -> "Corpus":
        """Return a data set of HuggingFace's library as a corpus.

        Args:
          dataset: a datasets.Dataset; or a datasets.DatasetDict, whose train, validation and test splits are kept.
          text, label, group, name, drop_missing: as in `from_pandas`. The labels of a `ClassLabel` are its names.

        Raises:
          UserError: a split has an unknown name, or as `from_pandas`.
        """
        return make_corpus(name, rows_of_dataset(dataset, FrameColumns(text, label, group, drop_missing)))

    def describe(self) -> dict[str, Any]:
        """Return what `config.json` and `plan.json` keep about the corpus, for `audit.reload_corpus`."""
        fields = {name: getattr(self, name) for name in ("name", "checksum", "source", "cleaned")}
        return fields | {"columns": list(self.options)}

    def has(self, split: str) -> bool:
        """Return whether the corpus came with this split."""
        return bool(np.any(self.splits == split))


def load(
    name_or_path: str | Path,
    options: ReadOptions = ReadOptions(),
    classes: tuple[str, ...] | None = None,
    **given: Any,
) -> Corpus:
    """Load a known corpus by name, or the user's file or folder.

    Args:
      name_or_path: a key of `KNOWN`, or a path (see `corpus_files.read_corpus`). Known names take precedence.
      options: how to read a file.
      **given: single fields of the options, such as `text="review", label="stars"`.
      classes: the classes of a trained run that the corpus is to evaluate; None for a corpus to train on.

    Raises:
      UserError: the name is unknown, a file is malformed, or its labels cannot be learnt.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        kind = type(name_or_path).__name__
        raise UserError(f"load takes a name or a path, not a {kind}. A DataFrame goes into Corpus.from_pandas")
    options = _with_given(options, given)
    if str(name_or_path) in KNOWN:
        name = str(name_or_path)
        return dataclasses.replace(make_corpus(name, {"all": KNOWN[name].read()}, classes), source=name)
    path = Path(name_or_path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder, and no known corpus. Known are {', '.join(KNOWN)}")
    read = read_corpus(path, options)
    corpus = make_corpus(_name(path), read.of_split, classes)
    details = {"options": options, "notes": tuple(read.notes), "unlabelled": read.unlabelled}
    return dataclasses.replace(corpus, source=str(path.resolve()), **details)


def _with_given(options: ReadOptions, given: Mapping[str, Any]) -> ReadOptions:
    """Return the options with the fields that are given; several columns of texts may be a list."""
    for name in given:
        if name not in FIELDS:
            raise UserError(f"load has no argument {name!r}, {expected(name, FIELDS)}")
    # A column is a name or a number, and the texts may be in several columns.
    named = {field: given[field] for field in ("text", "label", "group") if field in given}
    for field, column in named.items():
        several = column if isinstance(column, (list, tuple)) else [column]
        named[field] = ",".join(map(str, several))
    return options._replace(**given | named)


def _name(path: Path) -> str:
    """Return the name of a corpus: that of its file, without the suffixes of its format and compression."""
    name, suffix = path.name or path.resolve().name, suffix_of(path)
    return (name[: name.lower().rindex(suffix)] if suffix and path.is_file() else name) or name


def as_corpus(source: Any) -> Corpus:
    """Return a corpus: one that is given, one that `load` finds by name or path, or one of a DataFrame or data set.

    DataFrames and data sets need the columns `text` and `label`.

    Raises:
      UserError: there is no such corpus, or it cannot be read.
    """
    package = type(source).__module__.partition(".")[0]
    if isinstance(source, Corpus):
        return source
    if isinstance(source, (str, Path)):
        return load(source)
    if package == "pandas":
        return Corpus.from_pandas(source)
    if package == "datasets":
        return Corpus.from_dataset(source)
    raise UserError(
        f"the corpus is a {type(source).__name__}, expected a name, a path, a DataFrame, or Corpus.from_texts(...)"
    )


def content_hash(text: str) -> str:
    """Return the first 16 hexadecimal digits of the text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def make_corpus(name: str, rows_of_split: dict[str, list[Row]], classes: tuple[str, ...] | None = None) -> Corpus:
    """Check the labels of rows and return the rows as a sorted corpus.

    Args:
      name: the name of the corpus.
      rows_of_split: "train", "validation" and "test" -> rows, or "all" -> rows.
      classes: the allowed labels, if they are known.

    Raises:
      UserError: a label is not in `classes`. Without `classes`: there are fewer than two classes, a label that no
        training row has, or (without fixed splits) a class with a single text.
    """
    entries = [(content_hash(r.text), r.label, split, r) for split, rows in rows_of_split.items() for r in rows]
    entries.sort(key=lambda entry: (*entry[:3], entry[3].group))
    class_names = classes or _classes_to_learn(entries, "train" if "train" in rows_of_split else "all")
    for row in itertools.chain.from_iterable(rows_of_split.values()):  # in file order: the first error is reported
        if row.label not in class_names:
            expected = ", ".join(map(shorten, class_names[:10])) + (", ..." if len(class_names) > 10 else "")
            raise UserError(f"{row.place}: label {shorten(row.label)!r} was not trained on, expected one of {expected}")
    index = {label: i for i, label in enumerate(class_names)}
    labels = np.array([index[label] for _, label, _, _ in entries], np.int32)
    hashes = [content for content, _, _, _ in entries]
    seen: collections.Counter[str] = collections.Counter()
    ids = []
    for content in hashes:
        ids.append(f"{content}-{seen[content]}")
        seen[content] += 1
    content = "\n".join(f"{c}\t{label}\t{split}\t{row.group}" for c, label, split, row in entries)
    return Corpus(
        name=name,
        texts=tuple(row.text for *_, row in entries),
        labels=labels,
        class_names=class_names,
        splits=np.array([split for _, _, split, _ in entries], "<U10"),
        groups=join_groups(hashes, [row.group for *_, row in entries]),
        ids=np.array(ids),
        checksum=hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _classes_to_learn(entries: list[tuple[str, str, str, Row]], train: str) -> tuple[str, ...]:
    """Return the checked classes of the training rows, sorted as numbers if all are integers, else by name."""
    texts_of: dict[str, set[str]] = collections.defaultdict(set)
    has_test = any(split == "test" for _, _, split, _ in entries)
    places = [row.place for *_, split, row in entries if split == train]
    if not places:
        raise UserError("no text is left to train on, expected texts of at least two classes")
    for content, label, split, _ in entries:
        if split == train:
            texts_of[label].add(content)
    if len(texts_of) < 2:
        file = places[0].rpartition(":")[0] or places[0]
        raise UserError(f"{file}: every label is {shorten(min(texts_of))!r}, expected at least two classes")
    if are_scores(texts_of, len(places)):
        file = places[0].rpartition(":")[0] or places[0]
        examples = ", ".join(sorted(texts_of)[:3])
        raise UserError(
            f"{file}: the labels are scores ({examples}, ...: {len(texts_of):,} different numbers in {len(places):,} "
            "texts), expected classes. Put the scores into a few bins, such as low and high, and write these as labels"
        )
    for _, label, split, row in entries:
        if split == train and not has_test and len(texts_of[label]) == 1:
            hint = ""
            if len(texts_of) > max(5, len(places) / 2):
                hint = ". Most labels have only one text. Is the label before the text? The text comes first"
            elif label in NO_VALUE:
                hint = ". Does it stand for no label? --drop_missing leaves it out"
            elif row.place.endswith(":1"):
                hint = ". Is it a header? Use --header=yes"
            elif label in joined_labels(texts_of):
                hint = ". It looks like several labels in one: give each text one label"
            raise UserError(
                f"{row.place}: label {shorten(label)!r} has only one text, expected at least two (one to train on, one "
                f"to test on){hint}"
            )
    return tuple(sorted(texts_of, key=int if all(map(_is_integer, texts_of)) else None))


def _is_integer(label: str) -> bool:
    digits = label.removeprefix("-")
    return len(digits) < _MAX_DIGITS and digits.isascii() and digits.isdigit()
