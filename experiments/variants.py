"""From a name to a config: `lstm`, `luong:general`, `path/to/own.py`, with `--config.FIELD=VALUE` on top.

`ml_collections.config_flags` reads the typed overrides; its errors become one sentence here.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import config_flags

import configs
from experiments.flag_errors import wrong_value
from research.data.assets import ASSETS
from research.errors import UserError, expected
from research.settings import Config, leaves, names_read
from research.settings_validation import validate

FOLDER = Path(configs.__file__).parent
_DEFAULT_SPACE = {"optimizer.learning_rate": ("log", 3e-4, 1e-2)}


def every_variant(listed: str = "ARGUMENTS") -> list[str]:
    """Return the names of the repository's variants, with each of their arguments; the linear baseline comes first.

    Args:
      listed: the list of arguments in a config file. Those in `NAMED_ALONE` take long and are not among `all`.
    """
    names = sorted(_known(), key=lambda name: name != "linear")
    pairs = [(name, argument) for name in names for argument in arguments(FOLDER / f"{name}.py", listed)]
    return [f"{name}:{argument}" if argument else name for name, argument in pairs]


def arguments(path: Path, listed: str = "ARGUMENTS") -> tuple[str, ...]:
    """Return the list `ARGUMENTS` or `NAMED_ALONE` of a config file.

    "" stands for no argument, FOLDER for any folder of the user.

    Raises:
      UserError: the file cannot be loaded.
    """
    return _listed(_load_module(path), listed)


def space_of(name: str) -> dict[str, tuple]:
    """Return the search space of a variant for `tune`: `SPACE` of its config file, or the learning rate."""
    path, _ = _find(name)
    return dict(getattr(_load_module(path), "SPACE", _DEFAULT_SPACE))


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
    path, argument = _find(name)
    module = _load_module(path)
    _check_argument(path, module, argument)
    try:
        config = prepare(module.get_config(*filter(None, [argument])))
        fields = sorted(field for field, _, _ in leaves(config))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # the file is the user's code: anything may be raised
        raise UserError(f"{name}: the config cannot be loaded ({type(error).__name__}: {error})") from error
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


def split_name(name: str) -> tuple[str, str]:
    """Split `NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`; the path of the file may have colons."""
    parts = re.fullmatch(r"(.*?\.py|[^:]*)(?::(.*))?", name)
    return (parts[1], parts[2] or "") if parts else (name, "")


def is_folder_argument(name: str) -> bool:
    """Return whether the argument of a variant is a folder of the user, and not a name that the config file lists."""
    path, argument = _find(name)
    return bool(argument) and Path(argument).is_dir() and argument not in _every_argument(_load_module(path))


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
    return config


def _known() -> list[str]:
    """Return the names of the repository's config files."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def _find(name: str) -> tuple[Path, str]:
    """Return the config file and the argument that a variant's name means."""
    base, argument = split_name(name)
    path = Path(base) if base.endswith(".py") else FOLDER / f"{base}.py"
    if not path.is_file() and path.parent.name in ("", FOLDER.name):
        path = FOLDER / path.name
    if not path.is_file() or path.stem == "__init__":
        raise UserError(f"there is no variant {name!r}, {expected(Path(base).stem, _known())}, or a config file")
    return path.resolve(), argument


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's code: anything may be raised
        raise UserError(f"{path}: the config cannot be loaded ({type(error).__name__}: {error})") from error
    return module


def _listed(module: ModuleType, listed: str) -> tuple[str, ...]:
    return tuple(getattr(module, listed, ("",) if listed == "ARGUMENTS" else ()))


def _every_argument(module: ModuleType) -> tuple[str, ...]:
    return _listed(module, "ARGUMENTS") + _listed(module, "NAMED_ALONE")


def _check_argument(path: Path, module: ModuleType, argument: str) -> None:
    known = _every_argument(module)
    if argument and argument not in known and not ("FOLDER" in known and Path(argument).is_dir()):
        names = ", ".join(f"{path.stem}:{other}" if other else path.stem for other in known)
        note = f" ({argument} is no folder)" if "FOLDER" in known else ""
        raise UserError(f"there is no variant {path.stem}:{argument}, expected one of {names}{note}")
