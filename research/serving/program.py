"""A run's program: from token ids to probabilities, for whoever converts it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export

from research.data.batches import Batch
from research.models import with_kernels
from research.models.kernels.options import Kernels
from research.runs.restore import RestoredRun
from research.training.metric_sums import probabilities
from research.training.step import apply_in_dtype

_PLATFORMS = ("cpu", "cuda", "tpu")


def program_of(run: RestoredRun) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Token ids int32 [B, L] and lengths int32 [B] -> probabilities float32 [B, C], the weights in it."""
    variables, module = run.variables, with_kernels(run.module, Kernels(plain=True))

    def predict(token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
        batch = Batch(token_ids, lengths, lengths, lengths)  # labels and weights are not read
        return probabilities(apply_in_dtype(module, run.config, variables, batch))

    return predict


def any_shape(program: Callable[[jax.Array, jax.Array], jax.Array]) -> export.Exported:
    """A program of token ids int32 [B, L] and lengths int32 [B], for any B, any L >= 1 and every kind of device."""
    rows, width = export.symbolic_shape("rows, width", constraints=("width >= 1",))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((rows, width), (rows,)))
    return export.export(jax.jit(program), platforms=_PLATFORMS)(*shapes)
