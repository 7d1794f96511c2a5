"""A run restored from its folder alone: settings, tokenizer and best checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import runs
from research.data.audit import clean
from research.data.corpora import KNOWN, Corpus, load
from research.data.files import Columns
from research.data.splits import Split, split_corpus
from research.data.tokenizer import Encoded, encode_texts
from research.errors import UserError
from research.models import config_from_dict
from research.settings import repeat_of
from research.training.checkpoints import Checkpoints
from research.training.loop import evaluate
from research.training.step import init_state, programs


class RestoredRun:
    """A trained variant that predicts; made by `restore`."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer  # imported here, so that training imports without it

        described = runs.read_json(folder / runs.CONFIG)
        try:
            self.config = config_from_dict(described["settings"])
            self.class_names: tuple[str, ...] = tuple(described["classes"])
            self._corpus: dict = described["corpus"]
            self._split = {name: described[name] for name in ("folds", "fold", "repeat")}
            self._widths: tuple[int, ...] = tuple(described["widths"])
        except KeyError as error:
            raise UserError(f"{folder / runs.CONFIG}: no {error}, expected the config.json of a run") from error
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / runs.TOKENIZER))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{folder / runs.TOKENIZER}: cannot be read ({error})") from error
        self._programs = programs(self.config, len(self.class_names))
        self._variables = self._restore_variables(folder)

    def _restore_variables(self, folder: Path) -> dict:
        if not (folder / runs.CHECKPOINTS).is_dir():
            raise UserError(f"{folder / runs.CHECKPOINTS}: no checkpoints, expected a run that reached its first save")
        nothing = Encoded(np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int32))
        template = jax.eval_shape(lambda: init_state(self._programs, self.config, nothing, self._widths))
        with Checkpoints(folder / runs.CHECKPOINTS, read_only=True) as checkpoints:
            step = checkpoints.best_step()
            if step is None:
                raise UserError(f"{folder / runs.CHECKPOINTS}: empty, expected a run that reached its first save")
            return jax.device_put(checkpoints.restore(step, template).variables)

    @property
    def params(self) -> Any:
        """The parameters of its module."""
        return self._variables["params"]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Texts as token ids."""
        return encode_texts(self._tokenizer, texts, self.config.data)

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Class probabilities.

        Args:
          texts: N texts; an empty one is a text like any other.

        Returns:
          float32 [N, C], columns in the order of `class_names`.
        """
        if isinstance(texts, str):
            raise UserError("predict_proba takes a list of texts, not one text")
        return evaluate(self._programs, self._variables, self.encode(texts), self._widths)[1]

    def is_own_corpus(self, corpus: Corpus) -> bool:
        """Whether the run was trained on this very corpus."""
        return corpus.checksum == self._corpus["checksum"]

    def as_trained_on(self, corpus: Corpus) -> Corpus:
        """The corpus cleaned, where it is the run's own one and was cleaned before training; else as it is."""
        if not self._corpus.get("cleaned"):
            return corpus
        cleaned = clean(corpus)
        return cleaned if self.is_own_corpus(cleaned) else corpus

    def own_corpus(self) -> Corpus:
        """The corpus that the run was trained on, from where it was.

        Raises:
          UserError: it is not there any more, or is another one now.
        """
        source = self._corpus.get("source") or self._corpus["name"]
        if source not in KNOWN and not Path(source).exists():
            raise UserError(f"the run was trained on {source}, which is not there: name it with --corpus")
        corpus = self.as_trained_on(load(source, Columns(*self._corpus.get("columns", ())), self.class_names))
        if not self.is_own_corpus(corpus):
            raise UserError(f"{source} has changed since the run was trained on it: name it with --corpus all the same")
        return corpus

    def split(self, corpus: Corpus) -> Split:
        """The split of the run's own corpus: what it trained on, chose on, and never saw."""
        which = self._split | {"repeat": repeat_of(self.config, "split", self._split["repeat"])}
        return split_corpus(corpus, self.config.seed, **which, train_size=self.config.data.train_size)


def restore(folder: Path | str) -> RestoredRun:
    """Restores a run from its folder, on whatever device there is.

    Raises:
      UserError: the folder holds no finished run, or a damaged one.
    """
    return RestoredRun(Path(folder))
