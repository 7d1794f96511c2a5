"""Count the floating-point operations of a traced program. Unlike XLA, count a loop's body as often as it runs."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend

from research.data.batches import Batch
from research.models import with_kernels
from research.models.kernels.options import Kernels
from research.settings import Config
from research.training.programs import Programs
from research.training.step import evaluate_step

_ONE_PER_OUTPUT = (
    *("add", "sub", "mul", "div", "max", "min", "neg", "abs", "pow", "integer_pow", "square", "sqrt", "rsqrt"),
    *("exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "erf", "add_any"),
)
_ONE_PER_INPUT = ("reduce_sum", "reduce_max", "reduce_min", "cumsum", "cumlogsumexp", "cummax", "scatter-add")


def flops_per_text(programs: Programs, config: Config, variables: dict[str, Any], example: Batch) -> int:
    """Return the number of floating-point operations that predict one text.

    Args:
      programs: the variant's programs; they cache the result for each width.
      config: the variant's settings.
      variables: the model's variables.
      example: a batch of one text, [1, W].
    """
    width = example.token_ids.shape[1]
    if width not in programs.flops:
        module = with_kernels(programs.module, Kernels(plain=True))  # plain loops state their length
        programs.flops[width] = count_flops(functools.partial(evaluate_step, module, config), variables, example)
    return programs.flops[width]


def count_flops(program: Callable[..., Any], *arguments: Any) -> int:
    """Return the number of floating-point operations of one call; a product [n, m] x [m, k] counts 2 n m k.

    Args:
      program: a function that JAX can trace.
      *arguments: its arguments; only their shapes and dtypes matter.
    """
    return _count(jax.make_jaxpr(program)(*arguments).jaxpr, True)


def count_product_flops(program: Callable[..., Any], *arguments: Any) -> int:
    """Return the floating-point operations of one call that products of matrices need, see `count_flops`."""
    return _count(jax.make_jaxpr(program)(*arguments).jaxpr, False)


def _count(jaxpr: Any, elementwise: bool) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, jax.extend.core.jaxprs_in_params(equation.params)
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif name == "scan":
            total += equation.params["length"] * sum(_count(part, elementwise) for part in inner)
        elif name == "cond":
            total += max(_count(part, elementwise) for part in inner)
        elif name.startswith("custom_vjp_call") or name.startswith("custom_jvp_call"):
            total += _count(next(iter(inner)), elementwise)  # the function itself, not its derivatives
        elif name in _ONE_PER_OUTPUT + _ONE_PER_INPUT:
            counted = equation.invars[0] if name in _ONE_PER_INPUT else equation.outvars[0]
            if elementwise and jax.numpy.issubdtype(counted.aval.dtype, jax.numpy.floating):
                total += math.prod(counted.aval.shape)
        else:
            total += sum(_count(part, elementwise) for part in inner)
    return total
