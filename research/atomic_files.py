"""Files and folders that are there whole or not at all: written under another name, then renamed.

Both are flushed to the disk before and after the renaming, so that a machine that loses power leaves the old or the new
one, and never an empty file under the new name.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from research.errors import UserError


@contextlib.contextmanager
def whole_file(path: Path, *, text: bool = False, suffix: str = ".tmp") -> Iterator[IO[Any]]:
    """A file to write, which becomes `path` where that ends well; else nothing is left.

    Args:
      path: what it becomes; one that is there stays until then.
      text: whether it takes text, written as UTF-8, and not bytes.
      suffix: of its name meanwhile; one of its own for each process where several may write the same.
    """
    unfinished = path.with_name(path.name + suffix)
    given = {"mode": "w", "encoding": "utf-8", "newline": "\n"} if text else {"mode": "wb"}
    try:
        with unfinished.open(**given) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `output` where that ends well; else nothing is left.

    Raises:
      UserError: `output` exists already, or cannot be made.
    """
    if output.exists():
        raise UserError(f"--output is {output}, which exists, expected a folder to be made")
    unfinished = output.with_name(output.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    try:
        yield unfinished
        for path in unfinished.rglob("*"):
            sync_folder(path) if path.is_dir() else sync_file(path)
        unfinished.replace(output)
        sync_folder(output.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    with whole_file(path, text=True) as file:
        file.write(text)


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
      UserError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
