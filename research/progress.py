"""Show the progress of training: a bar on a terminal, one line of a notebook, or plain lines."""

import html
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0  # least time between two plain lines of progress
_NOTEBOOK_SECONDS = 0.5  # least time between two updates of a notebook's line


class Reporter:
    """Shows no progress; subclasses show it. `reporting` and `python_reporting` choose one."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def progress(self, name: str, done: float, loss: float) -> None:
        """Show how much of the total is done, and a recent loss of the run `name` (NaN: none)."""


class _Lines(Reporter):
    """Plain lines on a console, one every few seconds."""

    def __init__(self, console: Console, total: float | None, unit: str):
        self._console, self._total, self._unit = console, total, unit
        self._last, self._lock = time.monotonic(), threading.Lock()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def progress(self, name: str, done: float, loss: float) -> None:
        with self._lock:
            if time.monotonic() - self._last < _LINE_SECONDS:
                return
            self._last = time.monotonic()
        shown = _loss_text(loss, ", ")
        total = "" if self._total is None else f" of {self._total:.4g}"
        self.say(f"{name}: {shown}{done:.1f}{total} {self._unit}")


class _Bar(_Lines):
    """A bar below the lines of a terminal."""

    def __init__(self, console: Console, bar: Progress, total: float | None, unit: str):
        super().__init__(console, total, unit)
        self._bar, self._task = bar, bar.add_task("", total=total, loss="")

    def progress(self, name: str, done: float, loss: float) -> None:
        self._bar.update(self._task, completed=done, description=name, loss=_loss_text(loss))


class _NotebookLine(Reporter):
    """One line of a notebook's output, which each update replaces."""

    def __init__(self, total: float, unit: str):
        from IPython.display import display

        self._total, self._unit, self._start = total, unit, time.monotonic()
        self._done, self._last, self._lock = 0.0, 0.0, threading.Lock()
        self._handle = display(self._line(0.0, "starting"), raw=True, display_id=True)

    def progress(self, name: str, done: float, loss: float) -> None:
        with self._lock:
            self._done = done
            if time.monotonic() - self._last < _NOTEBOOK_SECONDS:
                return
            self._last = time.monotonic()
        self._handle.update(self._line(done, f"{name} {_loss_text(loss)}"), raw=True)

    def end(self, outcome: str) -> None:
        """Replace the line by how the call ended."""
        seconds = f"{time.monotonic() - self._start:.0f} s"
        text = f"{outcome} after {self._done:.4g} of {self._total:.4g} {self._unit}, {seconds}"
        if outcome == "done":  # early stopping may have left out the last epochs
            text = f"done in {seconds}"
        self._handle.update({"text/plain": text, "text/html": f"<small>{html.escape(text)}</small>"}, raw=True)

    def _line(self, done: float, note: str) -> dict[str, str]:
        """Return the line as text and as HTML."""
        text = f"{done:.1f} of {self._total:.4g} {self._unit}: {note}"
        bar = f'<progress value="{done:.2f}" max="{self._total:.4g}"></progress>'
        return {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}


def _loss_text(loss: float, end: str = "") -> str:
    return "" if math.isnan(loss) else f"loss {loss:.3f}{end}"


@contextmanager
def reporting(total: float | None, unit: str) -> Iterator[Reporter]:
    """Report a program's progress on stderr within the context: a bar on a terminal, else lines.

    Results go to stdout later. `total` is None if it is unknown.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, total, unit)
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
        yield _Bar(console, bar, total, unit)


@contextmanager
def python_reporting(total: float, unit: str, *, is_shown: bool = True) -> Iterator[Reporter]:
    """Report the progress of a call from Python within the context.

    In a notebook it is one line that is updated in place; on a terminal it is the bar of the programs. Elsewhere, such
    as in a script whose output goes to a file, nothing is shown.
    """
    if is_shown and _is_in_notebook():
        line = _NotebookLine(total, unit)
        try:
            yield line
        except BaseException:
            line.end("stopped")
            raise
        line.end("done")
    elif is_shown and sys.stderr is not None and sys.stderr.isatty():
        with reporting(total, unit) as reporter:
            yield reporter
    else:
        yield Reporter()


def _is_in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. IPython on a terminal is a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")
