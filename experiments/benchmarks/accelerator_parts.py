"""The parts of the measurement on an accelerator: their commands, time limits, and how their outputs are read."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.parts import Part
from experiments.benchmarks.step_profile import VARIANTS
from research.runs import run_files

ENVIRONMENT, TORCH, TESTS = "environment", "PyTorch, one run at a time", "tests"
POPULATIONS, RESTORE = "populations of ", "restore: "
TABLE, TABLE_AGAIN = "default table, nothing compiled", "default table, compiled before"
_ROOT = Path(__file__).parent.parent.parent
_TESTS = _ROOT / "tests"
_MINUTES = 8.0  # the minutes that the seconds below are for
_ENDING_SECONDS = 8.0  # of its limit that a process keeps to evaluate and end
# 64 and 256 come before 8: they say most, and time may run out.
_SIZES, _SMALL_SIZES = (1, 64, 256, 8), (1, 2)
_EPOCHS, _OTHER_EPOCHS, _SMALL_EPOCHS = 10, 3, 2
_TORCH_RUNS, _SMALL_TORCH_RUNS = 25, 2
_FEW_TEXTS = ("--config.data.train_size=96",)
_SMALL_TABLE = ("--variants=linear,mlp", "--folds=2", "--config.training.epochs=2", *_FEW_TEXTS)
_ON_CPU = {"JAX_PLATFORMS": "cpu"}
# Tests start processes of their own, which need memory on the device too. Products in full float32 show mistakes, and
# not the rounding of the faster products that an accelerator prefers.
_FOR_TESTS = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def plan_parts(folder: Path, minutes: float, *, is_small: bool, has_torch: bool) -> list[Part]:
    """Return the parts in their order: those that are asked for most urgently come first.

    Args:
      folder: the folder of the measurement.
      minutes: the time of all parts together.
      is_small: whether to use few texts, epochs, variants and tests.
      has_torch: whether PyTorch is installed.
    """
    others = ["mlp"] if is_small else [variant for variant in VARIANTS if variant != "lstm"]
    parts = [
        _peer(ENVIRONMENT, "device_crossing", "describe", 15, 60),
        _peer("folds", "populations", "folds", 10, 40, data=_folds(folder), overrides=_overrides(is_small)),
        _population(folder, "lstm", 90, 160, is_small=is_small),
        _torch(folder, is_small=is_small, has_torch=has_torch),
        *_restore(folder, is_small=is_small),
        _table(TABLE, folder, "table", 80, 150, is_small=is_small),
        _table(TABLE_AGAIN, folder, "table-again", 20, 60, is_small=is_small),
        *(_population(folder, variant, 14, 40, is_small=is_small) for variant in others),
        _peer(f"{RESTORE}default table on the CPU", "device_crossing", "table", 10, 60, folder=str(folder / "table")),
        _tests(is_small=is_small),
    ]
    parts = [part._replace(environment=_on_cpu(part) | _cache(folder, part) | part.environment) for part in parts]
    scale = minutes / _MINUTES
    return [part._replace(least=scale * part.least, most=scale * part.most) for part in parts]


def _on_cpu(part: Part) -> dict[str, str]:
    """Return what keeps a part on the CPU, if its name says so."""
    return _ON_CPU if part.name == "folds" or part.name.endswith("the CPU") else {}


def _cache(folder: Path, part: Part) -> dict[str, str]:
    """Return where a part keeps its compiled programs: both tables share them, and nothing else was compiled before."""
    name = "cache-table" if part.name in (TABLE, TABLE_AGAIN) else "cache"
    return {"JAX_COMPILATION_CACHE_DIR": str(folder / name), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}


def _overrides(is_small: bool) -> Sequence[str]:
    return _FEW_TEXTS if is_small else ()


def _folds(folder: Path) -> str:
    return str(folder / "folds.npz")


def _peer(name: str, peer: str, measure: str, least: float, most: float, /, **job: Any) -> Part:
    """Return a part that runs a measure of a peer.

    Args:
      name: the part's name.
      peer: a module of `peers`.
      measure: one of its measures.
      least: seconds that are kept for the part.
      most: seconds after which it is ended.
      **job: the arguments of the measure. Its `seconds`, if it has any, become those that the part gets.
    """

    def command(limit: float) -> list[str]:
        timed = job | {"seconds": limit - _ENDING_SECONDS} if "seconds" in job else job
        return [sys.executable, "-P", "-m", f"experiments.benchmarks.peers.{peer}", measure, json.dumps(timed)]

    return Part(name, command, least, most)


def _population(folder: Path, variant: str, least: float, most: float, *, is_small: bool) -> Part:
    epochs = _EPOCHS if variant == "lstm" else _OTHER_EPOCHS
    job = {
        "variant": variant,
        "sizes": _SMALL_SIZES if is_small else _SIZES,
        "epochs": _SMALL_EPOCHS if is_small else epochs,
        "overrides": _overrides(is_small),
        "seconds": 0.0,
    }
    return _peer(POPULATIONS + variant, "populations", "population", least, most, **job)


def _torch(folder: Path, *, is_small: bool, has_torch: bool) -> Part:
    job = {
        "data": _folds(folder),
        "most": _SMALL_TORCH_RUNS if is_small else _TORCH_RUNS,
        "epochs": _SMALL_EPOCHS if is_small else _EPOCHS,
        "seconds": 0.0,
        "needs_gpu": not is_small,
        "threads": 1,
    }
    skip = "" if has_torch else "PyTorch is not installed; the extra 'peers' installs it"
    return _peer(TORCH, "torch", "runs", 40, 70, **job)._replace(skip=skip)


def _restore(folder: Path, *, is_small: bool) -> list[Part]:
    """Return the parts that train on each device, and then those that go on on the other one."""

    def part(name: str, measure: str, least: float, most: float, **devices: str) -> Part:
        job = {"folder": str(folder / "restored"), "overrides": _overrides(is_small)} | devices
        return _peer(RESTORE + name, "device_crossing", measure, least, most, **job)

    return [
        part("train on the accelerator", "begin", 25, 60, own="accelerator"),
        part("train on the CPU", "begin", 25, 80, own="CPU"),
        part("go on on the CPU", "finish", 20, 60, own="CPU", other="accelerator"),
        part("go on on the accelerator", "finish", 20, 60, own="accelerator", other="CPU"),
    ]


def _table(name: str, folder: Path, workdir: str, least: float, most: float, *, is_small: bool) -> Part:
    flags = [*(_SMALL_TABLE if is_small else ()), f"--workdir={folder / workdir}"]
    command = [sys.executable, "-P", "-m", "experiments.compare", *flags]
    return Part(name, lambda limit: command, least, most, read=lambda output: _read_table(folder / workdir))


def _read_table(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a comparison's `results.csv`; of one that was ended, the number of runs that are finished."""
    path = folder / "results.csv"
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [{"finished_runs": sum(map(run_files.is_finished, folder.glob("*/fold*-repeat*")))}]


def _tests(*, is_small: bool) -> Part:
    """Return the part that runs the tests marked `accelerator`; small ones run one file."""
    marked = [path for path in sorted(_TESTS.glob("test_*.py")) if "mark.accelerator" in path.read_text("utf-8")]
    files = [str(path.relative_to(_ROOT)) for path in marked if not is_small or path.stem == "test_loop"]
    # One process: each takes most of the device's memory. A line for each test, so that those are counted that ended.
    command = [sys.executable, "-P", "-m", "pytest", "-m", "accelerator", "-n", "0", "-vv", *files]
    return Part(TESTS, lambda limit: command, 20, 300, environment=_FOR_TESTS, cwd=_ROOT, read=count_tests)


def count_tests(output: str) -> list[dict[str, Any]]:
    """Return how many tests passed, failed and so on, and the names of those that failed, from pytest's lines."""
    ended = re.findall(r"^(tests/\S+::.+?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)\b", output, re.MULTILINE)
    counts = Counter(status.lower() for _, status in ended)
    return [dict(counts) | {"names": [name for name, status in ended if status in ("FAILED", "ERROR")]}]
