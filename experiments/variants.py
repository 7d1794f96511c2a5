"""From a name to a config: `lstm`, `luong:general`, `path/to/own.py`, with `--config.FIELD=VALUE` on top.

`ml_collections.config_flags` reads the typed overrides; its errors become one sentence here.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments.flag_errors import wrong_value
from research.data.assets import ASSETS
from research.data.tokenizer_files import fit_to_tokenizer
from research.errors import UserError, expected
from research.runs.named_configs import (
    FOLDER,
    find_config,
    known_configs,
    listed_arguments,
    load_config_module,
    named_config,
)
from research.settings import Config, leaves, names_read
from research.settings_validation import validate

_DEFAULT_SPACE = {"optimizer.learning_rate": ("log", 3e-4, 1e-2)}


def every_variant(listed: str = "ARGUMENTS") -> list[str]:
    """Return the names of the repository's variants, with each of their arguments; the linear baseline comes first.

    Args:
      listed: the list of arguments in a config file. Those in `NAMED_ALONE` take long and are not among `all`.
    """
    names = sorted(known_configs(), key=lambda name: name != "linear")
    pairs = [(name, argument) for name in names for argument in arguments(FOLDER / f"{name}.py", listed)]
    return [f"{name}:{argument}" if argument else name for name, argument in pairs]


def arguments(path: Path, listed: str = "ARGUMENTS") -> tuple[str, ...]:
    """Return the list `ARGUMENTS` or `NAMED_ALONE` of a config file.

    "" stands for no argument, FOLDER for any folder of the user.

    Raises:
      UserError: the file cannot be loaded.
    """
    return listed_arguments(load_config_module(path), listed)


def space_of(name: str) -> dict[str, tuple]:
    """Return the search space of a variant for `tune`: `SPACE` of its config file, or the learning rate."""
    path, _ = find_config(name)
    return dict(getattr(load_config_module(path), "SPACE", _DEFAULT_SPACE))


def load_config(
    name: str, overrides: Sequence[str] = (), prepare: Callable[[Config], Config] = lambda config: config
) -> Config:
    """Return the config of a variant.

    Args:
      name: `NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`. `configs/FILE.py` means the repository's file if the user's
        folder has none.
      overrides: `--config.FIELD=VALUE`, in order.
      prepare: changes the config before the overrides.

    Raises:
      UserError: no such variant, argument or field, or a value of the wrong type or out of range.
    """
    config = named_config(name)
    try:
        config = prepare(config)
    except UserError as error:
        raise UserError(f"{name}: {error.message}") from error
    fields = sorted(field for field, _, _ in leaves(config))
    for override in overrides:
        field = field_of(override)
        if field not in fields:
            raise UserError(f"{name}: there is no setting {field!r}, {expected(field, fields)}")
    values = flags.FlagValues()
    argv = ["", *overrides]
    try:
        config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return _with_absolute_paths(validate(values.config))
    except flags.Error as error:
        raise UserError(f"{name}: {wrong_value(error, values)}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{name}: {' '.join(': '.join(map(str, error.args)).split())}") from error


def field_of(override: str) -> str:
    """Return the dotted name of the setting in `--config.FIELD=VALUE`."""
    return re.sub(r"^--(no)?config\.", "", override).partition("=")[0]


def refuse_overrides(overrides: Sequence[str], settings: Iterable[str], where: str) -> None:
    """Raise UserError if a flag gives a setting that something else decides; `where` says what."""
    for override in overrides:
        field = field_of(override)
        if field in settings:
            raise UserError(f"{override} is given, but {field} is {where}, expected one or the other")


def print_unread(overrides: Sequence[str], configs: Mapping[str, Config]) -> None:
    """Print on stderr which of the given settings have no effect on some of the variants."""
    for override in overrides:
        field = field_of(override)
        print_without_effect(field, [name for name, config in configs.items() if field not in names_read(config)])
        for name, config in configs.items():
            if field == "training.epochs" and config.optimizer.name == "lbfgs":
                steps = config.training.epochs
                print(f"{name}: training.epochs is the number of L-BFGS steps, now {steps}", file=sys.stderr)


def print_without_effect(field: str, names: Sequence[str]) -> None:
    """Print on stderr that a setting has no effect on these variants, if there are any."""
    if names:
        print(f"{field} is not read by {', '.join(names)} and changes nothing there", file=sys.stderr)


def _with_absolute_paths(config: Config) -> Config:
    """Return the config with paths that mean the same from any folder."""
    if config.init_from != "none":
        config.init_from = str(Path(config.init_from).resolve())
    if config.data.vectors not in ("none", *ASSETS):
        config.data.vectors = str(Path(config.data.vectors).resolve())
    return fit_to_tokenizer(config)
