"""Read the user's files: where the texts, labels and groups are, and what is wrong with them.

There is one reader for all programs, so a text is the same wherever it is read. `research/data/formats` turns files
into rows of cells. Every error message starts with `FILE:LINE:` and says what is wrong and how to mend it.
"""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.data.cells import NO_VALUE, label_text, text_of_cell
from research.data.formats.arrow_tables import arrow_table, is_arrow
from research.data.formats.columns import Choice, NoColumn, choose_columns, is_usual_name, unique_name
from research.data.formats.json_records import is_json, json_table
from research.data.formats.labelled_lines import fasttext_table, labelled_lines_table
from research.data.formats.separated import has_quoted_cells, is_consistent, separated_tables
from research.data.formats.table import OnProgress, Record, Table
from research.data.formats.text_lines import read_lines, sample_of
from research.data.read_options import SEPARATORS, ReadOptions
from research.errors import UserError, shorten

_SAMPLE_CHARACTERS = 1 << 20
_TEXT_SAMPLE = 1_000  # rows that show which column holds the texts
_LABELLED_SAMPLE = 20_000  # rows from the whole file that show which column holds the labels; it may be sorted by them
_MOST_CHOICES = 12  # ways to read a file that a message lists
_FEW_ZEROS = 64  # bytes that may be zero in any text
_FEW_LINES = 4  # with fewer, it may be chance that all have a sign equally often
_WITH_NAMES = (".csv", ".tsv", ".json", ".jsonl")  # of files that name columns, so that none is empty
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")


class Row(NamedTuple):
    """One labelled text and its place, `FILE:LINE`."""

    text: str
    label: str
    group: str
    place: str


class SeveralReadings(UserError):
    """A file can be read in several ways; `choices` are the flags of each."""

    def __init__(self, message: str, choices: Sequence[Sequence[str]] = ()):
        super().__init__(message)
        self.choices = choices


class Reading(NamedTuple):
    """A file and how it is read."""

    path: Path
    table: Table
    choice: Choice
    options: ReadOptions

    @property
    def resolved(self) -> ReadOptions:
        """The options that say all that was found out."""
        text = ",".join(unique_name(i, self.table.columns) for i in self.choice.text)
        label = "" if self.choice.label is None else unique_name(self.choice.label, self.table.columns)
        return self.options._replace(text=text, label=label, **self.table.flags)

    @property
    def is_obvious(self) -> bool:
        """Whether the file is read as documented, or as the flags say."""
        return self.table.is_usual and self.choice.by_name and not self.table.flags.keys() - self._given()

    def _given(self) -> set[str]:
        fields = {name for name, value in self.options._asdict().items() if value}
        return fields if self.options.header != "auto" else fields - {"header"}

    def describe(self) -> str:
        """Return a line that says how the file is read, with the flags that say the same."""
        names = self.table.columns
        texts = " and ".join(repr(names[i]) for i in self.choice.text)
        parts = [f"{self.table.format}, texts in column {texts}"]
        if self.choice.label is not None:
            parts.append(f"labels in column {names[self.choice.label]!r}")
        return f"{self.path}: read as {', '.join(parts)} ({shlex.join(self.resolved.flags())})"

    def records(self, on_progress: OnProgress = lambda count: None) -> Iterator[Record]:
        """Yield the place and the cells of each row."""
        return self.table.rows(on_progress)

    def text_of(self, record: Record) -> str | None:
        """Return the text of a row, with a blank between several columns; None if it has none.

        Raises:
          UserError: it is no string, or too long.
        """
        place, cells = record
        texts = [text_of_cell(cells[i], self.table.columns[i], place) for i in self.choice.text]
        present = [text for text in texts if text is not None]
        return " ".join(filter(None, present)) if present else None


def find_reading(path: Path, options: ReadOptions = ReadOptions(), *, labelled: bool = True) -> Reading:
    """Return how a file is read: as the flags say, and otherwise in the only plausible way.

    Args:
      path: the file.
      options: the flags.
      labelled: whether labels are needed.

    Raises:
      SeveralReadings: there are several plausible ways.
      UserError: the file cannot be read, or there is no plausible way.
    """
    readings: list[Reading] = []
    problems: list[UserError] = []
    for table in tables_of(path, options, labelled=labelled):
        try:
            choices = choose_columns(table, lambda table=table: _sample(table, labelled)[0], options, labelled=labelled)
        except NoColumn as error:
            problems.append(NoColumn(f"{path}:1: {error.message}", error.kinds))
        except UserError as error:
            problems.append(UserError(f"{path}:1: {error.message}"))
        else:
            readings += [Reading(path, table, choice, options) for choice in choices]
    if not readings:
        raise problems[0]
    best = [reading for reading in readings if not reading.choice.is_guess] or readings
    best = [reading for reading in best if reading.choice.by_name] or best
    if len(best) > 1:
        best = [reading for reading in best if _sample(reading.table, labelled)[1]] or best
    if len(best) > 1:
        raise _several(path, best, options)
    return best[0]


def tables_of(path: Path, options: ReadOptions, *, labelled: bool) -> list[Table]:
    """Return the ways in which the format of a file can be understood, most usual first."""
    raw = sample_of(path)
    if raw[257:262] == b"ustar":
        raise UserError(
            f"{path}: a tar archive. Unpack it (tar xf {shlex.quote(str(path))}) and name a file or folder of it"
        )
    if is_arrow(raw):
        return [arrow_table(path, raw)]
    if not options.encoding and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        zeros = {"be": raw[::2].count(b"\0"), "le": raw[1::2].count(b"\0")}
        order = max(zeros, key=zeros.get)
        if zeros[order] > len(raw) / 4 > 4 * min(zeros.values()):
            raise UserError(f"{path}:1: UTF-16 without a mark. Use --encoding=utf-16-{order}")
        if (count := sum(zeros.values())) > max(_FEW_ZEROS, len(raw) / 10):
            raise UserError(f"{path}: binary or damaged, {count:,} bytes are zero. Save it as CSV, encoding UTF-8")
    sample = _first_characters(path, options.encoding)
    suffix = suffix_of(path)
    if not sample.strip() and (labelled or suffix in _WITH_NAMES):
        raise UserError(f"{path}: no rows, expected at least one {'labelled ' * labelled}text")
    if is_json(sample, suffix):
        return [json_table(path, sample, options)]
    lines = [line.rstrip("\r") for line in sample.split("\n")]
    if fasttext := fasttext_table(path, lines, options):
        return [fasttext]
    first = next((line for line in lines if line.strip()), "")
    present = [sign for sign in SEPARATORS.values() if sign in first and sign != " "]
    if not options.separator and has_quoted_cells(" ", lines):  # as R writes a table
        return separated_tables(path, sample, options, [" "])
    if suffix == ".csv":
        return separated_tables(path, sample, options, present or [","])
    if suffix in (".tsv", ".tab"):
        separators = ["\t"] if "\t" in first else [*present, "\t"]
        return separated_tables(path, sample, options, separators)
    if options.separator or re.match('"?sep=.', first):
        return separated_tables(path, sample, options, [])
    has_tabs = is_consistent("\t", lines) or ("\t" in first and labelled)
    if not has_tabs:
        named = [sign for sign in present if has_quoted_cells(sign, lines)]
        named = named or [sign for sign in present if any(map(is_usual_name, first.replace('"', "").split(sign)))]
        if named:
            return separated_tables(path, sample, options, named)
        if len(lines) > _FEW_LINES and is_consistent("|", lines, least=2):
            return separated_tables(path, sample, options, ["|"])
        if table := labelled_lines_table(path, lines, options):
            return [table]
    if has_tabs or labelled:
        return separated_tables(path, sample, options, ["\t"])
    return [Table(("text",), lambda on_progress: _lines(path, options, on_progress), "one text a line", {})]


def suffix_of(path: Path) -> str:
    """Return the suffix that says the format, in lower case: ".csv" of `a.csv.gz`."""
    suffixes = [suffix.lower() for suffix in Path(path.name).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _first_characters(path: Path, encoding: str) -> str:
    lines, count = [], 0
    for line in read_lines(path, encoding):
        lines.append(line)
        count += len(line)
        if count > _SAMPLE_CHARACTERS:
            break
    return "".join(lines)


def _lines(path: Path, options: ReadOptions, on_progress: OnProgress) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, options.encoding, on_progress=on_progress), start=1):
        yield f"{path}:{number}", [line.removesuffix("\n").removesuffix("\r")]


def _sample(table: Table, labelled: bool) -> tuple[list[Sequence[Any]], bool]:
    """Return the cells of the first rows, or of rows from the whole file, and whether none of those is malformed."""
    cells: list[Sequence[Any]] = []
    step = 1  # every so many rows are kept
    rows = enumerate(table.rows(lambda count: None))
    try:
        for number, (_, row) in rows if labelled else itertools.islice(rows, _TEXT_SAMPLE):
            if number % step == 0:
                cells.append(row)
            if len(cells) > _LABELLED_SAMPLE:
                cells, step = cells[::2], 2 * step
    except UserError:
        return cells, False
    return cells, True


def _several(path: Path, readings: Sequence[Reading], options: ReadOptions) -> SeveralReadings:
    """Return the error that there are several ways to read a file, with the flags that choose one."""
    choices = []
    for reading in readings:
        flags = [flag for flag in reading.resolved.flags() if flag not in options.flags()]
        choices.append(flags)
    texts = sorted({i for reading in readings for i in reading.choice.text})
    if len(readings) == len(texts) > 1 and len({reading.table.columns for reading in readings}) == 1:
        names = [unique_name(i, readings[0].table.columns) for i in texts]
        joined = [f"--text_column={','.join(names)}", *[f for f in choices[0] if not f.startswith("--text_")]]
        choices.append(joined)
    if len(choices) > _MOST_CHOICES:
        names = ", ".join(shorten(str(name)) for name in readings[0].table.columns[:_MOST_CHOICES])
        inspect = f"./launch.sh inspect {shlex.quote(f'--corpus={path}')}"
        return SeveralReadings(
            f"{path}: there are {len(choices):,} ways to read it (columns {names}, ...). Name the columns with "
            f"--text_column and --label_column; {inspect} shows what each holds"
        )
    listed = "; ".join(map(shlex.join, choices))
    return SeveralReadings(f"{path}: there are several ways to read it. Choose one: {listed}", choices)


def read_rows(path: Path, options: ReadOptions = ReadOptions()) -> list[Row]:
    """Return the rows of one file, in the order of the file.

    Raises:
      UserError: the file cannot be read, a row is malformed, or there are no rows.
    """
    return rows_of(find_reading(path, options)).rows


class Rows(NamedTuple):
    """The rows of a file, and what a user should know about reading it."""

    rows: list[Row]
    notes: list[str]


def rows_of(reading: Reading) -> Rows:
    """Read the rows of a file.

    Raises:
      UserError: a row is malformed, a text or a label is missing, or there are no rows.
    """
    path, options, choice = reading.path, reading.options, reading.choice
    rows: list[Row] = []
    unlabelled: list[str] = []  # places
    without_text: list[str] = []
    for record in reading.records():
        place, cells = record
        text, label = reading.text_of(record), label_text(cells[choice.label], place)
        group = "" if choice.group is None or cells[choice.group] is None else str(cells[choice.group])
        if text is None or (options.drop_missing and not text.strip()):
            without_text.append(place)
        elif not label or (options.drop_missing and label in NO_VALUE):
            unlabelled.append(place)
        else:
            rows.append(Row(text, label, group, place))
    missing = [
        f"{len(places):,} of {len(rows) + len(unlabelled) + len(without_text):,} rows have no {what}"
        for what, places in (("text", without_text), ("label", unlabelled))
        if places
    ]
    if missing and not options.drop_missing:
        first = (without_text or unlabelled)[0]
        kind = "text" if without_text else "label"
        raise UserError(f"{first}: no {kind}. {' and '.join(missing)}; --drop_missing leaves them out")
    if not rows:
        raise UserError(f"{path}: no rows, expected at least one labelled text")
    notes = [] if reading.is_obvious else [reading.describe()]
    if missing:
        notes.append(f"{path}: {' and '.join(missing)} and are left out")
    if marked := sum(row.label in NO_VALUE for row in rows):
        names = " or ".join(repr(name) for name in sorted({row.label for row in rows} & NO_VALUE))
        notes.append(
            f"{path}: {marked:,} row(s) have the label {names}, a class like others; --drop_missing leaves them out"
        )
    return Rows(rows, notes)
