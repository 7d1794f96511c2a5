"""Optax chains by name, and the schedule of the learning rate.

Rates are data, and so are the steps that the schedule is a function of: runs of different rates and lengths share one
compiled program.
"""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from research.errors import UserError
from research.settings import Config, Optimizer, Training

# The layers that are stacked in a model, by the names of their parameters.
_LAYER = re.compile(r"(?:block|forwards|backwards|hidden|stage)_(\d+)|first$|lstm$")


@struct.dataclass
class Rates:
    """Settings that are numbers in a step's formulas, float32 []."""

    learning_rate: jax.Array  # at its highest
    weight_decay: jax.Array
    l2: jax.Array


def rates_of(settings: Optimizer, l2: float = 0.0) -> Rates:
    """The rates that the settings say, and `training.l2`."""
    values = (settings.learning_rate, settings.weight_decay, l2)
    return Rates(*(jnp.asarray(value, jnp.float32) for value in values))


def without_rates(config: Config) -> Config:
    """The settings but for the rates, which are data: of these is left whether there is any decay or penalty at all."""
    decay = float(config.optimizer.weight_decay > 0)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1.0, weight_decay=decay)
    training = config.training
    if isinstance(training, Training):
        training = dataclasses.replace(training, l2=float(training.l2 > 0))
    return dataclasses.replace(config, optimizer=optimizer, training=training)


def make_optimizer(settings: Optimizer) -> optax.GradientTransformationExtraArgs:
    """The Optax chain that the settings name.

    Weight decay is of matrices alone; adamw and lion decouple it from the gradient (Loshchilov & Hutter 2019), the
    others add it to the gradient. L-BFGS (Nocedal 1980) searches along a line and reads no rate. Frozen layers have no
    part in any of it, the norm that is clipped included. Adam is of Kingma & Ba (2015), Adadelta of Zeiler (2012), Lion
    of Chen et al. (2023).

    Returns:
      a transformation whose update takes, besides, `rates`, and `step` and `num_steps` of `rate_factor`; of L-BFGS also
      `value`, `grad` and `value_fn`, as Optax has them.
    """
    if settings.name == "lbfgs":
        return _without_extra(optax.lbfgs())
    core = {
        "adam": lambda: optax.scale_by_adam(eps=1e-7),  # eps as in Keras
        "adamw": lambda: optax.scale_by_adam(eps=1e-7),
        "sgd": lambda: optax.trace(settings.momentum) if settings.momentum else optax.identity(),
        "adadelta": lambda: optax.scale_by_adadelta(rho=0.95, eps=1e-6),
        "lion": lambda: optax.scale_by_lion(),
    }[settings.name]()
    decay = [_decay()] if settings.weight_decay else []
    decoupled = settings.name in ("adamw", "lion")
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    chain = [*clip, core, *decay] if decoupled else [*clip, *decay, core]
    by_layer = [_by_layer(settings.layer_decay)] if settings.layer_decay < 1 else []
    chain += [*by_layer, _scale(settings)]
    if not settings.frozen:
        return optax.chain(*chain)
    kinds = {"frozen": optax.set_to_zero(), "trained": optax.chain(*chain)}
    return optax.partition(kinds, functools.partial(_kinds, frozen=settings.frozen))


def _without_extra(lbfgs: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """L-BFGS, which hands what it does not read on to `value_fn`, without `rates` and steps."""

    def update(
        updates: Any, state: Any, params: Any, *, rates: Rates, step: jax.Array, num_steps: jax.Array, **of_loss: Any
    ) -> tuple[Any, Any]:
        return lbfgs.update(updates, state, params, **of_loss)

    return optax.GradientTransformationExtraArgs(lbfgs.init, update)


def depths(params: Any) -> Any:
    """How far each parameter is from the input: 0 for embeddings, 1 for the lowest layer; the highest are of no layer.

    Args:
      params: a tree whose names say the layers: `embedding`, `block_0`, `forwards_0`, `hidden_0`, `stage_0`, ...; where
        there is one that is not counted it is the lowest (`lstm`, `first`).

    Returns:
      the tree with integers.
    """

    def named(path: tuple[Any, ...], _: Any) -> int:
        names = [str(key.key) for key in path]
        found = next((match for name in names if (match := _LAYER.match(name))), None)
        if found:
            return 1 + int(found[1] or 0)
        return 0 if any("embedding" in name for name in names) else -1

    tree = jax.tree_util.tree_map_with_path(named, params)
    top = 1 + max(0, *jax.tree.leaves(tree))
    return jax.tree.map(lambda depth: top if depth < 0 else depth, tree)


def _kinds(params: Any, *, frozen: int) -> Any:
    tree = depths(params)
    top = max(jax.tree.leaves(tree))
    if frozen > top:
        raise UserError(f"config.optimizer.frozen is {frozen}, expected at most {top}, the layers below the classifier")
    return jax.tree.map(lambda depth: "frozen" if depth < frozen else "trained", tree)


def _by_layer(decay: float) -> optax.GradientTransformation:
    """Multiplies the update of each layer by `decay` for every layer that is above it."""

    def change(updates: Any, params: Any) -> Any:
        tree = depths(params)
        top = max(jax.tree.leaves(tree))
        return jax.tree.map(lambda update, depth: update * decay ** (top - depth), updates, tree)

    return optax.stateless(change)


def is_weight(path: tuple[Any, ...], param: jax.Array) -> bool:
    """Whether a parameter is a matrix and no bias, of however many axes: what decay and L2 are of."""
    return param.ndim > 1 and path[-1].key != "bias"


def _decay() -> optax.GradientTransformationExtraArgs:
    """Adds the decay of the weights to their updates."""

    def update(updates: Any, state: Any, params: Any, *, rates: Rates, **_: Any) -> tuple[Any, Any]:
        def decayed(path: tuple[Any, ...], u: jax.Array, param: jax.Array) -> jax.Array:
            return u + rates.weight_decay * param if is_weight(path, param) else u

        return jax.tree_util.tree_map_with_path(decayed, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _scale(settings: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates by the learning rate, downhill."""

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
    """The learning rate as a share of its highest; as of Optax' schedules, of the steps taken before this one.

    Args:
      settings: with `schedule` and `warmup`.
      step: int32 [], counted from 0.
      num_steps: float32 [], of the whole run.

    Returns:
      float32 []: step / w over the first w steps, w = floor(warmup * num_steps); then 1, or falling linearly or as half
      a cosine to what would be 0 after the last step, or sqrt(w / step) (Vaswani et al. 2017, eq. 3).
    """
    step = step.astype(jnp.float32)
    w = jnp.floor(settings.warmup * num_steps + 1e-3)  # what is whole but for rounding stays whole
    after = jnp.clip((step - w) / jnp.maximum(num_steps - w, 1.0), 0.0, 1.0)
    factor = {
        "constant": lambda: jnp.ones_like(step),
        "linear": lambda: 1.0 - after,
        "cosine": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * after)),
        "rsqrt": lambda: jnp.sqrt(jnp.maximum(w, 1.0) / jnp.maximum(step, jnp.maximum(w, 1.0))),
    }[settings.schedule]()
    return jnp.where(step < w, step / jnp.maximum(w, 1.0), factor)


def limit_columns(params: Any, max_norm: float) -> Any:
    """Scales the columns of `head/kernel` whose norm is above `max_norm` down to it (Kim 2014, section 2.1).

    Raises:
      UserError: there is no such matrix.
    """
    if "head" not in params:
        raise UserError(f"config.optimizer.max_norm is {max_norm}, expected 0: the model has no head that it limits")
    kernel = params["head"]["kernel"]
    norms = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    kernel = kernel * jnp.minimum(1.0, max_norm / jnp.maximum(norms, 1e-12))
    return params | {"head": params["head"] | {"kernel": kernel}}
