"""Find out which columns of a table hold texts, labels and groups: by the user's flags, by names, or by content."""

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from research.data.formats.table import Table
from research.data.read_options import ReadOptions
from research.errors import UserError

# Names in data sets that people publish, most usual first. Blanks, case, "_" and "-" do not matter.
_TEXT_NAMES = (
    *(
        "text",
        "sentence",
        "review",
        "content",
        "comment",
        "tweet",
        "phrase",
        "message",
        "document",
        "utterance",
        "body",
    ),
    *("reviewtext", "reviewbody", "reviewcontent", "commenttext", "tweettext", "fulltext", "texta", "sms", "texts"),
    *("sentences", "reviews", "tweets", "comments", "headline", "文本", "内容", "评论", "句子", "正文"),
)
_LABEL_NAMES = (
    *("label", "sentiment", "class", "target", "category", "polarity", "labels", "stars", "rating", "score"),
    *("overall", "emotion", "intent", "topic", "classindex", "classlabel", "labeltext", "airlinesentiment"),
    *("标签", "类别", "情感", "分类"),
)
_MOST_LABEL_CHARACTERS = 60
_FEWEST_CELLS = 4  # with fewer, cells may differ by chance
_MAX_SHOWN = 40  # characters of a column name in a message


class Choice(NamedTuple):
    """The columns of a table that are read, as indices."""

    text: tuple[int, ...]
    label: int | None
    group: int | None
    by_name: bool  # whether text and label have the names that are documented, or that the flags give
    is_guess: bool = False  # whether nothing but the order of two columns tells


class NoColumn(UserError):
    """A table lacks columns that are needed; `kinds` are among "text", "label" and "group"."""

    def __init__(self, message: str, kinds: Collection[str] = ()):
        super().__init__(message)
        self.kinds = kinds


class Content(NamedTuple):
    """What a column looks like."""

    is_text: bool
    is_label: bool
    is_number: bool
    is_distinct: bool  # whether most cells differ, and there are more than a few


def looks_like(cells: Sequence[Any]) -> Content:
    """Return what a column looks like, given some of its cells."""
    values = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    if not values:
        return Content(False, False, False, False)
    distinct = set(values)
    is_number = all(re.fullmatch(r"[+-]?(\d+([.,]\d*)?|\.\d+)(e[+-]?\d+)?", value) for value in distinct)
    short = max(map(len, distinct)) <= _MOST_LABEL_CHARACTERS
    if len(values) < len(cells) / 2:
        return Content(False, False, is_number, False)
    is_label = short and 2 <= len(distinct) <= max(2, len(values) / 2) and not any("\n" in value for value in distinct)
    is_distinct = len(values) >= _FEWEST_CELLS and len(distinct) > len(values) / 2
    return Content(_is_text(values, distinct), is_label, is_number, is_distinct)


def _is_text(values: Sequence[str], distinct: set[str]) -> bool:
    """Return whether these are texts: several words each, mostly letters, mostly different."""
    shown = values[:1000]
    characters = "".join(shown)
    letters = sum(map(str.isalpha, characters))
    digits = sum(map(str.isdigit, characters))
    visible = sum(not character.isspace() for character in characters)
    # Chinese and Japanese have no blanks: two characters count as a word.
    words = sum(len(value.split()) + len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", value)) / 2 for value in shown)
    is_address = sum(value.startswith(("http://", "https://", "www.")) for value in shown) > len(shown) / 2
    mostly_letters = letters >= 0.5 * visible and digits <= 0.25 * visible
    return mostly_letters and words >= 2 * len(shown) and len(distinct) > len(values) / 4 and not is_address


def plain(name: str) -> str:
    """Return the name of a column without what people vary: case, blanks, "_", "-", and the fields around it."""
    name = unicodedata.normalize("NFKC", str(name)).casefold().rpartition(".")[2]
    return re.sub(r"[\s_\u200b\ufeff-]+", "", name)


def is_usual_name(name: str) -> bool:
    """Return whether people call columns of texts or labels so."""
    return plain(name) in _TEXT_NAMES or plain(name) in _LABEL_NAMES


def find_column(name: str, columns: Sequence[str]) -> int | None:
    """Return the index of the column with this name or number; None if there is none.

    Raises:
      UserError: two columns have this name.
    """
    exact = [i for i, column in enumerate(columns) if column == name]
    folded = [i for i, column in enumerate(columns) if _folded(column) == _folded(name)]
    matches = exact or folded
    if len(matches) > 1:
        raise _ambiguous(matches, columns)
    if not matches and name.strip().isdigit() and 1 <= int(name) <= len(columns):
        return int(name) - 1
    return matches[0] if matches else None


def _ambiguous(matches: Sequence[int], columns: Sequence[str], flag: str = "") -> UserError:
    numbers = " or ".join(f"{flag}{index + 1}" for index in matches)
    return UserError(f"{len(matches)} columns are named {columns[matches[0]]!r}. Name one by its number: {numbers}")


def _folded(name: str) -> str:
    return re.sub(r"[\s\u200b\ufeff]+", " ", unicodedata.normalize("NFKC", str(name))).strip().casefold()


def unique_name(index: int, columns: Sequence[str]) -> str:
    """Return what a flag may call a column: its name, or its number if the name is empty, shared or has a comma."""
    name = columns[index]
    is_unique = [_folded(column) for column in columns].count(_folded(name)) == 1
    return name if is_unique and name.strip() and "," not in name else str(index + 1)


def _text_columns(named: str, columns: Sequence[str]) -> list[int | None]:
    """Return the indices of the columns that `--text_column` names; None for one that is not there."""
    single = find_column(named, columns)  # a name may have a comma
    return [find_column(name, columns) for name in named.split(",")] if single is None else [single]


def choose_columns(
    table: Table, sample: Callable[[], Sequence[Sequence[Any]]], options: ReadOptions, *, labelled: bool
) -> list[Choice]:
    """Return the ways to read a table, most plausible first; more than one if they are equally plausible.

    Args:
      table: the table.
      sample: returns the cells of some rows; it is called only if names do not tell.
      options: the flags.
      labelled: whether labels are needed.

    Raises:
      UserError: a column that the flags name is not there, or no column looks like texts or like labels.
    """
    if labelled and len(table.columns) == 1 and not table.has_names and table.format.startswith("tab"):
        words = "no tab, expected one between text and label: TEXT<TAB>LABEL. Name another sign with --separator"
        raise NoColumn(words, {"label"})
    text = _text_columns(options.text, table.columns) if options.text else []
    label = find_column(options.label, table.columns) if options.label else None
    group = find_column(options.group, table.columns) if options.group else None
    missing = {"text": options.text} if None in text else {}
    missing |= {"label": options.label} if options.label and label is None else {}
    missing |= {"group": options.group} if options.group and group is None else {}
    if missing:
        raise _no_column(missing, table)

    if label is not None and label in text:
        raise UserError(f"--text_column and --label_column both name the column {table.columns[label]!r}")

    sample = functools.cache(sample)

    @functools.cache
    def content(i: int) -> Content:
        return looks_like([row[i] for row in sample() if i < len(row)])

    if not labelled:
        texts = [tuple(text)] if text else [(i,) for i in _candidates("text", table, content, {group, label})]
        if not texts and _has_two_unnamed(table, options):
            return [Choice((0,), None, None, by_name=False, is_guess=True)]
        if not texts:
            raise _no_column({"text": "text"}, table)
        return [Choice(chosen, None, group, _is_by_name(chosen, None, table, options)) for chosen in texts]
    labels = [label] if options.label else _candidates("label", table, content, {*text, group})
    choices = []
    for candidate in labels:
        texts = [tuple(text)] if text else [(i,) for i in _candidates("text", table, content, {candidate, group})]
        choices += [
            Choice(chosen, candidate, group, _is_by_name(chosen, candidate, table, options)) for chosen in texts
        ]
    is_clear = len(choices) == 1 and (content(choices[0].text[0]).is_text or _is_label_first(choices[0], content))
    if not is_clear and _has_two_unnamed(table, options):
        return [Choice((0,), 1, None, by_name=table.format.startswith("tab"), is_guess=True)]
    if not labels:
        has_text = text or _candidates("text", table, content, {group})
        raise _no_column({"label": "label"} if has_text else {"text": "text", "label": "label"}, table)
    if not choices:
        raise _no_column({"text": "text"}, table)
    return choices


def _is_label_first(choice: Choice, content: Callable[[int], Content]) -> bool:
    """Return whether labels come before texts, although these are too short to look like texts."""
    return choice.label == 0 and content(0).is_label and content(1).is_distinct and not content(1).is_number


def _has_two_unnamed(table: Table, options: ReadOptions) -> bool:
    """Return whether a table is most likely TEXT<TAB>LABEL, which few or short texts do not show."""
    return len(table.columns) == 2 and not table.has_names and not (options.text or options.label)


def _candidates(kind: str, table: Table, content: Callable[[int], Content], taken: set[int | None]) -> list[int]:
    """Return the columns that may hold the texts or the labels: the named one, or all that look like it."""
    usual = _TEXT_NAMES if kind == "text" else _LABEL_NAMES
    free = [i for i in range(len(table.columns)) if i not in taken]
    exact = [i for i in free if table.columns[i] == usual[0]]
    if exact:
        if len(exact) > 1:
            raise _ambiguous(exact, table.columns, f"--{kind}_column=")
        return exact
    likely = [i for i in free if (content(i).is_text if kind == "text" else content(i).is_label)]
    named = [i for i in free if plain(table.columns[i]) in usual]
    if len(named) == 1 and (kind == "text" or named[0] in likely or not likely):
        return named
    # Of several usual names, those with the content; otherwise all that have a usual name or the content.
    chosen = [i for i in named if i in likely] or sorted({*named, *likely})
    if kind == "label":
        return [i for i in chosen if not content(i).is_text] or chosen
    return free if len(free) == 1 and len(table.columns) > 1 and not chosen else chosen  # what is left


def _is_by_name(text: tuple[int, ...], label: int | None, table: Table, options: ReadOptions) -> bool:
    if _has_two_unnamed(table, options):
        return text == (0,) and label == 1 and table.format.startswith("tab")
    text_named = bool(options.text) or [table.columns[i] for i in text] == ["text"]
    label_named = label is None or bool(options.label) or table.columns[label] == "label"
    return text_named and label_named


def _no_column(missing: Mapping[str, str], table: Table) -> NoColumn:
    """Return the error that a table lacks columns: kind ("text", "label", "group") -> the name that was looked for."""
    absent = " and ".join(f"no column {name!r}" for name in missing.values())
    if len(table.columns) == 1 and "-separated" in table.format:
        absent += f". It is read as {table.format}, and has one column: is the separator another? Name it with "
        absent += "--separator, or in a first line such as sep=~"
    if not table.has_names:
        flags = " ".join(f"--{kind}_column=NUMBER" for kind in missing)
        return NoColumn(f"{absent}. The file names no columns and has {len(table.columns)}. Use {flags}", set(missing))
    names = ", ".join(" ".join(str(name).split())[:_MAX_SHOWN] for name in table.columns)
    flags = " ".join(f"--{kind}_column=NAME" for kind in missing)
    return NoColumn(f"{absent}. Columns: {names or 'none'}. Use {flags}", set(missing))
