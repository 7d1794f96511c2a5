"""Find out whether the first row of a table names its columns."""

import re
from collections.abc import Sequence

from research.data.formats.columns import is_usual_name, looks_like
from research.data.read_options import ReadOptions

_MOST_NAME_WORDS = 4  # longer cells of a first row are texts
_FEW_ROWS = 4  # with fewer, the labels do not tell whether the first row is a header


def header_choices(rows: Sequence[Sequence[str]], options: ReadOptions, is_tab: bool) -> list[bool]:
    """Return whether the first row is a header: [True], [False], or both if nothing tells."""
    if options.header != "auto":
        return [options.header == "yes"]
    if not rows:
        return [not is_tab]
    first, rest = [cell.strip() for cell in rows[0]], [row for row in rows[1:] if len(row) == len(rows[0])]
    names = [cell for cell in first if cell]
    wanted_names = [name for name in (options.text, options.label, options.group) if name]
    wanted = [name for each in wanted_names for name in ([each] if each in first else each.split(","))]
    if not all(name.strip().isdigit() for name in wanted):
        return [True]
    if rest and len(names) > 1 and names == [str(number) for number in range(len(names))]:  # pandas numbers columns
        return [any(not cell.isdigit() for row in rest for cell in row)]
    if any(map(is_usual_name, first)) and max(map(len, first)) <= 60:
        return [True]
    if not rest:
        return [not is_tab and not any(looks_like([cell]).is_number for cell in first)]
    columns = [[row[i] for row in rest] for i in range(len(first))]
    contents = [looks_like(column) for column in columns]
    numbers = [cell for cell, content in zip(first, contents, strict=True) if content.is_number and cell]
    if numbers:
        return [not any(looks_like([cell]).is_number for cell in numbers)]
    labels = [i for i, content in enumerate(contents) if content.is_label]
    if any(first[i] in map(str.strip, columns[i]) for i in labels):
        return [False]
    are_short = all(len(name.split()) <= _MOST_NAME_WORDS for name in names)
    is_named = (
        are_short
        and all(re.fullmatch(r"\w[\w .:/()-]{0,40}", name) for name in names)
        and len(set(names)) == len(names)
    )
    if len(rest) < _FEW_ROWS or not labels:
        return [is_named and not is_tab]
    return [is_named]


def with_all_names(rows: list[list[str]]) -> list[list[str]]:
    """Return rows with a name for each column, if the first row has one name less than the others have cells.

    R names no column of row numbers; other programs end each row but the first with a separator.
    """
    first, rest = rows[:1], rows[1:]
    if not rest or {len(row) for row in rest} != {len(first[0]) + 1}:
        return rows
    if not any(row[-1].strip() for row in rest):
        return [[*first[0], ""], *rest]
    numbers = [row[0] for row in rest]
    is_numbered = all(map(str.isdecimal, numbers)) and len(set(numbers)) == len(numbers)
    return [["", *first[0]], *rest] if is_numbered else rows
