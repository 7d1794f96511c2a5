"""Train one variant on one fold, or on the training split, and write a run folder.

    ./launch.sh train --config=lstm --corpus=rotten_tomatoes --workdir=runs/lstm
    ./launch.sh train --config=lstm --corpus=my.tsv --workdir=runs/mine --config.optimizer.learning_rate=3e-4

If the run is interrupted, the same command resumes it; a finished run is not trained again. `--config.FIELD=VALUE`
changes a setting. After a comparison, train one of its variants on all texts, for use (see `docs/deployment.md`):

    ./launch.sh train --refit=runs/mine --variant=lstm --workdir=runs/final

Several processes, on one machine or many, can train one run together. Start each with its number:

    ./launch.sh train ... --coordinator=HOST:PORT --processes=2 --process=0
"""

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import corpus_flags, program
from experiments.live_curves import define_tensorboard, live_curves
from experiments.printing import print_table
from experiments.single_run import CONFIG_HELP, define_run, set_up, train_with_progress
from experiments.unlabelled_test import predict_unlabelled
from experiments.variants import load_config, print_unread
from research.errors import UserError
from research.parallel import device_setup
from research.runs import run_files
from research.settings import Config

if TYPE_CHECKING:
    from research.runs.train import RunOptions

flags.DEFINE_string("config", "lstm", CONFIG_HELP)
flags.DEFINE_string(
    "refit", "", "A comparison: train one of its variants on all texts, for about as many steps as its runs chose."
)
flags.DEFINE_string("variant", "", "With --refit: the variant, as the table names it (default: the best one).")
define_run("Number of folds of the cross-validation (default 5; a corpus with a test split has none).")
corpus_flags.define_corpus()
corpus_flags.define_clean()
program.define_workdir("The run's folder.")
define_tensorboard()
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    if FLAGS["refit"].present:
        _refit(overrides)
        return
    if FLAGS.variant:
        raise UserError(f"--variant is {FLAGS.variant!r}, expected --refit=COMPARISON with it, or --config instead")
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
    protocol = protocol_sentence(corpus, config, resolve_folds(corpus, FLAGS.folds, needs_test=False), FLAGS.fold)
    for sentence in filter(None, (cut_sentence(corpus, config.data), protocol)):
        print(sentence, file=sys.stderr)
    folder = Path(FLAGS.workdir)
    one_run = functools.partial(train, config, corpus, folder)
    with live_curves(folder) if multihost.is_first() else contextlib.nullcontext():
        prints_results = train_with_progress(FLAGS.config, config.training.epochs, folder, one_run)
    if prints_results:
        _print_results(config, corpus.name, folder)
        predict_unlabelled(corpus, folder)


def _refit(overrides: list[str]) -> None:
    """Train a variant of a comparison on all texts, and print what stands for it."""
    program.required("refit", "workdir")
    if FLAGS.refit.startswith("--"):  # absl takes the next argument for the value
        raise UserError("--refit has no value, expected the folder of a comparison: --refit=COMPARISON")
    unused = [*overrides, *(f"--{name}" for name in ("folds", "fold", "repeat", "clean") if FLAGS[name].present)]
    if unused:
        raise UserError(f"{unused[0]} is given, but a refit has the settings and texts of its comparison. Leave it out")
    set_up()
    from research.comparison.refit import prepare_refit
    from research.parallel.train_runs import uses_all_cores
    from research.runs.train import train_run

    variant = FLAGS.variant or (FLAGS.config if FLAGS["config"].present else "")
    corpus = corpus_flags.load_corpus() if FLAGS.corpus else None
    run, corpus = prepare_refit(FLAGS.refit, variant, FLAGS.workdir, corpus)
    if not uses_all_cores(run.config):
        device_setup.use_one_thread()

    def train(*, options: "RunOptions", **split: int | None) -> Path:
        return train_run(run._replace(command=options.command, overwrite=options.overwrite), corpus, options=options)

    if train_with_progress(run.refit.evidence["variant"], run.refit.epochs, run.folder, train):
        _print_refit(run.folder)


def _print_refit(folder: Path) -> None:
    """Print how long a refit was trained, what stands for it, and its folder."""
    from research.reporting.refit_evidence import NOT_TESTED, describe_evidence, describe_length, read_evidence

    record = run_files.read_record(folder)
    evidence = read_evidence(record)
    if evidence is None:
        raise UserError(f"{folder / run_files.RECORD}: no 'refit' that a refit writes; the file is damaged")
    steps = max(entry["step"] for entry in run_files.read_metrics(folder))
    texts = record["texts"]["train"]
    print(f"{describe_length(evidence, record['best_epoch'])} These were {steps:,} step(s) on {texts:,} texts.")
    print(NOT_TESTED)
    print(*describe_evidence(evidence), sep="\n")
    print(f"run folder: {folder}")


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
    is_tested = (folder / run_files.PREDICTIONS).exists()
    problem = problem_of_run(folder) if is_tested else None
    if not is_tested:
        print("no text was held out as test, so it is not known how well the model predicts")
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
