"""What programs print: tables, and the results of a comparison."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from research.errors import UserError
from research.runs import run_files

if TYPE_CHECKING:
    from research.reporting.results import Results


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
    """Print the answer with its command, the tables and the path of the report of a comparison on stdout."""
    # Imported here, because it imports SciPy: other programs start faster without it.
    from research.evaluation.metrics import METRICS
    from research.reporting.answer import find_answer
    from research.reporting.caveats import list_caveats
    from research.reporting.pairs import single_reference
    from research.reporting.summary import describe_protocol
    from research.reporting.tables import effects_table, pairs_table, variants_table

    answer = find_answer(results)
    print(answer.text)
    if answer.command:
        print(f"    {answer.command}")
    print()
    print_table(describe_protocol(results), *variants_table(results)[:2])
    for sentence in list_caveats(results):
        print(sentence)
    if results.pairs and single_reference(results.pairs) is None:  # otherwise the first table has all pairs
        title = f"Differences of {METRICS[results.metric].title} in common runs, simultaneous 95 % intervals"
        print_table(title, *pairs_table(results)[:2])
    effects = effects_table(results)
    if effects.rows:
        print_table("Effects of settings, averaged over the others, simultaneous 95 % intervals", *effects[:2])
    print(f"report: {folder / 'report.md'}")
