"""A trained run, as `train` returns it to Python: its scores and its predictions."""

import functools
import html
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from research.data.corpora import Corpus, as_corpus, load
from research.errors import UserError, in_python_words
from research.evaluation.metrics import METRICS, evaluate_predictions
from research.parallel.interruptible import run_interruptibly
from research.progress import python_reporting
from research.reporting.refit_evidence import NOT_TESTED, describe_evidence, describe_no_texts, read_evidence
from research.reporting.run_result import problem_of_run
from research.runs import run_files
from research.runs.held_out import choose_texts, describe_seen, labels_of
from research.runs.restore import RestoredRun, restore
from research.runs.train import OnProgress

_LOG = logging.getLogger("research")
_SHOWN = ("accuracy", "macro_f1", "log_loss")


class TrainedRun:
    """A run and its folder. It is accepted wherever a path is: `restore(run)`, `run / "metrics.jsonl"`.

    Attributes:
      folder: the run's folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def is_tested(self) -> bool:
        """Whether texts were held out as test."""
        return (self.folder / run_files.PREDICTIONS).exists()

    @functools.cached_property
    def scores(self) -> dict[str, float]:
        """Metric -> score on the held-out texts: fractions, and nats for `log_loss`.

        Raises:
          UserError: no text was held out.
        """
        if not self.is_tested:
            raise UserError(describe_no_texts(self.folder, self.model.corpus_name, "test"))
        predictions = run_files.read_predictions(self.folder)
        return evaluate_predictions(predictions.label, predictions.probabilities)

    @functools.cached_property
    def model(self) -> RestoredRun:
        """The restored model."""
        return restore(self.folder)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.model.class_names

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return the class probabilities of texts, float32 [N, C]; columns in the order of `class_names`."""
        return self.model.predict_proba(texts)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return self.model.predict(texts)

    def evaluate(self, corpus: Corpus | Path | str) -> dict[str, float]:
        """Return metric -> score on a corpus.

        Of the corpus that the run was trained on, only the texts that were held out are scored. Of another corpus it is
        the test split, or all texts if it has no splits.

        Raises:
          UserError: the corpus cannot be read, has no test split, or has a label that the run does not know; or nothing
            of it was held out.
        """
        is_path = isinstance(corpus, (str, Path))  # of a file, some classes may be absent
        corpus = load(corpus, classes=self.class_names) if is_path else as_corpus(corpus)
        corpus = self.model.as_trained_on(corpus)
        chosen, _ = choose_texts(self.model, corpus, "test")
        if not len(chosen):
            raise UserError(describe_no_texts(self.folder, corpus.name, "test"))
        if not self.model.is_own_corpus(corpus):
            sentence, has_seen = describe_seen(self.model, corpus, chosen)
            if has_seen:
                _LOG.warning(sentence)
        labels = labels_of(self.model, corpus)[chosen]
        return evaluate_predictions(labels, self.predict_proba([corpus.texts[i] for i in chosen]))

    def __repr__(self) -> str:
        if not self.is_tested:
            evidence = read_evidence(run_files.read_record(self.folder))
            sentences = [NOT_TESTED, *describe_evidence(evidence)] if evidence else ["not tested"]
            return f"{self.folder}: {' '.join(sentences)}"
        shown = ", ".join(f"{METRICS[metric].title} {self.scores[metric]:.4f}" for metric in _SHOWN)
        problem = problem_of_run(self.folder)
        note = "" if problem is None else in_python_words(f"\nnot trained: {problem.why}. May help: {problem.mend}")
        return f"{self.folder}: test {shown}{note}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"


def train_showing_progress(name: str, epochs: int, train_to: Callable[[OnProgress], object], *, is_shown: bool) -> None:
    """Train a run and show its progress. Ctrl-C stops it between two steps, so that it can be resumed.

    Args:
      name: the name that progress shows.
      epochs: the largest number of epochs.
      train_to: called with the progress callback of the run; it trains.
      is_shown: whether to show the progress.
    """
    with python_reporting(epochs, "epochs", is_shown=is_shown) as reporter:

        def job(check: Callable[[], None]) -> None:
            def on_progress(run: object, done: float, loss: float) -> None:
                check()
                reporter.progress(name, done, loss)

            train_to(on_progress)

        run_interruptibly(job)
