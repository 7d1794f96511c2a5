"""BERT in HuggingFace's format: settings in `config.json`, tensors in `model.safetensors`."""

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
_MOST_NAMES = 12  # tensors listed in a message
# Name in config.json, field of `Bert`, value if config.json leaves it out.
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
_LEAVES = ("kernel", "bias", "scale", "embedding")  # parameters of linen's layers; others go by their own name
_HEADS = ("cls.", "classifier.", "qa_outputs.", "pooler.")  # heads of other tasks, which are ignored


def fields_from(described: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the fields of `Bert`, and `vocab_size`, that a `config.json` describes.

    Args:
      described: the content of `config.json`.
      source: the folder, for messages.

    Raises:
      UserError: it describes another model, or one that `Bert` cannot be.
    """
    kind, positions = described.get("model_type"), described.get("position_embedding_type", "absolute")
    if kind != "bert":
        raise UserError(f"{source}: its config.json says model_type {kind!r}, expected 'bert'")
    if positions != "absolute" or described.get("is_decoder"):
        raise UserError(f"{source}: its config.json says a decoder or {positions} positions, expected a plain encoder")
    fields = {}
    for name, field, default in (*_SETTINGS, ("vocab_size", "vocab_size", 30_522)):
        value = described.get(name, default)
        if not isinstance(value, (type(default), int)) or isinstance(value, bool):
            raise UserError(f"{source}: its config.json says {name} {value!r}, expected something like {default!r}")
        fields[field] = type(default)(value)
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
    """Write a folder that `transformers` opens.

    Args:
      folder: created if it does not exist.
      config: the config of a run whose model is a `Bert`.
      architecture: the class in `transformers` that opens it.
      tensors: name -> float32.
      tokenizer: the content of `tokenizer.json`.
      run: the content of the run's `config.json`. It tells later runs which texts the encoder has seen.
      settings: further entries of `config.json`.
    """
    described = {"model_type": "bert", "architectures": [architecture], "vocab_size": config.data.vocab_size}
    described |= {name: getattr(config.model, field) for name, field, _ in _SETTINGS}
    make_folder(folder)
    write_json(folder / SETTINGS, described | (settings or {}))
    write_text(folder / TOKENIZER, tokenizer)
    write_json(folder / TOKENIZER_SETTINGS, _describe_tokenizer(tokenizer, config.data))
    write_json(folder / PRETRAINING, run)
    write_tensors(folder / TENSORS, tensors, {"format": "pt"})  # transformers refuses a file without "format"


def _describe_tokenizer(tokenizer: str, data: Data) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`: the roles of special tokens, and where texts are cut."""
    special = {token["content"] for token in json.loads(tokenizer)["added_tokens"] if token["special"]}
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": data.max_length,
        "truncation_side": "right" if data.keep == "first" else "left",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    } | {role: token for role, token in roles.items() if token in special}


def place(params: Any, tensors: dict[str, np.ndarray], source: str) -> Any:
    """Return the parameters of a `Bert`, replaced by tensors from a file; the classifier stays as it is.

    A pooler that the file does not have stays as it is, and heads of other tasks are ignored; a warning says so.

    Args:
      params: the tree of parameters.
      tensors: name -> float32. Names may begin with "bert." and may end with gamma and beta, as TensorFlow's did.
      source: where the tensors come from, for messages.

    Raises:
      UserError: tensors of the encoder are missing, of another shape, or without a place in it; it names them.
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
    """Return the parameters of a `Bert`, without its classifier: name -> float32 in HuggingFace's layout."""
    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, shape = _name_and_shape(path, leaf.shape)
        if name is not None:
            array = np.asarray(leaf, np.float32)
            tensors[name] = array.reshape(shape[::-1]).T if _is_kernel(path) else array.reshape(shape)
    return tensors


def _name_and_shape(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[str | None, tuple[int, ...]]:
    """Return a parameter's name and shape in HuggingFace's files, matrices as [outputs, inputs].

    The name is None for the classifier.
    """
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
        # Kernels of attention are [inputs, heads, features], and that of its output [heads, features, outputs].
        inputs = int(np.prod(shape[:-1])) if name.endswith("dense") else shape[0]
        shape = (int(np.prod(shape)) // inputs, inputs)
    elif leaf == "bias":
        shape = (int(np.prod(shape)),)
    return f"{name}.{'bias' if leaf == 'bias' else 'weight'}", shape


def _is_kernel(path: tuple[Any, ...]) -> bool:
    return path[-1].key == "kernel"


def _modern(name: str) -> str:
    """Return today's name of a tensor that an older version may have named."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


@functools.cache
def _say_once(sentence: str) -> None:
    """Warn once a process, however many runs start from the same file."""
    _LOG.warning(sentence)
