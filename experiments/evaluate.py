"""Evaluates a run on texts that it never saw, as far as that is known.

    ./launch.sh evaluate --workdir=runs/lstm
    ./launch.sh evaluate --workdir=runs/lstm --corpus=others.tsv

Without --corpus it is the run's own; of that (same checksum) only the texts held out from the run are scored. On
another corpus its test split is scored, or all of a single file.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from experiments import program
from experiments.progress import print_table, say_unfinished, short_names
from research.errors import UserError

if TYPE_CHECKING:
    from research.data.corpora import Corpus
    from research.runs.restore import RestoredRun

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "The split to score.")
program.define_corpus()
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    program.use_devices(side_by_side=False)
    from research.data.corpora import load
    from research.evaluation.intervals import Outcome
    from research.reporting.tables import ABOUT_A_RUN, run_table
    from research.runs.restore import restore

    run = restore(FLAGS.workdir)
    say_unfinished(Path(FLAGS.workdir))
    if FLAGS.corpus:
        corpus = run.as_trained_on(load(FLAGS.corpus, program.columns(), run.class_names))
    else:
        corpus = run.own_corpus()
    if run.is_own_corpus(corpus):
        chosen, what = getattr(run.split(corpus), FLAGS.split), f"the run's own {FLAGS.split} split"
    elif corpus.has(FLAGS.split):
        chosen, what = np.flatnonzero(corpus.splits == FLAGS.split), f"its {FLAGS.split} split"
    elif corpus.has("all") and FLAGS.split == "test":
        chosen, what = np.arange(len(corpus)), "all of it"
    else:
        there = ", ".join(np.unique(corpus.splits))
        raise UserError(f"{corpus.name} has no {FLAGS.split} split, expected one of {there}")
    if not run.is_own_corpus(corpus):
        print(_seen(run, corpus, chosen), file=sys.stderr)
    labels = corpus.labels[chosen]
    probabilities = run.predict_proba([corpus.texts[i] for i in chosen])
    outcome = Outcome((0, 0), corpus.ids[chosen], labels, probabilities, corpus.groups[chosen])
    title = f"{short_names([FLAGS.workdir])[0]} on {corpus.name}, {what}: {len(chosen):,} texts"
    print_table(title, *run_table(outcome)[:2])
    print(ABOUT_A_RUN)


def _seen(run: "RestoredRun", corpus: "Corpus", chosen: np.ndarray) -> str:
    """Whether the scores are of texts that the run never saw."""
    from research.data.fingerprints import find_matches, fingerprint_corpus
    from research.runs.source import seen_by

    seen, is_known = seen_by(run.folder, run.described, corpus)
    equal, near = (int(found.sum()) for found in find_matches(fingerprint_corpus(corpus)[chosen], seen))
    if not is_known and not equal:
        return "whether the run was trained on some of these texts is not known: an earlier version made it"
    if not equal and not near:
        return "the run was trained on none of these texts, nor on near copies of them"
    copies = f", and near copies of {near:,} more are" if near else ""
    return (
        f"{equal:,} of these texts are among those that the run was trained on or chosen by{copies}: that flatters it"
    )


if __name__ == "__main__":
    program.launch(main, trains=None)
