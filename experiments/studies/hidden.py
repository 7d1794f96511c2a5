"""Measure how much a difference of two variants depends on the training texts: the variance that folds hide.

    ./launch.sh hidden --corpus=imdb --sets=12 --set_texts=1500 --workdir=runs/hidden

The training sets share no text. Each variant is trained on each of them with several seeds, and all runs are tested on
the texts that are in no training set. See `hidden_variance` for the estimate. `--config.FIELD=VALUE` works as in
training. A study that is started again continues where it stopped.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import corpus_flags, program
from experiments.studies import study as studies
from experiments.variants import load_config
from research.errors import UserError
from research.parallel import device_setup
from research.progress import reporting

if TYPE_CHECKING:
    from experiments.studies.hidden_variance import Hidden
    from research.data.corpora import Corpus
    from research.runs.prepare import Run

flags.DEFINE_list("variants", ["linear", "mlp", "cnn", "lstm"], "The variants to train; every two are compared.")
flags.DEFINE_integer("sets", 12, "Number of training sets.", lower_bound=3)
flags.DEFINE_integer("set_texts", 1_500, "Texts of each training set, with those for validation.", lower_bound=10)
flags.DEFINE_integer("repeats", 3, "Runs of each variant on each training set.", lower_bound=2)
corpus_flags.define_corpus("imdb")
corpus_flags.define_clean()
flags.DEFINE_string("workdir", None, "The study's folder.")
studies.define_output()
FLAGS = flags.FLAGS
_FOLDS = 5  # of the cross-validation that the result is for
_HEADER = (
    *("pair", "difference (points)", "sd over training sets (points)", "95 % interval"),
    *("sd of texts (points)", "variance / that of texts", "95 % interval"),
)


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    start = time.perf_counter()
    if len(FLAGS.variants) < 2:
        raise UserError(f"--variants is {','.join(FLAGS.variants)}, expected at least two to compare")
    configs = {variant: load_config(variant, overrides) for variant in FLAGS.variants}
    device_setup.use_devices()
    import numpy as np

    from experiments.studies.hidden_variance import measure_hidden
    from research.reporting.run_result import read_outcome
    from research.runs.prepare import Run

    corpora = list(_training_sets(corpus_flags.load_corpus()))
    runs = [
        (variant, k, Run(config, Path(FLAGS.workdir, variant.replace(":", "-"), f"set{k}-repeat{repeat}"), 0, repeat))
        for (variant, config), k, repeat in itertools.product(configs.items(), range(FLAGS.sets), range(FLAGS.repeats))
    ]
    right: dict[str, list[np.ndarray]] = {variant: [] for variant in configs}
    with reporting(len(runs), "runs") as reporter:
        for number, (variant, k, run) in enumerate(runs, 1):
            _train(run, corpora[k])
            outcome = read_outcome(run.folder, (run.repeat, 0))
            right[variant].append(outcome.probabilities.argmax(axis=1) == outcome.label)
            reporter.progress(variant, number, float("nan"))
    values = {variant: np.reshape(of, (FLAGS.sets, FLAGS.repeats, -1)).astype(float) for variant, of in right.items()}
    pairs = {f"{a} - {b}": values[a] - values[b] for a, b in itertools.combinations(configs, 2)}
    corpus_texts = FLAGS.set_texts * _FOLDS / (_FOLDS - 1)
    rows = [_row(name, 100 * of.mean(), measure_hidden([of], corpus_texts)) for name, of in pairs.items()]
    rows.append(_row("all pairs", None, measure_hidden(list(pairs.values()), corpus_texts), len(pairs)))
    tested = next(iter(pairs.values())).shape[2]
    title = (
        f"{corpora[0].name}: {FLAGS.sets} training sets of {FLAGS.set_texts:,} texts, {FLAGS.repeats} runs on each, "
        f"{tested:,} test texts"
    )
    studies.show(title, _HEADER, rows, time.perf_counter() - start)


def _training_sets(corpus: "Corpus") -> Iterator["Corpus"]:
    """Yield the corpus once for each training set, with the texts that are in no training set as its test split."""
    import numpy as np

    from research.data.splits import assign_folds

    if len(corpus) < (FLAGS.sets + 1) * FLAGS.set_texts:
        most = len(corpus) // FLAGS.set_texts - 1
        raise UserError(
            f"{corpus.name} has {len(corpus):,} texts, too few for {FLAGS.sets} training sets and test texts. "
            f"Use --sets={most}, or a smaller --set_texts than {FLAGS.set_texts}"
        )
    part = assign_folds(corpus, np.arange(len(corpus)), len(corpus) // FLAGS.set_texts, 0)
    for k in range(FLAGS.sets):
        # Unused texts stay in the corpus, so that all training sets share the compiled programs.
        splits = np.select([part == k, part >= FLAGS.sets], ["train", "test"], "unused").astype("<U10")
        yield dataclasses.replace(corpus, splits=splits, checksum=f"{corpus.checksum}-{k}", source="")


def _train(run: "Run", corpus: "Corpus") -> None:
    """Train a run in this process, unless it is finished."""
    from research.parallel.train_runs import train_runs

    (error,) = train_runs([run], corpus)
    if error is not None:
        raise error


def _row(name: str, difference: float | None, hidden: "Hidden", pairs: int = 1) -> tuple[str, ...]:
    """Return a row of the table. Variances of several pairs are their means."""
    ends = (hidden.variance - 1.96 * hidden.error, hidden.variance + 1.96 * hidden.error)
    sd, low, high, of_texts = (100 * (max(v, 0.0) / pairs) ** 0.5 for v in (hidden.variance, *ends, hidden.texts))
    ratios = (hidden.ratio - 1.96 * hidden.ratio_error, hidden.ratio + 1.96 * hidden.ratio_error)
    return (
        name,
        "" if difference is None else f"{difference:+.2f}",
        f"{sd:.2f}",
        f"[{low:.2f}, {high:.2f}]",
        f"{of_texts:.2f}",
        f"{hidden.ratio:.2f}",
        f"[{ratios[0]:.2f}, {ratios[1]:.2f}]",
    )


if __name__ == "__main__":
    program.launch(main)
