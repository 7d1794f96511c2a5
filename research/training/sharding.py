"""Place arrays on the devices that share a run's batches, or a group's runs.

The compiled functions are the same on any number of devices; XLA divides the work by where the arrays are.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError
from research.models.kernels.row_shards import BATCH

_RUNS = "runs"  # the axis of a mesh whose devices share the runs
_LEAST_ROWS = 64  # of a batch, for each accelerator; with fewer, summing the gradients costs more than sharing saves


@dataclasses.dataclass(frozen=True)
class Placement:
    """The devices that hold the arrays of R runs: the default device, or those of a mesh.

    On a mesh with the axis "batch", each device holds a share of the rows of every batch, and a copy of all other
    arrays. On a mesh with the axis "runs", each device holds a share of the runs.
    """

    mesh: Mesh | None = None

    @property
    def row_shares(self) -> int:
        """The number of devices that share the rows of a batch."""
        return self._size_of(BATCH)

    @property
    def run_shares(self) -> int:
        """The number of devices that share the runs."""
        return self._size_of(_RUNS)

    @property
    def row_mesh(self) -> Mesh | None:
        """The mesh whose devices share the rows of a batch, or None."""
        return self.mesh if self.row_shares > 1 else None

    def _size_of(self, axis: str) -> int:
        return 1 if self.mesh is None else self.mesh.shape.get(axis, 1)

    def put(self, tree: Any) -> Any:
        """Put arrays [R, ...] on the devices."""
        return self._put(tree, PartitionSpec(_RUNS) if self.run_shares > 1 else PartitionSpec())

    def put_rows(self, tree: Any, axis: int) -> Any:
        """Put arrays [R, ...] whose `axis` holds the rows of a batch, a multiple of `row_shares`, on the devices."""
        if self.row_shares == 1:
            return self.put(tree)
        return self._put(tree, PartitionSpec(*[None] * axis, BATCH))

    def put_shared(self, tree: Any) -> Any:
        """Put arrays that are equal for all runs and rows on every device."""
        return self._put(tree, PartitionSpec())

    def _put(self, tree: Any, spec: PartitionSpec) -> Any:
        if self.mesh is None:
            return jax.device_put(tree)
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        # Every process has all values and puts its share. `device_put` would make the processes compare their values.
        return jax.tree.map(functools.partial(_put_share, sharding), tree)

    def replicate(self, tree: Any) -> Any:
        """Copy results to every device, so that each process can read them; for use inside a compiled function."""
        if self.row_mesh is None:
            return tree
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), tree)

    def map_runs(self, function: Callable[..., Any], arguments: int) -> Callable[..., Any]:
        """Return a function that calls `function` on each device with the runs of that device.

        Args:
          function: takes `arguments` trees of arrays [R, ...], then arrays and keywords that are equal for all runs.
          arguments: the number of leading arguments that have the axis of runs.

        Returns:
          the new function; `function` itself if devices do not share the runs.
        """
        if self.run_shares == 1:
            return function

        def on_every_device(*values: Any, **keywords: Any) -> Any:
            specs = tuple(PartitionSpec(_RUNS) if i < arguments else PartitionSpec() for i in range(len(values)))
            mapped = jax.shard_map(
                functools.partial(function, **keywords),
                mesh=self.mesh,
                in_specs=specs,
                out_specs=PartitionSpec(_RUNS),
                check_vma=False,
            )
            return mapped(*values)

        return on_every_device


ONE_DEVICE = Placement()


def _put_share(sharding: NamedSharding, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf  # it is on the devices already
    return jax.make_array_from_callback(np.shape(leaf), sharding, np.asarray(leaf).__getitem__)


def share_rows(devices: int, batch_size: int) -> Placement:
    """Return the placement of one run whose devices share each batch.

    Args:
      devices: the number of devices. 0 takes as many as are worthwhile: on CPU one (with all its cores), else one for
        every 64 rows of a batch.
      batch_size: rows of a batch.

    Raises:
      UserError: there are not so many devices, or several processes are to use fewer than all.
    """
    available = jax.devices()
    if not devices:
        devices = _worthwhile_devices(batch_size)
    count = len(available)
    if jax.process_count() > 1 and devices != count:
        raise UserError(f"--devices is {devices}, expected no such flag: several processes use all {count} devices")
    if not 1 <= devices <= count:
        raise UserError(f"--devices is {devices}, expected 1 to {count}, as many as JAX finds here")
    return ONE_DEVICE if devices == 1 else Placement(_make_mesh(BATCH, available[:devices]))


def _worthwhile_devices(batch_size: int) -> int:
    if jax.process_count() > 1:
        return len(jax.devices())
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(len(jax.local_devices()), batch_size // _LEAST_ROWS))


def share_runs(devices: int) -> Placement:
    """Return the placement of a group of runs; the given number of this process's devices share the runs."""
    return ONE_DEVICE if devices == 1 else Placement(_make_mesh(_RUNS, jax.local_devices()[:devices]))


def _make_mesh(axis: str, devices: Sequence[jax.Device]) -> Mesh:
    return jax.make_mesh((len(devices),), (axis,), (AxisType.Auto,), devices=devices)
