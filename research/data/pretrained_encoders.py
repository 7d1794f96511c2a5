"""Read pretrained encoders: HuggingFace folders with `config.json`, `model.safetensors` and a tokenizer.

No code in such a folder is run, and nothing is unpickled.
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

NAMES = ("minilm",)  # keys of `ASSETS`
SETTINGS, TENSORS, TOKENIZER, VOCABULARY = "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"
VOCABULARY_OF_BYTES, MERGES = "vocab.json", "merges.txt"  # what RoBERTa has in place of vocab.txt
TOKENIZER_SETTINGS = "tokenizer_config.json"
MODULES = "modules.json"  # the steps to a sentence vector; sentence-transformers writes it
PRETRAINING = "pretraining.json"  # config.json of the run that wrote the folder; only our runs write it
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def find_folder(source: str) -> Path:
    """Return the folder of a known encoder, which is downloaded on first use, or the user's own folder.

    Args:
      source: the setting `data.weights`.

    Raises:
      UserError: there is no such folder, or it has no safetensors weights.
    """
    if source in NAMES:
        return fetch(source)[0].parent
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f"config.data.weights is {source!r}, expected none, {', '.join(NAMES)}, or a folder")
    if not any((folder / name).exists() for name in (TENSORS, f"{TENSORS}.index.json")):
        hint = ""
        if any((folder / name).exists() for name in _PICKLES):
            hint = (
                "; pytorch_model.bin is not read, because a pickle can run code: save it as safetensors, with "
                'python -c "import torch, safetensors.torch as s; '
                f"w = torch.load('{folder}/pytorch_model.bin', weights_only=True); "
                f"s.save_file({{name: t.clone().contiguous() for name, t in w.items()}}, '{folder}/{TENSORS}')\""
            )
        raise UserError(f"{folder}: no {TENSORS}, expected weights as safetensors{hint}")
    return folder


def read_settings(source: str) -> dict[str, Any]:
    """Return the content of an encoder's `config.json`."""
    return _read_json(find_folder(source) / SETTINGS)


def read_pretraining(source: str) -> dict[str, Any]:
    """Return the config of the run that trained an encoder; empty if none of our runs did."""
    path = Path(source) / PRETRAINING
    return _read_json(path) if source not in ("none", *NAMES) and path.exists() else {}


def read_tokenizer_settings(source: str) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`; empty if there is none."""
    path = find_folder(source) / TOKENIZER_SETTINGS
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, kind):
        raise UserError(f"{path}: a JSON {type(content).__name__}, expected an {'object' if kind is dict else 'array'}")
    return content


def read_sentence_settings(source: str) -> dict[str, Any]:
    """Return how the states of an encoder become a sentence vector: `{"pooling": "mean" | "cls", "normalize": bool}`.

    A folder that sentence-transformers saved describes it in `modules.json`. Otherwise it is the mean of the states.

    Raises:
      UserError: the folder describes another kind of sentence vector.
    """
    if source in NAMES:
        return {"pooling": "mean", "normalize": True}
    path = find_folder(source) / MODULES
    if not path.exists():
        return {"pooling": "mean", "normalize": False}
    try:
        folders = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in _read_json(path, list)}
    except (TypeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}), expected the type and path of each module") from error
    if unknown := sorted(folders.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise UserError(f"{path}: has a module {unknown[0]}, expected only Transformer, Pooling and Normalize")
    pooling = _read_pooling(path.parent / folders["Pooling"] / SETTINGS) if "Pooling" in folders else "mean"
    return {"pooling": pooling, "normalize": "Normalize" in folders}


def _read_pooling(path: Path) -> str:
    """Return "mean" or "cls" from the settings of sentence-transformers' `Pooling`, which have had two formats."""
    settings, prefix = _read_json(path), "pooling_mode_"
    modes = [name.removeprefix(prefix) for name, value in settings.items() if name.startswith(prefix) and value is True]
    modes = [settings["pooling_mode"]] if "pooling_mode" in settings else modes
    names = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    if len(modes) != 1 or str(modes[0]) not in names:
        raise UserError(f"{path}: the pooling is {' and '.join(map(str, modes)) or 'none'}, expected mean or cls")
    return names[str(modes[0])]


def read_weights(source: str) -> dict[str, np.ndarray]:
    """Return the tensors of an encoder, name -> float32; they are read once for all runs."""
    return _read(source, weights_checksum(source))


@functools.lru_cache(maxsize=2)
def _read(source: str, checksum: str) -> dict[str, np.ndarray]:
    return read_tensors(find_folder(source) / TENSORS)


def weights_checksum(source: str) -> str:
    """Return a SHA-256 of the files that a run reads from a folder, or of the package of a known encoder."""
    if source in NAMES:
        return ASSETS[source].sha256
    folder = find_folder(source)
    names = (SETTINGS, TOKENIZER_SETTINGS, TOKENIZER, VOCABULARY, VOCABULARY_OF_BYTES, MERGES)
    files = [*sorted(folder.glob("*.safetensors*")), *(folder / name for name in names if (folder / name).exists())]
    return hashlib.sha256("".join(f"{path.name} {file_checksum(path)}\n" for path in files).encode()).hexdigest()
