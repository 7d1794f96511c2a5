"""Run the parts of a measurement one after the other, each in a process of its own with a time limit."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DONE, FAILED, TIMED_OUT, SKIPPED = "done", "failed", "out of time", "skipped"
LEAST_SECONDS = 3.0  # a part that has less time is not started
_TERMINATION_SECONDS = 5.0  # from asking a process to end to killing it
_SHOWN_LINES, _SHOWN_CHARACTERS = 12, 300  # of what a failed part wrote to stderr


def read_json_lines(output: str) -> list[Any]:
    """Return the JSON objects in the lines of an output; a line that a killed process left unfinished is dropped."""
    results = []
    for line in output.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                results.append(json.loads(line))
    return results


class Part(NamedTuple):
    """A process that measures something."""

    name: str
    command: Callable[[float], Sequence[str]]  # of the seconds that it has
    least: float  # seconds that are kept for it
    most: float  # seconds after which it is ended
    environment: Mapping[str, str] = {}  # what differs from that of this process
    cwd: Path | None = None
    read: Callable[[str], list[Any]] = read_json_lines  # output -> results
    skip: str = ""  # why it is not run, if so


class Outcome(NamedTuple):
    """How a part ended, and what it measured until then."""

    name: str
    status: str
    seconds: float
    limit: float
    results: list[Any]
    message: str  # why there are no results, or the last lines of stderr


def time_limit(parts: Sequence[Part], index: int, left: float) -> float:
    """Return the seconds that a part may take: at most its own, and so that `least` of all later parts is left."""
    reserved = sum(part.least for part in parts[index + 1 :] if not part.skip)
    return max(0.0, min(parts[index].most, left - reserved))


def run_part(part: Part, limit: float, folder: Path) -> Outcome:
    """Run a part to its end or to its time limit; an exception meanwhile, such as Ctrl-C, ends its process too.

    Args:
      part: the part.
      limit: seconds.
      folder: the folder of all parts; gets `parts/NAME.out` and `parts/NAME.log`, what it writes to stdout and stderr.
    """
    if part.skip:
        return Outcome(part.name, SKIPPED, 0.0, limit, [], part.skip)
    if limit < LEAST_SECONDS:
        return Outcome(part.name, SKIPPED, 0.0, limit, [], "no time was left for it")
    name = "".join(letter if letter.isalnum() else "-" for letter in part.name)
    out, log = (folder / "parts" / f"{name}.{suffix}" for suffix in ("out", "log"))
    start = time.monotonic()
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            part.command(limit),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | part.environment,
            cwd=part.cwd,
            start_new_session=True,
        )
        try:
            status = DONE if process.wait(limit) == 0 else FAILED
        except subprocess.TimeoutExpired:
            status = TIMED_OUT
        finally:
            if process.returncode is None:
                _end_group(process)
    seconds = time.monotonic() - start
    message = "" if status == DONE else _last_lines(log)
    if status == FAILED and process.returncode < 0:
        message = f"{message}\nended by {signal.Signals(-process.returncode).name}".strip()
    results = part.read(out.read_text("utf-8", errors="replace"))
    return Outcome(part.name, status, round(seconds, 1), round(limit, 1), results, message)


def _end_group(process: subprocess.Popen) -> None:
    """End a process and those that it started: ask first, then kill."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERMINATION_SECONDS)


def _last_lines(path: Path) -> str:
    """Return the last lines of a file, each cut to a length that can be read."""
    lines = [line.rstrip() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(line[:_SHOWN_CHARACTERS] for line in lines[-_SHOWN_LINES:])
