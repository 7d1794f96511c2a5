"""Fill the report's templates: Markdown, one self-contained HTML page, LaTeX. The only file that imports Jinja.

`templates/content.jinja` says what a report says. It is rendered with the macros of `markdown.jinja` or `html.jinja`.
"""

import base64
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from research.reporting.results import VERDICTS


class Table(NamedTuple):
    """Rows of cells. The first column is a name; the others are numbers or words, aligned right."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    verdicts: bool = False  # whether the HTML page marks cells that begin with a verdict


class Plot(NamedTuple):
    """A PNG file and what it shows in words."""

    path: Path
    caption: str
    key: str = ""  # what codes in the picture stand for


def render_markdown(content: Mapping[str, Any]) -> str:
    """Return the report in Markdown, with links to the plots."""
    text = _environment(is_html=False).get_template("report.md.jinja").render(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render_html(content: Mapping[str, Any]) -> str:
    """Return the report as one page. It holds its plots and works offline and without scripts."""
    text = _environment(is_html=True).get_template("report.html.jinja").render(content)
    return re.sub(r"\n{2,}", "\n", text).strip() + "\n"


def render_latex(tables: Sequence[tuple[Table, str]]) -> str:
    """Return tables with their captions for a paper. They need the package booktabs."""
    return _environment(is_html=False).get_template("report.tex.jinja").render(tables=tables)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    macros = _environment(is_html=False).get_template("markdown.jinja").module
    return macros.table({"header": header, "rows": rows}).strip() + "\n"


def html_table(table: Table) -> str:
    """Return an HTML table; its cells are escaped."""
    return str(_environment(is_html=True).get_template("html.jinja").module.table(table))


@functools.cache
def _environment(*, is_html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("research.reporting"),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "one_line": _one_line,
        "code": _mark_code,
        "breakable": _breakable,
        "verdict_class": _verdict_class,
        "data_uri": _data_uri,
        "markdown_cell": _markdown_cell,
        "tex": _escape_tex,
        "tex_cell": _tex_cell,
    }
    return environment


def _one_line(text: str) -> str:
    """Return a text whose words are separated by single spaces; escaped text stays marked as escaped."""
    return type(text)(" ").join(text.split())


def _mark_code(text: str) -> Markup:
    """Return escaped text in which backquoted parts are code; an odd number of backquotes stays as it is."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:
        return Markup("`").join(pieces)
    return Markup("").join(Markup(f"<code>{piece}</code>") if i % 2 else piece for i, piece in enumerate(pieces))


def _breakable(cell: str, after: str = ",[") -> Markup:
    """Return an escaped cell in which a difference stays beside its interval; names may break after some signs."""
    interval = r"([-+][\d.]+ )?\[[-+\d][^\]]*\]"
    text = re.sub(interval, lambda match: match[0].replace(" ", "&nbsp;"), str(escape(cell)))
    return Markup(re.sub(rf"([{re.escape(after)}])(?=[^\W\d])", r"\1<wbr>", text))


def _verdict_class(cell: str) -> str:
    """Return the CSS class of the verdict that a cell begins with; empty without one."""
    return next((word.replace(" ", "-") for word in VERDICTS if cell.startswith(word)), "")


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _markdown_cell(cell: str) -> str:
    return re.sub(r"([|`*<\\])", r"\\\1", cell).replace("\n", " ")


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def _escape_tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _tex_cell(cell: str) -> str:
    """Return an escaped cell in which a hyphen before a number is a minus sign."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", _escape_tex(cell))
