"""Run a function on each device's share of the rows of a batch.

XLA splits most work over devices by itself. It cannot see through loops over flattened rows, so these are told.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

BATCH = "batch"  # the axis of a mesh along which rows are split


def by_shard(
    function: Callable[..., Any],
    mesh: Mesh | None,
    rows: int,
    rows_at: tuple[int | None, ...],
    results_at: tuple[int, ...],
) -> Callable[..., Any]:
    """Return a function that runs `function` on each device's rows.

    The result is `function` itself without a mesh, or if the rows cannot be split evenly.

    Args:
      function: takes arrays and treats their rows independently.
      mesh: the devices.
      rows: number of rows.
      rows_at: for each argument the axis that holds the rows, None if every device needs the whole array.
      results_at: for each result the axis that holds the rows.
    """
    if mesh is None or rows % mesh.shape[BATCH]:
        return function

    def spec(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, BATCH)

    in_specs, out_specs = (tuple(map(spec, axes)) for axes in (rows_at, results_at))
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
