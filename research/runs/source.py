"""Find the run or encoder that a run starts from, and refuse one that has seen the run's held-out texts."""

import functools
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.audit import load_again
from research.data.corpora import Corpus
from research.data.fingerprints import matches, nothing, of_corpus, seen_of
from research.data.pretrained_encoders import NAMES, read_pretraining
from research.data.splits import Split
from research.errors import UserError
from research.json_files import missing_in
from research.models import load_module
from research.runs import run_files
from research.runs.restore import Restored, restore_source, split_of_description
from research.runs.texts import RunSpec, split_of

_LOG = logging.getLogger("research")
_SHOWN = 60  # characters of a text in a message
_MOST_ANCESTORS = 16  # of a run: folders that were made anew may name each other in a circle


class Source(NamedTuple):
    """The run or encoder that a run starts from."""

    run: Restored | None  # whose parameters are taken
    seen: np.ndarray  # fingerprints of the texts that it, or an encoder, or what these started from, have seen
    is_known: bool  # whether these are all; else an earlier version trained some of them, and nobody can tell
    near_copies: int  # held-out texts of which near copies are among them


def source_folder(spec: RunSpec) -> Path | None:
    """The folder of the run to start from, if any; {fold} and {repeat} in its name are those of the spec."""
    return _folder_named(spec.config.init_from, spec.fold, spec.repeat)


def _folder_named(init_from: str, fold: int, repeat: int) -> Path | None:
    if init_from == "none":
        return None
    return Path(init_from.replace("{fold}", str(fold)).replace("{repeat}", str(repeat)))


def read_source(spec: RunSpec, split: Split) -> Source:
    """Return the source that the settings name.

    Raises:
      UserError: it cannot be restored, it has seen texts that are held out here, or the model cannot start so.
    """
    folder, model = source_folder(spec), spec.config.model.module
    if folder is not None and hasattr(load_module(model), "fit_constants"):
        raise UserError(f"config.init_from is {str(folder)!r}, expected none: {model} starts from its training texts")
    run = None if folder is None else restore_source(folder)
    return Source(run, *_require_unseen_sources(spec, split))


def check_source(spec: RunSpec) -> None:
    """Refuse a source that has seen texts that are held out from a run, before anything is trained.

    Raises:
      UserError: as `read_source`.
    """
    config = spec.config
    if (config.init_from, config.data.weights) == ("none", "none"):
        return
    _require_unseen_sources(spec, split_of(spec))


def _require_unseen_sources(spec: RunSpec, split: Split) -> tuple[np.ndarray, bool, int]:
    """Return what the sources have seen, whether that is all, and the number of near copies among held-out texts."""
    weights, folder = spec.config.data.weights, source_folder(spec)
    sources = []
    if weights not in ("none", *NAMES):
        sources.append((f"config.data.weights: {weights}", Path(weights), read_pretraining(weights)))
    if folder is not None:
        sources.append((f"config.init_from: {folder}", folder, run_files.read_json(folder / run_files.CONFIG)))
    seen, is_known, near_copies = [nothing()], True, 0
    for name, path, described in sources:
        of_source, is_all = seen_by(path, described, spec.corpus)
        seen.append(of_source)
        is_known &= is_all
        near_copies += _require_unseen(of_source, spec.corpus, split, name)
    return np.concatenate(seen), is_known, near_copies


# What is read of the `config.json` of a run that an earlier version made.
_NEEDS = {
    "settings": {"data": dict, "training": dict, "model": dict},
    "corpus": {"checksum": str},
    "classes": list,
    "folds": int,
    "fold": int,
    "repeat": int,
}


def seen_by(folder: Path, described: dict[str, Any], corpus: Corpus | None, depth: int = 0) -> tuple[np.ndarray, bool]:
    """Return the fingerprints of the texts that a run and its own sources have seen, and whether these are all.

    Runs of an earlier version kept no fingerprints. They are computed from the run's corpus where that is still there;
    otherwise a warning says once that nobody can tell.

    Args:
      folder: of a run or an encoder.
      described: its `config.json` or `pretraining.json`; empty of an encoder that is not ours.
      corpus: one that it may have been trained on.
    """
    found = run_files.read_seen(folder)
    if found is not None:
        return found, True
    if not described:
        return nothing(), True
    if problem := missing_in(described, _NEEDS):
        raise UserError(f"{folder}: what it says of its training has {problem}, expected a run that `train` wrote")
    seen, is_known = [nothing()], depth < _MOST_ANCESTORS
    try:
        is_same = corpus is not None and described["corpus"]["checksum"] == corpus.checksum
        own = corpus if is_same else load_again(described["corpus"], tuple(described["classes"]))
        split = split_of_description(described, own)
        seen.append(seen_of(own, split.train, split.validation))
    except (UserError, KeyError):
        is_known = False
    for path, of_path in _sources_of(described) if depth < _MOST_ANCESTORS else ():
        earlier, is_all = (nothing(), False) if of_path is None else seen_by(path, of_path, corpus, depth + 1)
        seen.append(earlier)
        is_known &= is_all
    if not is_known and not depth:
        _say_unknown(folder)
    return np.concatenate(seen), is_known


def _sources_of(described: dict[str, Any]) -> list[tuple[Path, dict[str, Any] | None]]:
    """Return the folders that a run started from, with what they say of themselves; None of one that is gone."""
    settings, found = described["settings"], []
    weights = settings["data"].get("weights", "none")
    if weights not in ("none", *NAMES):
        found.append((Path(weights), read_pretraining(weights) if Path(weights).is_dir() else None))
    before = _folder_named(settings.get("init_from", "none"), described["fold"], described["repeat"])
    if before is not None:
        found.append((before, run_files.read_json(before / run_files.CONFIG) if run_files.is_run(before) else None))
    return found


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
    # Copies of a text that the run trains on itself are its own affair, which the audit of the corpus tells.
    seen = seen[~np.isin(seen["words"], ours[split.train]["words"])]
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
