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

RUNS = "runs"  # the axis of a mesh along which whole runs are shared out
_LEAST_ROWS = 64  # of a batch for each accelerator: with fewer, summing the gradients costs more than sharing saves


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the arrays of R runs are: on the default device, or shared out among the devices of a mesh.

    A mesh with the axis "batch" gives each device a share of the rows of every batch, and all of everything else. A
    mesh with the axis "runs" gives each device a share of the runs.
    """

    mesh: Mesh | None = None

    @property
    def row_shares(self) -> int:
        """Among how many devices the rows of a batch are shared out."""
        return self._size_of(BATCH)

    @property
    def run_shares(self) -> int:
        """Among how many devices the runs are shared out."""
        return self._size_of(RUNS)

    @property
    def row_mesh(self) -> Mesh | None:
        """The mesh that rows are shared out over, or None."""
        return self.mesh if self.row_shares > 1 else None

    def _size_of(self, axis: str) -> int:
        return 1 if self.mesh is None else self.mesh.shape.get(axis, 1)

    def put(self, tree: Any) -> Any:
        """Put arrays [R, ...] on the devices."""
        return self._put(tree, PartitionSpec(*[RUNS] * (self.run_shares > 1)))

    def put_rows(self, tree: Any, axis: int) -> Any:
        """Put arrays [R, ...] whose `axis` holds the rows of a batch, a multiple of `row_shares`, on the devices."""
        return self._put(tree, PartitionSpec(*[None] * axis, BATCH)) if self.row_shares > 1 else self.put(tree)

    def put_shared(self, tree: Any) -> Any:
        """Put arrays that are equal for all runs and rows on every device."""
        return self._put(tree, PartitionSpec())

    def _put(self, tree: Any, spec: PartitionSpec) -> Any:
        if self.mesh is None:
            return jax.device_put(tree)
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        # Every process has the whole and puts its share; device_put would have all of them compare what they have.
        return jax.tree.map(functools.partial(_put_share, sharding), tree)

    def replicate(self, tree: Any) -> Any:
        """Inside a compiled function: have results stand on every device, so that each process can read them."""
        if self.row_mesh is None:
            return tree
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), tree)

    def map_runs(self, function: Callable[..., Any], arguments: int) -> Callable[..., Any]:
        """Have each device call a function with its own runs; without a mesh of runs, return the function itself.

        Args:
          function: takes `arguments` trees of arrays [R, ...], then arrays and keywords that are equal for all runs.
          arguments: how many of the arguments have the axis of runs.
        """
        if self.run_shares == 1:
            return function

        def on_every_device(*given: Any, **keywords: Any) -> Any:
            of_all = functools.partial(function, **keywords)
            specs = tuple(PartitionSpec(*[RUNS] * (i < arguments)) for i in range(len(given)))
            every = jax.shard_map(
                of_all, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(RUNS), check_vma=False
            )
            return every(*given)

        return on_every_device


ONE_DEVICE = Placement()


def _put_share(sharding: NamedSharding, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf  # it is there already
    return jax.make_array_from_callback(np.shape(leaf), sharding, np.asarray(leaf).__getitem__)


def share_rows(devices: int, batch_size: int) -> Placement:
    """Return the placement of one run whose batches are shared out among devices.

    Args:
      devices: how many; 0 takes as many as pay for themselves: on CPU one (with all its cores), else one for every 64
        rows of a batch.
      batch_size: rows of a batch.

    Raises:
      UserError: there are not so many devices, or several processes are to use fewer than all.
    """
    found = jax.devices()
    if not devices:
        devices = _devices_that_pay(batch_size)
    if jax.process_count() > 1 and devices != len(found):
        raise UserError(f"--devices is {devices}, expected none: several processes use all of theirs, {len(found)}")
    if not 1 <= devices <= len(found):
        raise UserError(f"--devices is {devices}, expected 1 to {len(found)}, as many as JAX finds here")
    return ONE_DEVICE if devices == 1 else Placement(_make_mesh(BATCH, found[:devices]))


def _devices_that_pay(batch_size: int) -> int:
    if jax.process_count() > 1:
        return len(jax.devices())
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(len(jax.local_devices()), batch_size // _LEAST_ROWS))


def share_runs(devices: int) -> Placement:
    """Return the placement of a group of runs that so many of this process's devices share."""
    return ONE_DEVICE if devices == 1 else Placement(_make_mesh(RUNS, jax.local_devices()[:devices]))


def _make_mesh(axis: str, devices: Sequence[jax.Device]) -> Mesh:
    return jax.make_mesh((len(devices),), (axis,), (AxisType.Auto,), devices=devices)
