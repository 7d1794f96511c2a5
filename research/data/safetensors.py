"""Read and write tensors as float32 in safetensors files (https://github.com/huggingface/safetensors).

Nothing in such a file is executed. The format has no checksum: only damage that contradicts the header, and numbers
that are not finite, can be noticed. The library is imported on use, so that training works without it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from research.atomic_files import whole_file
from research.errors import UserError

_INDEX = ".index.json"  # the suffix of the file that maps tensors to shards
_FLOATS = ("F64", "F32", "F16", "BF16")
_OTHERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the floating-point tensors of a file, or of the shards that `PATH.index.json` lists.

    Args:
      path: the file; where it does not exist, the index beside it is read.

    Returns:
      name -> float32 array. Integers and booleans, such as the positions that some models keep, are left out.

    Raises:
      UserError: a file is missing, damaged, or holds a type of number or a number that a model cannot start from.
    """
    if path.exists():
        return _read_file(path)
    index = path.with_name(path.name + _INDEX)
    if not index.exists():
        raise UserError(f"{path}: no such file, and no {index.name} beside it, expected weights as safetensors")
    try:
        shard_of = json.loads(index.read_text("utf-8"))["weight_map"]
        files = {name: path.parent / Path(file).name for name, file in shard_of.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index}: {error!r}, expected a weight_map of names and files") from error
    shards = {file: _read_file(file) for file in sorted(set(files.values()))}
    return {name: shards[file][name] for name, file in files.items() if name in shards[file]}


def _read_file(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # noqa: F401 - NumPy knows bfloat16 after this import
    from safetensors import SafetensorError, safe_open

    tensors, unreadable = {}, {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                dtype = file.get_slice(name).get_dtype()
                if dtype in _FLOATS:
                    tensors[name] = file.get_tensor(name).astype(np.float32, copy=False)
                elif dtype not in _OTHERS:
                    unreadable[name] = dtype
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error})") from error
    for name, dtype in unreadable.items():
        raise UserError(f"{path}: {name} has numbers of type {dtype}, expected {', '.join(_FLOATS)}")
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise UserError(f"{path}: {name} has numbers that are not finite, expected none")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors as float32 into one file; the file appears complete or not at all."""
    from safetensors.numpy import save

    # `save` copies memory as it lies, so arrays must be contiguous.
    contiguous = {name: np.asarray(tensor, np.float32, order="C") for name, tensor in tensors.items()}
    content = save(contiguous, dict(metadata))
    with whole_file(path) as file:
        file.write(content)
