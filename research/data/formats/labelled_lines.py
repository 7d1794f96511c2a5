"""Text files with a text and its label in each line, in the ways that well-known corpora have."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from research.data.formats.columns import looks_like
from research.data.formats.table import OnProgress, Record, Table
from research.data.formats.text_lines import read_lines
from research.data.read_options import ReadOptions
from research.errors import UserError

_FEWEST = 4  # with fewer lines, a repeated word may be chance
_MOST_NUMBERS = 20  # different labels that stand before the text with only a blank between
_FASTTEXT = re.compile(
    r"(?:__label__(?P<first>\S+)\s+(?P<after>.*)|(?P<before>.*)\s+__label__(?P<last>\S+)\s*)", re.DOTALL
)


class _Form(NamedTuple):
    """One way to write a text and its label into a line."""

    words: str  # what a message calls it
    columns: tuple[str, ...]
    split: Callable[[str], Sequence[str] | None]  # a line -> its cells; None if it is not of this form
    expected: str  # how a line should look


def _split_fasttext(line: str) -> Sequence[str] | None:
    match = _FASTTEXT.fullmatch(line)
    if match is None:
        return None
    text = match["after"] if match["first"] else match["before"]
    return [text.strip(), match["first"] or match["last"]]


def _split_trec(line: str) -> Sequence[str] | None:
    match = re.fullmatch(r"([A-Za-z]+):(\w+)\s+(.*)", line)
    return match and [match[3], match[1], f"{match[1]}:{match[2]}"]


def _split_number_first(line: str) -> Sequence[str] | None:
    match = re.fullmatch(r"([+-]?\d+) +(.*)", line)
    return match and [match[2], match[1]]


def _split_last(sign: str) -> Callable[[str], Sequence[str] | None]:
    def split(line: str) -> Sequence[str] | None:
        text, found, label = line.rpartition(sign)
        return [text.strip(), label.strip()] if found and text.strip() and label.strip() else None

    return split


_FASTTEXT_FORM = _Form("fastText's __label__NAME", ("text", "label"), _split_fasttext, "__label__NAME TEXT")
_FORMS = (
    _Form("TREC's LABEL:fine (the class is LABEL)", ("text", "label", "fine"), _split_trec, "LABEL:fine TEXT"),
    _Form("a number before the text", ("text", "label"), _split_number_first, "NUMBER TEXT"),
    *(_Form(f"TEXT{sign}LABEL", ("text", "label"), _split_last(sign), f"TEXT{sign}LABEL") for sign in "@;|,"),
)


def fasttext_table(path: Path, lines: Sequence[str], options: ReadOptions) -> Table | None:
    """Return the table of a file whose lines have a `__label__`; None if they have none.

    Args:
      path: the file.
      lines: its first lines, without line breaks.
      options: the flags.
    """
    cells = [_split_fasttext(line) for line in lines if line.strip()]
    if not cells or cells[0] is None or sum(map(bool, cells)) < 0.9 * len(cells):
        return None
    return _table(path, _FASTTEXT_FORM, options)


def labelled_lines_table(path: Path, lines: Sequence[str], options: ReadOptions) -> Table | None:
    """Return the table of a file whose lines all have one of the other forms; None if they have none of them.

    The arguments are those of `fasttext_table`.
    """
    lines = [line for line in lines if line.strip()]
    form = next((form for form in _FORMS if _fits(form, lines)), None)
    return form and _table(path, form, options)


def _table(path: Path, form: _Form, options: ReadOptions) -> Table:
    def rows(on_progress: OnProgress) -> Iterator[Record]:
        return _rows(path, form, options, on_progress)

    return Table(form.columns, rows, form.words, {}, is_usual=False)


def _fits(form: _Form, lines: Sequence[str]) -> bool:
    cells = [form.split(line) for line in lines]
    if len(lines) < _FEWEST or None in cells:
        return False
    labels = [row[1] for row in cells]
    if form.expected.startswith("NUMBER") and len(set(labels)) > _MOST_NUMBERS:
        return False
    content, text = looks_like(labels), looks_like([row[0] for row in cells])
    return content.is_label and not content.is_text and text.is_text


def _rows(path: Path, form: _Form, options: ReadOptions, on_progress: OnProgress) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, options.encoding, on_progress=on_progress), start=1):
        line = line.rstrip("\n").removesuffix("\r")
        if not line.strip():
            continue
        cells = form.split(line)
        if cells is None:
            raise UserError(f"{path}:{number}: no label, expected {form.expected} as in the lines before")
        if form is _FASTTEXT_FORM and "__label__" in cells[0]:
            raise UserError(f"{path}:{number}: more than one label, expected exactly one for each text")
        yield f"{path}:{number}", cells
