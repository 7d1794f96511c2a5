"""Write JSON files, and check that a JSON value has the fields that its reader needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.atomic_files import write_text


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, keys as given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def missing_in(value: Any, needs: Mapping[str, Any]) -> str:
    """Return what a JSON value lacks, in words; empty where it lacks nothing.

    Args:
      value: the value that was read.
      needs: name -> type (or types), or the needs of an object within.
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
            expected = " or ".join(of.__name__ for of in (kind if isinstance(kind, tuple) else (kind,)))
            return f"{name!r} is {value[name]!r:.40}, expected a value of type {expected}"
    return ""
