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


def expected(name: str, known: Iterable[str]) -> str:
    """`expected ... one of` what is known, the likeliest before all if one is much like `name`."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(other for other in known if other not in close)
    return f"expected {close[0]}, or one of {listed}" if close and listed else f"expected one of {', '.join(known)}"
