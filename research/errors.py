"""The mistakes of the user; programs print them as one sentence and exit with code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user (a file, a flag, a setting), said in one sentence that names what was expected."""


def not_installed(what: str, package: str, extra: str) -> UserError:
    """The mistake that `what` is asked for without the packages that it needs."""
    return UserError(f"{what} needs {package}, which is not installed: pip install {package}, or the extra {extra!r}")


class Diverged(UserError):
    """Training whose loss is not finite any more; says at which step, and what may help."""


def likeliest(name: str, known: Iterable[str]) -> list[str]:
    """The one of the known names that is meant, or none: by the spelling of its last part, or by initials (`lr`)."""
    last = {other.rpartition(".")[2]: other for other in known}
    initials = {"".join(word[:1] for word in part.split("_")): part for part in last if "_" in part}
    part = name.rpartition(".")[2]
    close = difflib.get_close_matches(part, last, n=1, cutoff=0.65) or filter(None, [initials.get(part)])
    return [last[found] for found in close]


def expected(name: str, known: Iterable[str]) -> str:
    """`expected ... one of` what is known, the likeliest before all if there is one."""
    known = list(known)
    close = likeliest(name, known)
    listed = ", ".join(other for other in known if other not in close)
    return f"expected {close[0]}, or one of {listed}" if close and listed else f"expected one of {', '.join(known)}"
