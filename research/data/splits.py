"""Which text trains, which chooses, which tests: a function of the texts and the seed, never of row order.

Groups (exact duplicates, the user's groups) are put into a keyed random order - the rank of a hash of seed and
content - and dealt out so that each class is spread evenly; no group straddles a split.
"""

import functools
import hashlib
from typing import NamedTuple

import numpy as np

from research.data.corpora import Corpus
from research.errors import UserError

VALIDATION_FRACTION = 0.1
FOLDS = 5  # where the corpus has no test split and nothing else is asked for


class Split(NamedTuple):
    """Indices into a corpus, int64, ascending."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def stream_seed(seed: int, name: str, *which: int) -> int:
    """The seed of a named random stream, in [0, 2^32).

    "init", "order" and "dropout" are of training, "split", "validation" and "train_size" of what is trained on.
    """
    key = ":".join(map(str, (seed, name, *which)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def resolve_folds(corpus: Corpus, folds: int | None) -> int:
    """The folds of the cross-validation, 0 where the corpus has a test split.

    Raises:
      UserError: folds are asked for where there is a test split.
    """
    if not corpus.has("test"):
        return FOLDS if folds is None else folds
    if folds:
        raise UserError(f"{corpus.name} has a test split of its own, expected neither --folds nor --fold")
    return 0


def split_corpus(corpus: Corpus, seed: int, *, folds: int, fold: int, repeat: int, train_size: int = 0) -> Split:
    """The split of one run.

    With a test split, `folds` is 0 and runs differ by `repeat`. Without one, fold `fold` of `folds` is the test
    split. Validation is the corpus's own where it has one, else a stratified tenth of the training texts. Of what is
    left to train on, `train_size` texts are taken (0: all), and of validation no more than that.

    Raises:
      UserError: `folds`, `fold` or `train_size` does not fit the corpus.
    """
    if corpus.has("test"):
        resolve_folds(corpus, folds or fold)
        pool, test = np.flatnonzero(corpus.splits == "train"), np.flatnonzero(corpus.splits == "test")
    else:
        pool = _to_deal(corpus)
        groups = len(np.unique(corpus.groups[pool]))
        if not 2 <= folds <= groups:
            raise UserError(f"--folds is {folds}, expected 2 to {groups}: {corpus.name} has {groups} texts or groups")
        if not 0 <= fold < folds:
            raise UserError(f"--fold is {fold}, expected 0 to {folds - 1}")
        fold_of = _dealt(corpus, folds, stream_seed(seed, "split", repeat))
        pool, test = pool[fold_of != fold], pool[fold_of == fold]
    if corpus.has("validation"):
        train, validation = pool, np.flatnonzero(corpus.splits == "validation")
        if folds:  # copies of what is tested here must not choose the epoch
            validation = validation[~np.isin(corpus.groups[validation], corpus.groups[test])]
            if not len(validation):
                raise UserError(f"{corpus.name}: all validation texts are tested in fold {fold}, expected others")
    else:
        held_out = hold_out(corpus, pool, VALIDATION_FRACTION, stream_seed(seed, "validation", repeat, fold))
        train, validation = pool[~held_out], pool[held_out]
    if train_size:
        train = subsample(corpus, train, train_size, stream_seed(seed, "train_size", repeat, fold))
        if len(validation) > train_size:  # nobody who has so few texts has more to choose on
            validation = subsample(corpus, validation, train_size, stream_seed(seed, "validation_size", repeat, fold))
    return Split(train, validation, test)


def _to_deal(corpus: Corpus) -> np.ndarray:
    return np.flatnonzero((corpus.splits == "all") | (corpus.splits == "train"))


@functools.lru_cache(maxsize=8)  # the folds of a repeat are asked for one by one
def _dealt(corpus: Corpus, folds: int, key: int) -> np.ndarray:
    return deal(corpus, _to_deal(corpus), folds, key)


def subsample(corpus: Corpus, train: np.ndarray, size: int, key: int) -> np.ndarray:
    """The first `size` training texts in keyed order, by class in proportion; a larger size keeps those of a smaller.

    Raises:
      UserError: there are fewer.
    """
    if not 0 < size <= len(train):
        raise UserError(f"config.data.train_size is {size}, expected at most the {len(train)} training texts there are")
    ranked = []  # the first of each class, then as far as each has come in its own class
    for label in np.unique(corpus.labels[train]):
        of_class = train[corpus.labels[train] == label]
        keyed = sorted((hashlib.sha256(f"{key}:{corpus.ids[i]}".encode()).digest(), i) for i in of_class)
        ranked += [(n > 0, (n + 0.5) / len(of_class), i) for n, (_, i) in enumerate(keyed)]
    return np.sort(np.array([i for *_, i in sorted(ranked)[:size]], np.int64))


def _shuffled_groups(corpus: Corpus, pool: np.ndarray, key: int) -> list[np.ndarray]:
    """The groups of `pool` as arrays of positions in it, in keyed order."""
    order = np.argsort(corpus.groups[pool], kind="stable")
    _, starts = np.unique(corpus.groups[pool][order], return_index=True)
    members = np.split(order, starts[1:])

    def rank(group: np.ndarray) -> bytes:
        return hashlib.sha256(f"{key}:{corpus.ids[pool[group[0]]]}".encode()).digest()

    return sorted(members, key=rank)


def deal(corpus: Corpus, pool: np.ndarray, folds: int, key: int) -> np.ndarray:
    """Stratified folds.

    Args:
      corpus: where labels and groups are read.
      pool: int [P], indices of the texts to deal out.
      folds: how many folds.
      key: the seed of the order.

    Returns:
      int64 [P], the fold of each; every class is spread as evenly over the folds as whole groups allow.
    """
    fold_of = np.empty(len(pool), np.int64)
    count = np.zeros((folds, len(corpus.class_names)), np.int64)
    # Larger groups first (the sort is stable), so that the small ones even out what they leave.
    for group in sorted(_shuffled_groups(corpus, pool, key), key=len, reverse=True):
        labels = np.bincount(corpus.labels[pool[group]], minlength=count.shape[1])
        # To the fold that lacks the group's main class most; of equals, to the smallest.
        target = np.lexsort((count.sum(axis=1), count[:, np.argmax(labels)]))[0]
        fold_of[group] = target
        count[target] += labels
    return fold_of


def hold_out(corpus: Corpus, pool: np.ndarray, fraction: float, key: int) -> np.ndarray:
    """A stratified part of `pool`, at least one group, never the last group of a class.

    Returns:
      bool [P], true where held out.

    Raises:
      UserError: every class of `pool` is a single group, so nothing can be spared.
    """
    groups = _shuffled_groups(corpus, pool, key)
    main = [int(np.argmax(np.bincount(corpus.labels[pool[group]]))) for group in groups]
    left = np.bincount(main, minlength=len(corpus.class_names))
    quota = np.rint(fraction * np.bincount(corpus.labels[pool], minlength=len(corpus.class_names)))
    if not quota.any():
        quota[np.argmax(left)] = 1
    taken = np.zeros(len(pool), bool)
    for group, label in zip(groups, main, strict=True):
        if left[label] > 1 and len(group) <= quota[label]:
            taken[group] = True
            quota[label] -= len(group)
            left[label] -= 1
    if not taken.any():  # every group is larger than its quota, or the last of its class
        spare = [(len(group), i) for i, (group, label) in enumerate(zip(groups, main, strict=True)) if left[label] > 1]
        if not spare:
            raise UserError(f"{corpus.name}: no text can be spared to choose the epoch on, expected more texts a class")
        taken[groups[min(spare)[1]]] = True
    return taken
