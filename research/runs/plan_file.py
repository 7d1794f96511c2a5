"""Read a comparison's `plan.json` and check it: it may be damaged, malicious, or written by a newer version."""

from pathlib import Path
from typing import Any

from research.errors import UserError
from research.json_files import missing_in
from research.runs import run_files

MOST_REPEATS = 1000
# The required fields of a plan, and the types of their values.
_PLAN_NEEDS = {
    "corpus": {"name": str, "checksum": str, "texts": int},
    "classes": list,
    "folds": int,
    "repeats": int,
    "command": str,
    "variants": dict,
    "python": str,
    "versions": dict,
    "devices": list,
    "commit": str,
}
_VARIANT_NEEDS = {
    "folder": str,
    "settings": {"model": {"module": str}, "optimizer": {"name": str}, "training": {"epochs": int, "select": str}},
}
# The same for a model that is not of this project. "kind" is "model", an object from Python, whose class is the source,
# or "predictions", whose file is the source. "predicts" is one of `metrics.KINDS`.
_FOREIGN_NEEDS = {"folder": str, "foreign": {"kind": str, "source": str, "predicts": str, "split_by": dict}}


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the checked plan of a comparison. All its folders are inside the comparison's folder.

    Raises:
      UserError: the folder holds no comparison, or its plan is damaged or of another version.
    """
    path = folder / run_files.PLAN
    if not path.exists():
        raise UserError(f"{folder}: no {run_files.PLAN}, expected a folder that `compare` wrote")
    plan = run_files.read_json(path)
    if problem := _problem_of_plan(plan):
        raise UserError(
            f"{path}: {problem}; the file is damaged, or a newer version wrote it. Repair it, or name another --workdir"
        )
    return plan


def repeats_of(plan: dict[str, Any], variant: str) -> int:
    """Return the number of repeats that a variant is to have; with `--until=decided` some have fewer than others."""
    return min(plan["repeats"], plan["variants"][variant].get("repeats", plan["repeats"]))


def _problem_of_plan(plan: Any) -> str:
    """Return what is wrong with a plan, in words; empty if nothing is."""
    if problem := missing_in(plan, _PLAN_NEEDS):
        return problem
    if plan["folds"] < 0 or not 1 <= plan["repeats"] <= MOST_REPEATS or not plan["variants"]:
        return f"folds={plan['folds']}, repeats={plan['repeats']} and {len(plan['variants'])} variants"
    for name, entry in plan["variants"].items():
        needs = _FOREIGN_NEEDS if isinstance(entry, dict) and "foreign" in entry else _VARIANT_NEEDS
        if problem := missing_in(entry, needs):
            return f"in the variant {name!r} {problem}"
        if not isinstance(entry.get("repeats", 1), int) or entry.get("repeats", 1) < 1:
            return f"the variant {name!r} has {entry['repeats']!r} repeats, expected a number"
        if entry["folder"] != run_files.folder_name(entry["folder"]) or entry["folder"] in ("", ".", ".."):
            return f"the folder of the variant {name!r} is {entry['folder']!r}, expected one of this comparison's own"
    folders = [entry["folder"] for entry in plan["variants"].values()]
    if repeated := [name for name in folders if folders.count(name) > 1]:
        return f"two variants have the folder {repeated[0]!r}"
    return ""
