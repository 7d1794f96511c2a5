"""Hash the code that training and prediction depend on, to notice results of code that was edited since.

Comments, docstrings, formatting and the text of error messages are left out, because they do not change a result.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
# Only hashes with the same prefix can be compared. Each Python version prints the same code differently, and earlier
# versions of this file hashed other things.
KIND = f"code3.{sys.version_info.major}.{sys.version_info.minor}-"
# Modules that prediction needs in addition to the model, and modules that training needs; with all that they import.
_PREDICTING = ("data.tokenizer", "data.batches", "training.step", "training.programs")
_TRAINING = ("runs.train",)


@functools.cache
def hash_model_code(module: str) -> str:
    """Return a hash of the code that predicts: the model, the tokenizer, and all that they import.

    Args:
      module: `settings.model.module`, such as `recurrent.Recurrent`.
    """
    return _hash((f"models.{module.partition('.')[0]}", *_PREDICTING))


@functools.cache
def hash_training_code() -> str:
    """Return a hash of the code that trains any variant: data, splits, training, and all that they import."""
    return _hash(_TRAINING)


def predicts_by_other_code(record: dict[str, Any], module: str) -> bool:
    """Return whether the code that predicts has changed since a run wrote its `record.json`."""
    return _differs(record.get("model_code"), hash_model_code(module))


def was_trained_by_other_code(record: dict[str, Any], module: str) -> bool:
    """Return whether the code that trains or predicts has changed since a run wrote its `record.json`."""
    return predicts_by_other_code(record, module) or _differs(record.get("training_code"), hash_training_code())


def _differs(recorded: str | None, current: str) -> bool:
    return recorded is not None and recorded.startswith(KIND) and recorded != current


def _hash(roots: Sequence[str]) -> str:
    """Return the hash of some modules and of all that they import, directly or not."""
    code: dict[str, str] = {}
    queue = list(roots)
    while queue:
        name = queue.pop()
        path = _path_of(name)
        if name not in code and path is not None:
            code[name], imported = parse_file(path)
            queue += imported
    return KIND + hashlib.sha256("\0".join(code[name] for name in sorted(code)).encode()).hexdigest()[:16]


def _path_of(name: str) -> Path | None:
    """Return the file of a module such as `models.layers.masks`; None if `name` is no module but, say, a function."""
    path = PACKAGE / name.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@functools.cache
def parse_file(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the normalised code of a file, and the names that it imports from `research`."""
    tree = ast.parse(path.read_text("utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    imported = tuple(name.removeprefix("research.") for name in names if name.startswith("research."))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise):
            node.exc = node.cause = None
    return ast.unparse(tree), imported
