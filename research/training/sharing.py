"""One run on several devices: each batch's rows are shared out, everything else stands on every device.

The programs are the same as on one device; XLA divides the work by where the arrays are, and sums the gradients.
"""

import contextlib
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError
from research.models.layers.sharding import BATCH, has_shards

_LEAST_ROWS = 64  # of a batch for each accelerator: fewer do not pay for the sums


def devices_for(batch_size: int) -> int:
    """Among how many of the devices that JAX finds a batch is shared out: on CPU one, which has all the cores."""
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(len(jax.local_devices()), batch_size // _LEAST_ROWS))


def shared_among(devices: int) -> contextlib.AbstractContextManager[Any]:
    """A context in which rows are shared out among so many devices; nothing where it is one.

    Raises:
      UserError: there are not so many.
    """
    found = jax.devices()
    if not 1 <= devices <= len(found):
        raise UserError(f"--devices is {devices}, expected 1 to {len(found)}, as many as JAX finds here")
    if devices == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(jax.make_mesh((devices,), (BATCH,), (AxisType.Auto,), devices=found[:devices]))


def shares() -> int:
    """Among how many devices rows are shared out here."""
    mesh = jax.sharding.get_mesh()
    return 1 if mesh.empty else mesh.shape[BATCH]


def put_whole(tree: Any) -> Any:
    """Arrays on every device."""
    mesh: Mesh = jax.sharding.get_mesh()
    return jax.device_put(tree) if mesh.empty else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def put_rows(tree: Any, axis: int) -> Any:
    """Arrays whose `axis` holds rows, a share on each device; the rows are a multiple of `shares()`."""
    mesh: Mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.device_put(tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*[None] * axis, BATCH)))


def whole(tree: Any) -> Any:
    """Within a program: results that are to stand on every device, so that each can be read anywhere."""
    if not has_shards():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)
