"""Search the settings of every variant with the same number of trials, on the validation split alone.

    ./launch.sh tune --variants=lstm,cnn --trials=16 --corpus=my.tsv --workdir=runs/tuned
    ./launch.sh compare --variants=lstm,cnn --corpus=my.tsv --tuned=runs/tuned --workdir=runs/compared

A config file may declare its search space: `SPACE` maps a field to ("log", low, high), ("uniform", low, high) or
("choice", a, b, ...). With cross-validation each fold is tuned separately. The same command resumes a search.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import corpus_flags, program
from experiments.grid import expand
from experiments.printing import print_table
from experiments.variants import load_config, refuse_overrides, space_of
from research.evaluation.metrics import metrics_to_select_by
from research.parallel import device_setup
from research.progress import reporting

if TYPE_CHECKING:
    from research.comparison.plan import Variant
    from research.comparison.tuning import SearchedVariant

flags.DEFINE_list("variants", ["linear", "lstm"], "Variants to tune.")
flags.DEFINE_integer("trials", 8, "Number of trials of each variant.", lower_bound=2, upper_bound=10_000)
corpus_flags.define_folds()
flags.DEFINE_integer(
    "repeats", 1, "Number of repeats of the cross-validation that the search is for.", lower_bound=1, upper_bound=1000
)
flags.DEFINE_integer("seed", 0, "Random seed of the trials.", lower_bound=0)
text = "The validation metric that chooses among trials (default: as --config.training.select=auto chooses epochs)."
flags.DEFINE_enum("metric", None, metrics_to_select_by(), text)
corpus_flags.define_corpus("rotten_tomatoes")
corpus_flags.define_clean()
flags.DEFINE_string("workdir", None, "The folder of the search.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir", "variants")
    device_setup.expect_workers()
    variants = expand(FLAGS.variants, overrides, [])
    device_setup.use_devices()
    from research.comparison.tuning import TUNED, SearchSpec, tune
    from research.data.splits import resolve_folds

    corpus = corpus_flags.load_corpus()
    folds = resolve_folds(corpus, FLAGS.folds)
    total = len(variants) * FLAGS.trials * (folds * FLAGS.repeats or 1)
    with reporting(total, "runs") as reporter:
        spec = SearchSpec(
            [_search(variant, overrides) for variant in variants],
            corpus,
            FLAGS.trials,
            folds=FLAGS.folds,
            repeats=FLAGS.repeats,
            seed=FLAGS.seed,
            metric=FLAGS.metric or "",
            command=program.command(),
        )
        tuned = tune(spec, Path(FLAGS.workdir), workers=device_setup.make_workers(), on_progress=reporter.progress)
    _print_scores(tuned["variants"])
    for name, result in tuned["variants"].items():
        chosen = [result["settings"][trial] for trial in result["chosen"].values()]
        print(f"{name}: " + "; ".join(" ".join(f"{k}={v}" for k, v in settings.items()) for settings in chosen))
    print(f"chosen settings: {Path(FLAGS.workdir) / TUNED}")


def _search(variant: "Variant", overrides: list[str]) -> "SearchedVariant":
    """Return a variant with its search space and the function that makes the config of a trial."""
    from research.comparison.tuning import SearchedVariant

    space = space_of(variant.source)
    refuse_overrides(overrides, space, f"searched for {variant.name}")

    def make_config(settings: dict) -> object:
        chosen = (f"--config.{field}={value}" for field, value in settings.items())
        return load_config(variant.source, [*overrides, *chosen])

    return SearchedVariant(variant.name, space, make_config)


def _print_scores(results: dict[str, dict]) -> None:
    """Print the expected validation accuracy of the best of 1, 2, 4, ... trials."""
    import numpy as np

    from research.comparison.tuning import expected_best

    powers = (2**k for k in range(1, FLAGS.trials.bit_length()) if 2**k <= FLAGS.trials)
    budgets = sorted({1, *powers, FLAGS.trials})
    rows = []
    for name, result in results.items():
        curves = np.array([expected_best(np.array(scores)) for scores in result["validation_accuracy"].values()])
        cells = []
        for budget in budgets:
            percent = 100 * curves[:, budget - 1]
            spread = f" +-{percent.std(ddof=1):.1f}" if len(percent) > 1 else ""
            cells.append(f"{percent.mean():.1f}{spread}")
        rows.append((name, *cells, f"{result['train_seconds']:.0f}"))
    header = ("variant", *(f"best of {budget}" for budget in budgets), "train s")
    print_table("Expected validation accuracy by number of trials (mean, standard deviation over folds)", header, rows)


if __name__ == "__main__":
    program.launch(main)
