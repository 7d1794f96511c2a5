"""Find the run or encoder that a run starts from, and refuse one that has seen the run's held-out texts."""

import functools
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import runs
from research.data.audit import load_again
from research.data.corpora import Corpus
from research.data.seen import matches, nothing, of_corpus, seen_of
from research.data.splits import Split, split_corpus
from research.data.weights import NAMES, read_pretraining
from research.errors import UserError
from research.models import load_module
from research.settings import repeat_of
from research.training.preparation import Prepared, RunSpec
from research.training.restore import Restored, restore_source, split_of

_LOG = logging.getLogger("research")
_SHOWN = 60  # characters of a text in a message
_MOST_ANCESTORS = 16  # of a run: folders that were made anew may name each other in a circle


class Source(NamedTuple):
    """The run or encoder that a run starts from."""

    run: Restored | None  # whose parameters are taken
    seen: np.ndarray  # fingerprints of the texts that it, or an encoder, or what these started from, have seen
    near_copies: int  # held-out texts of which near copies are among them


def source_folder(spec: RunSpec) -> Path | None:
    """The folder of the run to start from, if any; {fold} and {repeat} in its name are those of the spec."""
    return _folder_named(spec.config.init_from, spec.fold, spec.repeat)


def _folder_named(init_from: str, fold: int, repeat: int) -> Path | None:
    if init_from == "none":
        return None
    return Path(init_from.replace("{fold}", str(fold)).replace("{repeat}", str(repeat)))


def read_source(spec: RunSpec, prepared: Prepared) -> Source:
    """Return the source that the settings name.

    Raises:
      UserError: it cannot be restored, it has seen texts that are held out here, or the model cannot start so.
    """
    folder, model = source_folder(spec), spec.config.model.module
    if folder is not None and hasattr(load_module(model), "fit_constants"):
        raise UserError(f"config.init_from is {str(folder)!r}, expected none: {model} starts from its training texts")
    run = None if folder is None else restore_source(folder)
    return Source(run, *_require_unseen_sources(spec, prepared.split))


def check_source(spec: RunSpec) -> None:
    """Refuse a source that has seen texts that are held out from a run, before anything is trained.

    Raises:
      UserError: as `read_source`.
    """
    config = spec.config
    if (config.init_from, config.data.weights) == ("none", "none"):
        return
    which = {"folds": spec.folds, "fold": spec.fold, "repeat": repeat_of(config, "split", spec.repeat)}
    _require_unseen_sources(spec, split_corpus(spec.corpus, config.seed, **which, train_size=config.data.train_size))


def _require_unseen_sources(spec: RunSpec, split: Split) -> tuple[np.ndarray, int]:
    """Return the fingerprints of what the sources have seen, and the number of near copies among held-out texts."""
    weights, folder = spec.config.data.weights, source_folder(spec)
    sources = []
    if weights not in ("none", *NAMES):
        sources.append((f"config.data.weights: {weights}", Path(weights), read_pretraining(weights)))
    if folder is not None:
        sources.append((f"config.init_from: {folder}", folder, runs.read_json(folder / runs.CONFIG)))
    seen, near_copies = [nothing()], 0
    for name, path, described in sources:
        seen.append(seen_by(path, described, spec.corpus))
        near_copies += _require_unseen(seen[-1], spec.corpus, split, name)
    return np.concatenate(seen), near_copies


def seen_by(folder: Path, described: dict[str, Any], corpus: Corpus, depth: int = 0) -> np.ndarray:
    """Return the fingerprints of the texts that a run and its own sources have seen.

    Runs of an earlier version kept no fingerprints. They are computed from the run's corpus where that is still there;
    otherwise a warning says once that nobody can tell.

    Args:
      folder: of a run or an encoder.
      described: its `config.json` or `pretraining.json`; empty of an encoder that is not ours.
      corpus: one that it may have been trained on.
    """
    found = runs.read_seen(folder)
    if found is not None:
        return found
    if not described or depth > _MOST_ANCESTORS:
        return nothing()
    settings, of_run = described["settings"], described["corpus"]
    seen = []
    try:
        own = corpus if of_run["checksum"] == corpus.checksum else load_again(of_run, tuple(described["classes"]))
        split = split_of(described, own)
        seen.append(seen_of(own, split.train, split.validation))
    except UserError:
        _say_unknown(folder)
    weights = settings["data"].get("weights", "none")
    if weights not in ("none", *NAMES):
        seen.append(seen_by(Path(weights), read_pretraining(weights), corpus, depth + 1))
    before = _folder_named(settings.get("init_from", "none"), described["fold"], described["repeat"])
    if before is not None and runs.is_run(before):
        seen.append(seen_by(before, runs.read_json(before / runs.CONFIG), corpus, depth + 1))
    elif before is not None:
        _say_unknown(before)
    return np.concatenate([nothing(), *seen])


@functools.cache
def _say_unknown(folder: Path) -> None:
    """Warn once, however many runs start from it."""
    _LOG.warning(
        "%s: an earlier version trained it and did not keep which texts it saw, so nobody can tell whether held-out "
        "texts are among them",
        folder,
    )


def _require_unseen(seen: np.ndarray, corpus: Corpus, split: Split, name: str) -> int:
    """Return the number of held-out texts with near copies among the seen ones.

    Raises:
      UserError: held-out texts were trained on, or test texts chose an epoch.
    """
    if not len(seen):
        return 0
    ours = of_corpus(corpus)
    equal, near = matches(ours[split.test], seen)
    # Texts that chose an epoch before may choose one again.
    equal_too, near_too = matches(ours[split.validation], seen[np.asarray(seen["trained"])])
    if count := int(equal.sum() + equal_too.sum()):
        first = [*split.test[equal], *split.validation[equal_too]][0]
        example = " ".join(corpus.texts[first].split())[:_SHOWN]
        raise UserError(
            f"{name} was trained on {count:,} of the texts that are held out here, such as {example!r}, whatever file "
            "they came from; expected a run of the same fold, repeat and seed, or one on other texts"
        )
    count = int(near.sum() + near_too.sum())
    if count:
        _say_near(name, count)
    return count


@functools.cache
def _say_near(name: str, count: int) -> None:
    _LOG.warning("%s was trained on near copies of %d of the texts that are held out here", name, count)
