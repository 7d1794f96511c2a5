"""From the name of a variant to its config: `lstm`, `luong:general`, `path/to/own.py`.

The config files are found beside this package and loaded by their path, so that a folder `configs` of the user is not
mistaken for them.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from research.errors import UserError, expected
from research.settings import Config, leaves

FOLDER = Path(__file__).parents[2] / "configs"


def named_config(name: str) -> Config:
    """Return the config of a variant, to use as it is or to change.

    Args:
      name: `NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`. `configs/FILE.py` means the repository's file if the user's
        folder has none.

    Raises:
      UserError: there is no such variant or argument, or the file cannot be loaded.
    """
    path, argument = find_config(name)
    module = load_config_module(path)
    _check_argument(path, module, argument)
    try:
        config = module.get_config(*filter(None, [argument]))
        for _ in leaves(config):  # raises if it is no config
            pass
    except UserError as error:
        raise UserError(f"{name}: {error.message}") from error
    except Exception as error:  # the file is the user's code: anything may be raised
        raise UserError(f"{name}: the config cannot be loaded ({type(error).__name__}: {error})") from error
    return config


def known_configs() -> list[str]:
    """Return the names of the repository's config files."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def split_name(name: str) -> tuple[str, str]:
    """Split `NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`; the path of the file may have colons."""
    parts = re.fullmatch(r"(.*?\.py|[^:]*)(?::(.*))?", name)
    return (parts[1], parts[2] or "") if parts else (name, "")


def find_config(name: str) -> tuple[Path, str]:
    """Return the config file and the argument that a variant's name means.

    Raises:
      UserError: there is no such file.
    """
    base, argument = split_name(name)
    path = Path(base) if base.endswith(".py") else FOLDER / f"{base}.py"
    if not path.is_file() and path.parent.name in ("", FOLDER.name):
        path = FOLDER / path.name
    if not path.is_file() or path.stem == "__init__":
        raise UserError(f"there is no variant {name!r}, {expected(Path(base).stem, known_configs())}, or a config file")
    return path.resolve(), argument


def load_config_module(path: Path) -> ModuleType:
    """Return the module of a config file.

    Raises:
      UserError: the file cannot be loaded.
    """
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's code: anything may be raised
        raise UserError(f"{path}: the config cannot be loaded ({type(error).__name__}: {error})") from error
    return module


def listed_arguments(module: ModuleType, listed: str) -> tuple[str, ...]:
    """Return the list `ARGUMENTS` or `NAMED_ALONE` of a config file's module."""
    return tuple(getattr(module, listed, ("",) if listed == "ARGUMENTS" else ()))


def every_argument(module: ModuleType) -> tuple[str, ...]:
    """Return all arguments that a config file lists."""
    return listed_arguments(module, "ARGUMENTS") + listed_arguments(module, "NAMED_ALONE")


def _check_argument(path: Path, module: ModuleType, argument: str) -> None:
    """Raise UserError if a config file has no such argument."""
    known = every_argument(module)
    if argument and argument not in known and not ("FOLDER" in known and Path(argument).is_dir()):
        names = ", ".join(f"{path.stem}:{other}" if other else path.stem for other in known)
        note = f" ({argument} is no folder)" if "FOLDER" in known else ""
        raise UserError(f"there is no variant {path.stem}:{argument}, expected one of {names}{note}")


def is_folder_argument(name: str) -> bool:
    """Return whether the argument of a variant is a folder of the user, and not a name that the config file lists."""
    path, argument = find_config(name)
    return bool(argument) and Path(argument).is_dir() and argument not in every_argument(load_config_module(path))


def variant_label(name: str) -> str:
    """Return the name that a variant has in tables: `own/file.py:x` is `file:x`, `bert:models/minilm` `bert:minilm`."""
    base, argument = split_name(name)
    if is_folder_argument(name):
        argument = Path(argument).resolve().name
    return Path(base).stem + (f":{argument}" if argument else "")
