"""A run restored from its folder alone: settings, tokenizer and best checkpoint."""

import contextlib
import copy
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research.data.audit import clean, reload_corpus
from research.data.batches import Batch
from research.data.corpora import Corpus
from research.data.splits import Split
from research.data.tokenizer import Encoded, encode_texts, split_text
from research.data.unlabelled_texts import pretraining_split
from research.errors import UserError
from research.models import config_from_dict, guesser_shapes
from research.runs import run_files
from research.runs.checkpoints import Checkpoints
from research.runs.code_hash import predicts_by_other_code
from research.settings import is_pretraining, leaves, repeat_of
from research.settings_validation import check_value
from research.training.programs import Programs, evaluate_runs, evaluation_batches, programs_for
from research.training.sharding import ONE_DEVICE

_LOG = logging.getLogger("research")
# What is read of a run's config.json.
_DESCRIBED = ("settings", "hash", "classes", "corpus.name", "corpus.checksum", "folds", "fold", "repeat", "widths")


class Restored:
    """What a run has learnt, with labels or without them; made by `restore` or `restore_source`."""

    def __init__(self, folder: Path, described: dict[str, Any]):
        from tokenizers import Tokenizer  # imported here, so that training imports without it

        there = described.keys() | {f"corpus.{name}" for name in described.get("corpus", ())}
        if missing := [name for name in _DESCRIBED if name not in there]:
            raise UserError(f"{folder / run_files.CONFIG}: no {missing[0]!r}, expected the config.json of a run")
        try:
            self.config = config_from_dict(described["settings"])
            for name, field, value in leaves(self.config):
                check_value(f"config.{name}", field, value)
        except UserError as error:
            raise UserError(f"{folder / run_files.CONFIG}: {error}") from error
        self.folder = folder
        self.described = described
        self.class_names: tuple[str, ...] = tuple(described["classes"])
        self.hash: str = described["hash"]
        self._corpus: dict[str, Any] = described["corpus"]
        self.corpus_name: str = self._corpus["name"]
        self._widths: tuple[int, ...] = tuple(described["widths"])
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / run_files.TOKENIZER))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{folder / run_files.TOKENIZER}: cannot be read ({error})") from error
        self.vocabulary: dict[str, int] = self._tokenizer.get_vocab()  # word -> id
        _require_own(folder, run_files.TOKENIZER, "words", len(self.vocabulary))
        if max(self.vocabulary.values(), default=0) >= self.config.data.vocab_size:
            raise UserError(
                f"{folder / run_files.TOKENIZER} has other ids than the model has words, expected the run's own"
            )
        self.is_of_other_code = predicts_by_other_code(_record(folder), self.config.model.module)
        if self.is_of_other_code:
            _say_other_code(folder)
        # With the leading axis of runs that compiled functions have.
        self._variables = jax.device_put(jax.tree.map(lambda leaf: leaf[None], self._restore_variables(folder)))

    def _shapes(self) -> Any:
        """Of the variables that the model has."""
        return guesser_shapes(self.config)

    def _restore_variables(self, folder: Path) -> dict[str, Any]:
        """Of the best epoch: nothing else of its state is looked at, so that it may be any version's."""
        folder = folder / run_files.CHECKPOINTS
        if not folder.is_dir():
            raise UserError(f"{folder}: no checkpoints, expected a run that reached its first save")
        with Checkpoints(folder, read_only=True) as checkpoints:
            step = checkpoints.best_step()
            if step is None:
                raise UserError(f"{folder}: empty, expected a run that reached its first save")
            saved = checkpoints.restore(step)
        _require_own(folder.parent, run_files.CHECKPOINTS, "best_epoch", _epoch_of(folder.parent, step))
        variables = {"params": saved["params"], **saved.get("constants", {})}
        if jax.tree.map(np.shape, variables) != jax.tree.map(np.shape, self._shapes()):
            raise UserError(
                f"{folder / str(step)} holds other parameters, expected those of the model in {run_files.CONFIG}"
            )
        return variables

    @property
    def variables(self) -> dict[str, Any]:
        """Of the best epoch: parameters, and what was fitted or drawn before the first step."""
        return jax.tree.map(lambda leaf: leaf[0], self._variables)

    def is_own_corpus(self, corpus: Corpus) -> bool:
        """Whether the run was trained on this very corpus."""
        return corpus.checksum == self._corpus["checksum"]

    def as_trained_on(self, corpus: Corpus) -> Corpus:
        """The corpus cleaned, where it is the run's own one and was cleaned before training; else as it is."""
        if not self._corpus.get("cleaned"):
            return corpus
        cleaned = clean(corpus, self.class_names)
        return cleaned if self.is_own_corpus(cleaned) else corpus

    def own_corpus(self) -> Corpus:
        """The corpus that the run was trained on, from where it was.

        Raises:
          UserError: it is not there any more, or is another one now.
        """
        return reload_corpus(self._corpus, self.class_names)

    def split(self, corpus: Corpus) -> Split:
        """The split of the run's own corpus: what it trained on, chose on, and never saw."""
        return split_of_description(self.described, corpus)


@functools.cache
def _say_other_code(folder: Path) -> None:
    """Once for all that restores the run."""
    _LOG.warning("%s: the code that it predicts by has changed since; it may predict otherwise than it did", folder)


def _epoch_of(folder: Path, step: int) -> int | None:
    """That ended with a step, where it is known."""
    records = []
    with contextlib.suppress(UserError):
        records = run_files.read_metrics(folder)
    return next((r["epoch"] for r in records if r["split"] == "validation" and r["step"] == step), None)


def _require_own(folder: Path, part: str, name: str, found: Any) -> None:
    """Raises UserError where a finished run has recorded another value than is found in a part of it."""
    record = _record(folder)
    if record.get("status") == "done" and found is not None and record.get(name, found) != found:
        what = f"{name} {found}, expected {record[name]} as {run_files.RECORD} says"
        raise UserError(f"{folder / part}: {what}; it was damaged, or is another run's")


def _record(folder: Path) -> dict[str, Any]:
    """A run's `record.json`; empty where it is damaged, since what is needed to restore the run stands elsewhere."""
    with contextlib.suppress(UserError):
        return run_files.read_record(folder)
    return {}


def split_of_description(described: dict[str, Any], corpus: Corpus) -> Split:
    """The split of its own corpus that a run with this `config.json` has."""
    config = config_from_dict(described["settings"])
    which = {name: described[name] for name in ("folds", "fold", "repeat")}
    which["repeat"] = repeat_of(config, "split", which["repeat"])
    return pretraining_split(corpus, config.seed, **which, train_size=config.data.train_size)


class RestoredRun(Restored):
    """A trained variant that predicts; made by `restore`."""

    @functools.cached_property
    def _programs(self) -> Programs:
        return programs_for(self.config, len(self.class_names))

    def _shapes(self) -> Any:
        text = np.zeros((1, self._widths[0]), np.int32), np.zeros(1, np.int32)
        return jax.eval_shape(self._programs.init, jax.eval_shape(jax.random.key, 0), *text)

    @property
    def module(self) -> nn.Module:
        """The variant."""
        return self._programs.module

    @property
    def every_width(self) -> tuple[int, ...]:
        """Widths of batches for which programs may be compiled once and for all: the last holds any text."""
        longest = self.config.data.max_length
        return *(width for width in self._widths if width < longest), longest

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Texts as token ids."""
        return encode_texts(self._tokenizer, texts, self.config.data, self.vocabulary)

    def words(self, text: str) -> list[tuple[str, int]]:
        """The tokens that are read of a text, as they are written there, with their ids."""
        return split_text(self._tokenizer, text, self.config.data)

    def on(self, device: jax.Device) -> "RestoredRun":
        """The same run, predicting on this device."""
        other = copy.copy(self)
        other._variables = jax.device_put(self._variables, device)
        return other

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Class probabilities.

        Args:
          texts: N texts; an empty one is a text like any other.

        Returns:
          float32 [N, C], columns in the order of `class_names`.
        """
        if isinstance(texts, str):
            raise UserError("texts is one text, expected a list of texts")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"texts[{i}] is not a string, expected a list of texts")
        encoded = self.encode(texts)
        batches = evaluation_batches([encoded], self._widths, ONE_DEVICE)
        return evaluate_runs(self._programs, self._variables, batches, [len(texts)])[1][0]

    def probabilities(self, batch: Batch) -> np.ndarray:
        """float32 [B, C] of one padded batch, whose shape is compiled for if it is new."""
        of_one_run = jax.tree.map(lambda array: array[None], batch)
        return np.asarray(self._programs.evaluate(self._variables, of_one_run)[1])[0]


def restore(folder: Path | str) -> RestoredRun:
    """Restores a run from its folder, on whatever device there is.

    Raises:
      UserError: the folder holds no run that reached its first save, or a damaged one, or one without labels.
    """
    run = restore_source(folder)
    if not isinstance(run, RestoredRun):
        raise UserError(f"{folder} was pre-trained without labels and predicts none; --config.init_from starts from it")
    return run


def restore_source(folder: Path | str) -> Restored:
    """What another run may start from: a classifier, or what was pre-trained.

    Raises:
      UserError: the folder holds no run that reached its first save, or a damaged one.
    """
    described = run_files.read_json(Path(folder) / run_files.CONFIG)
    if not isinstance(described, dict) or not all(
        isinstance(described.get(n, {}), dict) for n in ("settings", "corpus")
    ):
        raise UserError(
            f"{Path(folder) / run_files.CONFIG}: no object with settings, expected the config.json of a run"
        )
    kind = Restored if is_pretraining(described.get("settings", {})) else RestoredRun
    return kind(Path(folder), described)
