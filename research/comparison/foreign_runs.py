"""Make the runs of variants that are not models of this project: fit and ask an object, or take predictions of a file.

The folder of such a run has `config.json`, `predictions.npz` and `record.json`, and no model. They are written at the
end, so an interrupted run leaves nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.atomic_files import make_folder
from research.comparison.foreign_models import ModelOutput, check_model, fit_and_predict
from research.comparison.foreign_variant import ForeignVariant, describe_foreign
from research.comparison.plan import Comparison, Variant
from research.comparison.prediction_tables import read_predictions
from research.data.corpora import Corpus
from research.data.splits import Split, stream_seed
from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.record import write_record
from research.runs.texts import RunSpec, split_of
from research.settings import Config, Data, repeat_of


class ForeignRun(NamedTuple):
    """A run of a variant that is not a model of this project, and the folder to save it in."""

    variant: ForeignVariant
    folder: Path
    fold: int
    repeat: int

    @property
    def command(self) -> str:
        """No command makes this run alone."""
        return ""


def common_split(variants: Sequence[Variant | ForeignVariant], default: Config | None) -> Config:
    """Return a config whose seed, `varies` and `data.train_size` are those of all variants of this project.

    Args:
      variants: the variants.
      default: what holds if there is no variant of this project; None: the default settings.

    Raises:
      UserError: the variants split the corpus differently, so a model from elsewhere would share no split with some.
    """
    configs = [variant.config for variant in variants if isinstance(variant, Variant)] or [default or Config(None)]
    choices = {(config.seed, config.varies, config.data.train_size) for config in configs}
    if len(choices) > 1:
        name = next(variant.name for variant in variants if isinstance(variant, ForeignVariant))
        raise UserError(
            f"the variants differ in seed, varies or data.train_size, so they have no split in common with {name}; "
            f"compare {name} with variants of one split"
        )
    ((seed, varies, train_size),) = choices
    return Config(model=None, seed=seed, varies=varies, data=Data(train_size=train_size))


def resolve_foreign(
    variant: ForeignVariant, corpus: Corpus, split_by: Config, *, folds: int, repeats: int
) -> ForeignVariant:
    """Check the model of a variant, or read its predictions for all runs.

    Raises:
      UserError: the model cannot be fitted and asked, or predictions are missing or wrong.
    """
    if (variant.model is None) == (variant.predictions is None):
        raise UserError(f"{variant.name} has both a model and predictions, or neither, expected one of them")
    if variant.predictions is None:
        check_model(variant.name, variant.model)
        return variant
    runs = [(repeat, fold) for repeat in range(repeats) for fold in range(folds or 1)]
    tests = {(r, fold): split_of(RunSpec(split_by, corpus, folds, fold, r)).test for r, fold in runs}
    return variant._replace(predictions=read_predictions(Path(variant.predictions), corpus, tests))


def make_foreign_run(run: ForeignRun, comparison: Comparison) -> None:
    """Fit and ask a model, or take its predictions, and write the run's folder.

    Raises:
      UserError: the model returns something else than it was asked for.
      Exception: whatever the model raises.
    """
    corpus, split_by = comparison.corpus, comparison.split_by
    split = split_of(RunSpec(split_by, corpus, comparison.folds, run.fold, run.repeat))
    if run.variant.predictions is None:
        place = f"{run.variant.name} {run_files.run_name(run.fold, run.repeat, comparison.folds).replace('-', ' ')}"
        seed = stream_seed(split_by.seed, "init", repeat_of(split_by, "init", run.repeat), run.fold)
        output, seconds = fit_and_predict(run.variant.model, corpus, split, seed=seed, place=place)
    else:
        output, seconds = run.variant.predictions.of_run[run.repeat, run.fold], {}
    _write_run(run, comparison, split, output, seconds)


def _write_run(
    run: ForeignRun, comparison: Comparison, split: Split, output: ModelOutput, seconds: Mapping[str, float]
) -> None:
    corpus, folder = comparison.corpus, run.folder
    make_folder(folder)
    write_json(folder / run_files.CONFIG, _describe_run(run, comparison))
    ids, labels, groups = corpus.ids[split.test], corpus.labels[split.test], corpus.groups[split.test]
    run_files.write_predictions(folder, run_files.Predictions(ids, labels, output.scores, groups, output.kind))
    write_record(
        folder,
        "done",
        run.command,
        seconds=dict(seconds),
        texts={name: len(part) for name, part in split._asdict().items()},
        label_counts=np.bincount(corpus.labels[split.train], minlength=len(corpus.class_names)).tolist(),
        predictions_sha256=run_files.predictions_checksum(folder),
    )


def _describe_run(run: ForeignRun, comparison: Comparison) -> dict[str, Any]:
    """Return the content of `config.json`, by which a run that was copied from elsewhere is noticed."""
    foreign = describe_foreign(run.variant, comparison.split_by, comparison.folds)
    foreign.pop("shown", None)  # for readers of the plan
    if "checksums" in foreign:
        del foreign["source"]  # the file may be moved
        name = run_files.run_name(run.fold, run.repeat, comparison.folds)
        foreign["checksums"] = {name: foreign["checksums"][name]}
    return {
        "foreign": foreign,
        "corpus": comparison.corpus.describe(),
        "classes": list(comparison.corpus.class_names),
        "folds": comparison.folds,
        "fold": run.fold,
        "repeat": run.repeat,
    }
