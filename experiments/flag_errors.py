"""What is wrong with a flag, in one sentence: absl finds the mistake, and these functions say what was expected."""

from collections.abc import Sequence

from absl import flags

from research.errors import likeliest
from research.settings import Config, leaves

_NO_VALUE = "Missing value for flag "  # how absl begins this message


def unknown_flag(name: str, own_flags: Sequence[flags.Flag], trains: type | None) -> str:
    """Return the sentence about an unknown flag: the flag or setting that was likely meant, and all flags.

    Args:
      name: the unknown flag.
      own_flags: the flags of the program.
      trains: the class of its training settings; None if it has no settings.
    """
    names = [flag.name for flag in own_flags]
    settings = []
    if trains is not None:
        settings = [f"config.{setting}" for setting, _, _ in leaves(Config(model=None, training=trains()))]
    meant = likeliest(name, names + settings)
    listed = [f"--{other}" for other in names if other not in meant]
    if trains is not None:
        listed.append("--config.FIELD=VALUE")
    if not listed:
        return f"--{name} is no flag of this program, expected none"
    first = f"--{meant[0]}, or " if meant else ""
    return f"--{name} is no flag of this program, expected {first}one of {', '.join(listed)}"


def wrong_value(error: flags.Error, values: flags.FlagValues) -> str:
    """Return the sentence about a flag whose value cannot be read, from the error that `values` raised."""
    message = " ".join(": ".join(map(str, error.args)).split())
    if message.startswith(_NO_VALUE):
        flag_name = message.removeprefix(_NO_VALUE)
        return f"{flag_name} has no value, expected {flag_name}=VALUE"
    if not isinstance(error, flags.IllegalFlagValueError):
        return message
    flag_and_value = message.removeprefix("flag ").removesuffix(f": {error.__context__}")
    name = flag_and_value.removeprefix("--").partition("=")[0]
    if name not in values:
        return message
    flag = values[name]
    kind = flag.parser.syntactic_help
    if isinstance(flag, flags.EnumFlag):
        kind = f"one of {', '.join(flag.parser.enum_values)}"
    elif flag.boolean:
        kind = "true or false"
    elif flag.parser.flag_type() == "tuple":
        kind = "numbers such as (3,4,5)"
    return f"{flag_and_value}, expected {kind}" if kind else message.removeprefix("flag ")
