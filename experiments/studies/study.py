"""What the studies and benchmarks share: flags, trainings outside a comparison, and the table that is written."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from experiments import corpus_flags, program
from experiments.printing import print_table
from experiments.variants import load_config
from research.atomic_files import make_folder, write_text
from research.errors import UserError
from research.parallel import device_setup
from research.progress import reporting

if TYPE_CHECKING:
    from research.data.corpora import Corpus

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them


class Job(NamedTuple):
    """One training of the study."""

    folder: Path
    setting: str  # FIELD=VALUE, the setting in which it differs from other trainings
    fold: int
    repeat: int


def define_output() -> None:
    """Define `--output`."""
    flags.DEFINE_string("output", None, "A Markdown file to which the table is written too.")


def define_peers(needs: Mapping[str, Sequence[str]], default: list[str]) -> None:
    """Define `--peers`; `needs` has the packages of each peer."""
    text = f"Peers to measure, some of {', '.join(needs)}. The extra 'peers' installs their packages."
    flags.DEFINE_list("peers", default, text)


def require_peers(needs: Mapping[str, Sequence[str]]) -> None:
    """Raise a UserError if one of `--peers` is unknown or a package that it needs is not installed."""
    for peer in FLAGS.peers:
        if peer not in needs:
            raise UserError(f"--peers has {peer!r}, expected some of {', '.join(needs)}")
        if missing := [name for name in needs[peer] if importlib.util.find_spec(name) is None]:
            raise UserError(f"--peers={peer} needs {missing[0]}: install the extra 'peers', or leave it out")


def define_trainings(variant: str) -> None:
    """Define the flags of a study that trains one variant."""
    flags.DEFINE_string("variant", variant, "The variant to study.")
    corpus_flags.define_folds()
    corpus_flags.define_corpus("rotten_tomatoes")
    corpus_flags.define_clean()
    flags.DEFINE_string("workdir", None, "The study's folder.")
    define_output()


def set_up(overrides: list[str]) -> tuple["Corpus", int]:
    """Check the flags and set up the devices; return the corpus and the number of folds."""
    program.required("corpus", "workdir")
    load_config(FLAGS.variant, overrides)  # report a wrong setting at once
    device_setup.use_devices()
    from research.data.splits import resolve_folds

    corpus = corpus_flags.load_corpus()
    return corpus, resolve_folds(corpus, FLAGS.folds)


def train_all(jobs: Sequence[Job], corpus: "Corpus", folds: int, overrides: list[str]) -> None:
    """Train the runs that are not finished, side by side."""
    from research.parallel.train_runs import RunHooks, train_runs
    from research.runs.prepare import Run

    runs = [
        Run(load_config(FLAGS.variant, [*overrides, f"--config.{job.setting}"]), job.folder, job.fold, job.repeat)
        for job in jobs
    ]
    settings = {job.folder: job.setting for job in jobs}
    finished = itertools.count(1)

    def on_run_end(run: Run, outcome: Exception | None) -> None:
        if outcome is not None:
            raise outcome
        reporter.progress(settings[run.folder], next(finished), float("nan"))

    with reporting(len(jobs), "runs") as reporter:
        hooks = RunHooks(on_run_end=on_run_end)
        train_runs(runs, corpus, folds=folds, workers=device_setup.make_workers(), hooks=hooks)


def show(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], seconds: float, *, append: bool = False
) -> None:
    """Print a table, and write it to `--output` with the command, the machine, the date and the duration.

    With `append` it is added below the tables that the file already has.
    """
    print_table(title, header, rows)
    if FLAGS.output:
        from research.reporting.documents import markdown_table
        from research.runs.record import environment

        about = environment()
        origin = f"{about['processor']}, {about['date']}, {seconds:.0f} s, commit `{about['commit']}`"
        table = markdown_table(header, rows)
        path = Path(FLAGS.output)
        make_folder(path.parent)
        earlier = path.read_text("utf-8") + "\n" if append else ""
        write_text(path, f"{earlier}# {title}\n\n`{program.command()}`, {origin}.\n\n{table}")
