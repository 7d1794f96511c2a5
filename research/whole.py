"""Files and folders that are there whole or not at all: written under another name, then renamed."""

import contextlib
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
        unfinished.replace(path)
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
        unfinished.replace(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
      UserError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
