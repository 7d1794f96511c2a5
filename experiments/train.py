"""Train one variant on one fold, or on the training split, and write a run folder.

    ./launch.sh train --config=lstm --corpus=rotten_tomatoes --workdir=runs/lstm
    ./launch.sh train --config=lstm --corpus=my.tsv --workdir=runs/mine --config.optimizer.learning_rate=3e-4

If the run is interrupted, the same command resumes it; a finished run is not trained again. `--config.FIELD=VALUE`
changes a setting. Several processes, on one machine or many, can train one run together. Start each with its number:

    ./launch.sh train ... --coordinator=HOST:PORT --processes=2 --process=0
"""

import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

from absl import flags

from experiments import corpus_flags, program
from experiments.live_curves import define_tensorboard, live_curves
from experiments.printing import print_table
from experiments.single_run import CONFIG_HELP, define_run, set_up, train_with_progress
from experiments.variants import load_config, print_unread
from research.parallel import device_setup
from research.runs import run_files
from research.settings import Config

flags.DEFINE_string("config", "lstm", CONFIG_HELP)
define_run("Number of folds of the cross-validation (default 5; a corpus with a test split has none).")
corpus_flags.define_corpus()
corpus_flags.define_clean()
program.define_workdir("The run's folder.")
define_tensorboard()
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    set_up()
    config = load_config(FLAGS.config, overrides)
    print_unread(overrides, {FLAGS.config: config})
    from research.data.splits import resolve_folds
    from research.data.tokenized_corpus import cut_sentence
    from research.parallel.train_runs import uses_all_cores
    from research.runs import multihost
    from research.runs.train import train
    from research.training.early_stopping import protocol_sentence

    if not uses_all_cores(config):
        device_setup.use_one_thread()  # as in a comparison, so that the results have the same bits
    corpus = corpus_flags.load_corpus()
    protocol = protocol_sentence(corpus, config, resolve_folds(corpus, FLAGS.folds), FLAGS.fold)
    for sentence in filter(None, (cut_sentence(corpus, config.data), protocol)):
        print(sentence, file=sys.stderr)
    folder = Path(FLAGS.workdir)
    one_run = functools.partial(train, config, corpus, folder)
    with live_curves(folder) if multihost.is_first() else contextlib.nullcontext():
        prints_results = train_with_progress(FLAGS.config, config.training.epochs, folder, one_run)
    if prints_results:
        _print_results(config, corpus.name, folder)


def _print_results(config: Config, corpus_name: str, folder: Path) -> None:
    """Print the scores of a finished run, the problem if it did not learn, and its folder."""
    from research.reporting.run_result import problem_of_run

    record = run_files.read_record(folder)
    best = record["best_epoch"]
    if "init_from" in record:
        _print_warm_start(config.init_from, record["init_from"])
    shown = [entry for entry in run_files.read_metrics(folder) if entry["split"] == "test" or entry["epoch"] == best]
    chosen_by = record.get("chosen_by", "")  # earlier versions recorded none
    metrics = [m for m in dict.fromkeys(("accuracy", "macro_recall", "macro_f1", chosen_by, "loss")) if m in shown[0]]
    rows = [(entry["split"], str(entry["epoch"]), *(f"{entry[metric]:.4f}" for metric in metrics)) for entry in shown]
    how = "the last" if config.training.select == "last" else "chosen on validation"
    print_table(f"{FLAGS.config} on {corpus_name}, epoch {best}, {how}", ("split", "epoch", *metrics), rows)
    problem = problem_of_run(folder)
    if problem is not None:
        print(f"not trained: {problem.why}. This may help: {problem.mend}")
    print(f"run folder: {folder}")


def _print_warm_start(source: str, parameters: dict[str, Any]) -> None:
    """Print which parameters were taken from another run."""
    print(f"started from {source}, which has {parameters['words']:,} of the words here")
    for outcome in ("taken", "fresh", "misshaped", "skipped"):
        if parameters[outcome]:
            print(f"  {outcome}: {', '.join(parameters[outcome])}")


if __name__ == "__main__":
    program.launch(main)
