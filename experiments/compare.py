"""Trains variants over folds and seeds and prints a table with intervals and verdicts.

    ./launch.sh compare
    ./launch.sh compare --variants=lstm,cnn,luong:general --corpus=my.tsv --workdir=runs/mine
    ./launch.sh compare --variants=all --workdir=runs/all
    ./launch.sh compare --variants=lstm --vary=optimizer.learning_rate=1e-3,3e-4 --workdir=runs/rates

    ./launch.sh compare --variants=cnn --drop=model.dropout,optimizer.max_norm --workdir=runs/ablation
    ./launch.sh compare --variants=lstm --vary=data.train_size=500,1000,2000 --workdir=runs/sizes
    ./launch.sh compare --variants=linear,lstm --until=decided --max_repeats=8 --workdir=runs/decided

Started again, it goes on where it stopped; more variants or repeats extend it. `--config.FIELD=VALUE` is applied to
every variant.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import program
from experiments.progress import print_results, reporting
from experiments.variants import every_variant, expand, load_config
from research import runs
from research.errors import UserError

flags.DEFINE_list("variants", ["linear", "lstm", "cnn", "luong:general"], "Variants, separated by commas, or: all.")
flags.DEFINE_integer("folds", None, "Folds of the cross-validation (default 5; none where there is a test split).")
flags.DEFINE_integer("repeats", None, "Repetitions (default 1 with folds, 5 with a test split).")
flags.DEFINE_enum("until", "repeats", ["repeats", "decided"], "When to stop: decided adds repeats while a pair is not.")
flags.DEFINE_integer("max_repeats", 10, "The most repeats that --until=decided goes to.", lower_bound=1)
flags.DEFINE_list("drop", [], "Settings to switch off in turn (0, false or none): an ablation of each variant.")
flags.DEFINE_string("tuned", None, "The folder of a search (see the program tune) whose chosen settings are used.")
flags.DEFINE_multi_string("vary", [], "FIELD=VALUE,VALUE...: a setting to vary; repeated, the cross product is taken.")
program.define_claims()
program.define_corpus()
program.define_clean()
program.define_workdir("The comparison's folder.")
flags.FLAGS["corpus"].default = flags.FLAGS["corpus"].value = "rotten_tomatoes"
FLAGS = flags.FLAGS

if TYPE_CHECKING:
    from research.comparison import Variant
    from research.data.corpora import Corpus


def main(overrides: list[str]) -> None:
    program.required("corpus")
    names = every_variant() if FLAGS.variants == ["all"] else FLAGS.variants
    variants = list(expand(names, overrides, FLAGS.vary, FLAGS.drop))
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    program.use_devices(side_by_side=True)
    from research.comparison import compare
    from research.data.splits import resolve_folds
    from research.reporting.results import read_results

    corpus = program.load_corpus()
    folder = Path(FLAGS.workdir or f"runs/{corpus.name}")
    if FLAGS.overwrite:
        runs.clear(folder)
    folds = resolve_folds(corpus, FLAGS.folds)
    if FLAGS.tuned:
        variants = [_tuned(variant, corpus, folds, overrides) for variant in variants]
    repeats = FLAGS.max_repeats if FLAGS.until == "decided" else FLAGS.repeats or (1 if folds else 5)
    total = len(variants) * (folds or 1) * repeats
    with reporting(total, "runs") as reporter:
        compare(
            variants,
            corpus,
            folder,
            folds=FLAGS.folds,
            repeats=FLAGS.repeats,
            corpus_flags=program.corpus_flags(FLAGS.corpus),
            command=shlex.join(["./launch.sh", "compare", *sys.argv[1:]]),
            claims=program.claims(),
            max_repeats=FLAGS.max_repeats if FLAGS.until == "decided" else None,
            progress=reporter.progress,
            say=reporter.say,
        )
    print_results(read_results(folder), folder)


def _tuned(variant: "Variant", corpus: "Corpus", folds: int, overrides: list[str]) -> "Variant":
    """The variant with the settings that a search chose for each of its runs."""
    from research.tuning import chosen_settings

    found = {}
    for run, settings in chosen_settings(Path(FLAGS.tuned), variant.name, corpus, folds).items():
        chosen = [f"--config.{field}={value}" for field, value in settings.items()]
        found[run] = (load_config(variant.name, [*overrides, *chosen]), (*variant.flags, *chosen))
    return variant._replace(tuned=found)


if __name__ == "__main__":
    program.launch(main)
