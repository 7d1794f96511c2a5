"""Trains one variant on one fold or test split, into a run folder.

    ./launch.sh train --config=lstm --corpus=rotten_tomatoes --workdir=runs/lstm
    ./launch.sh train --config=lstm --corpus=my.tsv --workdir=runs/mine --config.optimizer.learning_rate=3e-4

Interrupted, the same command goes on; finished, it does nothing. `--config.FIELD=VALUE` changes a setting.
Several processes, on one machine or many, train one run together where each is given its number:

    ./launch.sh train ... --coordinator=HOST:PORT --processes=2 --process=0
"""

import contextlib
import itertools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from experiments import program
from experiments.progress import print_table, reporting
from experiments.variants import load_config
from experiments.watched import ends_with_the_others, watched
from research import runs

flags.DEFINE_string("config", "lstm", "The variant: a name in configs/, perhaps NAME:ARGUMENT, or a config file.")
flags.DEFINE_integer("folds", None, "Folds of the cross-validation (default 5; none where there is a test split).")
flags.DEFINE_integer("fold", 0, "The fold that is held out as test.")
flags.DEFINE_integer("repeat", 0, "Which repetition: own split, initialisation, order and dropout.")
flags.DEFINE_integer("devices", 0, "Devices that share each batch (default 0: as many as are good for it; 1 on CPU).")
flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several processes; auto: as the cluster says.")
flags.DEFINE_integer("processes", 1, "How many processes train this run together (with --coordinator).")
flags.DEFINE_integer("process", 0, "Which of them this one is.")
program.define_corpus()
program.define_clean()
program.define_workdir("The run's folder.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    config = load_config(FLAGS.config, overrides)
    program.use_devices(side_by_side=False)
    from research.training import processes
    from research.training.population import side_by_side
    from research.training.run import train

    if FLAGS.coordinator:
        watched()
        processes.join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    corpus = program.load_corpus()
    folder = Path(FLAGS.workdir)
    if FLAGS.overwrite and processes.is_first():
        runs.clear(folder)
    if runs.is_finished(folder):
        print(f"{folder} is finished already; its results:", file=sys.stderr)
    name, epochs = FLAGS.config, config.training.epochs
    with reporting(epochs, "epochs") as reporter:

        def job(check: Callable[[], None]) -> None:
            calls = itertools.count()

            def tick(done: float, loss: float) -> None:
                check()
                if processes.told_to_stop(next(calls)):
                    raise KeyboardInterrupt
                reporter.progress(name, done, loss)

            train(
                config,
                corpus,
                folder,
                folds=FLAGS.folds,
                fold=FLAGS.fold,
                repeat=FLAGS.repeat,
                devices=FLAGS.devices,
                command=shlex.join(["./launch.sh", "train", *sys.argv[1:]]),
                tick=tick,
            )

        with ends_with_the_others() if FLAGS.coordinator else contextlib.nullcontext():
            side_by_side([job])  # in a thread of its own, so that a signal cannot break in between two steps
    if not processes.is_first():
        return
    records = runs.read_metrics(folder)
    record = runs.read_json(folder / runs.RECORD)
    best = record["best_epoch"]
    if "init_from" in record:
        _print_start(config.init_from, record["init_from"])
    shown = [r for r in records if r["split"] == "test" or r["epoch"] == best]
    metrics = ("accuracy", "macro_recall", "macro_f1", "loss")
    rows = [(r["split"], str(r["epoch"]), *(f"{r[metric]:.4f}" for metric in metrics)) for r in shown]
    print_table(f"{name} on {corpus.name}, epoch {best} chosen on validation", ("split", "epoch", *metrics), rows)
    print(f"run folder: {folder}")


def _print_start(source: str, what: dict[str, Any]) -> None:
    print(f"started from {source}, which has {what['words']:,} of the words here")
    for became in ("taken", "fresh", "misshaped", "skipped"):
        if what[became]:
            print(f"  {became}: {', '.join(what[became])}")


if __name__ == "__main__":
    program.launch(main)
