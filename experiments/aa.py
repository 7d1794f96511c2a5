"""An A/A study: trainings of one variant under two names, which must seldom be called different.

    ./launch.sh aa --variant=mlp --comparisons=60 --workdir=runs/aa

Each comparison is two cross-validations (or, with a test split, two sets of `--repeats` runs) that differ in nothing
but the seed. It goes on where it stopped. `--config.FIELD=VALUE` makes the runs cheaper.
"""

import time
from pathlib import Path

from absl import flags

from experiments import program, studies

flags.DEFINE_integer("comparisons", 60, "How many comparisons.", lower_bound=2)
flags.DEFINE_integer("repeats", None, "Runs of each fold and name (default 1; 5 where there is a test split).")
studies.define_trainings("mlp")
FLAGS = flags.FLAGS
_HEADER = ("two names for one variant", "comparisons", "called different", "95 % interval", "half length")


def main(overrides: list[str]) -> None:
    start = time.perf_counter()
    corpus, folds = studies.begin(overrides)
    from scipy import stats

    from research.evaluation.statistics import Outcome, difference
    from research.reporting.results import read_outcome

    repeats = FLAGS.repeats or (1 if folds else 5)
    which = [(repeat, fold) for repeat in range(repeats) for fold in range(folds or 1)]
    seeds = range(2 * FLAGS.comparisons)

    def folder(seed: int, repeat: int, fold: int) -> Path:
        return Path(FLAGS.workdir) / f"seed{seed}" / f"fold{fold}-repeat{repeat}"

    jobs = [
        studies.Job(folder(seed, repeat, fold), f"seed={seed}", fold, repeat)
        for seed in seeds
        for repeat, fold in which
    ]
    studies.train_all(jobs, corpus, folds, overrides)

    def outcomes(seed: int) -> list[Outcome]:
        return [read_outcome(folder(seed, *run), run) for run in which]

    differences = [difference(outcomes(a), outcomes(a + 1), "accuracy", folds=folds) for a in seeds[::2]]
    wrong = sum(found.low > 0 or found.high < 0 for found in differences)
    interval = stats.binomtest(wrong, len(differences)).proportion_ci(method="exact")
    half = sum(found.high - found.low for found in differences) / 2 / len(differences)
    how = f"{folds} folds x {repeats}" if folds else f"{repeats} runs"
    row = (
        f"{FLAGS.variant}, {corpus.name}, {how}",
        str(len(differences)),
        f"{wrong} ({100 * wrong / len(differences):.1f} %)",
        f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] %",
        f"{100 * half:.2f} points",
    )
    studies.show("A/A study, nominal 5 %", _HEADER, [row], time.perf_counter() - start)


if __name__ == "__main__":
    program.launch(main)
