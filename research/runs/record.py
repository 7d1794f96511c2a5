"""Record a run: how it ended, its facts, and the versions and machine that made it."""

import functools
import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.batches import gather
from research.json_files import write_json
from research.machine import available_cores, peak_memory
from research.runs import run_files
from research.runs.code_hash import hash_model_code, hash_training_code
from research.runs.flops import flops_per_text
from research.runs.prepare import PreparedRun, label_counts
from research.runs.warm_start import start_from_run
from research.training.programs import Programs
from research.training.step import TrainState

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers")


def environment() -> dict[str, Any]:
    """Return the versions, machine with its cores for this process, commit, date and peak memory of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": _processor(),
        "cores": available_cores(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.local_devices()],
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "peak_memory_bytes": peak_memory(),
    }


def write_record(folder: Path, status: str, command: str, **facts: Any) -> None:
    """Write a run's `record.json`.

    Args:
      folder: the run's folder.
      status: "done", "diverged" or "failed".
      command: a command line that trains the same run.
      **facts: other facts about the run, as JSON values.
    """
    write_json(folder / run_files.RECORD, {"status": status, "command": command} | facts | environment())


@functools.cache
def _processor() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    return f"{name}, {available_cores()} core(s)"


@functools.cache
def _commit() -> str:
    """Return the commit of this code, marked if files differ from it or are new; empty outside a checkout."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", package.name, "configs", "experiments")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def epoch_of(records: Sequence[dict[str, Any]], best: TrainState) -> int:
    """Return the epoch after which a run had the state `best`, from the records of `metrics.jsonl`."""
    return next(record["epoch"] for record in records if record["step"] == int(best.step))


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def run_facts(prepared: PreparedRun, programs: Programs, best: TrainState) -> dict[str, Any]:
    """Return the facts that the record states about a finished run."""
    folder, spec, texts, source = prepared.run.folder, prepared.spec, prepared.texts, prepared.source
    width = -(-max(1, int(np.median(texts.train.lengths))) // 8) * 8  # of the median text, padded to a multiple of 8
    example = gather(texts.train, np.arange(0), 1, (width,))
    facts = {
        "best_epoch": epoch_of(run_files.read_metrics(folder), best),
        "near_copies": source.near_copies,
        "knows_what_sources_saw": source.seen.is_complete,
        "chosen_by": prepared.select,
        "texts": {name: len(part) for name, part in texts.split._asdict().items()},
        "label_counts": label_counts(prepared).tolist(),
        "predictions_sha256": run_files.predictions_checksum(folder),
        "words": len(texts.vocabulary),
        "words_with_vectors": 0 if texts.vectors is None else int(texts.vectors.has_vector.sum()),
        "flops_per_text": flops_per_text(programs, spec.config, best.variables, example),
        "parameters": _count(best.params),
        "model_code": hash_model_code(spec.config.model.module),
        "training_code": hash_training_code(),
    }
    if prepared.run.refit is not None:
        facts["refit"] = prepared.run.refit.evidence
    if prepared.vectors is not None:
        facts["frozen_parameters"] = _count(best.constants["constants"]["encoder"])
        facts["encoding_seconds"] = round(prepared.vectors.seconds, 3)
    if source.run is not None:
        facts["init_from"] = start_from_run(best.variables, source.run, texts.vocabulary).report._asdict()
    return facts
