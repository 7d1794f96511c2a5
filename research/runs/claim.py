"""Claim a folder to write into: nothing of somebody else's is in it, and no other process writes into it."""

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
    """Claim a folder, which is made if there is none. A new one is removed at the end if nothing was written.

    Args:
      folder: to write into.
      is_ours: whether it holds an earlier state of what is to be written; otherwise it must be free (`require_free`).

    Raises:
      UserError: the folder holds something else, or another process writes into it, or it cannot be made.
    """
    was_there = folder.exists()
    if not is_ours:
        require_free(folder)
    make_folder(folder)
    try:
        with locked(folder):
            yield
    finally:
        if not was_there:
            remove_if_empty(folder)


def require_free(folder: Path) -> None:
    """Require that a folder does not exist, or is empty but for half-written files of ours.

    Raises:
      UserError: it holds something else.
    """
    if (folder / PLAN).exists():
        raise UserError(f"{folder} holds a comparison, expected no folder there, or an empty one, for a run")
    if folder.is_file():
        raise UserError(f"{folder} is a file, expected a folder for --workdir")
    if folder.exists() and (not folder.is_dir() or not all(map(_is_ours, folder.iterdir()))):
        raise UserError(f"{folder} holds neither a run nor a comparison, and is not empty; name another --workdir")


def _is_ours(path: Path) -> bool:
    return path.suffix == ".tmp" or path.name == LOCK


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder. The system releases the lock when this process ends.

    Raises:
      UserError: another process writes into it, or it cannot be written to.
    """
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            try:
                # A link is not followed: what it leads to would be written over.
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                file = stack.enter_context(os.fdopen(descriptor, "r+", encoding="utf-8"))
            except OSError as error:
                raise UserError(f"{folder}: cannot be written to ({error.strerror})") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"{folder} is being written by {file.read() or 'another process'}; wait for it"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break  # otherwise the process that held it has removed it
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
