"""A file as rows of cells, whatever its format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Record = tuple[str, Sequence[Any]]  # its place, `FILE:LINE`, and its cells, one per column
OnProgress = Callable[[int], None]  # called with the number of bytes that have been read, as they are on disk


class Table(NamedTuple):
    """A file as one format reads it."""

    columns: tuple[str, ...]  # "1", "2", ... if the file does not name them
    rows: Callable[[OnProgress], Iterator[Record]]  # each call reads the file again
    format: str  # in words, such as "semicolon-separated with a header"
    flags: Mapping[str, str]  # fields of `ReadOptions` that say the same; only those that were not obvious
    has_names: bool = True
    is_usual: bool = True  # whether a user expects the file to be read so, and need not be told
