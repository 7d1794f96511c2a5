"""Keep downloads, arrays and compiled programs in a per-user cache that can be deleted at any time.

Arrays and compiled programs can be computed again, so their size is limited: the least recently used files are deleted.
"""

import contextlib
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from research.atomic_files import whole_file

Arrays = dict[str, np.ndarray]
PROGRAMS = "xla"  # the subfolder of compiled programs
MOST_BYTES = 2 << 30  # limit of each subfolder of arrays, and of compiled programs
LONG_CHARACTERS = 200_000  # shorter corpora are processed faster than a cached file is worth


def cache_root() -> Path:
    """Return the cache folder, inside `XDG_CACHE_HOME` or else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "text-classifier-research"


def cache_folder(kind: str) -> Path:
    """Return the cache subfolder of one kind of content."""
    return cache_root() / kind


def folder_bytes(folder: Path) -> int:
    """Return the total size of all files below a folder; 0 if the folder does not exist."""
    return sum(size for _, size, _ in _files(folder))


def evict(folder: Path, most_bytes: int) -> None:
    """Delete the least recently used files below a folder until the rest takes at most `most_bytes`.

    Other processes may read, write and delete there at the same time.
    """
    files = sorted(_files(folder))
    left = sum(size for _, size, _ in files)
    for _, size, path in files:
        if left <= most_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        left -= size


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield (time of last use, bytes, path) for each file below a folder."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process deleted it
            stat = path.stat()
            if path.is_file():  # the later time, because JAX does not update the one of files that it reads
                yield max(stat.st_atime, stat.st_mtime), stat.st_size, path


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; the file is read again only if its size or time changed."""
    stat = path.stat()
    return _file_checksum(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_checksum(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_of_texts(texts: Sequence[str], kind: str, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """Return `cached(...)` for large corpora, and `make()` where the texts are too few to gain from a cache."""
    return make() if sum(map(len, texts)) < LONG_CHARACTERS else cached(kind, made_from, make)


def cached(kind: str, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `make` computes, from the cache if they are in it.

    Args:
      kind: the subfolder of the cache.
      made_from: everything that the arrays depend on: checksums of inputs, versions of libraries, and a format number.
        Raise that number whenever the code that computes the arrays gives other values.
      make: computes the arrays; none may have dtype object.
    """
    path = cache_folder(kind) / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.npz"
    # A missing or damaged file is computed again.
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(path) as saved:
        arrays = dict(saved)
        with contextlib.suppress(OSError):
            os.utime(path)  # `evict` deletes the least recently used files
        return arrays
    arrays = make()
    with contextlib.suppress(OSError):  # without space or permission to write, the arrays are not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, suffix=f".{os.getpid()}.tmp") as file:
            np.savez(file, **arrays)
        evict(path.parent, MOST_BYTES)
    return arrays
