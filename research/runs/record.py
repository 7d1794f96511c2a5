"""What a result was made with and on, for records and reports."""

import functools
import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

from research.json_files import write_json
from research.machine import available_cores, peak_memory
from research.runs import run_files

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")


def environment() -> dict[str, Any]:
    """Versions, machine, commit, date and peak memory of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": _processor(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.local_devices()],
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "peak_memory_bytes": peak_memory(),
    }


def write_record(folder: Path, status: str, command: str, **about: Any) -> None:
    """Writes a run's `record.json`: how it ended, what is known of it, and what it was made with and on."""
    write_json(folder / run_files.RECORD, {"status": status, "command": command} | about | environment())


@functools.cache
def _processor() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name}, {available_cores()} core(s)"


@functools.cache
def _commit() -> str:
    """The commit of this code, marked where its files differ from it or are new; empty where it is no checkout."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", package.name, "configs", "experiments")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""
