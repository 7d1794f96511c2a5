"""How BERT is kept in HuggingFace's format: the settings in `config.json`, the tensors in `model.safetensors`."""

import functools
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.atomic_files import make_folder, write_text
from research.data.pretrained_encoders import PRETRAINING, SETTINGS, TENSORS, TOKENIZER, TOKENIZER_SETTINGS
from research.data.safetensors import write_tensors
from research.errors import UserError
from research.json_files import write_json
from research.settings import Config, Data

_LOG = logging.getLogger("research")
_MOST_NAMES = 12  # of tensors in a sentence
# Theirs, ours, and what it is where `config.json` does not say.
_SETTINGS = (
    ("hidden_size", "hidden_size", 768),
    ("num_hidden_layers", "layers", 12),
    ("num_attention_heads", "heads", 12),
    ("intermediate_size", "feed_forward", 3072),
    ("max_position_embeddings", "max_positions", 512),
    ("type_vocab_size", "segments", 2),
    ("hidden_act", "activation", "gelu"),
    ("layer_norm_eps", "epsilon", 1e-12),
    ("hidden_dropout_prob", "dropout", 0.1),
    ("attention_probs_dropout_prob", "attention_dropout", 0.1),
)
_PLACES = {
    "encoder/embedding": "embeddings.word_embeddings",
    "encoder/embedding_position": "embeddings.position_embeddings",
    "encoder/embedding_segment": "embeddings.token_type_embeddings",
    "encoder/embedding_norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
    "predictions": "cls.predictions",
    "predictions/transform": "cls.predictions.transform.dense",
    "predictions/norm": "cls.predictions.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}
_PLACES_IN_BLOCK = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "norm_0": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "norm_1": "output.LayerNorm",
}
_LEAVES = ("kernel", "bias", "scale", "embedding")  # of linen's layers; other parameters have a name of their own
_HEADS = ("cls.", "classifier.", "qa_outputs.", "pooler.")  # what may stand above an encoder without being read


def fields_from(described: dict[str, Any], source: str) -> dict[str, Any]:
    """The fields of `Bert`, and `vocab_size`, that a `config.json` describes.

    Raises:
      UserError: it describes another model, or one that `Bert` cannot be.
    """
    kind, positions = described.get("model_type"), described.get("position_embedding_type", "absolute")
    if kind != "bert":
        raise UserError(f"{source}: its config.json says model_type {kind!r}, expected 'bert'")
    if positions != "absolute" or described.get("is_decoder"):
        raise UserError(f"{source}: its config.json says a decoder or {positions} positions, expected a plain encoder")
    fields = {}
    for theirs, ours, default in (*_SETTINGS, ("vocab_size", "vocab_size", 30_522)):
        value = described.get(theirs, default)
        if not isinstance(value, (type(default), int)) or isinstance(value, bool):
            raise UserError(f"{source}: its config.json says {theirs} {value!r}, expected something like {default!r}")
        fields[ours] = type(default)(value)
    return fields


def write_folder(
    folder: Path,
    config: Config,
    architecture: str,
    tensors: dict[str, np.ndarray],
    tokenizer: str,
    run: dict[str, Any],
    settings: dict[str, Any] | None = None,
) -> None:
    """Writes a folder that `transformers` opens.

    Args:
      folder: made where it does not exist.
      config: of the run, whose model is a `Bert`.
      architecture: the class that `transformers` makes of it.
      tensors: name -> float32.
      tokenizer: `tokenizer.json`.
      run: the `config.json` of the run that made it, so that whoever starts from the folder knows what it has seen.
      settings: what `config.json` says besides.
    """
    described = {"model_type": "bert", "architectures": [architecture], "vocab_size": config.data.vocab_size}
    described |= {theirs: getattr(config.model, ours) for theirs, ours, _ in _SETTINGS}
    make_folder(folder)
    write_json(folder / SETTINGS, described | (settings or {}))
    write_text(folder / TOKENIZER, tokenizer)
    write_json(folder / TOKENIZER_SETTINGS, _describe_tokenizer(tokenizer, config.data))
    write_json(folder / PRETRAINING, run)
    write_tensors(folder / TENSORS, tensors, {"format": "pt"})  # without which transformers refuses it


def _describe_tokenizer(tokenizer: str, data: Data) -> dict[str, Any]:
    """What `transformers` asks beside `tokenizer.json`: the roles of special tokens, and where texts are cut."""
    special = {token["content"] for token in json.loads(tokenizer)["added_tokens"] if token["special"]}
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": data.max_length,
        "truncation_side": "right" if data.keep == "first" else "left",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    } | {role: token for role, token in roles.items() if token in special}


def place(params: Any, tensors: dict[str, np.ndarray], source: str) -> Any:
    """The parameters of a `Bert` with the tensors in their places; the classifier stays as it is.

    Args:
      params: the tree.
      tensors: name -> float32. Names may begin with "bert." and end as TensorFlow's did (gamma, beta).
      source: of the tensors, for messages.

    Returns:
      the tree. Where there is no pooler among the tensors, it stays as it is; heads of other tasks are passed over.
      Both are said in a warning.

    Raises:
      UserError: tensors of the encoder are missing, of another shape, or have no place in it; all by name.
    """
    left = {_modern(name): tensor for name, tensor in tensors.items()}
    missing, shapes = [], []

    def put(path: tuple[Any, ...], leaf: Any) -> Any:
        name, shape = _name_and_shape(path, leaf.shape)
        if name is None:
            return leaf
        tensor = left.pop(name, None)
        if tensor is None:
            missing.append(name)
        elif tensor.shape != shape:
            shapes.append(f"{name} {list(tensor.shape)} instead of {list(shape)}")
        else:
            return np.reshape(tensor.T if _is_kernel(path) else tensor, leaf.shape)
        return leaf

    placed = jax.tree_util.tree_map_with_path(put, params)
    fresh = [name for name in missing if name.startswith(("pooler.", "cls."))]
    missing = [name for name in missing if name not in fresh]
    passed = [name for name in left if name.startswith(_HEADS)]
    unexpected = [name for name in left if name not in passed]
    kinds = (("missing", missing), ("of another shape", shapes), ("without a place in the model", unexpected))
    if wrong := [f"{what}: {_listed(names)}" for what, names in kinds if names]:
        raise UserError(
            f"{source}: tensors that do not fit config.model and config.data.vocab_size, {'; '.join(wrong)}"
        )
    for what, names in (("not there, so it starts at random", fresh), ("passed over", passed)):
        if names:
            _say_once(f"{source}: {what}: {_listed(names)}")
    return placed


def tensors_of(params: Any) -> dict[str, np.ndarray]:
    """The parameters of a `Bert` but for its classifier, as name -> float32 in HuggingFace's layout."""
    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, shape = _name_and_shape(path, leaf.shape)
        if name is not None:
            array = np.asarray(leaf, np.float32)
            tensors[name] = array.reshape(shape[::-1]).T if _is_kernel(path) else array.reshape(shape)
    return tensors


def _name_and_shape(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[str | None, tuple[int, ...]]:
    """Where a parameter stands in their files, matrices as [outputs, inputs]; no name for the classifier."""
    *modules, leaf = (str(key.key) for key in path)
    module = "/".join(modules if leaf in _LEAVES else [*modules, leaf])
    if module == "head":
        return None, shape
    if module in _PLACES:
        name = _PLACES[module]
    else:
        _, block, within = module.split("/", 2)
        name = f"encoder.layer.{block.removeprefix('block_')}.{_PLACES_IN_BLOCK[within]}"
    if leaf == "kernel":
        # Of attention: [inputs, heads, features] and, on its way out, [heads, features, outputs].
        inputs = int(np.prod(shape[:-1])) if name.endswith("dense") else shape[0]
        shape = (int(np.prod(shape)) // inputs, inputs)
    elif leaf == "bias":
        shape = (int(np.prod(shape)),)
    return f"{name}.{'bias' if leaf == 'bias' else 'weight'}", shape


def _is_kernel(path: tuple[Any, ...]) -> bool:
    return path[-1].key == "kernel"


def _modern(name: str) -> str:
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


@functools.cache
def _say_once(sentence: str) -> None:
    """However many runs start from the same file."""
    _LOG.warning(sentence)
