"""Hash the code that a run's training and predicting depend on, so that results of edited code are told apart.

Comments, docstrings, formatting and the words of error messages are left out: none of them changes a result.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
# Codes of one kind can be compared: other versions of Python write the same code otherwise, earlier ones of ours hashed
# something else.
KIND = f"code3.{sys.version_info.major}.{sys.version_info.minor}-"
# What predicting needs beside the model itself, and what training does; with all that these import.
_PREDICTING = ("data.tokenizer", "data.batches", "training.step", "training.programs")
_TRAINING = ("runs.train",)


@functools.cache
def model_code(module: str) -> str:
    """Return a hash of the code that predicts: the model, the tokenizer, and all that they import.

    Args:
      module: `settings.model.module`, such as `recurrent.Recurrent`.
    """
    return _hash((_file_of(module), *_PREDICTING))


@functools.cache
def training_code() -> str:
    """Return a hash of the code that trains any variant: data, splits and training, and all that they import."""
    return _hash(_TRAINING)


def predicts_by_other_code(record: dict[str, Any], module: str) -> bool:
    """Return whether a run, by its `record.json`, had other predicting code than there is now."""
    return _differs(record.get("model_code"), model_code(module))


def was_trained_by_other_code(record: dict[str, Any], module: str) -> bool:
    """Return whether a run, by its `record.json`, had other training code than there is now."""
    return predicts_by_other_code(record, module) or _differs(record.get("training_code"), training_code())


def _differs(code: str | None, now: str) -> bool:
    return (code or "").startswith(KIND) and code != now


def _file_of(module: str) -> str:
    return f"models.{module.partition('.')[0]}"


def _hash(roots: Sequence[str]) -> str:
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and (path := _path_of(name)) is not None:
            found[name], imported = parse_file(path)
            waiting += imported
    return KIND + hashlib.sha256("\0".join(found[name] for name in sorted(found)).encode()).hexdigest()[:16]


def _path_of(name: str) -> Path | None:
    """Return the file of a module such as `models.layers.masks`; None if there is none, as for a function's name."""
    path = PACKAGE / name.replace(".", "/")
    found = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return found[0] if found else None


@functools.cache
def parse_file(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the normalised code of a file, and the names of the modules of `research` that it imports."""
    tree = ast.parse(path.read_text("utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = [n for node in froms for n in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))]
    imported = tuple(name.removeprefix("research.") for name in names if name.startswith("research."))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise):
            node.exc = node.cause = None
    return ast.unparse(tree), imported
