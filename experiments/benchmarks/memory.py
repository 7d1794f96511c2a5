"""How much memory programs take that are measured."""

import contextlib
import re
import subprocess
from pathlib import Path

_SAMPLE_SECONDS = 0.5


def memory_to_the_end(process: subprocess.Popen) -> int:
    """Waits for a process; bytes that it and those it started took at most, from samples (0 where it is not Linux).

    What several of them share is counted once.
    """
    peak = 0
    try:
        while True:
            peak = max(peak, sum(map(_taken, _family(process.pid))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLE_SECONDS)
                return peak
    except BaseException:
        process.kill()
        process.wait()
        raise


def _family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += _family(int(child))
    return found


def _taken(pid: int) -> int:
    """Its share of the memory that it has mapped."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return 0
