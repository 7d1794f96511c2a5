"""Floating-point operations of a traced program; loops count as often as they run, which XLA's analysis leaves out."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend

_ONE_EACH = (
    *("add", "sub", "mul", "div", "max", "min", "neg", "abs", "pow", "integer_pow", "square", "sqrt", "rsqrt"),
    *("exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "erf", "add_any"),
)
_OF_INPUTS = ("reduce_sum", "reduce_max", "reduce_min", "cumsum", "cumlogsumexp", "cummax", "scatter-add")


def count_flops(program: Callable[..., Any], *arguments: Any) -> int:
    """Multiplications, additions and functions of floats in one call; a product of matrices counts 2 n m k.

    Args:
      program: a function that JAX can trace.
      *arguments: of the call; only their shapes and dtypes matter.
    """
    return _of(jax.make_jaxpr(program)(*arguments).jaxpr)


def _of(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, jax.extend.core.jaxprs_in_params(equation.params)
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif name == "scan":
            total += equation.params["length"] * sum(map(_of, inner))
        elif name == "cond":
            total += max(map(_of, inner))
        elif name.startswith("custom_vjp_call") or name.startswith("custom_jvp_call"):
            total += _of(next(iter(inner)))  # the function itself, not its derivatives
        elif name in _ONE_EACH + _OF_INPUTS:
            counted = equation.invars[0] if name in _OF_INPUTS else equation.outvars[0]
            if jax.numpy.issubdtype(counted.aval.dtype, jax.numpy.floating):
                total += math.prod(counted.aval.shape)
        else:
            total += sum(map(_of, inner))
    return total
