"""Searches settings for every variant with the same number of trials, on validation alone.

    ./launch.sh tune --variants=lstm,cnn --trials=16 --corpus=my.tsv --workdir=runs/tuned
    ./launch.sh compare --variants=lstm,cnn --corpus=my.tsv --tuned=runs/tuned --workdir=runs/compared

Each config file may declare its `SPACE`: field -> ("log", low, high), ("uniform", low, high) or ("choice", a, b, ...).
Under cross-validation every fold is tuned for itself. Started again, it goes on where it stopped.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import program
from experiments.progress import print_table, reporting
from experiments.variants import expand, load_config, settled_otherwise, space_of

if TYPE_CHECKING:
    from research.comparison.plan import Variant

flags.DEFINE_list("variants", ["linear", "lstm"], "Variants, separated by commas.")
flags.DEFINE_integer("trials", 8, "Trials of each variant.", lower_bound=2, upper_bound=10_000)
program.define_folds()
flags.DEFINE_integer(
    "repeats", 1, "Repeats of the cross-validation that is to be tuned for.", lower_bound=1, upper_bound=1000
)
flags.DEFINE_integer("seed", 0, "Of the trials.", lower_bound=0)
program.define_corpus("rotten_tomatoes")
program.define_clean()
flags.DEFINE_string("workdir", None, "The search's folder.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir", "variants")
    variants = expand(FLAGS.variants, overrides, [])
    program.use_devices(side_by_side=True)
    import numpy as np

    from research.comparison.tuning import TUNED, SearchedVariant, SearchSpec, expected_best, tune
    from research.data.splits import resolve_folds

    def searched(variant: "Variant") -> SearchedVariant:
        settled_otherwise(overrides, space_of(variant.source), f"searched for {variant.name}")

        def make(settings: dict) -> object:
            chosen = (f"--config.{field}={value}" for field, value in settings.items())
            return load_config(variant.source, [*overrides, *chosen])

        return SearchedVariant(variant.name, space_of(variant.source), make)

    corpus = program.load_corpus()
    folds = resolve_folds(corpus, FLAGS.folds)
    total = len(variants) * FLAGS.trials * (folds * FLAGS.repeats or 1)
    with reporting(total, "runs") as reporter:
        spec = SearchSpec(
            list(map(searched, variants)),
            corpus,
            FLAGS.trials,
            folds=FLAGS.folds,
            repeats=FLAGS.repeats,
            seed=FLAGS.seed,
            command=program.command(),
        )
        found = tune(spec, Path(FLAGS.workdir), workers=program.workers(), on_progress=reporter.progress)
    budgets = sorted({1, *(2**k for k in range(1, FLAGS.trials.bit_length()) if 2**k <= FLAGS.trials), FLAGS.trials})
    rows = []
    for name, of_variant in found["variants"].items():
        curves = np.array([expected_best(np.array(s)) for s in of_variant["validation_accuracy"].values()])
        cells = []
        for budget in budgets:
            of_runs = 100 * curves[:, budget - 1]
            cells.append(f"{of_runs.mean():.1f}" + (f" +-{of_runs.std(ddof=1):.1f}" if len(of_runs) > 1 else ""))
        rows.append((name, *cells, f"{of_variant['train_seconds']:.0f}"))
    header = ("variant", *(f"best of {budget}" for budget in budgets), "train s")
    print_table("Expected validation accuracy by number of trials (mean, standard deviation over folds)", header, rows)
    for name, of_variant in found["variants"].items():
        chosen = [of_variant["settings"][trial] for trial in of_variant["chosen"].values()]
        print(f"{name}: " + "; ".join(" ".join(f"{k}={v}" for k, v in settings.items()) for settings in chosen))
    print(f"chosen settings: {Path(FLAGS.workdir) / TUNED}")


if __name__ == "__main__":
    program.launch(main)
