"""Define the errors that a user can correct; programs print them as one sentence and exit with code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a file, a flag or a setting; the message says what is wrong and what was expected."""


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
