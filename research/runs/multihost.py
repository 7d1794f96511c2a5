"""One run in several processes, on one machine or many: all of them do the same, and the first one keeps the folder.

Every process draws the same batches, trains on its share of the rows (`sharing`) and knows the same state, so none has
to ask another one what to do. Those behind the first write into a folder of their own, which is thrown away, and have
their checkpoints in memory.
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
from research.runs.checkpoints import Checkpoints, fingerprint
from research.training.step import TrainState

_JOIN_SECONDS = 60  # that the first process waits for the others, and they for it
_PATIENCE_SECONDS = 20  # without a sign of life a process counts as lost


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of those that train together; to be called before JAX computes anything.

    Args:
      coordinator: HOST:PORT of the first process; "auto" where the cluster says all three (Slurm, Open MPI, TPU).
      processes: how many there are.
      process: which of them this one is, from 0.

    Raises:
      UserError: there is no such process.
    """
    if coordinator != "auto" and not 0 <= process < processes:
        raise UserError(f"--process is {process}, expected 0 to {processes - 1}, as --processes={processes} says")
    if coordinator != "auto" and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator is {coordinator!r}, expected HOST:PORT, or auto")
    given = (None, None, None) if coordinator == "auto" else (coordinator, processes, process)
    patience = {"heartbeat_timeout_seconds": _PATIENCE_SECONDS, "shutdown_timeout_seconds": _PATIENCE_SECONDS}
    try:
        jax.distributed.initialize(*given, initialization_timeout=_JOIN_SECONDS, **patience)
    except ValueError as error:  # of "auto" where no cluster answers
        raise UserError(f"--coordinator={coordinator}: the processes cannot be joined ({error})") from error


def is_first() -> bool:
    """Whether this process is the one that keeps the folder."""
    return jax.process_index() == 0


@contextlib.contextmanager
def local_folder(workdir: Path) -> Iterator[Path]:
    """The folder that this process writes into: `workdir`, or for all but the first a copy that does not last.

    Raises:
      UserError: the processes do not see the same `workdir`.
    """
    if jax.process_count() == 1:
        yield workdir
        return
    with tempfile.TemporaryDirectory() as temporary:
        multihost_utils.sync_global_devices("nobody writes yet")
        folder = workdir
        if not is_first():
            folder = Path(temporary) / "run"
            if workdir.exists():
                shutil.copytree(workdir, folder, ignore=shutil.ignore_patterns(run_files.LOCK, "*.tmp"))
        metrics = folder / run_files.METRICS
        seen = fingerprint(folder / run_files.CHECKPOINTS) + (metrics.read_text("utf-8") if metrics.exists() else "")
        number = np.frombuffer(hashlib.sha256(seen.encode()).digest()[:4], np.int32)
        if len(np.unique(multihost_utils.process_allgather(number))) > 1:
            raise UserError(f"{workdir}: not the same in all processes, expected a folder that all of them can see")
        yield folder


def checkpoints_of(
    folder: Path, template: TrainState
) -> contextlib.AbstractContextManager["Checkpoints | MemoryCheckpoints"]:
    """The checkpoints of a run that is trained: on disk in the process that keeps the folder."""
    if is_first():
        return Checkpoints(folder.absolute(), template)
    return contextlib.nullcontext(MemoryCheckpoints(folder.absolute(), template))


class MemoryCheckpoints:
    """What `Checkpoints` does, in memory; begins with what a folder holds."""

    def __init__(self, folder: Path, template: TrainState):
        self._kept: dict[int, tuple[float, TrainState]] = {}
        if folder.exists():
            with Checkpoints(folder, template, read_only=True) as there:
                self._kept = {at: (there.selection(at), there.restore(at)) for at in there.steps()}

    def steps(self) -> list[int]:
        return sorted(self._kept)

    def last_step(self) -> int | None:
        return max(self._kept, default=None)

    def best_step(self) -> int | None:
        return max(self.steps(), key=self.selection, default=None)  # of equals the earlier

    def selection(self, step: int) -> float:
        return self._kept[step][0]

    def seconds(self, step: int) -> float:
        return 0.0  # only the first process writes a record

    def save(self, state: TrainState, *, selection: float, seconds: float) -> None:
        step = int(state.step)
        if step not in self._kept or selection > self.selection(step):
            self._kept[step] = selection, state
        self._kept = {at: self._kept[at] for at in {self.best_step(), self.last_step()}}

    def clear(self) -> None:
        self._kept = {}

    def restore(self, step: int) -> TrainState:
        return self._kept[step][1]


def should_stop(call: int) -> bool:
    """Whether all processes are to stop now: soon after one was sent SIGTERM, as before a machine is taken back.

    Args:
      call: counts the calls, of which each process makes the same ones; all of them answer alike.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(call)
