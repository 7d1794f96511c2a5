"""BERT and its family in HuggingFace's format: settings in `config.json`, tensors in `model.safetensors`.

`bert_families.py` has the names. Parameters have the same names for all families.
"""

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
from research.models.bert_families import FAMILIES, Family
from research.settings import Config

_LOG = logging.getLogger("research")
_MOST_NAMES = 12  # tensors listed in a message
# Roles of special tokens in `tokenizer_config.json`, as BERT's and RoBERTa's tokenizers name them.
_SPECIAL_TOKENS = (
    *((role, f"[{role.upper()}]") for role in ("pad", "unk", "cls", "sep", "mask")),
    *((role, f"<{role}>") for role in ("pad", "unk", "mask")),
    *(("bos", "<s>"), ("cls", "<s>"), ("eos", "</s>"), ("sep", "</s>")),
)
_LEAVES = ("kernel", "bias", "scale", "embedding")  # parameters of linen's layers; others go by their own name
_ENCODER = ("embeddings.", "encoder.", "transformer.")  # tensors that begin otherwise are of a head
_IN_PREFIX = (*_ENCODER, "pooler.")  # tensors whose name begins with the family's prefix in a file with a head
_PER_HEAD = ("/query", "/key", "/value")  # kernels with an axis of heads behind that of the inputs


def fields_from(described: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the fields of `Bert`, and `vocab_size`, that a `config.json` describes.

    Args:
      described: the content of `config.json`.
      source: the folder, for messages.

    Raises:
      UserError: it describes another model, or one that `Bert` cannot be.
    """
    kind, positions = described.get("model_type"), described.get("position_embedding_type", "absolute")
    if kind not in FAMILIES:
        raise UserError(f"{source}: its config.json says model_type {kind!r}, expected one of {', '.join(FAMILIES)}")
    if positions != "absolute" or described.get("is_decoder"):
        raise UserError(f"{source}: its config.json says a decoder or {positions} positions, expected a plain encoder")
    family = FAMILIES[kind]
    table = [*family.settings, ("vocab_size", "vocab_size", family.vocab_size)]
    if family.counts_from_padding:
        table.append(("pad_token_id", "first_position", 1))
    fields: dict[str, Any] = {"family": kind}
    for name, field, default in table:
        value = described.get(name, default)
        if not isinstance(value, (type(default), int)) or isinstance(value, bool):
            raise UserError(f"{source}: its config.json says {name} {value!r}, expected something like {default!r}")
        fields[field] = type(default)(value)
    if not family.has_segments:
        fields["segments"] = 0
    if family.counts_from_padding:
        fields["first_position"] += 1
        fields["max_positions"] -= fields["first_position"]
    return fields


def architecture_of(config: Config, task: str) -> str:
    """Return the class of `transformers` that opens a model for a task, such as "ForSequenceClassification"."""
    return f"{FAMILIES[config.model.family].architecture}{task}"


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
    model = config.model
    family = FAMILIES[model.family]
    described = {"model_type": model.family, "architectures": [architecture], "vocab_size": config.data.vocab_size}
    described |= {name: getattr(model, field) for name, field, _ in family.settings}
    if family.counts_from_padding:
        described["max_position_embeddings"] += model.first_position
        described["pad_token_id"] = model.first_position - 1
    make_folder(folder)
    write_json(folder / SETTINGS, described | (settings or {}))
    write_text(folder / TOKENIZER, tokenizer)
    write_json(folder / TOKENIZER_SETTINGS, _describe_tokenizer(tokenizer, config))
    write_json(folder / PRETRAINING, run)
    write_tensors(folder / TENSORS, tensors, {"format": "pt"})  # transformers refuses a file without "format"


def _describe_tokenizer(tokenizer: str, config: Config) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`: the roles of special tokens, and where texts are cut."""
    special = {token["content"] for token in json.loads(tokenizer)["added_tokens"] if token["special"]}
    roles = {f"{role}_token": token for role, token in _SPECIAL_TOKENS if token in special}
    segments = ["token_type_ids"] if config.model.segments > 1 else []
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.data.max_length,
        "truncation_side": "right" if config.data.keep == "first" else "left",
        "model_input_names": ["input_ids", *segments, "attention_mask"],
    } | roles


def place(params: Any, tensors: dict[str, np.ndarray], source: str, family: str) -> Any:
    """Return the parameters of a `Bert`, replaced by tensors from a file; the classifier stays as it is.

    A pooler that the file does not have stays as it is, and heads of other tasks are ignored; a warning says so.

    Args:
      params: the tree of parameters.
      tensors: name -> float32. Names may begin with the family's prefix, as "bert.", and may end with gamma and beta,
        as TensorFlow's did.
      source: where the tensors come from, for messages.
      family: one of `FAMILIES`.

    Raises:
      UserError: tensors of the encoder are missing, of another shape, or without a place in it; it names them.
    """
    names = FAMILIES[family]
    left = _with_todays_names(tensors, names)
    missing, shapes = [], []

    def put(path: tuple[Any, ...], leaf: Any) -> Any:
        name, shape = _name_and_shape(path, leaf.shape, names)
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
    kinds = (
        ("missing", [name for name in missing if name.startswith(_ENCODER)]),
        ("of another shape", shapes),
        ("without a place in the model", [name for name in left if name.startswith(_ENCODER)]),
    )
    if wrong := [f"{what}: {_listed(found)}" for what, found in kinds if found]:
        raise UserError(
            f"{source}: tensors that do not fit config.model and config.data.vocab_size, {'; '.join(wrong)}"
        )
    heads = (
        ("not there, so it starts at random", [name for name in missing if not name.startswith(_ENCODER)]),
        ("passed over", [name for name in left if not name.startswith(_ENCODER)]),
    )
    for what, found in heads:
        if found:
            _say_once(f"{source}: {what}: {_listed(found)}")
    return placed


def tensors_of(
    params: Any, family: str, classifier: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Return the parameters of a `Bert` as tensors of HuggingFace's layout.

    Args:
      params: the tree of parameters.
      family: one of `FAMILIES`, whose names the tensors get.
      classifier: kernel [D, C] and bias [C] of the classifier. Without it, there is none, and names have no prefix.

    Returns:
      name -> float32.
    """
    names, tensors = FAMILIES[family], {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, shape = _name_and_shape(path, leaf.shape, names)
        if name is not None:
            array = np.asarray(leaf, np.float32)
            tensors[name] = array.reshape(shape[::-1]).T if _is_kernel(path) else array.reshape(shape)
    if classifier is None:
        return tensors
    kernel, bias = classifier
    return with_prefix(tensors, family) | {f"{names.classifier}.weight": kernel.T, f"{names.classifier}.bias": bias}


def with_prefix(tensors: dict[str, np.ndarray], family: str) -> dict[str, np.ndarray]:
    """Return tensors with the names that they have beside a head: the encoder's begin with the family's prefix."""
    prefix = FAMILIES[family].prefix
    return {f"{prefix}{name}" if name.startswith(_IN_PREFIX) else name: tensor for name, tensor in tensors.items()}


def _name_and_shape(
    path: tuple[Any, ...], shape: tuple[int, ...], family: Family
) -> tuple[str | None, tuple[int, ...]]:
    """Return a parameter's name and shape in HuggingFace's files, matrices as [outputs, inputs].

    The name is None for the classifier.
    """
    *modules, leaf = (str(key.key) for key in path)
    module = "/".join(modules if leaf in _LEAVES else [*modules, leaf])
    if module == "head":
        return None, shape
    if module in family.names:
        name = family.names[module]
    else:
        _, block, within = module.split("/", 2)
        name = f"{family.block}.{block.removeprefix('block_')}.{family.names_in_block[within]}"
    if leaf == "kernel":
        # Kernels of attention are [inputs, heads, features], and that of its output [heads, features, outputs].
        inputs = shape[0] if module.endswith(_PER_HEAD) else int(np.prod(shape[:-1]))
        shape = (int(np.prod(shape)) // inputs, inputs)
    elif leaf == "bias":
        shape = (int(np.prod(shape)),)
    return f"{name}.{'bias' if leaf == 'bias' else 'weight'}", shape


def _is_kernel(path: tuple[Any, ...]) -> bool:
    return path[-1].key == "kernel"


def _with_todays_names(tensors: dict[str, np.ndarray], family: Family) -> dict[str, np.ndarray]:
    """Return tensors without prefix, by the names that `_name_and_shape` gives them."""
    named = {_modern(name.removeprefix(family.prefix)): tensor for name, tensor in tensors.items()}
    pooler, other = family.names["pooler"], family.pooler_without_classifier
    if other and f"{pooler}.weight" not in named:
        named = {name.replace(other, pooler): tensor for name, tensor in named.items()}
    return named


def _modern(name: str) -> str:
    """Return today's name of a tensor that TensorFlow named."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


@functools.cache
def _say_once(sentence: str) -> None:
    """Warn once a process, however many runs start from the same file."""
    _LOG.warning(sentence)
