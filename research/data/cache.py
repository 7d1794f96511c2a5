"""What took long to fetch, compute or compile is kept in a per-user folder, and can be deleted at any time."""

import contextlib
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from research.whole import whole_file

Arrays = dict[str, np.ndarray]
_LONG = 2_000_000  # characters


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept: below `XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "text-classifier-research" / kind


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, read once while it is not written to."""
    stat = path.stat()
    return _file_checksum(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_checksum(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_of_texts(texts: Sequence[str], kind: str, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """`cached` where `make` takes more than a second, because there is much text; else made anew."""
    return make() if sum(map(len, texts)) < _LONG else cached(kind, made_from, make)


def cached(kind: str, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` returns, from the cache where they are there already.

    Args:
      kind: the folder.
      made_from: all that the arrays are a function of, code and versions included.
      make: makes them; none of dtype object.
    """
    path = cache_folder(kind) / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.npz"
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(path) as found:
        return dict(found)  # one that is missing or damaged is made anew
    arrays = make()
    with contextlib.suppress(OSError):  # no room, or a home that cannot be written to: then not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, suffix=f".{os.getpid()}.tmp") as file:
            np.savez(file, **arrays)
    return arrays
