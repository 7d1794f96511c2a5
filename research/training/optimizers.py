"""Optax chains by name, and the schedule of the learning rate.

The schedule is a factor on the updates and a function of the share of steps done, which is data: runs of different
lengths share one compiled program.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.settings import Optimizer


def make_optimizer(settings: Optimizer) -> optax.GradientTransformationExtraArgs:
    """The Optax chain that the settings name, at its highest learning rate.

    Weight decay is of matrices alone; adamw and lion decouple it from the gradient (Loshchilov & Hutter 2019), the
    others add it to the gradient.
    """
    if settings.name == "lbfgs":
        return optax.with_extra_args_support(optax.lbfgs())
    core = {
        "adam": lambda: optax.scale_by_adam(eps=1e-7),  # eps as in Keras
        "adamw": lambda: optax.scale_by_adam(eps=1e-7),
        "sgd": lambda: optax.trace(settings.momentum) if settings.momentum else optax.identity(),
        "adadelta": lambda: optax.scale_by_adadelta(rho=0.95, eps=1e-6),
        "lion": lambda: optax.scale_by_lion(),
    }[settings.name]()
    decay = [optax.add_decayed_weights(settings.weight_decay, mask=_matrices)] if settings.weight_decay else []
    decoupled = settings.name in ("adamw", "lion")
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    chain = [*clip, core, *decay] if decoupled else [*clip, *decay, core]
    return optax.with_extra_args_support(optax.chain(*chain, optax.scale(-settings.learning_rate)))


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def rate_factor(settings: Optimizer, progress: jax.Array) -> jax.Array:
    """The learning rate as a share of its highest.

    Args:
      settings: with `schedule` and `warmup` w.
      progress: float32 [], p, the share of all steps that are done with this one, in (0, 1].

    Returns:
      float32 []: p / w up to w; then 1, or falling to 0 linearly or as half a cosine, or sqrt(w / p)
      (Vaswani et al. 2017, eq. 3).
    """
    w = settings.warmup
    after = jnp.clip((progress - w) / (1.0 - w), 0.0, 1.0)
    factor = {
        "constant": lambda: jnp.ones_like(progress),
        "linear": lambda: 1.0 - after,
        "cosine": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * after)),
        "rsqrt": lambda: jnp.sqrt(w / jnp.maximum(progress, w)),
    }[settings.schedule]()
    return jnp.where(progress < w, progress / w, factor) if w else factor


def limit_columns(params: Any, max_norm: float) -> Any:
    """Scales the columns of `head/kernel` whose norm is above `max_norm` down to it (Kim 2014, section 2.1)."""
    kernel = params["head"]["kernel"]
    norms = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    kernel = kernel * jnp.minimum(1.0, max_norm / jnp.maximum(norms, 1e-12))
    return params | {"head": params["head"] | {"kernel": kernel}}
