"""Where the variance of a variant's accuracy comes from: its split, initialisation, data order and dropout.

    ./launch.sh variance --variant=lstm --repeats=10 --workdir=runs/variance

One stream of random numbers at a time differs between repeats, the others are held (Bouthillier et al. 2021); "all" is
what happens when every one of them differs. `--config.FIELD=VALUE` as in training. It goes on where it stopped.
"""

import functools
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_table, reporting
from experiments.variants import load_config
from research import runs

flags.DEFINE_string("variant", "lstm", "The variant that is looked at.")
flags.DEFINE_integer("repeats", 10, "Runs for each source.", lower_bound=3)
flags.DEFINE_integer("folds", None, "Folds of the cross-validation (default 5; none where there is a test split).")
program.define_corpus()
program.define_clean()
program.define_workdir("The study's folder.")
flags.FLAGS["corpus"].default = flags.FLAGS["corpus"].value = "rotten_tomatoes"
FLAGS = flags.FLAGS
_SOURCES = ("all", "split", "init", "order", "dropout")


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    load_config(FLAGS.variant, overrides)
    program.use_devices(side_by_side=True)
    import numpy as np
    from scipy import stats

    from research.data.splits import resolve_folds
    from research.training.population import side_by_side
    from research.training.run import train

    corpus = program.load_corpus()
    folds = resolve_folds(corpus, FLAGS.folds)
    folder, repeats = Path(FLAGS.workdir), FLAGS.repeats
    done = 0

    def one(source: str, repeat: int, check: Callable[[], None]) -> None:
        nonlocal done
        config = load_config(FLAGS.variant, [*overrides, f"--config.varies={source}"])
        there = folder / source / f"repeat{repeat}"
        train(config, corpus, there, folds=folds, fold=0, repeat=repeat, tick=lambda epochs, loss: check())
        done += 1
        reporter.progress(source, done, float("nan"))

    with reporting(len(_SOURCES) * repeats, "runs") as reporter:
        jobs = [functools.partial(one, source, repeat) for source in _SOURCES for repeat in range(repeats)]
        side_by_side(jobs)

    def accuracy(source: str, repeat: int) -> float:
        found = runs.read_metrics(folder / source / f"repeat{repeat}")
        return next(record["accuracy"] for record in found if record["split"] == "test")

    rows = []
    variances = {source: np.var([accuracy(source, r) for r in range(repeats)], ddof=1) for source in _SOURCES}
    low, high = stats.chi2.ppf((0.975, 0.025), repeats - 1)
    for source in _SOURCES:
        variance = float(variances[source])
        ends = [100 * ((repeats - 1) * variance / quantile) ** 0.5 for quantile in (low, high)]
        share = f"{100 * variance / variances['all']:.0f} %" if variances["all"] else "-"
        rows.append((source, f"{100 * variance**0.5:.2f}", f"[{ends[0]:.2f}, {ends[1]:.2f}]", share))
    what = f"{FLAGS.variant} on {corpus.name}, {repeats} runs for each source"
    header = ("differs between runs", "sd of test accuracy (points)", "95 % interval", "share of the variance of all")
    print_table(what, header, rows)


if __name__ == "__main__":
    program.launch(main)
