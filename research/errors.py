"""The one exception for mistakes of the user; programs print it as one sentence and exit with code 2."""


class UserError(ValueError):
    """A mistake of the user (a file, a flag, a setting), said in one sentence that names what was expected."""
