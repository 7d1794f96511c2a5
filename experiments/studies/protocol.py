"""Compare rules for how long to train and which epoch to choose, on corpora of many sizes.

    ./launch.sh protocol --corpora=rotten_tomatoes --sizes=200,500 --workdir=runs/protocol

Each variant is trained once and generously: for 60 epochs, without early stopping. A rule changes no step, so the
epochs of this run also show where another rule would have stopped and which epoch it would have chosen. Each rule is
compared with the generous rule, which chooses the epoch with the lowest validation loss. They are compared by accuracy
on test texts that no rule sees.

A corpus of N texts trains on 0.8 N texts, as each of five folds would. They are drawn from a known corpus or from a
file, and a tenth of them is for validation. Up to 1,500 others are test texts. A study that is started again continues
where it stopped. The tables show all runs of the folder.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import program
from experiments.studies import study as studies
from experiments.studies.generous_runs import Epoch, Job, train_generously
from experiments.variants import load_config
from research.errors import UserError
from research.parallel import device_setup
from research.progress import reporting
from research.runs import run_files
from research.settings import Training, is_fitted_whole

_VARIANTS = ["mlp", "cnn", "lstm", "gru", "rnn:tanh", "luong:general", "transformer:pre"]
flags.DEFINE_list("corpora", ["rotten_tomatoes", "zh_reviews"], "Known corpora or files to draw texts from.")
flags.DEFINE_list("sizes", ["200", "500", "1000", "2000", "8000"], "Numbers of texts to draw.")
flags.DEFINE_list("variants", _VARIANTS, "The variants to train.")
flags.DEFINE_integer("repeats", 2, "Draws of each corpus.", lower_bound=1)
flags.DEFINE_string("workdir", None, "The study's folder.")
studies.define_output()
FLAGS = flags.FLAGS
_HEADER = ("rule", "texts", "runs", "accuracy, rule - generous (points)", "worst variant", "steps a run")
_VARIANT_HEADER = ("variant", "texts", "runs", "accuracy, generous (%)", "default - generous (points)")


class Course(NamedTuple):
    """The course of a generous run, as read from its file."""

    job: Job
    labels: Sequence[int]  # the number of training texts of each class
    validation_texts: int
    epochs: Sequence[Epoch]


def main(overrides: list[str]) -> None:
    program.required("workdir")
    start = time.perf_counter()
    sizes = [int(size) for size in FLAGS.sizes if size.isdigit()]
    if len(sizes) < len(FLAGS.sizes):
        raise UserError(f"--sizes is {','.join(FLAGS.sizes)}, expected numbers of texts such as 200,500")
    combinations = itertools.product(FLAGS.corpora, sizes, FLAGS.variants, range(FLAGS.repeats))
    jobs = sorted(itertools.starmap(Job, combinations), key=lambda job: job.size)

    for variant in FLAGS.variants:
        if is_fitted_whole(load_config(variant, overrides)):  # which reports a wrong variant, too
            raise UserError(f"--variants has {variant}, which is fitted to all texts at once: no rule applies to it")
    folder = Path(FLAGS.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    left = [job for job in jobs if not (folder / f"{job.name}.json").exists()]
    with reporting(len(left), "runs") as reporter:
        _train_all(left, overrides, folder, reporter.progress)
    courses = [_read(path) for path in sorted(folder.glob("*.json"))]
    seconds = time.perf_counter() - start
    studies.show("Rules against the generous one, by size", _HEADER, list(_by_rule(courses)), seconds)
    title = "The default against the generous rule, by variant"
    studies.show(title, _VARIANT_HEADER, list(_by_variant(courses)), seconds, append=True)


def _train_all(
    jobs: Sequence[Job], overrides: list[str], folder: Path, on_progress: Callable[[str, float, float], None]
) -> None:
    """Train generous runs in worker processes."""
    from research.parallel.worker_pool import WorkerPool, Workers

    waiting, running, done = list(jobs), [], itertools.count(1)
    with WorkerPool(Workers(device_setup.CORES, device_setup.set_up_process), (overrides, folder)) as pool:
        while waiting or running:
            while waiting and pool.has_idle:
                job = waiting.pop(0)
                running.append(pool.submit(train_generously, job, title=f"trained {job.name}"))
            pool.listen()
            for future in [future for future in running if future.done()]:
                running.remove(future)
                on_progress(future.result(), next(done), float("nan"))


def _read(path: Path) -> Course:
    job, labels, validation_texts, epochs = run_files.read_json(path)
    return Course(Job(*job), labels, validation_texts, [Epoch(*epoch) for epoch in epochs])


def _by_settings(course: Course, training: Training) -> tuple[Epoch, int]:
    """Return the epoch that these settings choose, and the number of steps that they train."""
    from research.training.early_stopping import chosen_by, is_last, score_of

    labels = np.repeat(np.arange(len(course.labels)), course.labels)
    select, steps = chosen_by(training, labels, course.validation_texts), course.epochs[0].step
    best = lowest = 1
    for epoch, scores in enumerate(course.epochs, 1):
        score = score_of(select, scores._asdict())
        best = epoch if score > score_of(select, course.epochs[best - 1]._asdict()) else best
        lowest = epoch if scores.loss < course.epochs[lowest - 1].loss else lowest
        if is_last(training, epoch, steps, best=best, lowest=lowest):
            break
    return course.epochs[best - 1], epoch * steps


def _by_old_rule(course: Course) -> tuple[Epoch, int]:
    """Return the same for the rule used until 2026-11-30: ten epochs, patience of three, by accuracy alone."""
    best = 1
    for epoch, scores in enumerate(course.epochs[:10], 1):
        best = epoch if scores.accuracy > course.epochs[best - 1].accuracy else best
        if epoch - best >= 3:
            break
    return course.epochs[best - 1], scores.step


_GENEROUS = Training(select="log_loss", patience=0)
_RULES: dict[str, Callable[[Course], tuple[Epoch, int]]] = {
    "10 epochs, patience 3 by accuracy (until 2026-11-30)": _by_old_rule,
    "60 epochs, patience 3": lambda course: _by_settings(course, Training(min_steps=0)),
    "60 epochs, patience 3 after 500 steps": lambda course: _by_settings(course, Training(min_steps=500)),
    "60 epochs, patience 3 after 900 steps (the default)": lambda course: _by_settings(course, Training()),
    "the same, chosen by accuracy everywhere": lambda course: _by_settings(course, Training(select="accuracy")),
    "the same, chosen by log loss everywhere": lambda course: _by_settings(course, Training(select="log_loss")),
}


def _difference(course: Course, rule: Callable[[Course], tuple[Epoch, int]]) -> float:
    """Return the test accuracy of a rule's epoch minus that of the generous rule, in points."""
    return 100 * (rule(course)[0].test_accuracy - _by_settings(course, _GENEROUS)[0].test_accuracy)


def _mean_text(values: Sequence[float]) -> str:
    """Return a mean with its 95 % t interval over runs, as text."""
    from scipy import stats

    if len(values) < 2:
        return f"{np.mean(values):+.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):+.1f} [{np.mean(values) - half:+.1f}, {np.mean(values) + half:+.1f}]"


def _by_rule(courses: Sequence[Course]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the first table: one for each size and rule."""
    for size in sorted({course.job.size for course in courses}):
        of_size = [course for course in courses if course.job.size == size]
        for name, rule in _RULES.items():
            differences = [_difference(course, rule) for course in of_size]
            by_variant: dict[str, list[float]] = {}
            for course, points in zip(of_size, differences, strict=True):
                by_variant.setdefault(course.job.variant, []).append(points)
            means = {variant: np.mean(of_variant) for variant, of_variant in by_variant.items()}
            worst = min(means, key=means.get)
            steps = np.mean([rule(course)[1] for course in of_size])
            yield (
                name,
                f"{size:,}",
                str(len(differences)),
                _mean_text(differences),
                f"{worst} {means[worst]:+.1f}",
                f"{steps:,.0f}",
            )


def _by_variant(courses: Sequence[Course]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the second table: one for each size and variant."""
    default = _RULES["60 epochs, patience 3 after 900 steps (the default)"]
    for size, variant in sorted({(course.job.size, course.job.variant) for course in courses}):
        group = [course for course in courses if (course.job.size, course.job.variant) == (size, variant)]
        generous = np.mean([_by_settings(course, _GENEROUS)[0].test_accuracy for course in group])
        differences = [_difference(course, default) for course in group]
        yield variant, f"{size:,}", str(len(group)), f"{100 * generous:.1f}", _mean_text(differences)


if __name__ == "__main__":
    program.launch(main)
