"""How every program starts and ends: it parses its flags, calls `main`, and ends with an exit code.

Exit codes: 0 done; 2 a mistake of the user, or a path that cannot be written (one sentence on stderr); 130 stopped by a
signal; 1 anything else.
"""

import contextlib
import errno
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from absl import flags

from experiments import flag_errors
from research.errors import UserError
from research.parallel.device_setup import quiet_libraries
from research.settings import Training

STOP_SECONDS = 8.0  # a program that was told to stop and has not is ended after this time
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
_NO_PATH = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")
_RESUMABLE = "stopped; the same command resumes"
_NOT_RESUMABLE = "stopped; nothing is kept"

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them


def define_workdir(text: str) -> None:
    """Define `--workdir` and `--overwrite`, for programs that write a folder."""
    flags.DEFINE_string("workdir", None, text)
    flags.DEFINE_bool("overwrite", False, "Delete what an earlier run left in the workdir before starting.")


def required(*names: str) -> None:
    """Raise UserError if one of these flags is not given or empty."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name} is missing: {flags.FLAGS[name].help}")


def command() -> str:
    """Return this command as a user types it."""
    return shlex.join(["./launch.sh", Path(sys.argv[0]).stem, *sys.argv[1:]])


def launch(main: Callable[..., None], *, trains: type | None = Training) -> None:
    """Parse the flags, call `main` and exit with the right code.

    Args:
      main: the program. It is called with the `--config.FIELD=VALUE` arguments, in their order; without arguments if
        `trains` is None.
      trains: the class of the training settings. A program that trains can be stopped and resumed by the same command.
        None: the program trains nothing and has no settings.
    """
    when_stopped = _NOT_RESUMABLE if trains is None else _RESUMABLE
    quiet_libraries()
    _stop_on_signals(when_stopped)
    try:
        overrides = _parse_flags(sys.modules[main.__module__], trains)
        if trains is None:
            main()
        else:
            main(overrides)
        sys.stdout.flush()
    except UserError as error:
        print(error.message.replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(when_stopped, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has ended, as `| head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        message = _path_message(error, trains)
        if message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)


def _stop_on_signals(when_stopped: str) -> None:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM, and end the process if that takes too long.

    Training stops at its next step and saves. A compilation cannot be interrupted: it is ended after `STOP_SECONDS`.
    """

    def end() -> None:
        print(when_stopped, file=sys.stderr, flush=True)
        os._exit(130)

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the program at once
        timer = threading.Timer(STOP_SECONDS, end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _path_message(error: OSError, trains: type | None) -> str | None:
    """Return the sentence about a path that is none or cannot be written; None for another error."""
    if error.errno in _NO_PATH:
        return f"{str(error.filename)[:200]}: {error.strerror}, expected a path"
    if error.errno not in _CANNOT_WRITE:
        return None
    if trains is None:
        flag, advice = "output", "nothing is kept"
    else:
        flag, advice = "workdir", "once it can be written, the same command resumes"
    path = error.filename or getattr(flags.FLAGS, flag, None) or "the output"
    return f"{'standard output' if path == '-' else path}: {error.strerror}; {advice}"


def _parse_flags(program: ModuleType, trains: type | None) -> list[str]:
    """Parse the command line, or print the help and exit; return the `--config.FIELD=VALUE` arguments."""
    if any(argument in _HELP for argument in sys.argv[1:]):
        from experiments.usage import print_help  # it imports what other calls do without

        print_help(program, trains)
        sys.exit(0)
    overrides, arguments = _split_overrides(sys.argv)
    if overrides and trains is None:
        raise UserError(f"{overrides[0]}: this program trains nothing and has no settings. Leave it out")
    own_flags = flags.FLAGS.get_key_flags_for_module(program)
    try:
        stray_words = flags.FLAGS(arguments)[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(flag_errors.unknown_flag(error.flagname, own_flags, trains)) from error
    except flags.Error as error:
        raise UserError(flag_errors.wrong_value(error, flags.FLAGS)) from error
    if stray_words:
        example = f", such as --{own_flags[0].name}={stray_words[0]}" if own_flags else ""
        raise UserError(f"{stray_words[0]!r} is not a flag, expected --NAME=VALUE{example}")
    return overrides


def _split_overrides(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into `--config.FIELD=VALUE` (or `--config.FIELD VALUE`) and the others."""
    overrides, others = [], []
    remaining = list(argv)
    while remaining:
        argument = remaining.pop(0)
        if not re.match(r"--?(no)?config\.", argument):
            others.append(argument)
            continue
        if "=" not in argument and remaining and not remaining[0].startswith("-"):
            argument += "=" + remaining.pop(0)
        overrides.append("--" + argument.lstrip("-"))
    return overrides, others
