"""Trains one variant on one fold or test split, into a run folder.

    ./launch.sh train --config=lstm --corpus=rotten_tomatoes --workdir=runs/lstm
    ./launch.sh train --config=lstm --corpus=my.tsv --workdir=runs/mine --config.optimizer.learning_rate=3e-4

Interrupted, the same command goes on; finished, it does nothing. `--config.FIELD=VALUE` changes a setting.
Several processes, on one machine or many, train one run together where each is given its number:

    ./launch.sh train ... --coordinator=HOST:PORT --processes=2 --process=0
"""

import functools
import sys
from pathlib import Path
from typing import Any

from absl import flags

from experiments import program
from experiments.progress import print_table
from experiments.single import define_single, run_alone, set_up
from experiments.variants import load_config, say_unread
from research.runs import run_files

flags.DEFINE_string("config", "lstm", "The variant: a name in configs/, perhaps NAME:ARGUMENT, or a config file.")
define_single("Folds of the cross-validation (default 5; none where there is a test split).")
program.define_corpus()
program.define_clean()
program.define_workdir("The run's folder.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    set_up()
    config = load_config(FLAGS.config, overrides)
    say_unread(overrides, {FLAGS.config: config})
    from research.data.splits import resolve_folds
    from research.data.tokenized_corpus import cut_sentence
    from research.parallel.train_runs import uses_all_cores
    from research.runs.train import train
    from research.training.early_stopping import protocol_sentence

    if not uses_all_cores(config):
        program.one_thread()  # as in a comparison, so that it ends as it does there
    corpus = program.load_corpus()
    of_protocol = protocol_sentence(corpus, config, resolve_folds(corpus, FLAGS.folds), FLAGS.fold)
    for sentence in filter(None, (cut_sentence(corpus, config.data), of_protocol)):
        print(sentence, file=sys.stderr)
    name, folder = FLAGS.config, Path(FLAGS.workdir)
    if not run_alone(name, config.training.epochs, folder, functools.partial(train, config, corpus, folder)):
        return
    records = run_files.read_metrics(folder)
    record = run_files.read_record(folder)
    best = record["best_epoch"]
    if "init_from" in record:
        _print_start(config.init_from, record["init_from"])
    shown = [r for r in records if r["split"] == "test" or r["epoch"] == best]
    metrics = ("accuracy", "macro_recall", "macro_f1", "loss")
    rows = [(r["split"], str(r["epoch"]), *(f"{r[metric]:.4f}" for metric in metrics)) for r in shown]
    how = "the last" if config.training.select == "last" else "chosen on validation"
    print_table(f"{name} on {corpus.name}, epoch {best}, {how}", ("split", "epoch", *metrics), rows)
    from research.reporting.run_result import problem_of_run

    if (problem := problem_of_run(folder)) is not None:
        print(f"not trained: {problem.why}; what may help: {problem.mend}")
    print(f"run folder: {folder}")


def _print_start(source: str, what: dict[str, Any]) -> None:
    print(f"started from {source}, which has {what['words']:,} of the words here")
    for became in ("taken", "fresh", "misshaped", "skipped"):
        if what[became]:
            print(f"  {became}: {', '.join(what[became])}")


if __name__ == "__main__":
    program.launch(main)
