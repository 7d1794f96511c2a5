"""Restore a run from its folder alone: settings, tokenizer and best checkpoint."""

import contextlib
import copy
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import jax
import numpy as np
from flax import linen as nn

from research.data.audit import clean, reload_corpus
from research.data.batches import Batch
from research.data.corpora import Corpus
from research.data.splits import Split
from research.data.tokenizer import Encoded, encode_texts, split_text
from research.data.tokenizer_files import unknown_id
from research.errors import UserError
from research.models import config_from_dict, guesser_shapes
from research.runs import run_files
from research.runs.averaged_runs import AveragedRuns, find_finished_runs, most_probable_labels, require_no_comparison
from research.runs.checkpoints import Checkpoints
from research.runs.code_hash import predicts_by_other_code
from research.runs.texts import RunSpec, split_of
from research.settings import is_pretraining, leaves
from research.settings_validation import check_value
from research.training.programs import Programs, evaluate_runs, evaluation_batches, programs_for
from research.training.sharding import ONE_DEVICE

_LOG = logging.getLogger("research")
# The required fields of a run's config.json.
_REQUIRED = ("settings", "hash", "classes", "corpus.name", "corpus.checksum", "folds", "fold", "repeat", "widths")


class RestoredModel:
    """The settings, vocabulary and variables of a run, with labels or without; made by `restore_source`.

    Attributes:
      folder: the run's folder.
      description: the content of its `config.json`.
      has_changed_code: whether the code that predicts has changed since the run was trained.
    """

    def __init__(self, folder: Path, description: dict[str, Any]):
        from tokenizers import Tokenizer  # imported here, so that training imports without it

        present = description.keys() | {f"corpus.{name}" for name in description.get("corpus", ())}
        if missing := [name for name in _REQUIRED if name not in present]:
            raise UserError(f"{folder / run_files.CONFIG}: no {missing[0]!r}, expected the config.json of a run")
        try:
            self.config = config_from_dict(description["settings"])
            for name, field, value in leaves(self.config):
                check_value(f"config.{name}", field, value)
        except UserError as error:
            raise UserError(f"{folder / run_files.CONFIG}: {error.message}") from error
        self.folder = folder
        self.description = description
        self.class_names: tuple[str, ...] = tuple(description["classes"])
        self.hash: str = description["hash"]
        self._corpus: dict[str, Any] = description["corpus"]
        self.corpus_name: str = self._corpus["name"]
        self._widths: tuple[int, ...] = tuple(description["widths"])
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / run_files.TOKENIZER))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{folder / run_files.TOKENIZER}: cannot be read ({error})") from error
        self.vocabulary: dict[str, int] = self._tokenizer.get_vocab()  # word -> id
        _require_recorded(folder, run_files.TOKENIZER, "words", len(self.vocabulary))
        if max(self.vocabulary.values(), default=0) >= self.config.data.vocab_size:
            raise UserError(
                f"{folder / run_files.TOKENIZER}: its ids exceed the model's vocabulary, expected the run's own file"
            )
        self.has_changed_code = predicts_by_other_code(_read_intact_record(folder), self.config.model.module)
        if self.has_changed_code:
            _warn_of_changed_code(folder)
        # Compiled functions expect a leading axis of runs.
        self._variables = jax.device_put(jax.tree.map(lambda leaf: leaf[None], self._restore_variables(folder)))

    def _shapes(self) -> Any:
        """Return the shapes of the model's variables."""
        return guesser_shapes(self.config)

    def _restore_variables(self, folder: Path) -> dict[str, Any]:
        """Return the variables of the best epoch. Only they are read, so any version may have saved the state."""
        folder = folder / run_files.CHECKPOINTS
        if not folder.is_dir():
            raise UserError(f"{folder}: no checkpoints, expected a run that reached its first save")
        with Checkpoints(folder, read_only=True) as checkpoints:
            step = checkpoints.best_step()
            if step is None:
                raise UserError(f"{folder}: empty, expected a run that reached its first save")
            saved = checkpoints.restore(step)
        _require_recorded(folder.parent, run_files.CHECKPOINTS, "best_epoch", _epoch_of(folder.parent, step))
        variables = {"params": saved["params"], **saved.get("constants", {})}
        if jax.tree.map(np.shape, variables) != jax.tree.map(np.shape, self._shapes()):
            raise UserError(
                f"{folder / str(step)} holds other parameters, expected those of the model in {run_files.CONFIG}"
            )
        return variables

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the best epoch: parameters, and constants that were fitted before the first step."""
        return jax.tree.map(lambda leaf: leaf[0], self._variables)

    def is_own_corpus(self, corpus: Corpus) -> bool:
        """Return whether the run was trained on this corpus, compared by checksum."""
        return corpus.checksum == self._corpus["checksum"]

    def as_trained_on(self, corpus: Corpus) -> Corpus:
        """Return the corpus cleaned as for training if it is the run's own one; otherwise return it unchanged."""
        if not self._corpus.get("cleaned"):
            return corpus
        cleaned = clean(corpus, self.class_names)
        return cleaned if self.is_own_corpus(cleaned) else corpus

    @property
    def is_refit(self) -> bool:
        """Whether the run was trained on all texts of its corpus, so that nothing was held out."""
        return bool(self.description.get("refit_epochs"))

    def own_corpus(self) -> Corpus:
        """Return the corpus that the run was trained on, read from its original place.

        Raises:
          UserError: the corpus is gone or has changed.
        """
        return reload_corpus(self._corpus, self.class_names)

    def split(self, corpus: Corpus) -> Split:
        """Return the split of the run's own corpus into train, validation and test."""
        return split_from_description(self.description, corpus)


@functools.cache
def _warn_of_changed_code(folder: Path) -> None:
    """Warn once, however often the run is restored."""
    _LOG.warning("%s: the code of its model has changed since it was trained; predictions may differ", folder)


def _epoch_of(folder: Path, step: int) -> int | None:
    """Return the epoch that ended with a step; None if the metrics do not say it."""
    records = []
    with contextlib.suppress(UserError):
        records = run_files.read_metrics(folder)
    return next((r["epoch"] for r in records if r["split"] != "test" and r["step"] == step), None)


def _require_recorded(folder: Path, part: str, name: str, value: Any) -> None:
    """Raise UserError if a finished run recorded another value than the one read from a part of its folder."""
    record = _read_intact_record(folder)
    if record.get("status") == "done" and value is not None and record.get(name, value) != value:
        raise UserError(
            f"{folder / part}: {name} {value}, expected {record[name]} as {run_files.RECORD} says; it was damaged, or "
            "belongs to another run"
        )


def _read_intact_record(folder: Path) -> dict[str, Any]:
    """Return a run's `record.json`; empty if it is missing or damaged, because a run can be restored without it."""
    with contextlib.suppress(UserError):
        return run_files.read_record(folder)
    return {}


def split_from_description(description: dict[str, Any], corpus: Corpus) -> Split:
    """Return the split of a run's own corpus, from the content of the run's `config.json`."""
    config = config_from_dict(description["settings"])
    place = (description[name] for name in ("folds", "fold", "repeat"))
    return split_of(RunSpec(config, corpus, *place, description.get("refit_epochs", 0)))


class RestoredRun(RestoredModel):
    """A trained classifier that predicts; made by `restore`."""

    @functools.cached_property
    def _programs(self) -> Programs:
        return programs_for(self.config, len(self.class_names))

    def _shapes(self) -> Any:
        text = np.zeros((1, self._widths[0]), np.int32), np.zeros(1, np.int32)
        return jax.eval_shape(self._programs.init, jax.eval_shape(jax.random.key, 0), *text)

    @functools.cached_property
    def unknown_id(self) -> int | None:
        """The id of all tokens that the vocabulary lacks; None if the tokenizer knows every text."""
        return unknown_id(self._tokenizer)

    @property
    def module(self) -> nn.Module:
        """The classifier's module."""
        return self._programs.module

    @property
    def every_width(self) -> tuple[int, ...]:
        """The widths of batches that programs can be compiled for in advance; any text fits into the last."""
        longest = self.config.data.max_length
        return *(width for width in self._widths if width < longest), longest

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return texts as token ids."""
        return encode_texts(self._tokenizer, texts, self.config.data, self.vocabulary)

    def words(self, text: str) -> list[tuple[str, int]]:
        """Return the tokens of a text that the model reads, as they are spelt in the text, with their ids."""
        return split_text(self._tokenizer, text, self.config.data)

    def on(self, device: jax.Device) -> "RestoredRun":
        """Return the same run with its variables on a device, where it then predicts."""
        other = copy.copy(self)
        other._variables = jax.device_put(self._variables, device)
        return other

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return the class probabilities of texts.

        Args:
          texts: N texts; empty texts are allowed.

        Returns:
          float32 [N, C], columns in the order of `class_names`.

        Raises:
          UserError: `texts` is not a sequence of strings.
        """
        if isinstance(texts, str):
            raise UserError("texts is one text, expected a list of texts")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"texts[{i}] is not a string, expected a list of texts")
        encoded = self.encode(texts)
        batches = evaluation_batches([encoded], self._widths, ONE_DEVICE)
        _, probabilities = evaluate_runs(self._programs, self._variables, batches, [len(texts)])
        return probabilities[0]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return most_probable_labels(self, texts)

    def probabilities(self, batch: Batch) -> np.ndarray:
        """Return the class probabilities of a padded batch, float32 [B, C]. Each new shape is compiled."""
        _, probabilities = self._programs.evaluate(self._variables, jax.tree.map(lambda array: array[None], batch))
        return np.asarray(probabilities)[0]


@overload
def restore(folder: Path | str) -> RestoredRun: ...
@overload
def restore(folder: Path | str, variant: str) -> AveragedRuns: ...
def restore(folder: Path | str, variant: str = "") -> RestoredRun | AveragedRuns:
    """Restore a classifier from its run folder, on any device.

    Args:
      folder: the folder of a run; with `variant`, that of a comparison.
      variant: the name of a variant; its finished runs then predict together.

    Raises:
      UserError: the folder holds no run, a damaged run, a run without a checkpoint, or one trained without labels. With
        `variant`: the folder holds no comparison with finished runs of it.
    """
    if variant:
        return AveragedRuns([restore(run) for run in find_finished_runs(Path(folder), variant)])
    require_no_comparison(Path(folder))
    run = restore_source(folder)
    if not isinstance(run, RestoredRun):
        raise UserError(
            f"{folder} was pre-trained without labels and predicts none; to start a classifier from it, "
            f"use --config.init_from={folder}"
        )
    return run


def restore_source(folder: Path | str) -> RestoredModel:
    """Restore a run that another run may start from: a classifier or a pre-trained model.

    Raises:
      UserError: the folder holds no run, a damaged run, or a run without a checkpoint.
    """
    path = Path(folder) / run_files.CONFIG
    description = run_files.read_json(path)
    if isinstance(description, dict) and "foreign" in description:
        raise UserError(f"{folder} holds the predictions of a model that is not of this project, and not the model")
    parts = [description.get(name, {}) for name in ("settings", "corpus")] if isinstance(description, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path}: no object with settings, expected the config.json of a run")
    if is_pretraining(description.get("settings", {})):
        return RestoredModel(Path(folder), description)
    return RestoredRun(Path(folder), description)
