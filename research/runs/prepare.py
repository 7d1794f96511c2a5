"""What a run begins with: its spec, its folder, its texts, its seeds and its state before the first step."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.atomic_files import make_folder
from research.data.batches import steps_per_epoch
from research.data.corpora import Corpus
from research.data.pretrained_encoders import weights_checksum
from research.data.splits import resolve_folds, stream_seed
from research.data.vectors import vectors_checksum
from research.errors import UserError
from research.json_files import write_json
from research.models import config_from_dict
from research.runs import run_files
from research.runs.checkpoints import fingerprint
from research.runs.source import Source, read_source, source_folder
from research.runs.texts import Prepared, RunSpec, prepare
from research.runs.warm_start import start_from_pretrained, start_from_run
from research.settings import PLACES, Config, config_hash, differences, repeat_of, to_dict
from research.settings_validation import validate
from research.training.optimizers import limit_columns
from research.training.programs import Programs, init_state
from research.training.step import TrainState

# Between two descriptions of the same run: a file may be moved, and the hash is that of the settings.
_MAY_DIFFER = (
    "hash:",
    *(f"settings.{place}:" for place in PLACES),
    "corpus.name:",
    "corpus.source:",
    "corpus.columns:",
    "corpus.cleaned:",
    "widths:",
)


class Run(NamedTuple):
    """What is to be trained, and where it is kept."""

    config: Config
    folder: Path
    fold: int = 0
    repeat: int = 0
    command: str = ""  # that does the same; kept in the record
    overwrite: bool = False  # what the folder holds of an earlier run


class Begun(NamedTuple):
    """A run whose training is not finished, with all that it needs."""

    at: int  # its place among those that were asked for
    run: Run
    spec: RunSpec
    prepared: Prepared
    source: Source  # that it starts from


def begin(asked: Sequence[Run], corpus: Corpus, folds: int | None) -> list[Begun]:
    """The runs that are not finished, with their texts; nothing is written.

    Raises:
      UserError: a setting, fold or repeat that does not fit, a folder that holds something else, or a source that
        cannot be started from.
    """
    begun = []
    for at, run in enumerate(asked):
        if run.repeat < 0:
            raise UserError(f"--repeat is {run.repeat}, expected at least 0")
        spec = RunSpec(validate(run.config), corpus, resolve_folds(corpus, folds), run.fold, run.repeat)
        if run.overwrite or not is_done(run.folder, describe(spec)):
            prepared = prepare(spec)
            begun.append(Begun(at, run, spec, prepared, read_source(spec, prepared)))
    return begun


@contextlib.contextmanager
def taken_folder(folder: Path, description: dict[str, Any]) -> Iterator[None]:
    """A run's folder, made where it does not exist, with its description, kept from other processes.

    Raises:
      UserError: it holds something else, or another process trains there.
    """
    is_done(folder, description)
    if not run_files.is_run(folder):
        run_files.require_free(folder)
        make_folder(folder)
    with run_files.locked(folder):
        write_json(folder / run_files.CONFIG, description)
        yield


def describe(spec: RunSpec) -> dict[str, Any]:
    """What `config.json` says of a run, so that another one in its folder is noticed."""
    data, source = spec.config.data, source_folder(spec)
    checksums = {}
    if data.vectors != "none":
        checksums["vectors_checksum"] = vectors_checksum(data.vectors)
    if data.weights != "none":
        checksums["weights_checksum"] = weights_checksum(data.weights)
    if source is not None:
        checksums["init_from_checksum"] = fingerprint(source / run_files.CHECKPOINTS)
    return {
        "hash": config_hash(spec.config),
        "settings": to_dict(spec.config),
        "corpus": spec.corpus.about(),
        "classes": list(spec.corpus.class_names),
        "folds": spec.folds,
        "fold": spec.fold,
        "repeat": spec.repeat,
    } | checksums


def is_done(folder: Path, description: dict[str, Any]) -> bool:
    """Whether the folder holds the run that is described, finished.

    Raises:
      UserError: it holds another run.
    """
    if not run_files.is_run(folder):
        return False
    there = run_files.read_json(folder / run_files.CONFIG)
    with contextlib.suppress(KeyError):  # settings that came after it was written have their defaults
        there["settings"] = to_dict(config_from_dict(there["settings"]))
    changed = [change for change in differences(there, description) if not change.startswith(_MAY_DIFFER)]
    if changed:
        raise UserError(
            f"{folder} holds another run ({'; '.join(changed)}); name another --workdir, or pass --overwrite"
        )
    return run_files.is_finished(folder)


def seed(spec: RunSpec, stream: str) -> int:
    """Of a named random stream."""
    return stream_seed(spec.config.seed, stream, repeat_of(spec.config, stream, spec.repeat), spec.fold)


def fresh_state(programs: Programs, begun: Begun) -> TrainState:
    """The state before the first step."""
    _, _, spec, prepared, source = begun
    training = spec.config.training

    def start(fresh: dict[str, Any]) -> dict[str, Any]:
        if max_norm := spec.config.optimizer.max_norm:
            limit_columns(fresh["params"], max_norm)  # where there is nothing to limit, that is said before training
        fresh = start_from_pretrained(programs.module, spec.config, prepared, fresh)
        return fresh if source.run is None else start_from_run(fresh, source.run, prepared.vocabulary)[0]

    return init_state(
        programs,
        spec.config,
        prepared.train,
        prepared.widths,
        init_seed=seed(spec, "init"),
        dropout_seed=seed(spec, "dropout"),
        class_weights=_class_weights(spec, prepared),
        num_steps=training.epochs * steps_per_epoch(len(prepared.train.labels), training.batch_size),
        start_from=start,
    )


def _class_weights(spec: RunSpec, prepared: Prepared) -> np.ndarray:
    """float32 [C]: ones, or N / (C * count) as scikit-learn's "balanced"."""
    count = np.bincount(prepared.train.labels, minlength=len(spec.corpus.class_names))
    if spec.config.training.class_weights == "none":
        return np.ones(len(count), np.float32)
    return (count.sum() / (len(count) * np.maximum(count, 1))).astype(np.float32)
