"""What `train` and `pretrain` share: flags, set-up and progress of a single run, in one process or in several."""

import contextlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import program, supervisor
from research.errors import UserError
from research.parallel import device_setup
from research.progress import Reporter, reporting
from research.runs import run_files

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them
FLAGS = flags.FLAGS
CONFIG_HELP = "The variant: a name in configs/ such as lstm or luong:general, or a config file."


def define_run(folds_help: str) -> None:
    """Define the flags that say which run of a corpus this is, and which devices and processes train it."""
    flags.DEFINE_integer("folds", None, folds_help)
    flags.DEFINE_integer("fold", 0, "The fold that is held out as the test split.")
    flags.DEFINE_integer("repeat", 0, "The repetition. Each has its own split, initial weights, order and dropout.")
    flags.DEFINE_integer("devices", 0, "Devices that share each batch. 0: as many as make it faster; one on CPU.")
    text = "HOST:PORT of the first of several processes; auto: as the cluster's scheduler says."
    flags.DEFINE_string("coordinator", None, text)
    flags.DEFINE_integer("processes", 1, "Number of processes that train this run together (with --coordinator).")
    flags.DEFINE_integer("process", 0, "Number of this process, from 0 (with --coordinator).")


def set_up() -> None:
    """Set up JAX and join the other processes of this run, if there are any. Call this before any computation."""
    for name in ("processes", "process"):
        if FLAGS[name].present and not FLAGS.coordinator:
            raise UserError(f"--{name} is {FLAGS[name].value}, expected --coordinator with it")
    if FLAGS.coordinator:
        supervisor.supervise()  # before the imports that only the child needs
    device_setup.use_devices()
    from research.runs import multihost

    if FLAGS.coordinator:
        multihost.join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)


def train_with_progress(name: str, epochs: int, folder: Path, train: Callable[..., object]) -> bool:
    """Call `train` with the values of the flags, show its progress, and let a signal stop it between two steps.

    Returns:
      whether this process is the one that prints the results.
    """
    from research.parallel.interruptible import run_interruptibly
    from research.runs import multihost
    from research.runs.train import RunOptions

    was_finished = run_files.is_finished(folder) and not FLAGS.overwrite
    resumes = run_files.is_run(folder) and not FLAGS.overwrite
    with reporting(epochs, "epochs") as reporter:

        def job(check: Callable[[], None]) -> None:
            on_progress = _progress_callback(name, reporter, check, folder if resumes else None)
            options = RunOptions(program.command(), FLAGS.overwrite, FLAGS.devices, on_progress)
            train(folds=FLAGS.folds, fold=FLAGS.fold, repeat=FLAGS.repeat, options=options)

        with supervisor.ends_with_peers() if FLAGS.coordinator else contextlib.nullcontext():
            run_interruptibly(job)
    if was_finished and multihost.is_first():
        print(f"{folder} is finished already; its results:", file=sys.stderr)
    return multihost.is_first()


def _progress_callback(
    name: str, reporter: Reporter, check: Callable[[], None], resumed: Path | None
) -> Callable[[object, float, float], None]:
    """Return what a run calls at every step with itself, the epochs that are done and a recent loss.

    Args:
      name: the variant, as progress shows it.
      reporter: shows the progress.
      check: raises if the run has to stop.
      resumed: the folder, if the run resumes an earlier one.
    """
    from research.runs import multihost

    calls = itertools.count()

    def on_progress(run: object, done: float, loss: float) -> None:
        check()
        call = next(calls)
        if multihost.should_stop(call):
            raise KeyboardInterrupt
        if resumed is not None and call == 0:
            reporter.say(f"{resumed} is resumed after {done:.1f} epochs")
        reporter.progress(name, done, loss)

    return on_progress
