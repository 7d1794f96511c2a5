"""A report as a list of blocks, and its three forms: Markdown, one self-contained HTML page, LaTeX tables."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Heading(NamedTuple):
    text: str


class Text(NamedTuple):
    text: str


class Items(NamedTuple):
    """A list; what stands between backquotes is code."""

    items: tuple[str, ...]


class Table(NamedTuple):
    """Rows of cells; the first column is a name, the others are numbers or words set to the right."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    verdicts: bool = False  # whether cells that begin with a verdict are marked as such


class Plot(NamedTuple):
    """`plots/NAME.png`, and what it shows in words."""

    name: str
    alt: str


Block = Heading | Text | Items | Table | Plot


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Markdown, with links to the plots."""
    parts = [f"# {title}\n"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {text}\n")
            case Text(text):
                parts.append(f"{text}\n")
            case Items(items):
                parts.append("\n".join(f"- {item}" for item in items) + "\n")
            case Table(header, rows, _):
                parts.append(markdown_table(header, rows))
            case Plot(name, alt):
                parts.append(f"![{alt}](plots/{name}.png)\n")
    return "\n".join(parts)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|`*<\\])", r"\\\1", cell).replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(header), "|---|" + "---:|" * (len(header) - 1), *map(line, rows)]) + "\n"


_VERDICTS = ("better", "worse", "equivalent", "undecided", "not trained")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; display: block;
        overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e3e3; }
th { border-bottom: 2px solid #888; } th:first-child, td:first-child { text-align: left; }
.better, .worse, .equivalent, .undecided, .not-trained { white-space: nowrap; }
.not-trained { color: #555; font-style: italic; } .not-trained::before { content: "\\2013 "; }
.better { font-weight: 700; } .better::before { content: "\\25B2 "; } .worse::before { content: "\\25BC "; }
.equivalent::before { content: "= "; } .undecided { color: #555; } .undecided::before { content: "? "; }
img { max-width: 100%; height: auto; } code { background: #f3f3f3; padding: 0 .2rem; overflow-wrap: anywhere; }
@media print { body { max-width: none; margin: 0; } h2, img, tr { break-inside: avoid; } h2 { break-after: avoid; }
       table { display: table; font-size: .62rem; } th, td { padding: .15rem .3rem; overflow-wrap: anywhere; } }
""".strip()


def to_html(title: str, blocks: Sequence[Block], plots: Path) -> str:
    """One page with its plots inside; it needs no network and no script."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"<h2>{_escape(text)}</h2>")
            case Text(text):
                parts.append(f"<p>{_escape(text)}</p>")
            case Items(items):
                parts.append("<ul>" + "".join(f"<li>{_escape(item)}</li>" for item in items) + "</ul>")
            case Table(header, rows, verdicts):
                head = "".join(_cell(cell, False).replace("td>", "th>") for cell in header)
                body = "".join("<tr>" + "".join(_cell(cell, verdicts) for cell in row) + "</tr>" for row in rows)
                parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
            case Plot(name, alt):
                data = base64.b64encode((plots / f"{name}.png").read_bytes()).decode()
                parts.append(f'<p><img alt="{_escape(alt)}" src="data:image/png;base64,{data}"></p>')
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_escape(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{_escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _cell(cell: str, verdicts: bool) -> str:
    word = next((word for word in _VERDICTS if cell.startswith(word)), "")
    kind = f' class="{word.replace(" ", "-")}"' if verdicts and word else ""
    shown = html.escape(cell)
    # An interval stays on its line; a long name may break after its commas.
    shown = re.sub(r"\[[-+\d][^\]]*\]", lambda found: found[0].replace(" ", "&nbsp;"), shown)
    shown = re.sub(r"([,\[])(?=[^\W\d])", r"\1<wbr>", shown)
    return f"<td{kind}>{shown}</td>"


def _escape(text: str) -> str:
    """Escaped, with what stands between backquotes as code."""
    pieces = html.escape(text).split("`")
    if len(pieces) % 2 == 0:  # an odd quote is a quote
        return "`".join(pieces)
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def to_latex(tables: Sequence[tuple[Table, str]]) -> str:
    """The tables with their captions, for a paper; they need the package booktabs."""

    def escaped(text: str) -> str:
        return "".join(_TEX.get(character, character) for character in text)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped(cell)) for cell in cells) + r" \\"

    parts = ["% needs \\usepackage{booktabs}"]
    for table, caption in tables:
        columns = "l" + "r" * (len(table.header) - 1)
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
        ]
        parts += [r"\toprule", line(table.header), r"\midrule", *map(line, table.rows), r"\bottomrule"]
        parts += [r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(parts)
