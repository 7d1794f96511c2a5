"""Pretrained encoders: folders with `config.json`, `model.safetensors` and a tokenizer, as HuggingFace lays them out.

No code of such a folder is run and nothing in it is unpickled.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from research.data.assets import ASSETS, fetch
from research.data.cache import file_checksum
from research.data.safetensors import read_tensors
from research.errors import UserError

NAMES = ("minilm",)  # of assets
SETTINGS, TENSORS, TOKENIZER, VOCABULARY = "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"
TOKENIZER_SETTINGS = "tokenizer_config.json"
PRETRAINING = "pretraining.json"  # the config.json of the run that made the folder, where one of ours did
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def folder_of(source: str) -> Path:
    """The folder that a setting names: of a known encoder, fetched on first use, or the user's own.

    Raises:
      UserError: there is no such folder, or it holds no weights that can be read here.
    """
    if source in NAMES:
        return fetch(source)[0].parent
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f"config.data.weights is {source!r}, expected none, {', '.join(NAMES)}, or a folder")
    if not any((folder / name).exists() for name in (TENSORS, f"{TENSORS}.index.json")):
        pickled = any((folder / name).exists() for name in _PICKLES)
        why = "; pytorch_model.bin is not read, because a pickle can run code: save it as safetensors"
        raise UserError(f"{folder}: no {TENSORS}, expected weights as safetensors{why if pickled else ''}")
    return folder


def read_settings(source: str) -> dict[str, Any]:
    """What `config.json` says of an encoder."""
    return _read_json(folder_of(source) / SETTINGS)


def read_pretraining(source: str) -> dict[str, Any]:
    """What the run that trained an encoder says of itself; nothing where none of ours did."""
    path = Path(source) / PRETRAINING
    return _read_json(path) if source not in ("none", *NAMES) and path.exists() else {}


def read_tokenizer_settings(source: str) -> dict[str, Any]:
    """What `tokenizer_config.json` says; nothing where there is none."""
    path = folder_of(source) / TOKENIZER_SETTINGS
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: a JSON {type(found).__name__}, expected an object")
    return found


def read_weights(source: str) -> dict[str, np.ndarray]:
    """The tensors of an encoder, read once for all runs that start from it; see `read_tensors`."""
    return _read(source, weights_checksum(source))


@functools.lru_cache(maxsize=2)
def _read(source: str, checksum: str) -> dict[str, np.ndarray]:
    return read_tensors(folder_of(source) / TENSORS)


def weights_checksum(source: str) -> str:
    """SHA-256 of what a run reads of the folder; of an asset that of its distribution."""
    if source in NAMES:
        return ASSETS[source].sha256
    folder = folder_of(source)
    names = (SETTINGS, TOKENIZER_SETTINGS, TOKENIZER, VOCABULARY)
    files = [*sorted(folder.glob("*.safetensors*")), *(folder / name for name in names if (folder / name).exists())]
    return hashlib.sha256("".join(f"{path.name} {file_checksum(path)}\n" for path in files).encode()).hexdigest()
