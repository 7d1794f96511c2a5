"""An A/A study: trainings of one variant under two names, which must seldom be called different.

    ./launch.sh aa --variant=mlp --comparisons=60 --workdir=runs/aa

Each comparison is two cross-validations (or, with a test split, two sets of `--repeats` runs) that differ in nothing
but the seed. It goes on where it stopped. `--config.FIELD=VALUE` makes the runs cheaper.
"""

import functools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_table, reporting
from experiments.variants import load_config
from research import runs

flags.DEFINE_string("variant", "mlp", "The variant that is compared with itself.")
flags.DEFINE_integer("comparisons", 60, "How many comparisons.", lower_bound=2)
flags.DEFINE_integer("folds", None, "Folds of the cross-validation (default 5; none where there is a test split).")
flags.DEFINE_integer("repeats", 5, "Runs of each name where there is a test split.", lower_bound=2)
flags.DEFINE_string("output", None, "A Markdown file for the table as well.")
program.define_corpus()
program.define_clean()
program.define_workdir("The study's folder.")
flags.FLAGS["corpus"].default = flags.FLAGS["corpus"].value = "rotten_tomatoes"
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    load_config(FLAGS.variant, overrides)
    program.use_devices(side_by_side=True)
    from scipy import stats

    from research.data.splits import resolve_folds
    from research.evaluation.statistics import Outcome, difference
    from research.reporting.blocks import markdown_table
    from research.reporting.results import read_outcome
    from research.training.environment import environment
    from research.training.population import side_by_side
    from research.training.run import train

    corpus = program.load_corpus()
    folds = resolve_folds(corpus, FLAGS.folds)
    start = time.perf_counter()
    folder = Path(FLAGS.workdir)
    # (repeat, fold) of each run of a name.
    which = [(0, fold) for fold in range(folds)] if folds else [(repeat, 0) for repeat in range(FLAGS.repeats)]
    names = range(2 * FLAGS.comparisons)
    done = 0

    def run_folder(seed: int, repeat: int, fold: int) -> Path:
        return folder / f"seed{seed}" / f"fold{fold}-repeat{repeat}"

    def one(seed: int, repeat: int, fold: int, check: Callable[[], None]) -> None:
        nonlocal done
        config = load_config(FLAGS.variant, [*overrides, f"--config.seed={seed}"])
        there = run_folder(seed, repeat, fold)
        train(config, corpus, there, folds=folds, fold=fold, repeat=repeat, tick=lambda epochs, loss: check())
        done += 1
        reporter.progress(f"seed {seed}", done, float("nan"))

    with reporting(len(names) * len(which), "runs") as reporter:
        side_by_side([functools.partial(one, seed, *run) for seed in names for run in which])

    def outcomes(seed: int) -> list[Outcome]:
        return [read_outcome(run_folder(seed, *run), run) for run in which]

    differences = [difference(outcomes(a), outcomes(a + 1), "accuracy", folds=folds) for a in names[::2]]
    wrong = sum(found.low > 0 or found.high < 0 for found in differences)
    interval = stats.binomtest(wrong, len(differences)).proportion_ci(method="exact")
    half = sum(found.high - found.low for found in differences) / 2 / len(differences)
    header = ("two names for one variant", "comparisons", "called different", "95 % interval", "half length")
    row = (
        f"{FLAGS.variant}, {corpus.name}, " + (f"{folds} folds" if folds else f"{FLAGS.repeats} runs"),
        str(len(differences)),
        f"{wrong} ({100 * wrong / len(differences):.1f} %)",
        f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] %",
        f"{100 * half:.2f} points",
    )
    print_table("A/A study, nominal 5 %", header, [row])
    if FLAGS.output:
        about = environment()
        command = shlex.join(["./launch.sh", "aa", *sys.argv[1:]])
        text = (
            f"# A/A study, nominal 5 %\n\n`{command}`, {about['processor']}, {about['date']}, "
            f"{time.perf_counter() - start:.0f} s, commit `{about['commit']}`.\n\n{markdown_table(header, [row])}"
        )
        runs.write_text(Path(FLAGS.output), text)


if __name__ == "__main__":
    program.launch(main)
