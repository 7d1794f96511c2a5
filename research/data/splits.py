"""Split a corpus into training, validation and test texts.

A split depends on the texts and the seed and never on the order of rows: groups are shuffled by a hash of seed and
content. A group (exact copies, the user's groups) stays in one part, and every class is spread evenly over the parts.
"""

import functools
import hashlib
from typing import NamedTuple

import numpy as np

from research.data.corpora import Corpus
from research.errors import UserError

VALIDATION_FRACTION = 0.1  # the default
FOLDS = 5  # the default for a corpus without a test split


class Split(NamedTuple):
    """Indices into a corpus, int64, in ascending order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def stream_seed(seed: int, name: str, *numbers: int) -> int:
    """Return the seed of a named random stream, in [0, 2^32).

    Args:
      seed: the base seed of the run.
      name: the stream. Training uses "init", "order" and "dropout"; splits use "split", "validation", "train_size" and
        "validation_size".
      numbers: what else varies the stream, such as the repeat and the fold.
    """
    key = ":".join(map(str, (seed, name, *numbers)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def resolve_folds(corpus: Corpus, folds: int | None, *, needs_test: bool = True) -> int:
    """Return the number of cross-validation folds: by default 5, or 0 if the corpus has a test split.

    Args:
      corpus: labelled texts.
      folds: the wish of the user; None for the default.
      needs_test: whether some texts must be tested. Otherwise `folds` may be 0: nothing is held out as test.

    Raises:
      UserError: `folds` is set for a corpus that has a test split, or 0 although some texts must be tested.
    """
    if not corpus.has("test"):
        if folds == 0 and needs_test:
            raise UserError("--folds is 0, which tests no text, expected at least 2")
        return FOLDS if folds is None else folds
    if folds:
        raise UserError(f"{corpus.name} has a test split of its own, expected neither --folds nor --fold")
    return 0


def split_corpus(
    corpus: Corpus,
    seed: int,
    *,
    folds: int,
    fold: int,
    repeat: int,
    train_size: int = 0,
    validation_fraction: float = VALIDATION_FRACTION,
) -> Split:
    """Return the split of one run.

    If the corpus has a test split, `folds` is 0 and runs differ by `repeat`. Otherwise `fold` is the test split, or no
    text is tested if `folds` is 0. The corpus's own validation split is used if it has one, else a stratified part of
    the training texts. `train_size` limits the training texts (0: all), and the validation texts to the same number.

    Raises:
      UserError: `folds`, `fold` or `train_size` does not fit the corpus.
    """
    if corpus.has("test"):
        resolve_folds(corpus, folds or fold)
        pool, test = np.flatnonzero(corpus.splits == "train"), np.flatnonzero(corpus.splits == "test")
    elif not folds:
        if fold:
            raise UserError(f"--fold is {fold}, expected 0 with --folds=0, which holds out no test texts")
        pool, test = _texts_to_split(corpus), np.empty(0, np.int64)
    else:
        pool = _texts_to_split(corpus)
        groups = len(np.unique(corpus.groups[pool]))
        if not 2 <= folds <= groups:
            raise UserError(f"--folds is {folds}, expected 2 to {groups}: {corpus.name} has {groups} texts or groups")
        if not 0 <= fold < folds:
            raise UserError(f"--fold is {fold}, expected 0 to {folds - 1}")
        fold_of = _cached_folds(corpus, folds, stream_seed(seed, "split", repeat))
        pool, test = pool[fold_of != fold], pool[fold_of == fold]
    if corpus.has("validation"):
        train, validation = pool, np.flatnonzero(corpus.splits == "validation")
        if folds:  # copies of test texts must not choose the epoch
            validation = validation[~np.isin(corpus.groups[validation], corpus.groups[test])]
            if not len(validation):
                raise UserError(f"{corpus.name}: all validation texts are tested in fold {fold}, expected others")
    else:
        held_out = hold_out(corpus, pool, validation_fraction, stream_seed(seed, "validation", repeat, fold))
        train, validation = pool[~held_out], pool[held_out]
    if train_size:
        train = subsample(corpus, train, train_size, stream_seed(seed, "train_size", repeat, fold))
        if len(validation) > train_size:  # whoever has so few training texts has no more for validation
            validation = subsample(corpus, validation, train_size, stream_seed(seed, "validation_size", repeat, fold))
    return Split(train, validation, test)


def _texts_to_split(corpus: Corpus) -> np.ndarray:
    return np.flatnonzero((corpus.splits == "all") | (corpus.splits == "train"))


@functools.lru_cache(maxsize=8)  # each fold of a repeat needs the same assignment
def _cached_folds(corpus: Corpus, folds: int, key: int) -> np.ndarray:
    return assign_folds(corpus, _texts_to_split(corpus), folds, key)


def subsample(corpus: Corpus, train: np.ndarray, size: int, key: int) -> np.ndarray:
    """Return a stratified sample of training texts; a larger sample contains every smaller one.

    Args:
      corpus: the source of labels and ids.
      train: int [n], indices of the training texts.
      size: the number of texts to take.
      key: the seed of the sample.

    Raises:
      UserError: there are fewer training texts than `size`.
    """
    if not 0 < size <= len(train):
        raise UserError(f"config.data.train_size is {size}, expected at most the {len(train)} training texts there are")
    # One text of each class comes first; the others are ranked by their position within their class.
    ranked = []
    for label in np.unique(corpus.labels[train]):
        of_class = train[corpus.labels[train] == label]
        keyed = sorted((hashlib.sha256(f"{key}:{corpus.ids[i]}".encode()).digest(), i) for i in of_class)
        ranked += [(n > 0, (n + 0.5) / len(of_class), i) for n, (_, i) in enumerate(keyed)]
    return np.sort(np.array([i for *_, i in sorted(ranked)[:size]], np.int64))


def _shuffled_groups(corpus: Corpus, pool: np.ndarray, key: int) -> list[np.ndarray]:
    """Return the groups of `pool`, as arrays of positions in it, in an order that `key` determines."""
    order = np.argsort(corpus.groups[pool], kind="stable")
    _, starts = np.unique(corpus.groups[pool][order], return_index=True)
    members = np.split(order, starts[1:])

    def rank(group: np.ndarray) -> bytes:
        return hashlib.sha256(f"{key}:{corpus.ids[pool[group[0]]]}".encode()).digest()

    return sorted(members, key=rank)


def assign_folds(corpus: Corpus, pool: np.ndarray, folds: int, key: int) -> np.ndarray:
    """Assign texts to stratified folds.

    Args:
      corpus: the source of labels and groups.
      pool: int [P], indices of the texts to assign.
      folds: the number of folds.
      key: the seed of the order.

    Returns:
      int64 [P], the fold of each text. Classes are spread over the folds as evenly as whole groups allow.
    """
    fold_of = np.empty(len(pool), np.int64)
    count = np.zeros((folds, len(corpus.class_names)), np.int64)
    # Larger groups come first, so that small ones can even out the folds. The sort is stable.
    for group in sorted(_shuffled_groups(corpus, pool, key), key=len, reverse=True):
        labels = np.bincount(corpus.labels[pool[group]], minlength=count.shape[1])
        # The fold with the fewest texts of the group's main class; among equals, the smallest fold.
        target = np.lexsort((count.sum(axis=1), count[:, np.argmax(labels)]))[0]
        fold_of[group] = target
        count[target] += labels
    return fold_of


def hold_out(corpus: Corpus, pool: np.ndarray, fraction: float, key: int) -> np.ndarray:
    """Hold out a stratified part of `pool`: at least one group, but never the last group of a class.

    Args:
      corpus: the source of labels and groups.
      pool: int [P], indices of texts.
      fraction: the share to hold out.
      key: the seed of the order.

    Returns:
      bool [P], true for texts that are held out.

    Raises:
      UserError: every class of `pool` is a single group, so nothing can be held out.
    """
    groups = _shuffled_groups(corpus, pool, key)
    main_class = [int(np.argmax(np.bincount(corpus.labels[pool[group]]))) for group in groups]
    left = np.bincount(main_class, minlength=len(corpus.class_names))
    quota = np.rint(fraction * np.bincount(corpus.labels[pool], minlength=len(corpus.class_names)))
    if not quota.any():
        quota[np.argmax(left)] = 1
    held_out = np.zeros(len(pool), bool)
    for group, label in zip(groups, main_class, strict=True):
        if left[label] > 1 and len(group) <= quota[label]:
            held_out[group] = True
            quota[label] -= len(group)
            left[label] -= 1
    if not held_out.any():  # every group is larger than its quota, or the last of its class
        spare = [(len(group), i) for i, group in enumerate(groups) if left[main_class[i]] > 1]
        if not spare:
            raise UserError(f"{corpus.name}: no text can be spared to choose the epoch on, expected more texts a class")
        held_out[groups[min(spare)[1]]] = True
    return held_out
