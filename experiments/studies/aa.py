"""Run an A/A study: trainings of one variant under many names, which must seldom be called different.

    ./launch.sh aa --variant=mlp --names=120 --workdir=runs/aa

Each name is a cross-validation (or, with a test split, a set of `--repeats` runs) with a seed of its own and no other
difference. It is compared with the 20 names that follow it, or fewer if there are not so many. A study that is started
again continues where it stopped. `--config.FIELD=VALUE` can make the runs cheaper.
"""

import time
from pathlib import Path

from absl import flags

from experiments import program
from experiments.studies import study as studies
from research.progress import reporting

flags.DEFINE_integer("names", 120, "Number of names.", lower_bound=4)
flags.DEFINE_integer(
    "repeats", None, "Runs of each fold and name (default 1; 5 where there is a test split).", lower_bound=1
)
studies.define_trainings("mlp")
FLAGS = flags.FLAGS
_PARTNERS = 20
_HEADER = ("names for one variant", "names", "pairs", "called different", "95 % interval", "half length")


def main(overrides: list[str]) -> None:
    start = time.perf_counter()
    corpus, folds = studies.set_up(overrides)
    import numpy as np

    from research.evaluation.intervals import difference
    from research.reporting.run_result import read_outcome
    from research.runs import run_files

    repeats = FLAGS.repeats or (1 if folds else 5)
    runs = [(repeat, fold) for repeat in range(repeats) for fold in range(folds or 1)]
    seeds = range(FLAGS.names)

    def folder(seed: int, repeat: int, fold: int) -> Path:
        return Path(FLAGS.workdir) / f"seed{seed}" / run_files.run_name(fold, repeat, folds)

    jobs = [
        studies.Job(folder(seed, repeat, fold), f"seed={seed}", fold, repeat) for seed in seeds for repeat, fold in runs
    ]
    studies.train_all(jobs, corpus, folds, overrides)

    outcomes = [[read_outcome(folder(seed, *run), run) for run in runs] for seed in seeds]
    different, pairs = np.zeros(len(seeds)), np.zeros(len(seeds))
    halves = []
    with reporting(len(seeds), "names compared") as reporter:
        for a in seeds:
            for step in range(1, min(_PARTNERS, (len(seeds) - 1) // 2) + 1):
                b = (a + step) % len(seeds)
                estimated = difference(outcomes[a], outcomes[b], "accuracy", folds=folds)
                different[[a, b]] += estimated.low > 0 or estimated.high < 0
                pairs[[a, b]] += 1
                halves.append((estimated.high - estimated.low) / 2)
            reporter.progress(f"name {a}", a + 1, float("nan"))
    # A mean over pairs is a U-statistic. Its variance is at most about 4 / n times the variance of the names' own means
    # (Hoeffding 1948).
    name_means = different / pairs
    share, half = name_means.mean(), 1.96 * 2 * name_means.std(ddof=1) / len(seeds) ** 0.5
    # If none or all of n independent pairs differ, the rule of three gives 3 / n. There are half as many such pairs as
    # names.
    half = max(half, 3 / max(1, len(seeds) // 2)) if share in (0, 1) else half
    protocol = f"{folds} folds x {repeats}" if folds else f"{repeats} runs"
    row = (
        f"{FLAGS.variant}, {corpus.name}, {protocol}",
        f"{len(seeds):,}",
        f"{len(halves):,}",
        f"{100 * share:.1f} %",
        f"[{100 * max(share - half, 0):.1f}, {100 * min(share + half, 1):.1f}] %",
        f"{100 * np.mean(halves):.2f} points",
    )
    studies.show("A/A study, nominal 5 %", _HEADER, [row], time.perf_counter() - start)


if __name__ == "__main__":
    program.launch(main)
