"""Save and restore the best and the last state of a run as Orbax checkpoints. Only this file imports Orbax.

Orbax keeps process-wide state during a save, so saves of runs that train in parallel threads must not overlap: they
would mix, fail or hang. All saves of a process go through one background thread, so training does not wait for them
and no two run at once.

Orbax writes a checkpoint completely or not at all, but it does not notice later damage: a flipped bit is restored as a
wrong weight. Therefore each checkpoint is sealed with the SHA-256 checksums of its files. A checkpoint that does not
match its seal is ignored.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from research.atomic_files import make_folder, write_text
from research.errors import UserError

_WRITER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
_ORBAX_LOCK = threading.Lock()  # held during every call into Orbax
_LOG = logging.getLogger("research")
_OVERHEAD_BYTES = 1 << 20  # an upper bound of what a checkpoint needs on disk in addition to its arrays
_DAMAGED = ".damaged"  # suffix of a damaged checkpoint that was renamed
_SEAL = "files.sha256"  # in the folder of a checkpoint, in the format of `sha256sum`


def _score(metrics: Any) -> tuple[float, int]:
    """Return the sort key of a checkpoint: the best one has the highest; the earlier of two equal ones is better."""
    return metrics["selection"], -metrics["step"]


def _checksums(folder: Path) -> str:
    """Return one line with the checksum of each file in the folder of a checkpoint, without the seal."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (_SEAL, _SEAL + ".tmp"))
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )


def seal(folder: Path) -> None:
    """Write the checksums of a checkpoint's files into its folder."""
    write_text(folder / _SEAL, _checksums(folder))


def _has_metrics(folder: Path) -> bool:
    """Return whether a checkpoint says how good it is."""
    try:
        return "selection" in json.loads((folder / "metrics" / "metrics").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _check_steps(folder: Path) -> dict[int, bool]:
    """Return whether each checkpoint below a folder is intact, by its step, ascending.

    If no checkpoint is sealed, an earlier version wrote them. Then all those with metrics count as intact.
    """
    folders = {int(path.name): path for path in folder.glob("*/") if path.name.isdigit()}
    folders = dict(sorted(folders.items()))
    if not any((path / _SEAL).exists() for path in folders.values()):
        return {step: _has_metrics(path) for step, path in folders.items()}
    is_intact = {}
    for step, path in folders.items():
        try:
            is_intact[step] = (path / _SEAL).exists() and (path / _SEAL).read_bytes() == _checksums(path).encode()
        except FileNotFoundError:
            if (path / _SEAL).exists():  # otherwise the process that trains has just deleted the checkpoint
                is_intact[step] = False
    return is_intact


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Silence Orbax's warnings: it warns of options that are set here on purpose, such as `read_only`."""
    absl = logging.getLogger("absl")
    before = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(before)


def _without_other_processes() -> ocp.options.MultiprocessingOptions:
    """Return options by which Orbax does not wait for the other processes of a run (`multihost`)."""
    process = jax.process_index()
    active = {process} if jax.process_count() > 1 else None
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes=active)


def checkpoints_checksum(folder: Path) -> str:
    """Return a hash of the seals of all checkpoints in a folder; a folder without any has one too."""
    seals = b"".join(seal.read_bytes() for seal in sorted(folder.glob(f"*/{_SEAL}")))
    return hashlib.sha256(seals).hexdigest()


class Checkpoints:
    """The checkpoints in one folder; a context manager that waits until all are written.

    Only the best by `selection` and the last are kept. Damaged checkpoints are ignored with a warning. Unless the
    folder is read-only, they are renamed at once and deleted after the next save.
    """

    def __init__(self, folder: Path, template: Any = None, *, read_only: bool = False):
        """Open the checkpoints in a folder.

        Args:
          folder: the folder, created if it does not exist and `read_only` is false.
          template: a state with the structure, shapes and dtypes that `restore` returns (`jax.eval_shape`). Without a
            template, states are restored as plain dictionaries and lists, whichever version wrote them.
          read_only: whether the folder must not be changed.

        Raises:
          UserError: there are checkpoints, but all are damaged.
        """
        self._folder = folder
        # Arrays are restored as NumPy arrays; the caller chooses the device.
        self._template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        self._writes: list[Future[None]] = []
        self._view: tempfile.TemporaryDirectory[str] | None = None
        visible = self._without_damaged(read_only)
        with _ORBAX_LOCK, _only_errors():
            self._manager = ocp.CheckpointManager(
                visible,
                options=ocp.CheckpointManagerOptions(
                    best_fn=_score,  # without it, Orbax writes no metrics
                    create=False,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    save_interval_steps=0 if read_only else 1,
                    enable_async_checkpointing=False,
                    multiprocessing_options=_without_other_processes(),
                ),
            )

    def _without_damaged(self, read_only: bool) -> Path:
        """Return a folder with the intact checkpoints only, since Orbax fails on some kinds of damage."""
        folder = self._folder
        is_intact = _check_steps(folder)
        damaged = [step for step in is_intact if not is_intact[step]]
        intact = [folder.absolute() / str(step) for step in is_intact if is_intact[step]]
        for step in damaged:
            _LOG.warning("%s: this checkpoint is damaged and is ignored", folder / str(step))
        if damaged and not intact:
            raise UserError(
                f"{folder}: no checkpoint is intact. Nothing was changed; pass --overwrite to train the run again"
            )
        if read_only and damaged:
            self._view = tempfile.TemporaryDirectory()
            for path in intact:
                (Path(self._view.name) / path.name).symlink_to(path)
            return Path(self._view.name)
        if not read_only:
            for step in damaged:
                shutil.rmtree(folder / f"{step}{_DAMAGED}", ignore_errors=True)  # damaged earlier
                (folder / str(step)).rename(folder / f"{step}{_DAMAGED}")
            make_folder(folder)
            # An earlier version wrote it, or its writer was killed. Next to a sealed one it would count as damaged.
            for path in intact:
                if not (path / _SEAL).exists():
                    seal(path)
        return folder.absolute()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._wait()
        finally:
            with _ORBAX_LOCK:
                self._manager.close()
            if self._view is not None:
                self._view.cleanup()

    def _wait(self) -> None:
        """Wait until all checkpoints are written; raise the error of a failed write."""
        writes, self._writes = self._writes, []
        for write in writes:
            write.result()

    def steps(self) -> list[int]:
        """Return the steps of the intact checkpoints, ascending."""
        self._wait()
        with _ORBAX_LOCK:
            return sorted(self._manager.all_steps())

    def last_step(self) -> int | None:
        """Return the step of the last checkpoint, or None if there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Return the step of the best checkpoint, or None if there is none."""
        steps = self.steps()
        with _ORBAX_LOCK:
            return max(steps, key=lambda step: _score(self._manager.metrics(step)), default=None)

    def selection(self, step: int) -> float:
        """Return the `selection` that a checkpoint was saved with."""
        with _ORBAX_LOCK:
            return self._manager.metrics(step)["selection"]

    def seconds(self, step: int) -> float:
        """Return the seconds of training before a checkpoint was saved; 0 if an earlier version wrote it."""
        with _ORBAX_LOCK:
            return self._manager.metrics(step).get("seconds", 0.0)

    def save(self, state: Any, *, selection: float, seconds: float = 0.0) -> None:
        """Save a state under its step, in the background.

        Args:
          state: a `TrainState`, or another state with a field `step`.
          selection: the score that chooses the best checkpoint; higher is better.
          seconds: how long training has taken so far.
        """
        host_state = jax.tree.map(np.array, state)  # a copy, because the next step reuses the memory of the state
        self._writes.append(_WRITER.submit(self._write, host_state, selection, seconds))
        if len(self._writes) > 1:  # so a full disk is noticed at the next save, and few states wait in memory
            self._writes.pop(0).result()

    def _write(self, state: Any, selection: float, seconds: float) -> None:
        step = int(state.step)
        with _ORBAX_LOCK:
            is_saved = step in self._manager.all_steps()
            if is_saved and selection <= self._manager.metrics(step)["selection"]:
                return
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            if shutil.disk_usage(self._folder).free < size + _OVERHEAD_BYTES:  # Orbax would print pages of traces
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            if is_saved:
                self._manager.delete(step)  # it was saved before it was validated
            metrics = {"selection": selection, "step": step, "seconds": seconds}
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)
            seal(self._folder / str(step))
            # Orbax would delete before the seal is written. A kill could then leave a half-deleted checkpoint and an
            # unsealed one.
            steps = self._manager.all_steps()
            best = max(steps, key=lambda step: _score(self._manager.metrics(step)))
            for old in set(steps) - {best, max(steps)}:
                self._manager.delete(old)
        for damaged in self._folder.glob(f"*{_DAMAGED}"):
            shutil.rmtree(damaged)

    def clear(self) -> None:
        """Delete all checkpoints."""
        self._wait()
        with _ORBAX_LOCK:
            for step in list(self._manager.all_steps()):
                self._manager.delete(step)

    def restore(self, step: int) -> Any:
        """Return the state that was saved at a step.

        Args:
          step: one of `steps()`.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        self._wait()
        try:
            with _ORBAX_LOCK:
                return self._manager.restore(step, args=ocp.args.StandardRestore(self._template))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self._folder / str(step)}: this checkpoint cannot be restored ({error}); "
                "pass --overwrite to train the run again"
            ) from error
