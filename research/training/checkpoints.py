"""Orbax checkpoints of a run: the best state by validation and the last; the only file that imports Orbax.

Orbax keeps process-wide state for the save in progress, so saves of runs that train side by side in threads must not
overlap (they cross-talk, fail or wait for ever). All saves of a process go through one background thread, one after the
other: asynchronous to training, and never two at once.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from research.errors import UserError

_WRITER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
_ORBAX = threading.Lock()  # held during every call into Orbax


def _score(metrics: Any) -> tuple[float, int]:
    """Higher is better; of equals the earlier step."""
    return metrics["selection"], -metrics["step"]


class Checkpoints:
    """The checkpoints in one folder; a context manager that waits for the writes.

    Retention is bounded: the best by `selection` and the last are kept.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        keep = [preservation.LatestN(1), preservation.BestN(get_metric_fn=_score, n=1)]
        self._folder = folder
        self._writes: list[Future[None]] = []
        with _ORBAX:
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation.AnyPreservationPolicy(keep),
                    best_fn=_score,  # without it Orbax writes no metrics
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    save_interval_steps=0 if read_only else 1,
                    enable_async_checkpointing=False,
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

    def _wait(self) -> None:
        """Waits for the writes, and raises what one of them raised."""
        writes, self._writes = self._writes, []
        for write in writes:
            write.result()

    def last_step(self) -> int | None:
        """The newest step, or None."""
        self._wait()
        with _ORBAX:
            return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the best state, or None where there is no checkpoint."""
        self._wait()
        with _ORBAX:
            steps = self._manager.all_steps()
            return max(steps, key=lambda step: _score(self._manager.metrics(step)), default=None)

    def save(self, state: Any, *, selection: float) -> None:
        """Saves a `TrainState` under its step, in the background; `selection` chooses the best, higher is better."""
        host = jax.tree.map(np.array, state)  # a copy: the next step is given the memory of this state
        self._writes.append(_WRITER.submit(self._write, host, selection))

    def _write(self, state: Any, selection: float) -> None:
        step = int(state.step)
        with _ORBAX:
            if step not in self._manager.all_steps():
                metrics = {"selection": selection, "step": step}
                self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def restore(self, step: int, template: Any) -> Any:
        """The state of a step.

        Args:
          step: of `last_step` or `best_step`.
          template: a state of equal structure, shapes and dtypes (`jax.eval_shape`), on any device.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        self._wait()
        # Arrays come back as NumPy: whoever uses them decides on the device.
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        try:
            with _ORBAX:
                return self._manager.restore(step, args=ocp.args.StandardRestore(template))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{self._folder / str(step)}: this checkpoint cannot be restored ({error})") from error
