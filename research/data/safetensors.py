"""The safetensors format: eight bytes that say how long a JSON header is, the header, and the numbers, end to end.

https://github.com/huggingface/safetensors#format. Nothing in such a file is executed. It has no checksum: what is
noticed is a file that is too short, too long or does not fit its header, and numbers that are not finite.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research.atomic_files import whole_file
from research.errors import UserError

_INDEX = ".index.json"  # behind the name of a file whose tensors are shared out among several
_FLOATS = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_OTHERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}  # bytes


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of floats in a file, or in those that `PATH.index.json` names where there is no such file.

    Args:
      path: of the one file, whether it is there or not.

    Returns:
      name -> float32 of its shape, in the order of the file; those of float32 are views of it.
      Integers and booleans, such as the positions that some models keep, are left out.

    Raises:
      UserError: a file is missing, damaged, or holds a kind of number or a number that a model cannot start from.
    """
    if path.exists():
        return _read_file(path)
    index = path.with_name(path.name + _INDEX)
    if not index.exists():
        raise UserError(f"{path}: no such file, and no {index.name} beside it, expected weights as safetensors")
    try:
        places = json.loads(index.read_text("utf-8"))["weight_map"]
        files = {name: path.parent / Path(file).name for name, file in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index}: {error!r}, expected a weight_map of names and files") from error
    shards = {file: _read_file(file) for file in sorted(set(files.values()))}
    return {name: shards[file][name] for name, file in files.items() if name in shards[file]}


def _read_file(path: Path) -> dict[str, np.ndarray]:
    try:
        content = np.memmap(path, np.uint8, mode="r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
        header.pop("__metadata__", None)
        tensors, end = {}, 0
        for name, about in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
            begin, end_before = about["data_offsets"][0], end
            end = about["data_offsets"][1]
            kind, shape = about["dtype"], tuple(about["shape"])
            size = _FLOATS[kind].itemsize if kind in _FLOATS else _OTHERS[kind]
            if begin != end_before or end - begin != size * math.prod(shape):
                raise ValueError(f"{name} does not fit its place")
            if kind in _FLOATS and start + end <= len(content):
                tensors[name] = _floats(content[start + begin : start + end], kind).reshape(shape)
        if start + end != len(content):
            raise ValueError(f"it has {len(content):,} bytes and its header says {start + end:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise UserError(f"{path}: damaged or no safetensors file ({reason})") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise UserError(f"{path}: {name} has numbers that are not finite, expected none")
    return tensors


def _floats(content: np.ndarray, kind: str) -> np.ndarray:
    values = content.view(_FLOATS[kind])
    if kind == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes float32 tensors into one file, in their order, whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.size
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    with whole_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, "<f4").tobytes())
