"""Evaluate a run on texts that it was not trained on.

    ./launch.sh evaluate --workdir=runs/lstm
    ./launch.sh evaluate --workdir=runs/lstm --corpus=others.tsv

Without --corpus, the run's own corpus is used, and only the texts that were held out from the run are scored. Of
another corpus the test split is scored; of a single file all texts. The output says how many texts the run has seen.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from experiments import corpus_flags, devices, program
from experiments.progress import print_table, say_unfinished, short_names
from research.errors import UserError
from research.runs import run_files

if TYPE_CHECKING:
    from research.data.corpora import Corpus
    from research.runs.restore import RestoredRun

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "The split to score.")
corpus_flags.define_corpus()
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    devices.use_devices()
    from research.data.corpora import load
    from research.evaluation.intervals import Outcome
    from research.reporting.tables import ABOUT_A_RUN, run_table
    from research.runs.restore import restore

    run = restore(FLAGS.workdir)
    say_unfinished(Path(FLAGS.workdir))
    if FLAGS.corpus:
        corpus = run.as_trained_on(load(FLAGS.corpus, corpus_flags.read_columns(), run.class_names))
    else:
        corpus = run.own_corpus()
    chosen, part = _choose_texts(run, corpus)
    if not run.is_own_corpus(corpus):
        print(_seen(run, corpus, chosen), file=sys.stderr)
    labels = corpus.labels[chosen]
    probabilities = run.predict_proba([corpus.texts[i] for i in chosen])
    outcome = Outcome((0, 0), corpus.ids[chosen], labels, probabilities, corpus.groups[chosen])
    title = f"{short_names([FLAGS.workdir])[0]} on {corpus.name}, {part}: {len(chosen):,} texts"
    print_table(title, *run_table(outcome)[:2])
    print(ABOUT_A_RUN)


def _choose_texts(run: "RestoredRun", corpus: "Corpus") -> tuple[np.ndarray, str]:
    """Return the indices of the texts to score (int [N]) and a phrase that says which part of the corpus they are."""
    if run.is_own_corpus(corpus):
        own = getattr(run.split(corpus), FLAGS.split)
        if not len(own):
            raise UserError(_nothing_held_out(run, corpus))
        return own, f"the run's own {FLAGS.split} split"
    if corpus.has(FLAGS.split):
        return np.flatnonzero(corpus.splits == FLAGS.split), f"its {FLAGS.split} split"
    if corpus.has("all") and FLAGS.split == "test":
        return np.arange(len(corpus)), "all of it"
    splits = ", ".join(np.unique(corpus.splits))
    raise UserError(f"{corpus.name} has no {FLAGS.split} split, expected one of {splits}")


def _nothing_held_out(run: "RestoredRun", corpus: "Corpus") -> str:
    """Return why no text of a run's own corpus can be scored, and what stands for the run instead."""
    from research.reporting.refit_evidence import describe_evidence, read_evidence

    advice = "To score it, name texts that it has not seen with --corpus"
    if not run.is_refit:
        return f"{run.folder} holds out no {FLAGS.split} texts of {corpus.name}. {advice}"
    evidence = read_evidence(run_files.read_record(run.folder))
    known = [] if evidence is None else describe_evidence(evidence)
    nothing = f"{run.folder} was trained on all texts of {corpus.name}, so nothing is held out to score."
    return " ".join([nothing, *known, advice])


def _seen(run: "RestoredRun", corpus: "Corpus", chosen: np.ndarray) -> str:
    """Return the sentence on how many of the texts the run was trained on or chosen by."""
    from research.data.fingerprints import find_matches, fingerprint_corpus
    from research.runs.source import find_seen_texts

    seen = find_seen_texts(run.folder, run.description, corpus)
    is_equal, is_near = find_matches(fingerprint_corpus(corpus)[chosen], seen.fingerprints)
    equal, near = int(is_equal.sum()), int(is_near.sum())
    if not seen.is_complete and not equal:
        return "it is not known whether the run was trained on some of these texts: an earlier version made it"
    if not equal and not near:
        return "the run was trained on none of these texts, nor on near copies of them"
    copies = f", and near copies of {near:,} more are" if near else ""
    return (
        f"{equal:,} of these texts are among those that the run was trained on or chosen by{copies}: the "
        "scores are too good"
    )


if __name__ == "__main__":
    program.launch(main, trains=None)
