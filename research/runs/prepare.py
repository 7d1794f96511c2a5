"""Prepare runs: check their settings, and gather all that training needs, before anything is written."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.batches import steps_per_epoch
from research.data.cache import file_checksum
from research.data.corpora import Corpus
from research.data.pretrained_encoders import weights_checksum
from research.data.splits import resolve_folds, stream_seed
from research.data.tokenizer import Encoded
from research.data.tokenizer_files import fit_to_tokenizer
from research.data.vectors import vectors_checksum
from research.errors import UserError
from research.json_files import write_json
from research.models import config_from_dict, load_module
from research.runs import run_files
from research.runs.checkpoints import checkpoints_checksum
from research.runs.claim import claim_folder
from research.runs.sentence_vectors import SentenceVectors, sentence_vectors
from research.runs.source import Source, read_source, source_folder
from research.runs.texts import RunSpec, RunTexts, prepare_texts
from research.runs.warm_start import start_from_pretrained, start_from_run
from research.settings import (
    Config,
    Training,
    config_hash,
    differences,
    is_fitted_whole,
    is_tokenizer_file,
    repeat_of,
    to_dict,
    without_places,
)
from research.settings_validation import validate
from research.training.early_stopping import chosen_by
from research.training.initial_state import Start, init_state
from research.training.optimizers import limit_columns
from research.training.programs import Programs, TrainData
from research.training.step import TrainState

# Parts of a run's description that may differ when the same command is repeated: files may have been moved, and the
# hash depends on their paths.
_MAY_DIFFER = (
    "hash:",
    "corpus.name:",
    "corpus.source:",
    "corpus.columns:",
    "corpus.cleaned:",
    "widths:",
)


class Refit(NamedTuple):
    """A training on all texts that holds out nothing, for a number of epochs that other runs have chosen."""

    epochs: int
    evidence: Mapping[str, Any] | None = None  # what is known about such a model; saved in the record, as JSON values


class Run(NamedTuple):
    """A run to train, and the folder to save it in."""

    config: Config
    folder: Path
    fold: int = 0
    repeat: int = 0
    command: str = ""  # a command line that trains the same run; saved in the record
    overwrite: bool = False  # whether to remove an earlier run from the folder
    refit: Refit | None = None  # None: hold out validation and test texts


class PreparedRun(NamedTuple):
    """A run that is not finished, with all that its training needs."""

    run: Run
    spec: RunSpec
    texts: RunTexts
    source: Source  # what the run starts from
    vectors: SentenceVectors | None = None  # of the corpus, if the encoder is frozen

    @property
    def select(self) -> str:
        """The validation score that chooses the epoch."""
        if self.spec.refit_epochs:
            return "last"
        return chosen_by(self.spec.config.training, self.texts.train.labels, len(self.texts.validation.labels))

    @property
    def training(self) -> Training:
        """The training settings of the epochs; a model that is fitted to all texts at once has one epoch.

        The learning-rate schedule of a refit remains that of its settings, so each epoch has the rate that it had when
        the number of epochs was chosen.
        """
        training, refit_epochs = self.spec.config.training, self.spec.refit_epochs
        if is_fitted_whole(self.spec.config):
            return dataclasses.replace(training, epochs=1)
        return dataclasses.replace(training, epochs=refit_epochs, select="last") if refit_epochs else training

    @property
    def data(self) -> TrainData:
        """The data that the training loop reads."""
        return TrainData(self.encoded("train"), self.encoded("validation"), seed_of(self.spec, "order"))

    def encoded(self, part: str) -> Encoded:
        """Return the texts of the split "train", "validation" or "test", with their vectors if there are any."""
        encoded, index = getattr(self.texts, part), getattr(self.texts.split, part)
        return encoded if self.vectors is None else dataclasses.replace(encoded, vectors=self.vectors.values[index])


def prepare_run(run: Run, corpus: Corpus, folds: int | None) -> PreparedRun | None:
    """Prepare a run; return None if it is finished.

    Raises:
      UserError: a setting, fold or repeat is wrong, the folder holds something else, or the run cannot start from its
        source.
    """
    if run.repeat < 0:
        raise UserError(f"--repeat is {run.repeat}, expected at least 0")
    epochs = 0 if run.refit is None else run.refit.epochs
    folds = 0 if run.refit is not None else resolve_folds(corpus, folds, needs_test=False)
    spec = RunSpec(fit_to_tokenizer(validate(run.config)), corpus, folds, run.fold, run.repeat, epochs)
    if not run.overwrite and holds_finished(run.folder, describe(spec)):
        return None
    texts = prepare_texts(spec)
    return PreparedRun(run, spec, texts, read_source(spec, texts.split))


def add_vectors(prepared: PreparedRun, on_progress: Callable[[Run, float, float], None]) -> PreparedRun:
    """Add the sentence vectors of the corpus if the encoder is frozen; computing them counts as progress of the run.

    Raises:
      UserError: the encoder cannot be read.
    """
    config = prepared.spec.config
    if not hasattr(load_module(config.model.module), "embed"):
        return prepared

    def on_encoded(share: float) -> None:
        on_progress(prepared.run, share * config.training.epochs, float("nan"))

    return prepared._replace(vectors=sentence_vectors(prepared.spec.corpus, config, on_encoded))


@contextlib.contextmanager
def claim_run(folder: Path, description: dict[str, Any]) -> Iterator[None]:
    """Claim the folder of a run and write its description.

    Args:
      folder: the run's folder, created if it does not exist.
      description: the content of `config.json`.

    Raises:
      UserError: the folder holds something else, or another process trains there.
    """
    holds_finished(folder, description)
    with claim_folder(folder, is_ours=run_files.is_run(folder)):
        write_json(folder / run_files.CONFIG, description)
        yield


def describe(spec: RunSpec) -> dict[str, Any]:
    """Return the content of `config.json`, by which another run in the same folder is noticed."""
    data, source = spec.config.data, source_folder(spec)
    checksums = {}
    if is_tokenizer_file(data.tokens):
        checksums["tokens_checksum"] = file_checksum(Path(data.tokens))
    if data.vectors != "none":
        checksums["vectors_checksum"] = vectors_checksum(data.vectors)
    if data.weights != "none":
        checksums["weights_checksum"] = weights_checksum(data.weights)
    if source is not None:
        checksums["init_from_checksum"] = checkpoints_checksum(source / run_files.CHECKPOINTS)
    refit = {"refit_epochs": spec.refit_epochs} if spec.refit_epochs else {}
    return {
        "hash": config_hash(spec.config),
        "settings": to_dict(spec.config),
        "corpus": spec.corpus.describe(),
        "classes": list(spec.corpus.class_names),
        "folds": spec.folds,
        "fold": spec.fold,
        "repeat": spec.repeat,
    } | (refit | checksums)


def holds_finished(folder: Path, description: dict[str, Any]) -> bool:
    """Return whether the folder holds the described run and it is finished.

    Raises:
      UserError: the folder holds another run.
    """
    if not run_files.is_run(folder):
        return False
    saved = run_files.read_json(folder / run_files.CONFIG)
    with contextlib.suppress(KeyError):  # settings that were added since have their defaults
        saved["settings"] = to_dict(config_from_dict(saved["settings"]))
    first, second = ({**each, "settings": without_places(each["settings"])} for each in (saved, description))
    changed = [change for change in differences(first, second) if not change.startswith(_MAY_DIFFER)]
    if changed:
        raise UserError(
            f"{folder} holds another run ({'; '.join(changed)}); name another --workdir, or pass --overwrite"
        )
    return run_files.is_finished(folder)


def seed_of(spec: RunSpec, stream: str) -> int:
    """Return the seed of a named random stream of a run."""
    return stream_seed(spec.config.seed, stream, repeat_of(spec.config, stream, spec.repeat), spec.fold)


def fresh_state(programs: Programs, prepared: PreparedRun) -> TrainState:
    """Return the state before the first step."""
    spec, texts, source = prepared.spec, prepared.texts, prepared.source
    training = spec.config.training

    def start_from(fresh: dict[str, Any]) -> dict[str, Any]:
        if spec.config.optimizer.max_norm:
            limit_columns(fresh["params"], spec.config.optimizer.max_norm)  # raises UserError if it limits nothing
        fresh = start_from_pretrained(programs.module, spec.config, texts, fresh)
        return fresh if source.run is None else start_from_run(fresh, source.run, texts.vocabulary).variables

    start = Start(
        init_seed=seed_of(spec, "init"),
        dropout_seed=seed_of(spec, "dropout"),
        class_weights=class_weights(prepared),
        num_steps=training.epochs * steps_per_epoch(len(texts.train.labels), training.batch_size),
        takes_steps=not is_fitted_whole(spec.config),
        start_from=start_from,
    )
    return init_state(programs, spec.config, texts.train, texts.shapes.widths, start)


def class_weights(prepared: PreparedRun) -> np.ndarray:
    """Return the weights of the classes, float32 [C]: ones, or N / (C * count) as scikit-learn's "balanced"."""
    counts = label_counts(prepared)
    if prepared.spec.config.training.class_weights == "none":
        return np.ones(len(counts), np.float32)
    return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def label_counts(prepared: PreparedRun) -> np.ndarray:
    """Return the number of training texts of each class, int64 [C]."""
    return np.bincount(prepared.texts.train.labels, minlength=len(prepared.spec.corpus.class_names))
