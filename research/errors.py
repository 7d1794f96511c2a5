"""The exceptions for mistakes of the user; programs print them as one sentence and exit with code 2."""


class UserError(ValueError):
    """A mistake of the user (a file, a flag, a setting), said in one sentence that names what was expected."""


class Diverged(UserError):
    """Training whose loss is not finite any more; says at which step, and what may help."""
