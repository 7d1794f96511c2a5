"""One run on several devices: each batch's rows are shared out, everything else stands on every device.

The programs are the same as on one device; XLA divides the work by where the arrays are, and sums the gradients.
"""

import contextlib
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError
from research.models.kernels.row_shards import BATCH, has_shards

_LEAST_ROWS = 64  # of a batch for each accelerator: fewer do not pay for the sums


def devices_for(batch_size: int) -> int:
    """Among how many of the devices that JAX finds a batch is shared out: of one process on CPU one, with all cores."""
    if jax.process_count() > 1:
        return len(jax.devices())
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(len(jax.local_devices()), batch_size // _LEAST_ROWS))


def shared_among(devices: int) -> contextlib.AbstractContextManager[Any]:
    """A context in which rows are shared out among so many devices; nothing where it is one.

    Raises:
      UserError: there are not so many.
    """
    found = jax.devices()
    if jax.process_count() > 1 and devices != len(found):
        raise UserError(f"--devices is {devices}, expected none: several processes use all of theirs, {len(found)}")
    if not 1 <= devices <= len(found):
        raise UserError(f"--devices is {devices}, expected 1 to {len(found)}, as many as JAX finds here")
    if devices == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(jax.make_mesh((devices,), (BATCH,), (AxisType.Auto,), devices=found[:devices]))


def shares() -> int:
    """Among how many devices rows are shared out here."""
    mesh = jax.sharding.get_mesh()
    return 1 if mesh.empty else mesh.shape[BATCH]


def put_replicated(tree: Any) -> Any:
    """Arrays on every device."""
    return _put(tree, PartitionSpec())


def put_rows(tree: Any, axis: int) -> Any:
    """Arrays whose `axis` holds rows, a share on each device; the rows are a multiple of `shares()`.

    They stay as they are where nothing is shared out: a program puts what it is called with in less time.
    """
    return tree if jax.sharding.get_mesh().empty else _put(tree, PartitionSpec(*[None] * axis, BATCH))


def _put(tree: Any, spec: PartitionSpec) -> Any:
    mesh: Mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.device_put(tree)
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    # Every process has the whole and puts its share; device_put would have all of them compare what they have.
    return jax.tree.map(functools.partial(_put_share, sharding), tree)


def _put_share(sharding: NamedSharding, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf  # it is there already
    return jax.make_array_from_callback(np.shape(leaf), sharding, np.asarray(leaf).__getitem__)


def replicated(tree: Any) -> Any:
    """Within a program: results that are to stand on every device, so that each can be read anywhere."""
    if not has_shards():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)
