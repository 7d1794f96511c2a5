"""Describe variants that are not models of this project in a plan, and notice that another one has taken a name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.comparison.foreign_models import describe_model, kind_of, show_model
from research.comparison.prediction_tables import PredictionTable
from research.errors import UserError
from research.runs import run_files
from research.settings import Config, differences

_KINDS = {"": "a model of this project", "model": "a model from Python", "predictions": "a file of predictions"}


class ForeignVariant(NamedTuple):
    """A model that is not of this project, under the name that it has in tables; see docs/other-models.md."""

    name: str
    model: Any = None  # an object with `fit` and `predict_proba`, `decision_function` or `predict`; or None and
    predictions: Path | str | PredictionTable | None = None  # a CSV file that has the predictions for every test text


def describe_foreign(variant: ForeignVariant, split_by: Config, folds: int) -> dict[str, Any]:
    """Return the entry `foreign` of a variant in a plan, as JSON values.

    A model is known by its class and settings, predictions by a checksum for each run.
    """
    split = {"seed": split_by.seed, "varies": split_by.varies, "train_size": split_by.data.train_size}
    table = variant.predictions
    if table is None:
        about = {"kind": "model", "predicts": kind_of(variant.model), "shown": show_model(variant.model)}
        return about | describe_model(variant.model) | {"split_by": split}
    checksums = {run_files.run_name(fold, repeat, folds): table.checksum(repeat, fold) for repeat, fold in table.of_run}
    return {
        "kind": "predictions",
        "predicts": table.kind,
        "source": str(table.file.resolve()),
        "checksums": checksums,
        "split_by": split,
    }


def require_same_kind(folder: Path, name: str, saved: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Raise UserError if a variant with runs is now of another kind: of this project, an object, or a file.

    Args:
      folder: the folder of the comparison.
      name: the name of the variant.
      saved: its entry in the saved plan.
      entry: its entry now.
    """
    before, now = (of.get("foreign", {}).get("kind", "") for of in (saved, entry))
    if before != now:
        raise UserError(
            f"{folder} holds {name} as {_KINDS.get(before, before)}, not {_KINDS[now]}; give it another name, or pass "
            "--overwrite"
        )


def continue_foreign(folder: Path, name: str, saved: Mapping[str, Any], foreign: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a variant that has runs already; its file may have gained repeats since.

    Raises:
      UserError: the model, the predictions or the splits are other ones.
    """
    before, now = ({name: value for name, value in of.items() if name != "shown"} for of in (saved, foreign))
    if now["kind"] == "predictions":
        del before["source"], now["source"]  # the file may be moved
        earlier, checksums = before.get("checksums", {}), now["checksums"]
        now["checksums"] = earlier | checksums
        before["checksums"] = now["checksums"] | earlier
    if changed := differences(before, now):
        is_model = now["kind"] == "model"
        difference = (
            f"another model ({'; '.join(changed)})" if is_model else f"other predictions than {foreign['source']}"
        )
        raise UserError(f"{folder} holds {name} with {difference}; give it another name, or pass --overwrite")
    return dict(foreign) | now | {"source": foreign["source"]}
