"""The mistakes of the user; programs print them as one sentence and exit with code 2."""


class UserError(ValueError):
    """A mistake of the user (a file, a flag, a setting), said in one sentence that names what was expected."""


def not_installed(what: str, package: str, extra: str) -> UserError:
    """The mistake that `what` is asked for without the packages that it needs."""
    return UserError(f"{what} needs {package}, which is not installed: pip install {package}, or the extra {extra!r}")


class Diverged(UserError):
    """Training whose loss is not finite any more; says at which step, and what may help."""
