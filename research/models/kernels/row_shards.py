"""Batches whose rows are shared out among devices: the name of that axis of the mesh, and work done shard by shard.

Where there is no mesh, nothing here does anything. Where `jax.set_mesh` has set one, XLA shares out whatever it can
by itself; only what it cannot see through, loops over flattened rows, is told.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

BATCH = "batch"  # the axis of a mesh along which rows are shared out


def has_shards() -> bool:
    """Whether rows are shared out where this is traced."""
    return BATCH in jax.sharding.get_abstract_mesh().axis_names


def by_shard(
    function: Callable[..., Any], rows: int, rows_at: tuple[int | None, ...], results_at: tuple[int, ...]
) -> Callable[..., Any]:
    """`function` on each device's rows; on all of them where they cannot be shared out evenly.

    Args:
      function: of arrays, that treats rows independently.
      rows: how many there are.
      rows_at: for each argument which axis holds the rows, None where every device has the whole.
      results_at: the same for each of its results.
    """
    if not has_shards() or rows % jax.sharding.get_abstract_mesh().shape[BATCH]:
        return function

    def spec(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, BATCH)

    ins, outs = (tuple(map(spec, axes)) for axes in (rows_at, results_at))
    return jax.shard_map(function, in_specs=ins, out_specs=outs, check_vma=False)
