"""What the studies share: flags, trainings outside a comparison, and a table to be kept."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from experiments import corpus_flags, devices, program
from experiments.progress import print_table, reporting
from experiments.variants import load_config
from research.atomic_files import make_folder, write_text
from research.errors import UserError

if TYPE_CHECKING:
    from research.data.corpora import Corpus

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them
FLAGS = flags.FLAGS


class Job(NamedTuple):
    """One training, in `--workdir`."""

    folder: Path
    setting: str  # FIELD=VALUE, in which it differs from others
    fold: int
    repeat: int


def define_output() -> None:
    """Defines `--output`."""
    flags.DEFINE_string("output", None, "A Markdown file for the table as well.")


def define_peers(needs: Mapping[str, Sequence[str]], default: list[str]) -> None:
    """Defines `--peers`, of which each needs some packages."""
    text = f"Some of {', '.join(needs)}; the extra 'peers' installs what they need."
    flags.DEFINE_list("peers", default, text)


def require_peers(needs: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError where one of `--peers` is unknown, or a package is not there that it needs."""
    for peer in FLAGS.peers:
        if peer not in needs:
            raise UserError(f"--peers has {peer!r}, expected some of {', '.join(needs)}")
        if missing := [name for name in needs[peer] if importlib.util.find_spec(name) is None]:
            raise UserError(f"--peers={peer} needs {missing[0]}: install the extra 'peers', or leave it out")


def define_trainings(variant: str) -> None:
    """Defines the flags of a study that trains one variant."""
    flags.DEFINE_string("variant", variant, "The variant that is looked at.")
    corpus_flags.define_folds()
    corpus_flags.define_corpus("rotten_tomatoes")
    corpus_flags.define_clean()
    flags.DEFINE_string("workdir", None, "The study's folder.")
    define_output()


def begin(overrides: list[str]) -> tuple["Corpus", int]:
    """Checks the flags, sets up the devices; returns the corpus and the number of folds."""
    program.required("corpus", "workdir")
    load_config(FLAGS.variant, overrides)  # a wrong setting is said at once
    devices.use_devices(side_by_side=True)
    from research.data.splits import resolve_folds

    corpus = corpus_flags.load_corpus()
    return corpus, resolve_folds(corpus, FLAGS.folds)


def train_all(jobs: Sequence[Job], corpus: "Corpus", folds: int, overrides: list[str]) -> None:
    """Trains what is not finished, side by side."""
    from research.parallel.train_runs import train_many
    from research.runs.prepare import Run

    asked = [
        Run(load_config(FLAGS.variant, [*overrides, f"--config.{job.setting}"]), job.folder, job.fold, job.repeat)
        for job in jobs
    ]
    finished = itertools.count(1)

    def done(at: int, error: Exception | None) -> None:
        if error is not None:
            raise error
        reporter.progress(jobs[at].setting, next(finished), float("nan"))

    with reporting(len(jobs), "runs") as reporter:
        train_many(asked, corpus, folds=folds, done=done, workers=devices.make_workers())


def show(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], seconds: float, *, append: bool = False
) -> None:
    """Prints the table, and writes it to `--output` with the command, the machine, the date and the duration.

    With `append` it stands below the tables that are there already.
    """
    print_table(title, header, rows)
    if FLAGS.output:
        from research.reporting.blocks import markdown_table
        from research.runs.record import environment

        about = environment()
        on = f"{about['processor']}, {about['date']}, {seconds:.0f} s, commit `{about['commit']}`"
        table = markdown_table(header, rows)
        path = Path(FLAGS.output)
        make_folder(path.parent)
        above = path.read_text("utf-8") + "\n" if append else ""
        write_text(path, f"{above}# {title}\n\n`{program.command()}`, {on}.\n\n{table}")
