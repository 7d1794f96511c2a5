"""Turn the cells of a row into a text and a label, whatever type the file gives them."""

import json
import re
import unicodedata
from typing import Any

from research.errors import UserError

_MAX_SHOWN = 40  # characters of a label in a message
_MAX_LABEL = 1_000  # characters
_MAX_TEXT = 10_000_000  # characters, about three long novels; the tokenizer needs 200 bytes for each
NO_VALUE = {
    "NA",
    "N/A",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
    "\\N",
}  # what programs write for no label
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]|^[\u200c\u200d\u00ad]+|[\u200c\u200d\u00ad]+$")


def text_of_cell(cell: Any, column: str | int, place: str) -> str | None:
    """Return a cell of texts; None if it is empty of any value.

    Raises:
      UserError: it is no string, or too long.
    """
    if isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if cell is None or cell != cell:  # NaN
        return None
    if not isinstance(cell, str):
        kind = "list of several" if isinstance(cell, list) else type(cell).__name__
        raise UserError(f"{place}: {column!r} is a {kind}, expected a string. Name another column with --text_column")
    if len(cell) > _MAX_TEXT:
        raise UserError(f"{place}: a text of {len(cell):,} characters, expected at most {_MAX_TEXT:,}: split or cut it")
    # JSON can hold halves of characters, which no file and no hash takes.
    return cell if cell.isascii() else cell.encode("utf-8", "replace").decode()


def label_text(value: Any, place: str) -> str:
    """Return a label, which must be one value, as a string; empty if it is missing.

    Labels that look the same are the same: 1, 1.0 and "1"; composed and decomposed accents; with and without blanks
    around them or invisible characters.

    Raises:
      UserError: there are several labels, or it is too long or no text.
    """
    if isinstance(value, (list, tuple)):
        if len(value) > 1:
            raise UserError(f"{place}: more than one label ({len(value)}), expected exactly one for each text")
        return label_text(value[0], place) if value else ""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        shown = json.dumps(value, default=str)[:_MAX_SHOWN]
        raise UserError(f"{place}: the label is {shown}, expected a number or a name. Write the labels as text")
    label = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", str(value))).split())
    if re.fullmatch(r"[+-]?\d+\.0+", label):
        label = label.partition(".")[0]
    if len(label) > _MAX_LABEL:
        shown = f"{label[:_MAX_SHOWN]}..."
        raise UserError(f"{place}: a label of {len(label):,} characters ({shown}), expected at most {_MAX_LABEL:,}")
    if label.encode("utf-8", "replace").decode() != label:
        raise UserError(f"{place}: the label is {label!r}, expected valid Unicode")
    return label
