"""What fresh variables start from where they do not start at random: vectors of words, the weights of an encoder, or
the parameters of another run, as far as they fit; its words are found by name, not by number.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.data.pretrained_encoders import read_weights
from research.errors import UserError
from research.runs.restore import Restored
from research.runs.texts import RunTexts
from research.settings import Config


class Taken(NamedTuple):
    """What became of each parameter, by names like `forwards_0/kernel`."""

    taken: list[str]
    fresh: list[str]  # the other run has none of that name
    misshaped: list[str]  # left fresh too; with both shapes
    skipped: list[str]  # of the other run, without a place here
    words: int  # that both vocabularies have: the rows taken of an embedding


def start_from_pretrained(module: nn.Module, config: Config, texts: RunTexts, fresh: dict[str, Any]) -> dict[str, Any]:
    """Fresh variables with the vectors or weights that the settings name, if any.

    Raises:
      UserError: the module has no embedding of that size, or no place for the weights.
    """
    if texts.vectors is not None:
        fresh = start_from_vectors(fresh, *texts.vectors)
    if config.data.weights != "none" and not config.data.from_scratch:
        if not hasattr(module, "start_from"):
            raise UserError("config.data.weights is set, expected none: the model is no encoder that starts from them")
        tensors = read_weights(config.data.weights)
        fresh = fresh | {"params": module.start_from(fresh["params"], tensors, config.data.weights)}
    return fresh


def start_from_vectors(variables: dict[str, Any], values: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Puts the found rows into every embedding; the others keep their direction at the spread of those (Kim 2014).

    Args:
      variables: fresh ones of a module.
      values: float32 [vocab_size, features].
      found: bool [vocab_size], which rows of `values` are vectors.

    Raises:
      UserError: the model has no embedding, or one of another size.
    """
    tables = []

    def put(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != "embedding":
            return leaf
        tables.append(leaf.shape)
        if leaf.shape != values.shape:
            raise UserError(
                f"the vectors have {values.shape[1]} numbers a word and the model's embedding has {leaf.shape[1]}, "
                f"expected config.model.embedding_size (of bert hidden_size) to be {values.shape[1]}"
            )
        spread = np.float32(values[found].std()) / jnp.std(leaf)
        return jnp.where(found[:, None], values, leaf * spread)

    variables = jax.tree_util.tree_map_with_path(put, variables)
    if not tables:
        raise UserError("config.data.vectors is set, expected none: the model has no embedding that starts from them")
    return variables


def start_from_run(fresh: dict[str, Any], source: Restored, vocabulary: dict[str, int]) -> tuple[dict[str, Any], Taken]:
    """The variables of `source` where fresh ones of that name have their shape; rows of an embedding by their words.

    Args:
      fresh: the variables of a fresh state.
      source: the run to start from.
      vocabulary: word -> row of the embeddings here.

    Returns:
      the variables to start from, and what became of each.
    """
    ours, theirs = flatten_dict(fresh), flatten_dict(source.variables)
    both = [(row, source.vocabulary[word]) for word, row in vocabulary.items() if word in source.vocabulary]
    rows, their_rows = np.array(both, np.int32).reshape(-1, 2).T
    result = dict(ours)
    found = Taken([], [], [], ["/".join(path[1:]) for path in theirs if path not in ours], len(rows))
    for path, leaf in ours.items():
        name, other = "/".join(path[1:]), theirs.get(path)
        if other is None:
            found.fresh.append(name)
        elif path[-1] == "embedding" and leaf.shape[1:] == other.shape[1:]:
            result[path] = jnp.asarray(leaf).at[rows].set(other[their_rows])
            found.taken.append(name)
        elif leaf.shape == other.shape:
            result[path] = jnp.asarray(other)
            found.taken.append(name)
        else:
            found.misshaped.append(f"{name} {list(other.shape)} there, {list(leaf.shape)} here")
    return unflatten_dict(result), found
