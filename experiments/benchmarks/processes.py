"""Start the processes that a benchmark measures: peers and our own programs, with their time and memory."""

import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
_SAMPLE_SECONDS = 0.5


class TimedComparison(NamedTuple):
    """What a comparison took, and its results."""

    seconds: float
    memory: int  # peak bytes
    rows: list[dict[str, str]]  # of `results.csv`


def run_peers(peer: str, measure: str, cores: Sequence[Sequence[int]], jobs: Sequence[dict[str, Any]]) -> list[Any]:
    """Run one process of a peer for each job, side by side, and return their answers.

    Args:
      peer: a module of `peers`.
      measure: one of the peer's measures.
      cores: the cores of each process.
      jobs: the arguments of each process.

    Raises:
      RuntimeError: a process failed.
    """
    started = []
    for own_cores, job in zip(cores, jobs, strict=True):
        environment = os.environ | {"OMP_NUM_THREADS": str(len(own_cores)), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= {"KERAS_BACKEND": "tensorflow"}
        if len(own_cores) == 1 and measure in ("step", "product"):  # measured on a core, not on an accelerator
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        arguments = [measure, json.dumps(job | {"threads": len(own_cores)})]
        command = [sys.executable, "-P", "-m", f"experiments.benchmarks.peers.{peer}", *arguments]
        with _pinned(own_cores):
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    answers = []
    for process in started:
        out, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{peer} failed: {error.decode().strip().splitlines()[-1]}")
        answers.append(json.loads(out.splitlines()[-1]))
    return answers


def run_peer(peer: str, measure: str, *, cores: Sequence[int] = CORES, **job: Any) -> Any:
    """Run one process of a peer and return its answer."""
    return run_peers(peer, measure, [cores], [job])[0]


@contextlib.contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Give these cores to the processes that are started here, if the system can pin processes."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def time_program(folder: Path, arguments: list[str], **environment: str) -> float:
    """Run one of our programs and return its seconds; the compilation cache is in the folder."""
    start, program = time.perf_counter(), _program(folder, arguments)
    program["env"] |= environment
    subprocess.run(**program, check=True)
    return time.perf_counter() - start


def time_comparison(folder: Path, arguments: list[str]) -> TimedComparison:
    """Run a comparison of ours and delete it; the compilation cache is in the folder."""
    workdir, start = folder / "comparison", time.perf_counter()
    memory = wait_for_peak_memory(subprocess.Popen(**_program(folder, ["compare", *arguments, f"--workdir={workdir}"])))
    seconds = time.perf_counter() - start
    with (workdir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    shutil.rmtree(workdir)
    return TimedComparison(seconds, memory, rows)


def _program(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the arguments of `subprocess` that start one of our programs."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    command = [sys.executable, "-P", "-m", f"experiments.{arguments[0]}", *arguments[1:]]
    return {"args": command, "env": os.environ | cache, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def wait_for_peak_memory(process: subprocess.Popen) -> int:
    """Wait for a process and return the peak bytes of it and its children, from samples; 0 outside Linux.

    Memory that several of them share is counted once.
    """
    peak = 0
    try:
        while True:
            peak = max(peak, sum(map(_memory_of, _process_tree(process.pid))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLE_SECONDS)
                return peak
    except BaseException:
        process.kill()
        process.wait()
        raise


def _process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                pids += _process_tree(int(child))
    return pids


def _memory_of(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it is unknown."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE):
            return int(match[1]) * 1024
    return 0
