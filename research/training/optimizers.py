"""Build Optax chains by name, with the learning-rate schedule.

Rates and step numbers are arguments of a step and not constants in it. So runs of different rates and lengths share one
compiled program.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from research.errors import UserError
from research.models import layer_depth
from research.settings import Config, Optimizer, Training

ADAM_B1, ADAM_B2, ADAM_EPSILON = 0.9, 0.999, 1e-7  # epsilon as in Keras


@struct.dataclass
class Rates:
    """The settings that a step takes as arguments, float32 [] each."""

    learning_rate: jax.Array  # the highest value of the schedule
    weight_decay: jax.Array
    l2: jax.Array


def rates_of(settings: Optimizer, l2: float = 0.0) -> Rates:
    """Return the rates of an optimizer's settings, with `training.l2`."""
    values = (settings.learning_rate, settings.weight_decay, l2)
    return Rates(*(jnp.asarray(value, jnp.float32) for value in values))


def without_rates(config: Config) -> Config:
    """Return the settings without their rates; weight decay and L2 become 1 if they are used, else 0."""
    decay = float(config.optimizer.weight_decay > 0)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1.0, weight_decay=decay)
    training = config.training
    if isinstance(training, Training):
        training = dataclasses.replace(training, l2=float(training.l2 > 0))
    return dataclasses.replace(config, optimizer=optimizer, training=training)


def make_optimizer(settings: Optimizer, module: nn.Module) -> optax.GradientTransformationExtraArgs:
    """Return the Optax chain that the settings name.

    Weight decay applies to weight matrices and not to biases. Adamw and lion decouple it from the gradient (Loshchilov
    & Hutter 2019); the others add it to the gradient. L-BFGS (Nocedal 1980) searches along a line and reads no rate.
    Frozen layers are left out of everything, also out of the gradient norm that is clipped. Adam is by Kingma & Ba
    (2015), Adadelta by Zeiler (2012), Lion by Chen et al. (2023).

    Args:
      settings: the optimizer's settings.
      module: the model, which knows its layers (`research.models.layer_depth`).

    Returns:
      a transformation whose `update` also takes `rates`, `step` and `num_steps` (see `rate_factor`), and for L-BFGS
      `value`, `grad` and `value_fn`, as Optax defines them.

    Raises:
      UserError: more layers are to be frozen than the model has. `init` and `update` raise it.
    """
    if settings.name == "lbfgs":
        return _without_extra(optax.lbfgs())
    core = {
        "adam": lambda: optax.scale_by_adam(ADAM_B1, ADAM_B2, ADAM_EPSILON),
        "adamw": lambda: optax.scale_by_adam(ADAM_B1, ADAM_B2, ADAM_EPSILON),
        "sgd": lambda: optax.trace(settings.momentum) if settings.momentum else optax.identity(),
        "adadelta": lambda: optax.scale_by_adadelta(rho=0.95, eps=1e-6),
        "lion": lambda: optax.scale_by_lion(),
    }[settings.name]()
    decay = [_decay()] if settings.weight_decay else []
    decoupled = settings.name in ("adamw", "lion")
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    chain = [*clip, core, *decay] if decoupled else [*clip, *decay, core]
    if settings.layer_decay < 1:
        chain.append(_scale_by_layer(settings.layer_decay, module))
    chain.append(_scale_by_rate(settings))
    if not settings.frozen:
        return optax.chain(*chain)
    transformations = {"frozen": optax.set_to_zero(), "trained": optax.chain(*chain)}
    return optax.partition(transformations, functools.partial(_label_frozen, frozen=settings.frozen, module=module))


def _without_extra(lbfgs: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Return L-BFGS that ignores `rates`, `step` and `num_steps`; Optax would pass them on to `value_fn`."""

    def update(
        updates: Any, state: Any, params: Any, *, rates: Rates, step: jax.Array, num_steps: jax.Array, **of_lbfgs: Any
    ) -> tuple[Any, Any]:
        return lbfgs.update(updates, state, params, **of_lbfgs)

    return optax.GradientTransformationExtraArgs(lbfgs.init, update)


def layer_depths(params: Any, module: nn.Module) -> Any:
    """Return how far each parameter is from the input: 0 for embeddings, 1 for the lowest layer.

    Args:
      params: a tree of the module's parameters.
      module: the model. Parameters that belong to no embedding and no layer are above all layers.

    Returns:
      the tree, with an integer for each parameter.
    """

    def depth_of(path: tuple[Any, ...], _: Any) -> int:
        depth = layer_depth(module, [str(key.key) for key in path])
        return -1 if depth is None else depth

    tree = jax.tree_util.tree_map_with_path(depth_of, params)
    top = 1 + max(0, *jax.tree.leaves(tree))
    return jax.tree.map(lambda depth: top if depth < 0 else depth, tree)


def _label_frozen(params: Any, *, frozen: int, module: nn.Module) -> Any:
    """Return the tree of parameters with "frozen" for those of the lowest `frozen` layers, else "trained"."""
    depths = layer_depths(params, module)
    top = max(jax.tree.leaves(depths))
    if frozen > top:
        raise UserError(f"config.optimizer.frozen is {frozen}, expected at most {top}, the layers below the classifier")
    return jax.tree.map(lambda depth: "frozen" if depth < frozen else "trained", depths)


def _scale_by_layer(decay: float, module: nn.Module) -> optax.GradientTransformation:
    """Multiply the update of each layer by `decay` once for every layer above it (Howard & Ruder 2018)."""

    def scale(updates: Any, params: Any) -> Any:
        depths = layer_depths(params, module)
        top = max(jax.tree.leaves(depths))
        return jax.tree.map(lambda update, depth: update * decay ** (top - depth), updates, depths)

    return optax.stateless(scale)


def is_weight(path: tuple[Any, ...], param: jax.Array) -> bool:
    """Return whether weight decay and L2 apply to a parameter: it is a weight matrix and not a bias."""
    return param.ndim > 1 and path[-1].key != "bias"


def _decay() -> optax.GradientTransformationExtraArgs:
    """Add the weight decay to the updates of weight matrices."""

    def update(updates: Any, state: Any, params: Any, *, rates: Rates, **_: Any) -> tuple[Any, Any]:
        def decayed(path: tuple[Any, ...], u: jax.Array, param: jax.Array) -> jax.Array:
            return u + rates.weight_decay * param if is_weight(path, param) else u

        return jax.tree_util.tree_map_with_path(decayed, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _scale_by_rate(settings: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Multiply the updates by the negative learning rate of the step."""

    def update(
        updates: Any, state: Any, params: Any, *, rates: Rates, step: jax.Array, num_steps: jax.Array, **_: Any
    ) -> tuple[Any, Any]:
        updates = jax.tree.map(lambda u: -rates.learning_rate * u, updates)
        if settings.schedule != "constant" or settings.warmup:
            factor = rate_factor(settings, step, num_steps)
            updates = jax.tree.map(lambda u: u * factor, updates)
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def rate_factor(settings: Optimizer, step: jax.Array, num_steps: jax.Array) -> jax.Array:
    """Return the learning rate of a step as a share of its highest value.

    With w = floor(warmup * num_steps), the share is step / w in the first w steps. Then it is 1 ("constant"), falls
    linearly ("linear") or as half a cosine ("cosine") so that it would be 0 after the last step, or is sqrt(w / step)
    ("rsqrt", Vaswani et al. 2017, eq. 3).

    Args:
      settings: the optimizer's settings, with `schedule` and `warmup`.
      step: int32 [], the steps before this one, as in Optax.
      num_steps: float32 [], the steps of the whole run.

    Returns:
      float32 [].
    """
    step = step.astype(jnp.float32)
    w = jnp.floor(settings.warmup * num_steps + 1e-3)  # so that rounding does not turn 2.0 steps into 1
    after = jnp.clip((step - w) / jnp.maximum(num_steps - w, 1.0), 0.0, 1.0)
    factor = {
        "constant": lambda: jnp.ones_like(step),
        "linear": lambda: 1.0 - after,
        "cosine": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * after)),
        "rsqrt": lambda: jnp.sqrt(jnp.maximum(w, 1.0) / jnp.maximum(step, jnp.maximum(w, 1.0))),
    }[settings.schedule]()
    return jnp.where(step < w, step / jnp.maximum(w, 1.0), factor)


def limit_columns(params: Any, max_norm: float) -> Any:
    """Scale down the columns of `head/kernel` whose norm exceeds `max_norm` (Kim 2014, section 2.1).

    Raises:
      UserError: the model has no head.
    """
    if "head" not in params:
        raise UserError(f"config.optimizer.max_norm is {max_norm}, expected 0: the model has no head to limit")
    kernel = params["head"]["kernel"]
    norms = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    kernel = kernel * jnp.minimum(1.0, max_norm / jnp.maximum(norms, 1e-12))
    return params | {"head": params["head"] | {"kernel": kernel}}
