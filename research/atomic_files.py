"""Write files and folders that appear complete or not at all: they get a temporary name and are then renamed.

The content is flushed to the disk before the renaming, and the folder after it. If the machine loses power, the old or
the new file is left, and never an empty one.
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
    """Open a temporary file that becomes `path` at the end of the block; an error deletes it.

    Args:
      path: the file to write; an earlier version stays until the new one is complete.
      text: whether the file takes text, written as UTF-8, instead of bytes.
      suffix: suffix of the temporary name; processes that may write the same file need different ones.
    """
    unfinished = path.with_name(path.name + suffix)
    mode = {"mode": "w", "encoding": "utf-8", "newline": "\n"} if text else {"mode": "wb"}
    try:
        with unfinished.open(**mode) as file:
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
    """Create a temporary folder that becomes `output` at the end of the block; an error deletes it.

    Raises:
      UserError: `output` exists already, or cannot be created.
    """
    if output.exists():
        raise UserError(f"--output={output} exists already, expected the name of a new folder")
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
    """Write a text file that appears complete or not at all."""
    with whole_file(path, text=True) as file:
        file.write(text)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
      UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
