"""Claim a folder for writing: it holds nothing else, and no other process writes into it."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from research.atomic_files import make_folder
from research.errors import UserError
from research.runs.run_files import LOCK, PLAN


@contextlib.contextmanager
def claim_folder(folder: Path, *, is_ours: bool) -> Iterator[None]:
    """Claim a folder for writing. It is created if it does not exist, and removed at the end if it is still empty.

    Args:
      folder: the folder to write into.
      is_ours: whether it holds an earlier state of the same run or comparison; otherwise it must be free
        (`require_free`).

    Raises:
      UserError: the folder holds something else, another process writes into it, or it cannot be created.
    """
    was_there = folder.exists()
    if not is_ours:
        require_free(folder)
    make_folder(folder)
    try:
        with lock_folder(folder):
            yield
    finally:
        if not was_there:
            remove_if_empty(folder)


def require_free(folder: Path) -> None:
    """Require that a folder does not exist, or holds only a lock and temporary files.

    Raises:
      UserError: it holds something else.
    """
    if (folder / PLAN).exists():
        raise UserError(f"{folder} holds a comparison, not a run; name a new or empty folder with --workdir")
    if folder.is_file():
        raise UserError(f"{folder} is a file; name a folder with --workdir")
    if folder.exists() and (not folder.is_dir() or not all(map(_is_leftover, folder.iterdir()))):
        raise UserError(f"{folder} holds other files; name a new or empty folder with --workdir")


def _is_leftover(path: Path) -> bool:
    """Return whether a killed process may have left this file in an otherwise empty folder."""
    return path.suffix == ".tmp" or path.name == LOCK


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder. The system releases the lock when this process ends.

    Raises:
      UserError: another process writes into the folder, or it cannot be written to.
    """
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            try:
                # A link is not followed, because its target would be overwritten.
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                file = stack.enter_context(os.fdopen(descriptor, "r+", encoding="utf-8"))
            except OSError as error:
                raise UserError(f"{folder} cannot be written to ({error.strerror}); name another --workdir") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read() or "another process"
                raise UserError(
                    f"{folder} is being written by {owner}; wait until it ends, or name another --workdir"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break  # otherwise the earlier owner has just removed the file: open a new one
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
