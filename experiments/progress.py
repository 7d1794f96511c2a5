"""What programs print: progress (a bar on a terminal, else plain lines), tables, and the results of a comparison."""

import math
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from research.errors import UserError
from research.runs import run_files

if TYPE_CHECKING:
    from research.reporting.results import Results

_LINE_SECONDS = 10.0  # least time between two plain lines of progress


class Reporter:
    """Shows the progress of a program on stderr; `reporting` makes it."""

    def __init__(self, console: Console, bar: Progress | None, total: float | None, unit: str):
        self._console, self._bar, self._total, self._unit = console, bar, total, unit
        self._task = bar.add_task("", total=total, loss="") if bar else None
        self._last, self._lock = time.monotonic(), threading.Lock()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def progress(self, name: str, done: float, loss: float) -> None:
        """Show how much of `total` is done, and a recent loss of the run `name` (NaN: none)."""
        if self._bar is not None:
            shown = "" if math.isnan(loss) else f"loss {loss:.3f}"
            self._bar.update(self._task, completed=done, description=name, loss=shown)
            return
        with self._lock:
            if time.monotonic() - self._last < _LINE_SECONDS:
                return
            self._last = time.monotonic()
        shown = "" if math.isnan(loss) else f"loss {loss:.3f}, "
        total = "" if self._total is None else f" of {self._total:.4g}"
        self.say(f"{name}: {shown}{done:.1f}{total} {self._unit}")


@contextmanager
def reporting(total: float | None, unit: str) -> Iterator[Reporter]:
    """Report progress on stderr within the context; results go to stdout later. `total` is None if it is unknown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Reporter(console, None, total, unit)
        return
    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[loss]}}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=console, transient=True) as bar:
        yield Reporter(console, bar, total, unit)


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table on stdout: as wide as its cells need without a terminal, compact on a narrow one."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    table = _table(header, rows, {})
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width:
        lines = tuple(re.sub(r" (?=[^\W\d]|\()", "\n", name) for name in header)
        table = _table(lines, rows, {"box": box.SIMPLE_HEAD, "collapse_padding": True, "pad_edge": False})
    console.print(title, style="bold")
    console.print(table)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], look: dict[str, Any]) -> Table:
    """Return a table whose numbers and intervals are not broken over lines."""
    table = Table(**look)
    for i, (name, *cells) in enumerate(zip(header, *rows, strict=True)):
        numbers = not any(re.search(r"[^\W\d_]{3}", cell) for cell in cells)
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold", no_wrap=i > 0 and numbers)
    for row in rows:
        table.add_row(*row)
    return table


def short_names(folders: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell runs apart; of a run in a comparison with the variant's name.

    Raises:
      UserError: a folder is named twice.
    """
    parts = [Path(folder).resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names) and not any(re.match(r"(fold\d+-)?repeat\d+(/|$)", name) for name in names):
            return names
    raise UserError(f"--workdir={','.join(folders)} names a folder twice, expected different ones")


def say_unfinished(folder: Path) -> None:
    """Print on stderr that a run is not finished, if so."""
    if not run_files.is_finished(folder):
        epochs = max((record["epoch"] for record in run_files.read_metrics(folder)), default=0)
        print(f"{folder} is not finished: it is used as it is after {epochs} epoch(s)", file=sys.stderr)


def print_results(results: "Results", folder: Path) -> None:
    """Print the answer, the tables and the path of the report of a comparison on stdout."""
    # Imported here, because it imports SciPy: other programs start faster without it.
    from research.evaluation.metrics import METRICS
    from research.reporting.caveats import list_caveats
    from research.reporting.summary import describe_answer, describe_protocol
    from research.reporting.tables import effects_table, pairs_table, variants_table

    print(describe_answer(results))
    print_table(describe_protocol(results), *variants_table(results)[:2])
    for sentence in list_caveats(results):
        print(sentence)
    if results.pairs:
        title = f"Differences of {METRICS[results.metric].title} in common runs, simultaneous 95 % intervals"
        print_table(title, *pairs_table(results)[:2])
    effects = effects_table(results)
    if effects.rows:
        print_table("Effects of settings, averaged over the others, simultaneous 95 % intervals", *effects[:2])
    print(f"report: {folder / 'report.md'}")
