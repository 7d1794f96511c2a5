"""Evaluate a run on texts that it was not trained on.

    ./launch.sh evaluate --workdir=runs/lstm
    ./launch.sh evaluate --workdir=runs/lstm --corpus=others.tsv

Without --corpus, the run's own corpus is used, and only the texts that were held out from the run are scored. Of
another corpus the test split is scored; of a single file all texts. The output says how many texts the run has seen.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import corpus_flags, program
from experiments.printing import print_table, say_unfinished, short_names
from research.errors import UserError
from research.parallel import device_setup

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "The split to score.")
corpus_flags.define_corpus()
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    device_setup.use_devices()
    from research.data.corpora import load
    from research.evaluation.outcome import Outcome
    from research.reporting.refit_evidence import describe_no_texts
    from research.reporting.tables import ABOUT_A_RUN, run_table
    from research.runs.held_out import choose_texts, describe_seen
    from research.runs.restore import restore

    run = restore(FLAGS.workdir)
    say_unfinished(Path(FLAGS.workdir))
    if FLAGS.corpus:
        with corpus_flags.offering_commands():
            corpus = run.as_trained_on(load(FLAGS.corpus, corpus_flags.read_options(), run.class_names))
        corpus_flags.print_notes(corpus)
    else:
        corpus = run.own_corpus()
    chosen, part = choose_texts(run, corpus, FLAGS.split)
    if not len(chosen):
        raise UserError(describe_no_texts(run.folder, corpus.name, FLAGS.split))
    if not run.is_own_corpus(corpus):
        print(describe_seen(run, corpus, chosen)[0], file=sys.stderr)
    labels = corpus.labels[chosen]
    probabilities = run.predict_proba([corpus.texts[i] for i in chosen])
    outcome = Outcome((0, 0), corpus.ids[chosen], labels, probabilities, corpus.groups[chosen])
    title = f"{short_names([FLAGS.workdir])[0]} on {corpus.name}, {part}: {len(chosen):,} texts"
    print_table(title, *run_table(outcome)[:2])
    print(ABOUT_A_RUN)


if __name__ == "__main__":
    program.launch(main, trains=None)
