"""Train one run in several processes, on one machine or many. All do the same; only the first writes the run's folder.

Every process draws the same batches, trains on its share of the rows (`training.sharding`) and has the same state, so
the processes need not coordinate. All but the first write into a temporary folder and keep their checkpoints in memory.
"""

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.errors import UserError
from research.runs import run_files
from research.runs.checkpoints import Checkpoints, checkpoints_checksum
from research.training.step import TrainState

_JOIN_SECONDS = 60  # how long the processes wait for each other at the start
_HEARTBEAT_SECONDS = 20  # without a heartbeat for this long, a process counts as lost


def join(coordinator: str, processes: int, process: int) -> None:
    """Join the processes that train one run together. Call this before JAX computes anything.

    Args:
      coordinator: HOST:PORT of the first process, or "auto" if the cluster provides all three (Slurm, Open MPI, TPU).
      processes: the number of processes.
      process: the number of this process, from 0.

    Raises:
      UserError: an argument is wrong, or "auto" finds no cluster.
    """
    if coordinator != "auto" and not 0 <= process < processes:
        raise UserError(f"--process is {process}, expected 0 to {processes - 1}, as --processes={processes} says")
    if coordinator != "auto" and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator is {coordinator!r}, expected HOST:PORT, or auto")
    address = () if coordinator == "auto" else (coordinator, processes, process)
    try:
        jax.distributed.initialize(
            *address,
            initialization_timeout=_JOIN_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except ValueError as error:  # "auto" outside a cluster
        raise UserError(f"--coordinator={coordinator}: the processes cannot be joined ({error})") from error


def is_first() -> bool:
    """Return whether this process is the one that writes the run's folder."""
    return jax.process_index() == 0


@contextlib.contextmanager
def local_folder(workdir: Path) -> Iterator[Path]:
    """Yield the folder that this process writes into: `workdir`, or a temporary copy in all but the first process.

    Raises:
      UserError: the processes do not see the same `workdir`.
    """
    if jax.process_count() == 1:
        yield workdir
        return
    with tempfile.TemporaryDirectory() as temporary:
        multihost_utils.sync_global_devices("before the first write")
        folder = workdir
        if not is_first():
            folder = Path(temporary) / "run"
            if workdir.exists():
                shutil.copytree(workdir, folder, ignore=shutil.ignore_patterns(run_files.LOCK, "*.tmp"))
        metrics = folder / run_files.METRICS
        content = checkpoints_checksum(folder / run_files.CHECKPOINTS)
        if metrics.exists():
            content += metrics.read_text("utf-8")
        checksum = np.frombuffer(hashlib.sha256(content.encode()).digest()[:4], np.int32)
        if len(np.unique(multihost_utils.process_allgather(checksum))) > 1:
            raise UserError(
                f"{workdir} differs between the processes; name a folder that all of them can see with --workdir"
            )
        yield folder


def open_checkpoints(
    folder: Path, template: TrainState
) -> contextlib.AbstractContextManager["Checkpoints | MemoryCheckpoints"]:
    """Open the checkpoints of a run to train: on disk in the process that writes the run's folder, else in memory."""
    if is_first():
        return Checkpoints(folder.absolute(), template)
    return contextlib.nullcontext(MemoryCheckpoints(folder.absolute(), template))


class MemoryCheckpoints:
    """The same methods as `Checkpoints`, with the states kept in memory; it starts with those saved in a folder."""

    def __init__(self, folder: Path, template: TrainState):
        self._saved: dict[int, tuple[float, TrainState]] = {}  # step -> (selection, state)
        if folder.exists():
            with Checkpoints(folder, template, read_only=True) as saved:
                self._saved = {step: (saved.selection(step), saved.restore(step)) for step in saved.steps()}

    def steps(self) -> list[int]:
        return sorted(self._saved)

    def last_step(self) -> int | None:
        return max(self._saved, default=None)

    def best_step(self) -> int | None:
        return max(self.steps(), key=self.selection, default=None)  # the earlier of two equal ones

    def selection(self, step: int) -> float:
        return self._saved[step][0]

    def seconds(self, step: int) -> float:
        return 0.0  # only the first process writes a record

    def save(self, state: TrainState, *, selection: float, seconds: float) -> None:
        step = int(state.step)
        if step not in self._saved or selection > self.selection(step):
            self._saved[step] = selection, state
        self._saved = {step: self._saved[step] for step in {self.best_step(), self.last_step()}}

    def clear(self) -> None:
        self._saved = {}

    def restore(self, step: int) -> TrainState:
        return self._saved[step][1]


def should_stop(call: int) -> bool:
    """Return whether all processes must stop now, because one received SIGTERM, as when a machine is preempted.

    Args:
      call: the number of this call. Every process makes the same calls and gets the same answers.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(call)
