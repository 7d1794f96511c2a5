"""Files of cells with a separator between them: comma, semicolon, tab or pipe, with or without quotes and header."""

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from research.data.formats.headers import header_choices, with_all_names
from research.data.formats.table import OnProgress, Record, Table
from research.data.formats.text_lines import MAX_LINE_BYTES, read_lines
from research.data.read_options import SEPARATORS, ReadOptions
from research.errors import UserError

_SAMPLE_ROWS = 2_000
_LONE_RETURN = "\ue00d"  # stands for a carriage return within a text, which the csv module takes for a line break
_SHOWN_LINES = 20  # by which quotes around cells are recognised
_FEW_ROWS = 4  # with fewer, the labels do not tell whether the first row is a header


class Dialect(NamedTuple):
    """How the cells of a line are separated and quoted."""

    separator: str
    quote: str = '"'  # empty: quotes are characters of the texts
    escape: str = ""  # what stands before a quote within quotes; empty: the quote is doubled
    skip_blanks: bool = False  # whether blanks after a separator belong to no cell


def separated_tables(path: Path, sample: str, options: ReadOptions, separators: Iterable[str]) -> list[Table]:
    """Return a table for each plausible combination of separator, quoting and header; the most usual ones first.

    Args:
      path: the file.
      sample: its first characters.
      options: the flags.
      separators: the separators that are usual for this kind of file, most usual first.
    """
    end = "\n" if "\n" in sample or "\r" not in sample else "\r"
    lines = _whole_lines(sample, end)
    stated = re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\r\n")) if lines else None  # a line that Excel writes
    start = 1 if stated else 0
    if stated or options.separator:
        separators = [stated[1] if stated else SEPARATORS[options.separator]]
    tables, separators = [], list(separators)
    for separator in separators:
        dialect, rows = _best_dialect(separator, lines[start:])
        layout = _Layout(path, options, dialect, start, end, is_only=len(separators) == 1)
        for has_header in header_choices(rows, options, is_tab=separator == "\t"):
            tables.append(layout.table(rows[0] if rows else [], has_header, is_stated=bool(stated)))
    return tables


def _whole_lines(sample: str, end: str) -> list[str]:
    """Return the lines of a sample without the last one, which may be cut, unless it is the only one."""
    lines = [line + end for line in sample.split(end)]
    return (lines[:-1] if len(lines) > 2 or lines[-1] == end else lines) or lines


def is_consistent(separator: str, lines: Sequence[str], least: int = 1) -> bool:
    """Return whether nearly all of these lines have the same number of separators, at least `least`."""
    counts = Counter(line.count(separator) for line in lines if line.strip())
    count, lines_with = max(counts.items(), key=lambda item: item[1], default=(0, 0))
    return count >= least and lines_with >= 0.9 * counts.total()


def has_quoted_cells(separator: str, lines: Sequence[str]) -> bool:
    """Return whether the first lines are cells of which some stand in quotes; between blanks, all of the first line."""
    quoted, plain = r'"(?:[^"\\]|\\.|"")*"', rf'[^"{re.escape(separator)}]*'
    sign = re.escape(separator)
    shown = [line for line in lines if line.strip()][:_SHOWN_LINES]
    rows = [re.fullmatch(rf"(?:{quoted}|{plain})(?:{sign}(?:{quoted}|{plain}))+", line) for line in shown]
    if len(shown) < 2 or not all(rows) or not all('"' in line for line in shown):
        return False
    return separator != " " or bool(re.fullmatch(rf"{quoted}(?: {quoted})+", shown[0]))


def _best_dialect(separator: str, lines: Sequence[str]) -> tuple[Dialect, list[list[str]]]:
    """Return the first way of quoting in which all rows have equally many cells, or the usual one, with the rows."""
    usual = [
        Dialect(separator),
        Dialect(separator, skip_blanks=True),
        Dialect(separator, escape="\\"),
        Dialect(separator, quote="'"),
        Dialect(separator, quote=""),
    ]
    if separator == "\t":
        is_quoted = _is_quoted(lines)
        usual = [usual[0], usual[2], usual[4]] if is_quoted else [usual[4]]
    parsed = [_parse_sample(lines, dialect) for dialect in usual]
    for dialect, (rows, is_whole) in zip(usual, parsed, strict=True):
        widths = {len(row) for row in rows if row}
        is_single = widths == {1} and separator == "," and dialect == usual[0]
        is_regular = is_whole and len(widths) == 1 and (widths != {1} or is_single)
        if is_regular and not _has_loose_quotes(rows, dialect) and not _has_escaped_quotes(rows, dialect):
            return dialect, rows
    return usual[0], parsed[0][0]


def _is_quoted(lines: Sequence[str]) -> bool:
    """Return whether quotes around the cells of a tab-separated file belong to its format, as pandas writes them.

    A cell is quoted there if it has a quote, a tab or a line break. Other programs write texts as they are.
    """
    content = "".join(lines)
    starts = len(re.findall(r'(?:^|[\t\n])"', content))
    quoted_cells = re.findall(r'(?:(?<=[\t\n])|^)"((?:[^"\\]|\\.|"")*)"(?=[\t\r\n]|$)', content)
    needs_quotes = any(re.search(r'""|\\"|[\t\n]', cell) for cell in quoted_cells)
    rows = sum(bool(line.strip()) for line in lines)
    return starts > 0 and len(quoted_cells) == starts and (needs_quotes or starts >= max(rows, _FEW_ROWS))


def _has_loose_quotes(rows: Sequence[Sequence[str]], dialect: Dialect) -> bool:
    """Return whether most cells of a column have a quote at one end only: then the separator stands within quotes.

    Double quotes at both ends are as wrong if the dialect takes them for characters of a text.
    """
    for column in zip(*rows, strict=True):
        for quote in ('"', "'"):
            ends = [cell.strip().startswith(quote) + cell.strip().endswith(quote) for cell in column]
            is_kept = quote == '"' != dialect.quote
            if ends.count(1) > len(column) / 2 or (is_kept and ends.count(2) > len(column) / 2):
                return True
    return False


def _has_escaped_quotes(rows: Sequence[Sequence[str]], dialect: Dialect) -> bool:
    """Return whether each quote within a cell has a backslash before it, which the dialect takes for a character."""
    quotes = [match[0] for row in rows for cell in row for match in re.finditer(r'\\?"', cell)]
    return dialect.quote == '"' and not dialect.escape and bool(quotes) and '"' not in quotes


def _parse_sample(lines: Sequence[str], dialect: Dialect) -> tuple[list[list[str]], bool]:
    """Return the rows of some lines, and whether all of them can be read."""
    rows: list[list[str]] = []
    try:
        for _, row in _parse(lines, dialect):
            if not _is_blank(row):
                rows.append(row)
            if len(rows) == _SAMPLE_ROWS:
                break
    except csv.Error as error:
        is_cut = "unexpected end of data" in str(error) and len(rows) > _FEW_ROWS  # the sample may end in a cell
        return with_all_names(rows), is_cut
    return with_all_names(rows), True


def _is_blank(row: Sequence[str]) -> bool:
    return len(row) == 1 and row[0].isspace()


def _parse(lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line where a row starts, from 1, and its cells; blank lines are left out.

    Raises:
      csv.Error: a quote is not closed, or text follows a closing quote.
    """
    if not dialect.quote:
        for number, line in enumerate(lines, start=1):
            if row := line.rstrip("\n").removesuffix("\r"):
                yield number, row.split(dialect.separator)
        return
    csv.field_size_limit(MAX_LINE_BYTES)  # a quote that is never closed must not fill the memory
    reader = csv.reader(
        map(_keep_lone_returns, lines),
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        escapechar=dialect.escape or None,
        skipinitialspace=dialect.skip_blanks,
        strict=True,
    )
    start = 1
    for row in reader:
        number, start = start, reader.line_num + 1
        if row:
            yield number, [cell.replace(_LONE_RETURN, "\r") if _LONE_RETURN in cell else cell for cell in row]


def _keep_lone_returns(line: str) -> str:
    """Return a line in which no carriage return ends a row but the one before the line feed."""
    if "\r" not in line:
        return line
    body = line.removesuffix("\n").removesuffix("\r")
    return body.replace("\r", _LONE_RETURN) + line[len(body) :]


class _Layout(NamedTuple):
    """The position of the first row of a file, and the way in which its rows are written."""

    path: Path
    options: ReadOptions
    dialect: Dialect
    start: int  # lines before the first row
    end: str  # of a line
    is_only: bool  # whether no other separator is plausible

    def table(self, first: Sequence[str], has_header: bool, is_stated: bool) -> Table:
        """Return the table with or without a header."""
        columns = tuple(first) if has_header else tuple(str(i + 1) for i in range(len(first)))
        separator = next((name for name, sign in SEPARATORS.items() if sign == self.dialect.separator), "other")
        words = f"{separator}-separated, {'with' if has_header else 'without'} a header"
        is_usual = self.dialect.separator == ("\t" if self.path.suffix.lower() in (".tsv", ".txt", ".tab") else ",")
        flags = {} if is_stated or (is_usual and self.is_only) else {"separator": separator}
        flags |= {} if has_header == (self.dialect.separator != "\t") else {"header": "yes" if has_header else "no"}

        def rows(on_progress: OnProgress) -> Iterator[Record]:
            return self._rows(len(columns), has_header, on_progress)

        return Table(columns, rows, words, flags, has_header)

    def _rows(self, width: int, has_header: bool, on_progress: OnProgress) -> Iterator[Record]:
        lines = read_lines(self.path, self.options.encoding, self.end, on_progress)
        for _ in range(self.start):
            next(lines)
        read = _Remembering(lines)
        try:
            rows = _parse(read, self.dialect)
            for number, row in rows:
                place = f"{self.path}:{number + self.start}"
                if has_header:
                    has_header = False
                    continue
                if _is_blank(row) and width > 1:
                    continue
                if len(row) != width:
                    wrong = 1 + self._count_wrong(rows, width)
                    more = f" ({wrong:,} such rows)" if wrong > 1 else ""
                    raise UserError(f"{place}: {self._wrong_width(len(row), width)}{more}")
                yield place, row
                read.forget()
        except csv.Error as error:
            raise self._bad_quotes(error, read) from None

    def _count_wrong(self, rows: Iterator[tuple[int, list[str]]], width: int) -> int:
        """Return how many of the remaining rows have another number of cells, as far as they can be read."""
        count = 0
        with contextlib.suppress(csv.Error, UserError):
            for _, row in rows:
                count += len(row) != width
        return count

    def _wrong_width(self, found: int, width: int) -> str:
        sign = next((name for name, sign in SEPARATORS.items() if sign == self.dialect.separator), "separator")
        if found == 1 and sign == "tab":
            return "no tab, expected one between text and label"
        few = "fewer" if found < width else "more"
        advice = f". Put a cell that has a {sign} into double quotes" if found > width and self.dialect.quote else ""
        return f"{few} cells than the first row has: {found}, expected {width}{advice}"

    def _bad_quotes(self, error: csv.Error, read: "_Remembering") -> UserError:
        """Return the error about a quote: it names the line on which the quote opens."""
        opening = read.count - len(read.lines) + self._line_of_open_quote("".join(read.lines)) + self.start
        problem = "is not closed"
        if "expected after" in str(error):
            problem = f"is closed before the text ends, on line {read.count + self.start}"
        advice = "Write quotes within a text twice, or save the file as JSON lines"
        return UserError(f"{self.path}:{opening}: a cell opens with a quote on this line and {problem}. {advice}")

    def _line_of_open_quote(self, row: str) -> int:
        """Return the line, from 1, of the quote that does not end well in a row that cannot be read."""
        quote, opening = self.dialect.quote, None
        for match in re.finditer(f"{quote}+", row):
            before, after = row[: match.start()], row[match.end() : match.end() + 1]
            count = len(match[0])
            if opening is None:
                starts_cell = not before or before[-1] in (self.dialect.separator, "\n")
                opening = match.start() if starts_cell and count % 2 else None
            elif count % 2:
                if after not in ("", self.dialect.separator, "\r", "\n"):
                    break
                opening = None
        return row.count("\n", 0, opening or 0) + 1


class _Remembering:
    """Iterates over lines, and keeps those of the row that is being read."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self.count = 0
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            if len(self.lines) < 1000:
                self.lines.append(line)
            yield line

    def forget(self) -> None:
        """Drop the lines of the rows that have been read."""
        self.lines = []
