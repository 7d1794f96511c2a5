"""Predict with all runs of a variant of a comparison: the mean of their probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from research.errors import UserError
from research.runs import run_files
from research.runs.plan_file import read_plan, repeats_of


class Classifier(Protocol):
    """A restored run, see `restore.RestoredRun`."""

    folder: Path
    class_names: tuple[str, ...]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return the class probabilities of texts, float32 [N, C]."""


class AveragedRuns:
    """Several trained classifiers that predict together; made by `restore`.

    The mean of the probabilities of an ensemble has at most the mean log loss of its members, because the logarithm is
    concave.

    Attributes:
      runs: the restored runs.
      class_names: the names of the columns of `predict_proba`, equal for all runs.
    """

    def __init__(self, runs: Sequence[Classifier]):
        self.runs = tuple(runs)
        self.class_names = self.runs[0].class_names
        for run in self.runs:
            if run.class_names != self.class_names:
                raise UserError(
                    f"{run.folder} has the classes {', '.join(run.class_names)}, expected "
                    f"{', '.join(self.class_names)}, as {self.runs[0].folder} has"
                )

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return the class probabilities of texts, the mean over the runs.

        Args:
          texts: N texts; empty texts are allowed.

        Returns:
          float32 [N, C], columns in the order of `class_names`.

        Raises:
          UserError: `texts` is not a sequence of strings.
        """
        total = sum(run.predict_proba(texts).astype(np.float64) for run in self.runs)
        return (total / len(self.runs)).astype(np.float32)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return most_probable_labels(self, texts)


def most_probable_labels(classifier: Classifier | AveragedRuns, texts: Sequence[str]) -> list[str]:
    """Return the label of the largest probability for each text."""
    return [classifier.class_names[i] for i in classifier.predict_proba(texts).argmax(axis=1)]


def find_finished_runs(comparison: Path, variant: str) -> list[Path]:
    """Return the folders of the finished runs of a variant, over all folds and repeats.

    Raises:
      UserError: the folder holds no comparison, or the comparison no such variant or none of its runs is finished.
    """
    plan = read_plan(comparison)
    if variant not in plan["variants"]:
        raise UserError(f"{comparison} has no variant {variant!r}, expected one of {', '.join(plan['variants'])}")
    if "foreign" in plan["variants"][variant]:
        raise UserError(
            f"{comparison} holds the predictions of {variant}, a model that is not of this project, and not the model"
        )
    folder = comparison / plan["variants"][variant]["folder"]
    places = [(fold, repeat) for repeat in range(repeats_of(plan, variant)) for fold in range(plan["folds"] or 1)]
    runs = [folder / run_files.run_name(fold, repeat, plan["folds"]) for fold, repeat in places]
    finished = [run for run in runs if run_files.is_finished(run)]
    if not finished:
        raise UserError(f"{comparison} has no finished run of {variant}, expected at least one")
    return finished


def require_no_comparison(folder: Path) -> None:
    """Raise UserError if a folder holds a comparison, of which a variant must be named."""
    if not (folder / run_files.PLAN).exists() or run_files.is_run(folder):
        return
    plan = read_plan(folder)
    first, entry = next(iter(plan["variants"].items()))
    example = folder / entry["folder"] / run_files.run_name(0, 0, plan["folds"])
    raise UserError(
        f"{folder} is a comparison of {', '.join(plan['variants'])}, expected a run of it, such as {example}. "
        f"Only `predict` (`restore` in Python) takes a comparison: with --variant={first}, its runs predict together"
    )
