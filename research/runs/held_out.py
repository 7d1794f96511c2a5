"""Which texts of a corpus a trained run is scored on, and whether it has seen them."""

import numpy as np

from research.data.corpora import Corpus
from research.data.fingerprints import find_matches, fingerprint_corpus
from research.errors import UserError
from research.runs.restore import RestoredRun
from research.runs.source import find_seen_texts


def choose_texts(run: RestoredRun, corpus: Corpus, split: str) -> tuple[np.ndarray, str]:
    """Return the indices of the texts to score (int [N]) and a phrase that says which part of the corpus they are.

    Raises:
      UserError: the corpus has no such split.
    """
    if run.is_own_corpus(corpus):
        return getattr(run.split(corpus), split), f"the run's own {split} split"
    if corpus.has(split):
        return np.flatnonzero(corpus.splits == split), f"its {split} split"
    if corpus.has("all") and split == "test":
        return np.arange(len(corpus)), "all of it"
    splits = ", ".join(np.unique(corpus.splits))
    raise UserError(f"{corpus.name} has no {split} split, expected one of {splits}")


def describe_seen(run: RestoredRun, corpus: Corpus, chosen: np.ndarray) -> tuple[str, bool]:
    """Return the sentence on how many of the chosen texts the run was trained on or chosen by, and whether any was."""
    seen = find_seen_texts(run.folder, run.description, corpus)
    is_equal, is_near = find_matches(fingerprint_corpus(corpus)[chosen], seen.fingerprints)
    equal, near = int(is_equal.sum()), int(is_near.sum())
    if not seen.is_complete and not equal:
        return "it is not known whether the run was trained on some of these texts: an earlier version made it", True
    if not equal and not near:
        return "the run was trained on none of these texts, nor on near copies of them", False
    copies = f", and near copies of {near:,} more are" if near else ""
    sentence = (
        f"{equal:,} of these texts are among those that the run was trained on or chosen by{copies}: the "
        "scores are too good"
    )
    return sentence, True


def labels_of(run: RestoredRun, corpus: Corpus) -> np.ndarray:
    """Return the labels of a corpus as indices into the run's classes, int32 [N].

    Raises:
      UserError: the run does not know a label.
    """
    if unknown := [name for name in corpus.class_names if name not in run.class_names]:
        names = ", ".join(run.class_names)
        raise UserError(f"{corpus.name}: label {unknown[0]!r} was not trained on, expected one of {names}")
    return np.array([run.class_names.index(name) for name in corpus.class_names], np.int32)[corpus.labels]
