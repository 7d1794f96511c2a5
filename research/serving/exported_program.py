"""The function that an export holds: from token ids to probabilities, with the run's weights in it."""

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


def predict_function(run: RestoredRun) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return a function (token ids int32 [B, L], lengths int32 [B]) -> probabilities float32 [B, C]."""
    variables, module = run.variables, with_kernels(run.module, Kernels(plain=True))

    def predict(token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
        batch = Batch(token_ids, lengths, lengths, lengths)  # labels and weights are not read
        return probabilities(apply_in_dtype(module, run.config, variables, batch))

    return predict


def export_for_any_shape(predict: Callable[[jax.Array, jax.Array], jax.Array]) -> export.Exported:
    """Export a function of token ids int32 [B, L] and lengths int32 [B], for any B, any L >= 1 and any platform."""
    rows, width = export.symbolic_shape("rows, width", constraints=("width >= 1",))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((rows, width), (rows,)))
    return export.export(jax.jit(predict), platforms=_PLATFORMS)(*shapes)
