"""Find the run or encoder that a run starts from, and refuse one that has seen the run's held-out texts."""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.audit import reload_corpus
from research.data.corpora import Corpus
from research.data.fingerprints import find_matches, fingerprint_corpus, fingerprint_run, no_fingerprints
from research.data.pretrained_encoders import NAMES, read_pretraining
from research.data.splits import Split
from research.errors import UserError
from research.json_files import missing_in
from research.models import load_module
from research.runs import run_files
from research.runs.restore import RestoredModel, restore_source, split_from_description
from research.runs.texts import RunSpec, split_of
from research.training.whole_fit import require_whole_fit

_LOG = logging.getLogger("research")
_EXAMPLE_LENGTH = 60  # characters of a text shown in a message
_MAX_ANCESTORS = 16  # how far sources are followed; folders that were trained again may name each other in a circle
# The required fields of the `config.json` of a run that kept no fingerprints.
_NEEDS = {
    "settings": {"data": dict, "training": dict, "model": dict},
    "corpus": {"checksum": str},
    "classes": list,
    "folds": int,
    "fold": int,
    "repeat": int,
}


class SeenTexts(NamedTuple):
    """The texts that a run or an encoder, and all that it started from, have seen."""

    fingerprints: np.ndarray  # `data.fingerprints.FINGERPRINT` [N]
    is_complete: bool  # False if an earlier version trained one of them and its texts cannot be found


_UNKNOWN = SeenTexts(no_fingerprints(), is_complete=False)


class Source(NamedTuple):
    """What a run starts from: a run, a pre-trained encoder, both, or nothing."""

    run: RestoredModel | None  # its parameters are used
    seen: SeenTexts
    near_copies: int  # number of held-out texts with near copies among the seen texts


def source_folder(spec: RunSpec) -> Path | None:
    """Return the folder of the run to start from, if any, with {fold} and {repeat} in its name filled in."""
    return _resolve_init_from(spec.config.init_from, spec.fold, spec.repeat)


def _resolve_init_from(init_from: str, fold: int, repeat: int) -> Path | None:
    if init_from == "none":
        return None
    return Path(init_from.replace("{fold}", str(fold)).replace("{repeat}", str(repeat)))


def read_source(spec: RunSpec, split: Split) -> Source:
    """Return the source that the settings name.

    Raises:
      UserError: the source cannot be restored, it has seen texts that are held out here, or the model cannot start from
        a run.
    """
    folder, model = source_folder(spec), spec.config.model.module
    if folder is not None and hasattr(load_module(model), "fit"):
        raise UserError(f"config.init_from is {str(folder)!r}, expected none: {model} starts from its training texts")
    run = None if folder is None else restore_source(folder)
    return _check_sources(spec, split)._replace(run=run)


def check_source(spec: RunSpec) -> None:
    """Refuse a source that has seen texts that are held out from a run, before anything is trained.

    Raises:
      UserError: as `read_source`.
    """
    config = spec.config
    if (config.init_from, config.data.weights) == ("none", "none"):
        return
    _check_sources(spec, split_of(spec))


def _check_sources(spec: RunSpec, split: Split) -> Source:
    """Return what the sources have seen, without restoring the run.

    Raises:
      UserError: they have seen held-out texts.
    """
    require_whole_fit(spec.config)
    weights, folder = spec.config.data.weights, source_folder(spec)
    sources = []
    if weights not in ("none", *NAMES):
        sources.append((f"config.data.weights: {weights}", Path(weights), read_pretraining(weights)))
    if folder is not None:
        sources.append((f"config.init_from: {folder}", folder, run_files.read_json(folder / run_files.CONFIG)))
    every_seen, near_copies = [], 0
    for name, path, description in sources:
        seen = find_seen_texts(path, description, spec.corpus)
        near_copies += _require_unseen(seen.fingerprints, spec.corpus, split, name)
        every_seen.append(seen)
    return Source(None, _merge(every_seen), near_copies)


def _merge(parts: Sequence[SeenTexts]) -> SeenTexts:
    fingerprints = np.concatenate([no_fingerprints(), *[part.fingerprints for part in parts]])
    return SeenTexts(fingerprints, all(part.is_complete for part in parts))


def find_seen_texts(
    folder: Path, description: dict[str, Any], corpus: Corpus | None, *, ancestors: int = 0
) -> SeenTexts:
    """Return the texts that a run or encoder, and all that it started from, have seen.

    Earlier versions kept no fingerprints. They are computed from the run's corpus if it is still there. Otherwise, a
    warning says once that the texts are unknown.

    Args:
      folder: the folder of a run or an encoder.
      description: its `config.json` or `pretraining.json`; empty for an encoder that was not trained here.
      corpus: a corpus that it may have been trained on.
      ancestors: how many sources were followed to get here.

    Raises:
      UserError: the description or the file of fingerprints is damaged.
    """
    fingerprints = run_files.read_seen(folder)
    if fingerprints is not None:
        return SeenTexts(fingerprints, is_complete=True)
    if not description:
        return SeenTexts(no_fingerprints(), is_complete=True)
    if problem := missing_in(description, _NEEDS):
        raise UserError(f"{folder}: its description of the training has {problem}, expected a run that `train` wrote")
    parts = [_compute_seen_texts(description, corpus)]
    for path, earlier in _sources_of(description):
        if earlier is None or ancestors == _MAX_ANCESTORS:
            parts.append(_UNKNOWN)
        else:
            parts.append(find_seen_texts(path, earlier, corpus, ancestors=ancestors + 1))
    seen = _merge(parts)
    if not seen.is_complete and not ancestors:
        _warn_of_unknown_texts(folder)
    return seen


def _compute_seen_texts(description: dict[str, Any], corpus: Corpus | None) -> SeenTexts:
    """Return the texts that a run itself has seen, from its corpus: `corpus` or the file that it was trained on."""
    try:
        own_corpus = corpus
        if corpus is None or description["corpus"]["checksum"] != corpus.checksum:
            own_corpus = reload_corpus(description["corpus"], tuple(description["classes"]))
        split = split_from_description(description, own_corpus)
        return SeenTexts(fingerprint_run(own_corpus, split.train, split.validation), is_complete=True)
    except (UserError, KeyError):
        return _UNKNOWN


def _sources_of(description: dict[str, Any]) -> list[tuple[Path, dict[str, Any] | None]]:
    """Return the folders that a run started from, with their descriptions; None for a folder that is gone."""
    settings, sources = description["settings"], []
    weights = settings["data"].get("weights", "none")
    if weights not in ("none", *NAMES):
        sources.append((Path(weights), read_pretraining(weights) if Path(weights).is_dir() else None))
    folder = _resolve_init_from(settings.get("init_from", "none"), description["fold"], description["repeat"])
    if folder is not None:
        sources.append((folder, run_files.read_json(folder / run_files.CONFIG) if run_files.is_run(folder) else None))
    return sources


@functools.cache
def _warn_of_unknown_texts(folder: Path) -> None:
    """Warn once for each source, however many runs start from it."""
    _LOG.warning(
        "%s: an earlier version trained this run and did not record its texts, so it is unknown whether held-out "
        "texts are among them",
        folder,
    )


def _require_unseen(seen: np.ndarray, corpus: Corpus, split: Split, name: str) -> int:
    """Return the number of held-out texts that have near copies among the seen texts.

    Raises:
      UserError: the source was trained on held-out texts, or chose its epoch by texts of the test split.
    """
    if not len(seen):
        return 0
    prints = fingerprint_corpus(corpus)
    # Texts that this run trains on too are no leak of the source; the audit of the corpus reports their copies.
    seen = seen[~np.isin(seen["words"], prints[split.train]["words"])]
    equal, near = find_matches(prints[split.test], seen)
    # Texts that chose the source's epoch may choose an epoch again.
    equal_validation, near_validation = find_matches(prints[split.validation], seen[np.asarray(seen["trained"])])
    if count := int(equal.sum() + equal_validation.sum()):
        first = [*split.test[equal], *split.validation[equal_validation]][0]
        example = " ".join(corpus.texts[first].split())[:_EXAMPLE_LENGTH]
        raise UserError(
            f"{name} was trained on {count:,} of the texts that are held out here, such as {example!r} (compared by "
            "their words, not by their file); start from a run of the same fold, repeat and seed, or from one trained "
            "on other texts"
        )
    count = int(near.sum() + near_validation.sum())
    if count:
        _warn_of_near_copies(name, count)
    return count


@functools.cache
def _warn_of_near_copies(name: str, count: int) -> None:
    """Warn once for each source and number of texts."""
    _LOG.warning("%s was trained on near copies of %d of the texts that are held out here", name, count)
