"""Show where the variance of a variant's accuracy comes from: split, initialisation, data order or dropout.

    ./launch.sh variance --variant=lstm --repeats=10 --workdir=runs/variance

One random stream at a time differs between repeats and the others are fixed (Bouthillier et al. 2021). In the row
"all", every stream differs. `--config.FIELD=VALUE` works as in training. A study that is started again continues where
it stopped.
"""

import time
from pathlib import Path

from absl import flags

from experiments import program
from experiments.studies import study as studies
from research.runs import run_files

flags.DEFINE_integer("repeats", 10, "Runs for each source of variance.", lower_bound=3)
studies.define_trainings("lstm")
FLAGS = flags.FLAGS
_SOURCES = ("all", "split", "init", "order", "dropout")
_HEADER = ("differs between runs", "sd of test accuracy (points)", "95 % interval", "share of the variance of all")


def main(overrides: list[str]) -> None:
    start = time.perf_counter()
    corpus, folds = studies.set_up(overrides)
    import numpy as np
    from scipy import stats

    repeats = FLAGS.repeats
    folders = {source: [Path(FLAGS.workdir, source, f"repeat{r}") for r in range(repeats)] for source in _SOURCES}
    jobs = [
        studies.Job(folder, f"varies={source}", 0, repeat)
        for source in _SOURCES
        for repeat, folder in enumerate(folders[source])
    ]
    studies.train_all(jobs, corpus, folds, overrides)

    def accuracy(folder: Path) -> float:
        return next(record["accuracy"] for record in run_files.read_metrics(folder) if record["split"] == "test")

    variances = {source: float(np.var(list(map(accuracy, folders[source])), ddof=1)) for source in _SOURCES}
    quantiles = stats.chi2.ppf((0.975, 0.025), repeats - 1)
    rows = []
    for source, variance in variances.items():
        ends = [100 * ((repeats - 1) * variance / quantile) ** 0.5 for quantile in quantiles]
        share = f"{100 * variance / variances['all']:.0f} %" if variances["all"] else "-"
        rows.append((source, f"{100 * variance**0.5:.2f}", f"[{ends[0]:.2f}, {ends[1]:.2f}]", share))
    title = f"{FLAGS.variant} on {corpus.name}, {repeats} runs for each source"
    studies.show(title, _HEADER, rows, time.perf_counter() - start)


if __name__ == "__main__":
    program.launch(main)
