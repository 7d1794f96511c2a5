"""A single run, in this process or in several that train it together: what `train` and `pretrain` share."""

import contextlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import reporting
from experiments.watched import ends_with_the_others, watched
from research.errors import UserError
from research.runs import run_files

FLAGS = flags.FLAGS


def define_single(folds: str) -> None:
    """Defines what says which run of a corpus it is and who trains it; `folds` is the help of `--folds`."""
    flags.DEFINE_integer("folds", None, folds)
    flags.DEFINE_integer("fold", 0, "The fold that is held out as test.")
    flags.DEFINE_integer("repeat", 0, "Which repetition: own split, initialisation, order and dropout.")
    flags.DEFINE_integer("devices", 0, "Devices that share each batch (default 0: as many as pay; 1 on CPU).")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes; auto: as the cluster says.")
    flags.DEFINE_integer("processes", 1, "How many processes train this run together (with --coordinator).")
    flags.DEFINE_integer("process", 0, "Which of them this one is.")


def set_up() -> None:
    """Sets up JAX and joins the other processes, where there are some; before anything is computed."""
    for name in ("processes", "process"):
        if FLAGS[name].present and not FLAGS.coordinator:
            raise UserError(f"--{name} is {FLAGS[name].value}, expected --coordinator with it")
    if FLAGS.coordinator:
        watched()  # before anything is imported that only its child needs
    program.use_devices(side_by_side=False)
    from research.runs import multihost

    if FLAGS.coordinator:
        multihost.join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)


def run_alone(name: str, epochs: int, folder: Path, train: Callable[..., object]) -> bool:
    """Calls `train` with what the flags say, so that a signal ends it between two steps.

    Returns:
      whether this process has results to show.
    """
    from research.parallel.interruptible import run_interruptibly
    from research.runs import multihost
    from research.runs.train import RunOptions

    was_finished = run_files.is_finished(folder) and not FLAGS.overwrite
    was_begun = run_files.is_run(folder) and not FLAGS.overwrite
    with reporting(epochs, "epochs") as reporter:

        def job(check: Callable[[], None]) -> None:
            calls = itertools.count()

            def on_progress(run: object, done: float, loss: float) -> None:
                check()
                call = next(calls)
                if multihost.should_stop(call):
                    raise KeyboardInterrupt
                if was_begun and call == 0:
                    reporter.say(f"{folder} was begun before and goes on: {done:.1f} epochs are done")
                reporter.progress(name, done, loss)

            options = RunOptions(program.command(), FLAGS.overwrite, FLAGS.devices, on_progress)
            train(folds=FLAGS.folds, fold=FLAGS.fold, repeat=FLAGS.repeat, options=options)

        with ends_with_the_others() if FLAGS.coordinator else contextlib.nullcontext():
            run_interruptibly(job)
    if was_finished and multihost.is_first():
        print(f"{folder} is finished already; its results:", file=sys.stderr)
    return multihost.is_first()
