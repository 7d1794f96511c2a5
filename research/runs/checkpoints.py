"""Orbax checkpoints of a run: the best state by validation and the last; the only file that imports Orbax.

Orbax keeps process-wide state for the save in progress, so saves of runs that train side by side in threads must not
overlap (they cross-talk, fail or wait for ever). All saves of a process go through one background thread, one after the
other: asynchronous to training, and never two at once.

Orbax writes a step whole or not at all, but does not notice when its files change afterwards: a flipped bit comes back
as a wrong weight. So each step is sealed by the SHA-256 of its files, and one that does not match is passed over.
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
_ORBAX = threading.Lock()  # held during every call into Orbax
_LOG = logging.getLogger("research")
_ROOM = 1 << 20  # bytes that a checkpoint takes beside its arrays, at most
_DAMAGED = ".damaged"  # behind the name of a step that is put aside
_SEAL = "files.sha256"  # in a step's folder, as `sha256sum` writes it


def _score(metrics: Any) -> tuple[float, int]:
    """Higher is better; of equals the earlier step."""
    return metrics["selection"], -metrics["step"]


def _digests(folder: Path) -> str:
    """A line a file below a step's folder, but for the seal."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (_SEAL, _SEAL + ".tmp"))
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )


def seal(folder: Path) -> None:
    """Write the checksums of a step's files."""
    write_text(folder / _SEAL, _digests(folder))


def _has_metrics(folder: Path) -> bool:
    try:
        return "selection" in json.loads((folder / "metrics" / "metrics").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _intact_steps(folder: Path) -> tuple[list[int], list[int]]:
    """The steps below a folder, ascending: those that are as they were written, and the others.

    Where no step is sealed, an earlier version wrote them, and all that say how good they are count as intact.
    """
    steps = sorted(int(path.name) for path in folder.glob("*/") if path.name.isdigit())
    found: tuple[list[int], list[int]] = ([], [])
    if not any((folder / str(step) / _SEAL).exists() for step in steps):
        for step in steps:
            found[not _has_metrics(folder / str(step))].append(step)
        return found
    for step in steps:
        seal = folder / str(step) / _SEAL
        try:
            found[not seal.exists() or seal.read_bytes() != _digests(seal.parent).encode()].append(step)
        except FileNotFoundError:  # whoever trains has removed it meanwhile, or a file is missing
            if seal.exists():
                found[True].append(step)
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    absl = logging.getLogger("absl")
    before = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(before)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Of several processes (`processes`) none waits for another one, and the first one alone writes."""
    here = jax.process_index()
    alone = {here} if jax.process_count() > 1 else None
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes=alone)


def fingerprint(folder: Path) -> str:
    """A hash of the checkpoints in a folder, by their seals; that of nothing where there are none."""
    seals = b"".join(seal.read_bytes() for seal in sorted(folder.glob(f"*/{_SEAL}")))
    return hashlib.sha256(seals).hexdigest()


class Checkpoints:
    """The checkpoints in one folder; a context manager that waits for the writes.

    Retention is bounded: the best by `selection` and the last are kept. Steps that are damaged are passed over with a
    warning; who may write puts them aside, and deletes them when the next one is saved.
    """

    def __init__(self, folder: Path, template: Any = None, *, read_only: bool = False):
        """Raises UserError where there are steps and none is intact.

        Args:
          folder: made where it does not exist and may be written to.
          template: what `restore` gives: a state of equal structure, shapes and dtypes (`jax.eval_shape`), on any
            device; without one its fields come back as plain dictionaries and lists, whichever version wrote them.
          read_only: whether nothing may be saved, nor damaged steps be put aside.
        """
        self._folder = folder
        # Arrays come back as NumPy: whoever uses them decides on the device.
        self._template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        self._writes: list[Future[None]] = []
        intact, damaged = _intact_steps(folder)
        for step in damaged:
            _LOG.warning("%s: this checkpoint is damaged and is passed over", folder / str(step))
        if damaged and not intact:
            raise UserError(f"{folder}: no checkpoint is intact, nothing is changed; --overwrite (train) begins anew")
        # Orbax fails where it sees some kinds of damage.
        seen, self._view = folder.absolute(), None
        if damaged and read_only:
            self._view = tempfile.TemporaryDirectory()
            seen = Path(self._view.name)
            for step in intact:
                (seen / str(step)).symlink_to(folder.absolute() / str(step))
        elif damaged:
            for step in damaged:
                shutil.rmtree(folder / f"{step}{_DAMAGED}", ignore_errors=True)  # of an earlier time
                (folder / str(step)).rename(folder / f"{step}{_DAMAGED}")
        if not read_only:
            make_folder(folder)
            # Of an earlier version, or its writer was killed before: beside sealed ones it would count as damaged.
            for unsealed in (folder / str(step) for step in intact if not (folder / str(step) / _SEAL).exists()):
                seal(unsealed)
        with _ORBAX, _silent():  # Orbax warns of what it was asked for: that it may only read
            self._manager = ocp.CheckpointManager(
                seen,
                options=ocp.CheckpointManagerOptions(
                    best_fn=_score,  # without it Orbax writes no metrics
                    create=False,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    save_interval_steps=0 if read_only else 1,
                    enable_async_checkpointing=False,
                    multiprocessing_options=_alone(),
                ),
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._wait()
        finally:
            with _ORBAX:
                self._manager.close()
            if self._view is not None:
                self._view.cleanup()

    def _wait(self) -> None:
        """Waits for the writes, and raises what one of them raised."""
        writes, self._writes = self._writes, []
        for write in writes:
            write.result()

    def steps(self) -> list[int]:
        """The intact steps, ascending."""
        self._wait()
        with _ORBAX:
            return sorted(self._manager.all_steps())

    def last_step(self) -> int | None:
        """The newest step, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step of the best state, or None where there is no checkpoint."""
        steps = self.steps()
        with _ORBAX:
            return max(steps, key=lambda step: _score(self._manager.metrics(step)), default=None)

    def selection(self, step: int) -> float:
        """What a step was saved with."""
        with _ORBAX:
            return self._manager.metrics(step)["selection"]

    def seconds(self, step: int) -> float:
        """How long training had taken when a step was saved; 0 where that was not kept."""
        with _ORBAX:
            return self._manager.metrics(step).get("seconds", 0.0)

    def save(self, state: Any, *, selection: float, seconds: float = 0.0) -> None:
        """Saves a `TrainState` under its step, in the background.

        Args:
          state: with `step`.
          selection: chooses the best, higher is better.
          seconds: that training has taken so far.
        """
        host = jax.tree.map(np.array, state)  # a copy: the next step is given the memory of this state
        self._writes.append(_WRITER.submit(self._write, host, selection, seconds))
        if len(self._writes) > 1:  # a full disk is noticed at the next save, and few states wait in memory
            self._writes.pop(0).result()

    def _write(self, state: Any, selection: float, seconds: float) -> None:
        step = int(state.step)
        with _ORBAX:
            is_saved = step in self._manager.all_steps()
            if is_saved and selection <= self._manager.metrics(step)["selection"]:
                return
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            if shutil.disk_usage(self._folder).free < size + _ROOM:  # Orbax would fail too, after a page of traces
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
            if is_saved:
                self._manager.delete(step)  # kept before its quality was known
            metrics = {"selection": selection, "step": step, "seconds": seconds}
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)
            seal(self._folder / str(step))
            # Not by Orbax, which deletes before the seal: a kill then would leave one half deleted and one unsealed.
            steps = self._manager.all_steps()
            best = max(steps, key=lambda step: _score(self._manager.metrics(step)))
            for old in set(steps) - {best, max(steps)}:
                self._manager.delete(old)
        for damaged in self._folder.glob(f"*{_DAMAGED}"):
            shutil.rmtree(damaged)

    def clear(self) -> None:
        """Deletes all steps."""
        self._wait()
        with _ORBAX:
            for step in list(self._manager.all_steps()):
                self._manager.delete(step)

    def restore(self, step: int) -> Any:
        """The state of a step, of `last_step` or `best_step`.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        self._wait()
        try:
            with _ORBAX:
                return self._manager.restore(step, args=ocp.args.StandardRestore(self._template))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self._folder / str(step)}: this checkpoint cannot be restored ({error}); --overwrite begins anew"
            ) from error
