"""What tells runs of an edited model apart: a hash of the code that computes its logits."""

import ast
import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent
# Codes of one kind can be compared: other versions of Python write the same code otherwise, earlier ones of ours hashed
# something else.
_KIND = f"ast{sys.version_info.major}.{sys.version_info.minor}-"


@functools.cache
def model_code(module: str) -> str:
    """A hash of a variant's file and of what it imports of `research.models`, but for comments and docstrings.

    Args:
      module: `settings.model.module`, such as `recurrent.Recurrent`.
    """
    found, waiting = {}, [f"models.{module.partition('.')[0]}"]
    while waiting:
        name = waiting.pop()
        path = _PACKAGE / (name.replace(".", "/") + ".py")
        if name not in found and path.is_file():
            tree = ast.parse(path.read_text("utf-8"))
            waiting += _imported(tree)
            found[name] = _without_docstrings(tree)
    return _KIND + hashlib.sha256("\0".join(found[name] for name in sorted(found)).encode()).hexdigest()[:16]


def is_of_other_code(record: dict[str, Any], module: str) -> bool:
    """Whether a `record.json` says that its run was made by other code of its model than there is now."""
    code = record.get("model_code") or ""
    return code.startswith(_KIND) and code != model_code(module)


def _imported(tree: ast.Module) -> list[str]:
    """The files of `research.models` that a file may import, as `models.layers.masks`."""
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = [n for node in froms for n in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))]
    return [name.removeprefix("research.") for name in names if name.startswith("research.models.")]


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
