"""What took long to fetch, compute or compile is kept in a per-user folder, and can be deleted at any time.

What can be made anew (arrays and compiled programs) is bounded: the files that were not used for longest go first.
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
PROGRAMS = "xla"  # the kind of compiled programs
MOST_BYTES = 2 << 30  # of each kind of arrays, and of compiled programs
_LONG = 2_000_000  # characters


def cache_root() -> Path:
    """The folder of the cache: below `XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "text-classifier-research"


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept."""
    return cache_root() / kind


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder; 0 where there is none."""
    return sum(size for _, size, _ in _files(folder))


def evict(folder: Path, most_bytes: int) -> None:
    """Deletes the files below a folder that were not used for longest, until the rest takes at most so many bytes.

    Other processes may read, write or delete there meanwhile.
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
    """Yields (when it was last used, bytes, path) of each file below a folder."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            stat = path.stat()
            if path.is_file():
                yield max(stat.st_atime, stat.st_mtime), stat.st_size, path  # JAX does not touch what it reads


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
      made_from: all that the arrays are a function of: checksums of what was read, versions of libraries, and the
        number of their format, which goes up whenever the code that makes them is changed in effect.
      make: makes them; none of dtype object.
    """
    path = cache_folder(kind) / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.npz"
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(path) as found:
        arrays = dict(found)  # one that is missing or damaged is made anew
        with contextlib.suppress(OSError):
            os.utime(path)  # the files that were not used for longest are deleted first
        return arrays
    arrays = make()
    with contextlib.suppress(OSError):  # no room, or a home that cannot be written to: then not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, suffix=f".{os.getpid()}.tmp") as file:
            np.savez(file, **arrays)
        evict(path.parent, MOST_BYTES)
    return arrays
