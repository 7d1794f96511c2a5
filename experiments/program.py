"""What all programs share: one flags parser, one way to fail, one set-up of the devices.

Exit codes: 0 done; 2 the user's mistake or a place that cannot be written, in one sentence on stderr; 130 stopped by a
signal; 1 anything else.
"""

import contextlib
import ctypes
import errno
import functools
import gc
import importlib.util
import logging
import os
import platform
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments.usage import print_help
from research.data.cache import MOST_BYTES, PROGRAMS, cache_folder, evict
from research.data.reader import Columns
from research.errors import UserError, likeliest
from research.evaluation.metrics import METRICS
from research.machine import available_cores
from research.settings import Config, Training, leaves

if TYPE_CHECKING:  # imported where used, so that programs that compare nothing start without SciPy
    from research.data.corpora import Corpus
    from research.parallel.worker_pool import Workers
    from research.reporting.claims import Claims

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
_NO_PATH = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
CORES = available_cores()  # ours to use
_WORKER_BYTES = 1e9  # of memory, at most, for a process that trains
STOP_SECONDS = 8.0  # after which a program is left that was told to stop
_STOPPED = {True: "stopped; the same command goes on from here", False: "stopped; nothing of this is kept"}
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


def define_workdir(text: str) -> None:
    """Defines `--workdir` and `--overwrite`, for programs that write."""
    flags.DEFINE_string("workdir", None, text)
    flags.DEFINE_bool("overwrite", False, "Remove what the workdir holds of an earlier run before starting.")


def define_folds() -> None:
    """Defines `--folds`."""
    text = "Folds of the cross-validation (default 5; none where there is a test split)."
    flags.DEFINE_integer("folds", None, text, lower_bound=2)


def define_corpus(default: str | None = None) -> None:
    """Defines `--corpus` and the names of the columns of CSV and JSONL files."""
    flags.DEFINE_string("corpus", default, "A known corpus (see the program corpora), a file, or a folder with splits.")
    flags.DEFINE_string("text_column", "text", "Name of the text column (CSV, JSONL).")
    flags.DEFINE_string("label_column", "label", "Name of the label column (CSV, JSONL).")
    flags.DEFINE_string("group_column", "", "Name of a column whose equal values never straddle a split (CSV, JSONL).")


def columns() -> Columns:
    """The column names from the flags."""
    return Columns(flags.FLAGS.text_column, flags.FLAGS.label_column, flags.FLAGS.group_column)


def define_clean() -> None:
    """Defines `--clean`, for programs that train."""
    flags.DEFINE_bool("clean", False, "Drop texts that stand under several labels, and repeats of other texts.")


def load_corpus(source: str = "") -> "Corpus":
    """The corpus of the flags, or another, cleaned where asked; what may be wrong with it is said on stderr."""
    from research.data.audit import audit, clean, describe_problems
    from research.data.corpora import load

    corpus = load(source or flags.FLAGS.corpus, columns())
    if flags.FLAGS.clean:
        cleaned = clean(corpus)
        print(f"{corpus.name}: {len(corpus) - len(cleaned):,} of {len(corpus):,} texts are dropped", file=sys.stderr)
        corpus = cleaned if len(cleaned) < len(corpus) else corpus
    if said := describe_problems(audit(corpus), corpus):
        print(said, file=sys.stderr)
    return corpus


def define_claims() -> None:
    """Defines what a comparison makes claims about."""
    flags.DEFINE_string(
        "baseline", "", "The variant that the others are compared with (default: the linear one; of --drop itself)."
    )
    flags.DEFINE_enum(
        "metric", None, METRICS, "What decides (default: accuracy; macro_f1 where one class has more than 80 %)."
    )
    flags.DEFINE_float(
        "margin", 1.0, "Points (hundredths of a nat); a difference within them is negligible.", lower_bound=0.0
    )
    flags.DEFINE_enum("pairs", "baseline", ["baseline", "all"], "Each variant with the baseline, or all with all.")


def claims(base: "Claims") -> "Claims":
    """Other claims where the flags say so."""
    given = {
        "baseline": ("baseline", flags.FLAGS.baseline),
        "margin": ("margin", flags.FLAGS.margin / 100),
        "all_pairs": ("pairs", flags.FLAGS.pairs == "all"),
        "metric": ("metric", flags.FLAGS.metric),
    }
    return base._replace(**{name: value for name, (flag, value) in given.items() if flags.FLAGS[flag].present})


def corpus_flags(corpus: str) -> list[str]:
    """The flags that name this corpus from any folder."""
    path = Path(corpus)
    given = [f"--corpus={path.resolve() if path.exists() else corpus}"]
    for name in ("text_column", "label_column", "group_column"):
        if flags.FLAGS[name].value != flags.FLAGS[name].default:
            given.append(f"--{name}={flags.FLAGS[name].value}")
    return given + ["--clean"] * flags.FLAGS.clean


def command() -> str:
    """What does the same, as a user types it."""
    return shlex.join(["./launch.sh", Path(sys.argv[0]).stem, *sys.argv[1:]])


def required(*names: str) -> None:
    """Raises UserError where a flag without a default was not given."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name} is missing: {flags.FLAGS[name].help}")


def launch(main: Callable[..., None], *, trains: type | None = Training) -> None:
    """Parses the flags and calls `main(overrides)`, `overrides` being the `--config.FIELD=VALUE` arguments in order.

    Args:
      main: of the program.
      trains: by which settings; what trains goes on by the same command where it was stopped. Of a program that trains
        nothing, and has no settings, `main()` is called.
    """
    goes_on = trains is not None
    _quiet()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, functools.partial(_stop, _STOPPED[goes_on]))
    try:
        overrides = _parse(sys.argv, trains)
        main(overrides) if goes_on else main()
        sys.stdout.flush()
    except UserError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(_STOPPED[goes_on], file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has gone, as with `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno in _NO_PATH:
            print(f"{str(error.filename)[:200]}: {error.strerror}, expected a path", file=sys.stderr)
            sys.exit(2)
        if error.errno not in _CANNOT_WRITE:
            raise
        where = error.filename or getattr(flags.FLAGS, "workdir" if goes_on else "output", None) or "the output"
        where = "standard output" if where == "-" else where
        then = "once it can be written, the same command goes on" if goes_on else "nothing of this is kept"
        print(f"{where}: {error.strerror}; {then}", file=sys.stderr)
        sys.exit(2)


def _quiet() -> None:
    """Leaves stderr to what programs say themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("research").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning)


def _stop(said: str, number: int, frame: object) -> None:
    """On Ctrl-C and SIGTERM: training stops at its next step and saves; what takes longer (compiling) is left."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends the program where it stands

    def leave() -> None:
        print(said, file=sys.stderr, flush=True)
        os._exit(130)

    timer = threading.Timer(STOP_SECONDS, leave)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _parse(argv: Sequence[str], trains: type | None) -> list[str]:
    modules = ("__main__", "experiments.studies.study", "experiments.single", __name__)
    own = [flag for module in modules for flag in flags.FLAGS.get_flags_for_module(module)]
    if any(argument in _HELP for argument in argv[1:]):
        print_help(own, trains, argv)
        sys.exit(0)
    overrides, rest = _split_overrides(list(argv))
    if overrides and trains is None:
        raise UserError(f"{overrides[0]} has no meaning here: this program trains nothing")
    try:
        stray = flags.FLAGS(rest)[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(
            f"--{error.flagname} is no flag of this program, {_meant(error.flagname, own, trains)}"
        ) from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    if stray:
        such = f", such as --{own[0].name}={stray[0]}" if own else ""
        raise UserError(f"{stray[0]!r} is not a flag, expected --NAME=VALUE{such}")
    return overrides


def _meant(name: str, own: Sequence[flags.Flag], trains: type | None) -> str:
    """What was expected for an unknown flag: the flag or the setting that is likeliest, or any flag."""
    config = None if trains is None else Config(model=None, training=trains())
    settings = [] if config is None else [leaf for leaf in leaves(config) if leaf[0] != "model"]
    names = [flag.name for flag in own]
    meant = likeliest(name, [*names, *(f"config.{setting}" for setting, _, _ in settings)])
    others = [f"--{other}" for other in names if other not in meant] + ["--config.FIELD=VALUE"] * (trains is not None)
    first = f"--{meant[0]}, or " if meant else ""
    return f"expected {first}one of {', '.join(others)}" if others else "expected none"


def _split_overrides(argv: list[str]) -> tuple[list[str], list[str]]:
    """Takes `--config.FIELD=VALUE` and `--config.FIELD VALUE` out of the arguments."""
    overrides, rest = [], []
    while argv:
        argument = argv.pop(0)
        if re.match(r"--?(no)?config\.", argument):
            if "=" not in argument and argv and not argv[0].startswith("-"):
                argument += "=" + argv.pop(0)
            overrides.append("--" + argument.lstrip("-"))
        else:
            rest.append(argument)
    return overrides, rest


def use_devices(*, side_by_side: bool) -> None:
    """Sets up JAX for a program, leaving alone what the user's environment sets.

    Args:
      side_by_side: one CPU device a core, for what works in a thread each.
    """
    import jax

    _keep_memory()
    gc.set_threshold(100_000)  # a collection walks over all that JAX has imported and traced: not every few steps
    if side_by_side and not _devices_given():
        jax.config.update("jax_num_cpu_devices", CORES)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        evict(cache_folder(PROGRAMS), MOST_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(cache_folder(PROGRAMS)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _devices_given() -> bool:
    return "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def only_cores() -> bool:
    """Whether JAX would find nothing but this machine's cores; told without starting it."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not _devices_given() and (asked == "cpu" or (not asked and not plugins))


def workers() -> "Workers | None":
    """Processes to train in, one a core; none on an accelerator, or with devices that the user's environment sets."""
    from research.machine import memory_bytes
    from research.parallel.worker_pool import Workers

    count = min(CORES, int(memory_bytes() / _WORKER_BYTES))
    return Workers(count, set_up_process) if only_cores() and count > 1 else None


def one_thread() -> None:
    """Has one thread compute everything on CPU, unless the user's environment says otherwise; before XLA starts."""
    if only_cores():
        os.environ.setdefault("NPROC", "1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # XLA's decompositions, of initial weights


def set_up_process() -> None:
    """What `launch` and `use_devices` do, for a process with a core of its own that works for a program."""
    _quiet()
    use_devices(side_by_side=False)
    one_thread()


def _keep_memory() -> None:
    """Makes glibc keep freed memory: a training step frees and allocates the same large arrays over and over.

    Returned to the system each time, its pages are cleared anew at every step, which encoders and long texts pay for.
    One arena for all threads, because only the first can keep large arrays, and others would keep leftovers of their
    own. Does nothing with another C library, or where the user's environment sets it.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8  # malloc.h
    for option, value in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (arena_max, 1)):
        ctypes.CDLL(None).mallopt(option, value)
