"""Write JSON files, and check that a JSON value has the fields that its reader needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.atomic_files import write_text


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, keys in their order; the file appears complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def missing_in(value: Any, needs: Mapping[str, Any]) -> str:
    """Return what a JSON value lacks, in words; empty if it lacks nothing.

    Args:
      value: the value that was read.
      needs: name -> type, types, or the needs of a nested object.
    """
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__} where an object is expected"
    for name, kind in needs.items():
        if name not in value:
            return f"no {name!r}"
        if isinstance(kind, dict):
            if problem := missing_in(value[name], kind):
                return f"in {name!r} {problem}"
        elif not isinstance(value[name], kind) or isinstance(value[name], bool):
            expected = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            return f"{name!r} is {value[name]!r:.40}, expected a value of type {expected}"
    return ""
