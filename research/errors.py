"""Define the errors that a user can correct; programs print them as one sentence and exit with code 2."""

import difflib
import re
from collections.abc import Iterable

# Flags whose argument in Python has another name.
_ARGUMENTS = {"text_column": "text", "label_column": "label", "group_column": "group"}
# Flags without a value, as Python says them.
_SWITCHES = {"overwrite": "overwrite=True", "drop_missing": "drop_missing=True", "clean": "clean(corpus)"}
_LISTS = ("text", "variants")  # arguments that take a list where the flag has commas
_NAME = r"[a-z](?:[\w.]*\w)?"  # of a flag; a full stop after it ends a sentence
# A flag with its value, whole in quotes if a shell needs it: '--text_column=full text'.
_FLAG = re.compile(rf"""(?<![\w'"-])--({_NAME})(?:=('[^']*'|"[^"]*"|\S*[^\s.,;:)]))?|'--({_NAME})=([^']*)'""")
_FLAGS = re.compile(rf"(?:\./launch\.sh (\w+) ?)?((?:{_FLAG.pattern})(?: (?:{_FLAG.pattern}))*)?")


class UserError(ValueError):
    """A mistake in a file, a flag or a setting; the message says what is wrong and what was expected.

    Messages are written with the flags of the programs, which print `message`. In Python, `str(error)` has arguments in
    place of the flags.
    """

    @property
    def message(self) -> str:
        """The message in the words of the programs."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return in_python_words(self.message)


def in_python_words(message: str) -> str:
    """Return a message in which arguments of Python stand in place of flags.

    `--text_column=review --label_column=stars` becomes `text="review", label="stars"`; `--config.seed=1` becomes
    `config.seed = 1`, and `./launch.sh compare --folds=5` becomes `compare(folds=5)`.
    """

    def replace(match: re.Match[str]) -> str:
        program, flags = match[1], match[2] or ""
        arguments = ", ".join(_argument(flag[1] or flag[3], flag[2] or flag[4]) for flag in _FLAG.finditer(flags))
        return f"{program}({arguments})" if program else arguments

    return _FLAGS.sub(replace, message)


def _argument(flag: str, value: str | None) -> str:
    """Return a flag, with its value if it has one, as Python says it."""
    name = _ARGUMENTS.get(flag, flag)
    if value is None:
        return _SWITCHES.get(flag, f"{name}=" if flag in _ARGUMENTS else name)
    value = value.strip("'\"")
    values = value.split(",") if name in _LISTS else [value]
    shown = ", ".join(map(_literal, values))
    shown = f"[{shown}]" if len(values) > 1 else shown
    return f"{name} = {shown}" if flag.startswith("config.") else f"{name}={shown}"


def _literal(value: str) -> str:
    """Return the text of a flag's value as a literal of Python."""
    if value in ("true", "false"):
        return value.title()
    return value if re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?|\(.*\)", value) else f'"{value}"'


def shorten(text: str, most: int = 40) -> str:
    """Return a label or another text of a user as messages show it: its first 40 characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def not_installed(what: str, package: str, extra: str) -> UserError:
    """Return the error that `what` needs a package that is not installed."""
    return UserError(f"{what} needs {package}, which is not installed: pip install {package}, or the extra {extra!r}")


class Diverged(UserError):
    """Training stopped because the loss is not finite; the message says at which step and what may help."""


def likeliest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known name that a misspelt one most likely means, in a list; empty if none is similar.

    Names are compared by their last part, and by initials (`lr` is `learning_rate`).
    """
    full_names = {other.rpartition(".")[2]: other for other in known}
    initials = {"".join(word[:1] for word in part.split("_")): part for part in full_names if "_" in part}
    part = name.rpartition(".")[2]
    similar = difflib.get_close_matches(part, full_names, n=1, cutoff=0.65) or filter(None, [initials.get(part)])
    return [full_names[match] for match in similar]


def expected(name: str, known: Iterable[str]) -> str:
    """Return "expected one of ..." with all known names; a name similar to the given one comes first."""
    known = list(known)
    similar = likeliest(name, known)
    others = ", ".join(other for other in known if other not in similar)
    return f"expected {similar[0]}, or one of {others}" if similar and others else f"expected one of {', '.join(known)}"
