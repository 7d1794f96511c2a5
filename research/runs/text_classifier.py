"""A text classifier with the interface of scikit-learn: `fit`, `predict`, `predict_proba`, `score`."""

import contextlib
import copy
import dataclasses
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.data.batches import epochs_nearest_to, steps_per_epoch
from research.data.corpora import Corpus, make_corpus
from research.data.reader import Row
from research.errors import UserError, expected
from research.runs import run_files
from research.runs.claim import require_free
from research.runs.estimator_base import BaseEstimator, ClassifierMixin, NotFittedError
from research.runs.estimator_inputs import (
    can_write_labels,
    class_names_of,
    read_labels,
    read_texts,
    saved_labels,
    write_labels,
)
from research.runs.named_configs import named_config
from research.runs.prepare import Refit, Run
from research.runs.restore import RestoredRun, restore
from research.runs.train import train_run
from research.settings import Config, is_fitted_whole, leaves, names_read
from research.settings_validation import validate


@dataclasses.dataclass(eq=False, repr=False)
class TextClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of texts for scikit-learn's tools: pipelines, `GridSearchCV`, `cross_val_score`, `clone`, joblib.

    X is a list, a tuple, an array or a pandas Series of strings. Labels may be integers, booleans, strings or other
    values that can be sorted; `predict` returns them as they were given.

    `fit` trains a run, as `train` does, and holds out part of the texts to choose the epoch. Nothing is held out where
    no epoch is chosen: by `linear`, which is fitted at once, by `bert`, whose number of epochs is fixed, and with
    `validation_fraction=0`. No text is held out as test.

    scikit-learn's `check_estimator` skips estimators that read texts, because its checks pass matrices of numbers.
    `tests/test_classifier.py` turns the numbers into words and runs its checks, but for those that do not apply: there
    are no features to count or name, a text is never the wrong shape, and NaN, complex or sparse matrices are no texts.

    Args:
      variant: the name of a variant, such as "lstm", "cnn:static" or a config file; or a `Config`, which is copied.
      epochs: the largest number of epochs. None, here and below: as the variant's config says.
      learning_rate: the highest learning rate of the schedule.
      batch_size: the number of texts in a step.
      validation_fraction: the share of the texts that is held out to choose the epoch; 0 holds out none and keeps the
        last epoch.
      refit: whether to train once more, on all texts, for the number of epochs that was chosen. It takes twice as long.
      seed: the base of every random stream.
      settings: other settings by their names, such as `{"model.hidden_size": 64, "data.max_length": 200}`.
      folder: where to keep the run, so that an interrupted `fit` resumes; it holds the run of one `fit`. None: in a
        temporary folder, removed with the classifier.

    Attributes:
      classes_: the labels, sorted; the columns of `predict_proba`.
      run_: the restored run. Its `folder` is a run folder as `train` writes it.
    """

    variant: Config | Path | str = "lstm"
    _: dataclasses.KW_ONLY
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    validation_fraction: float | None = None
    refit: bool = False
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    folder: Path | str | None = None

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> "TextClassifier":
        """Train on texts and their labels, and return the classifier.

        Args:
          X: N texts.
          y: N labels.

        Raises:
          UserError: a text, a label or a setting is wrong, there are too few texts, or `folder` holds something else.
          Diverged: the loss is no longer finite.
        """
        texts = read_texts(X)
        classes, labels = read_labels(y, len(texts))
        names = class_names_of(classes)
        rows = [Row(text, names[c], "", f"X[{i}]") for i, (text, c) in enumerate(zip(texts, labels, strict=True))]
        corpus = make_corpus("texts", {"all": rows}, names)
        config = self._resolve_config()
        with contextlib.ExitStack() as cleanup:
            folder = _temporary_folder(cleanup) if self.folder is None else Path(self.folder)
            self._train(config, corpus, folder)
            write_labels(folder, classes)
            self._keep(folder, classes, cleanup)
        return self

    def _resolve_config(self) -> Config:
        """Return the config with the settings of this classifier; warn of those that have no effect."""
        config = copy.deepcopy(self.variant) if isinstance(self.variant, Config) else named_config(str(self.variant))
        if not isinstance(self.settings, (Mapping, type(None))):
            kind = type(self.settings).__name__
            raise UserError(f'settings is a {kind}, expected a mapping such as {{"model.hidden_size": 64}}')
        chosen = {
            "training.epochs": self.epochs,
            "optimizer.learning_rate": self.learning_rate,
            "training.batch_size": self.batch_size,
            "training.validation_fraction": self.validation_fraction or None,
            "seed": self.seed,
            **(self.settings or {}),
        }
        chosen = {name: value for name, value in chosen.items() if value is not None}
        for name, value in chosen.items():
            _change(config, name, value)
        for name in sorted(chosen.keys() - names_read(validate(config))):
            warnings.warn(f"{name} has no effect on this variant", stacklevel=3)
        return config

    def _train(self, config: Config, corpus: Corpus, folder: Path) -> None:
        """Train the run, or the two runs of a refit; the folder holds the last one."""
        chooses_epoch = config.training.select != "last" and not is_fitted_whole(config)
        if self.validation_fraction == 0 or not chooses_epoch:
            epochs = 1 if is_fitted_whole(config) else config.training.epochs
            train_run(Run(config, folder, refit=Refit(epochs)), corpus)
        elif not self.refit:
            train_run(Run(config, folder), corpus, folds=0)
        else:
            with contextlib.ExitStack() as cleanup:
                chosen = train_run(Run(config, _temporary_folder(cleanup)), corpus, folds=0)
                epochs = self._epochs_on_all(chosen, config, corpus)
            train_run(Run(config, folder, refit=Refit(epochs)), corpus)

    @staticmethod
    def _epochs_on_all(chosen: Path, config: Config, corpus: Corpus) -> int:
        """Return the epochs that take about as many steps on all texts as the run that chose them took on its part."""
        record, batch_size = run_files.read_record(chosen), config.training.batch_size
        steps = record["best_epoch"] * steps_per_epoch(record["texts"]["train"], batch_size)
        return epochs_nearest_to(steps, len(corpus), batch_size)

    def _keep(self, folder: Path, classes: np.ndarray, cleanup: contextlib.ExitStack) -> None:
        """Keep a trained run and its labels. `cleanup` is called when the restored run is not needed any more."""
        self.run_: RestoredRun = restore(folder)
        self.classes_ = classes
        weakref.finalize(self.run_, cleanup.pop_all().close)

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """Return the class probabilities of N texts, float32 [N, C], columns in the order of `classes_`.

        Raises:
          UserError: X is no sequence of texts.
          NotFittedError: `fit` was not called.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )
        return self.run_.predict_proba(read_texts(X))

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """Return the most probable labels of N texts, an array [N] with the type of the labels.

        Raises:
          UserError, NotFittedError: as in `predict_proba`.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def save(self, folder: Path | str) -> Path:
        """Copy the run to a new folder and return it. It is a run folder: `load`, `predict` and `export` read it.

        Raises:
          UserError: the folder holds something else, or the labels are of a type that only pickle keeps.
          NotFittedError: `fit` was not called.
        """
        self.predict_proba([])  # raises if there is no run
        folder = Path(folder)
        require_free(folder)
        if not can_write_labels(self.classes_):
            kind = type(self.classes_.tolist()[0]).__name__
            raise UserError(f"labels of type {kind} cannot be saved, expected strings, numbers or booleans; use pickle")
        ignored = shutil.ignore_patterns(run_files.LOCK, "*.tmp")
        shutil.copytree(self.run_.folder, folder, ignore=ignored, dirs_exist_ok=True)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> "TextClassifier":
        """Return the classifier in a run folder of this project, whichever program has written it.

        The labels of a run that no `TextClassifier` has trained are integers if all names of classes are, else names.

        Raises:
          UserError: the folder holds no run that can be restored.
        """
        run = restore(folder)
        classifier = cls(run.config)
        classifier.run_, classifier.classes_ = run, saved_labels(Path(folder), run.class_names)
        return classifier

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a trained run."""
        return hasattr(self, "run_")

    def __sklearn_tags__(self) -> Any:
        """Return the tags for scikit-learn: X is a sequence of strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle: the files of the run in place of its folder, which may be a temporary one."""
        state = dict(self.__dict__)
        if "run_" in state:
            folder = state.pop("run_").folder
            state["_files"] = {str(path.relative_to(folder)): path.read_bytes() for path in _files_of(folder)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of pickle; the run gets a temporary folder of its own."""
        state = dict(state)
        files = state.pop("_files", None)
        self.__dict__.update(state)
        if files is None:
            return
        with contextlib.ExitStack() as cleanup:
            folder = _temporary_folder(cleanup)
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            self._keep(folder, self.classes_, cleanup)


def _temporary_folder(cleanup: contextlib.ExitStack) -> Path:
    """Return the path of a new run folder, which `cleanup` removes."""
    return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="text-classifier-"))) / "run"


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a run."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != run_files.LOCK]


def _change(config: Config, name: str, value: Any) -> None:
    """Change a setting by its dotted name. `validate` then checks the value."""
    known = [field for field, _, _ in leaves(config)]
    if name not in known:
        raise UserError(f"settings has {name!r}, which is no setting of the variant, {expected(name, known)}")
    part, _, field = name.rpartition(".")
    target = getattr(config, part) if part else config
    value = value.item() if isinstance(value, np.generic) else value
    is_integer_for_float = type(value) is int and isinstance(getattr(target, field), float)
    setattr(target, field, float(value) if is_integer_for_float else value)
