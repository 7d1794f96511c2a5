"""What fresh variables start from where they do not start at random: vectors of words, weights of an encoder."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.errors import UserError
from research.settings import Config
from research.training.preparation import Prepared


def start_from_pretrained(
    module: nn.Module, config: Config, prepared: Prepared, fresh: dict[str, Any]
) -> dict[str, Any]:
    """Fresh variables with the vectors or weights that the settings name, if any.

    Raises:
      UserError: the module has no embedding of that size, or no place for the weights.
    """
    if prepared.pretrained is not None:
        fresh = start_from_vectors(fresh, *prepared.pretrained)
    if prepared.weights is not None:
        fresh = start_from_weights(module, fresh, prepared.weights, config.data.weights)
    return fresh


def start_from_vectors(variables: dict[str, Any], values: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Puts the found rows into every embedding; the others keep their direction at the spread of those (Kim 2014)."""
    tables = []

    def put(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != "embedding":
            return leaf
        tables.append(leaf.shape)
        if leaf.shape != values.shape:
            raise UserError(
                f"the vectors have {values.shape[1]} numbers a word and the model's embedding has {leaf.shape[1]}, "
                f"expected --config.model.embedding_size={values.shape[1]}"
            )
        spread = np.float32(values[found].std()) / jnp.std(leaf)
        return jnp.where(found[:, None], values, leaf * spread)

    variables = jax.tree_util.tree_map_with_path(put, variables)
    if not tables:
        raise UserError("config.data.vectors is set, but the model has no embedding to start from them")
    return variables


def start_from_weights(
    module: nn.Module, variables: dict[str, Any], weights: dict[str, np.ndarray], source: str
) -> dict[str, Any]:
    """Puts the tensors of a pretrained encoder into their places; the module knows them (`start_from`)."""
    if not hasattr(module, "start_from"):
        raise UserError("config.data.weights is set, but the model is no encoder that could start from them")
    return variables | {"params": module.start_from(variables["params"], weights, source)}
