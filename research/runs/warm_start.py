"""Start a run from word vectors, an encoder's weights or another run's parameters, instead of at random.

Parameters of another run are used as far as their names and shapes match. Its word vectors are matched by word.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.data.pretrained_encoders import read_weights
from research.errors import UserError
from research.runs.restore import RestoredModel
from research.runs.texts import RunTexts
from research.settings import Config


class StartReport(NamedTuple):
    """What happened to each parameter, by names like `forwards_0/kernel`."""

    taken: list[str]  # copied from the other run
    fresh: list[str]  # random, because the other run has no parameter of that name
    misshaped: list[str]  # random, because the shapes differ; the entry states both
    skipped: list[str]  # parameters of the other run without a counterpart here
    words: int  # words in both vocabularies; their rows of the embedding are copied


class WarmStart(NamedTuple):
    """The variables that a run starts from, and what happened to each parameter."""

    variables: dict[str, Any]
    report: StartReport


def start_from_pretrained(module: nn.Module, config: Config, texts: RunTexts, fresh: dict[str, Any]) -> dict[str, Any]:
    """Return fresh variables with the word vectors or the encoder's weights that the settings name, if any.

    Raises:
      UserError: the module has no embedding of that size, or cannot use the weights.
    """
    if texts.vectors is not None:
        fresh = start_from_vectors(fresh, *texts.vectors)
    if config.data.weights != "none" and not config.data.from_scratch:
        if not hasattr(module, "start_from"):
            raise UserError("config.data.weights is set, expected none: the model is no encoder that starts from them")
        tensors = read_weights(config.data.weights)
        collection = getattr(module, "pretrained_collection", "params")
        fresh = fresh | {collection: module.start_from(fresh[collection], tensors, config.data.weights)}
    return fresh


def start_from_vectors(variables: dict[str, Any], values: np.ndarray, has_vector: np.ndarray) -> dict[str, Any]:
    """Return variables with word vectors in every embedding.

    The rows of words without a vector are scaled to the standard deviation of the vectors (Kim 2014).

    Args:
      variables: fresh variables of a module.
      values: float32 [vocab_size, features], the vectors.
      has_vector: bool [vocab_size], which rows of `values` are vectors.

    Raises:
      UserError: the model has no embedding, or one of another size.
    """
    shapes = []

    def replace(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != "embedding":
            return leaf
        shapes.append(leaf.shape)
        if leaf.shape != values.shape:
            size = values.shape[1]
            raise UserError(
                f"the vectors have {size} numbers per word, but the model's embedding has {leaf.shape[1]}; "
                f"use --config.model.embedding_size={size} (for bert, --config.model.hidden_size={size})"
            )
        spread = np.float32(values[has_vector].std()) / jnp.std(leaf)
        return jnp.where(has_vector[:, None], values, leaf * spread)

    variables = jax.tree_util.tree_map_with_path(replace, variables)
    if not shapes:
        raise UserError("config.data.vectors is set, expected none: the model has no embedding that starts from them")
    return variables


def start_from_run(fresh: dict[str, Any], source: RestoredModel, vocabulary: dict[str, int]) -> WarmStart:
    """Return fresh variables, replaced by those of another run with the same name and shape.

    Args:
      fresh: the variables of a fresh state.
      source: the run to start from.
      vocabulary: word -> row of the embeddings in `fresh`.
    """
    ours, theirs = flatten_dict(fresh), flatten_dict(source.variables)
    shared = [(row, source.vocabulary[word]) for word, row in vocabulary.items() if word in source.vocabulary]
    rows, their_rows = np.array(shared, np.int32).reshape(-1, 2).T
    skipped = [_name(path) for path in theirs if path not in ours]
    report = StartReport(taken=[], fresh=[], misshaped=[], skipped=skipped, words=len(rows))
    variables = dict(ours)
    for path, leaf in ours.items():
        name, other = _name(path), theirs.get(path)
        if other is None:
            report.fresh.append(name)
        elif path[-1] == "embedding" and leaf.shape[1:] == other.shape[1:]:
            variables[path] = jnp.asarray(leaf).at[rows].set(other[their_rows])
            report.taken.append(name)
        elif leaf.shape == other.shape:
            variables[path] = jnp.asarray(other)
            report.taken.append(name)
        else:
            report.misshaped.append(f"{name} {list(other.shape)} there, {list(leaf.shape)} here")
    return WarmStart(unflatten_dict(variables), report)


def _name(path: tuple[str, ...]) -> str:
    """Return the name of a parameter without its collection."""
    return "/".join(path[1:])
