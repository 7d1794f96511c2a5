"""How a module computes its recurrences. This is no setting of a variant: results differ by rounding alone."""

import dataclasses

from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The kernels that a module uses.

    Attributes:
      plain: compute recurrences by the plain reference, whose loops take a known number of steps. Counting FLOPs and
        exporting need that.
      mesh: split the rows of a batch over the devices of this mesh, see `row_shards`. None: one device.
    """

    plain: bool = False
    mesh: Mesh | None = None
