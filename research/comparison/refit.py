"""Train a variant of a comparison once more, on all texts: the model to use after the comparison has been read.

Nothing is held out, so this model is not tested. What the comparison has measured stands for it: the mean over runs of
the same procedure on fewer texts.

There are no validation texts to stop by, so the comparison also says how long to train: for the median of the epochs
that its runs chose. Goodfellow, Bengio & Courville (2016, section 7.8) describe both ways to train again on all texts:
for as many steps, or for as many passes. We take passes: the number of steps grows with the number of texts. With more
texts, a model takes more steps before it overfits; a learning-rate schedule stays the same in every epoch; and a
variant with a fixed number of epochs keeps it.
"""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.comparison.trained_run import TrainedRun, train_showing_progress
from research.data.audit import clean, reload_corpus
from research.data.corpora import Corpus, as_corpus
from research.errors import UserError
from research.models import config_from_dict
from research.reporting.results import Results, read_results
from research.runs.prepare import Refit, Run
from research.runs.train import OnProgress, RunOptions, train_run
from research.settings import is_fitted_whole


def refit(
    comparison: Path | str,
    variant: str,
    workdir: Path | str,
    *,
    corpus: Corpus | Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainedRun:
    """Train a variant of a comparison on all texts of its corpus, or resume that.

    Args:
      comparison: the folder of the comparison.
      variant: the name of the variant, as the table shows it; empty for the best one by the metric that decides.
      workdir: the folder of the new run, created if it does not exist.
      corpus: the corpus of the comparison; needed only if it cannot be read again from its own place.
      overwrite: whether to remove an earlier run from the folder.
      progress: whether to show the progress, on a terminal or in a notebook.

    Returns:
      the new run. It is a run as any other, but without tested texts; `record.json` keeps under `refit` what the
      comparison says about it.

    Raises:
      UserError: the folder holds no comparison or no finished run of the variant, the corpus is gone or is another one,
        or the workdir holds something else.
      Diverged: as in `train`.
    """
    run, texts = prepare_refit(comparison, variant, workdir, corpus)
    run = run._replace(overwrite=overwrite)

    def train_to(on_progress: OnProgress) -> None:
        train_run(run, texts, options=RunOptions(on_progress=on_progress))

    train_showing_progress(run.refit.evidence["variant"], run.refit.epochs, train_to, is_shown=progress)
    return TrainedRun(run.folder)


def prepare_refit(
    comparison: Path | str, variant: str, workdir: Path | str, corpus: Corpus | Path | str | None = None
) -> tuple[Run, Corpus]:
    """Return the run that `refit` trains, and its corpus. Arguments and errors are those of `refit`."""
    results = read_results(Path(comparison))
    chosen = variant or results.ranked()[0]
    _require_refittable(Path(comparison), results, chosen)
    config = config_from_dict(results.plan["variants"][chosen]["settings"])
    epochs = [row["best_epoch"] for row in results.done(chosen)]
    # Half an epoch is rounded up, because more texts bear more training.
    number = 1 if is_fitted_whole(config) else math.ceil(statistics.median(epochs))
    evidence = _evidence(Path(comparison), results, chosen)
    return Run(config, Path(workdir), refit=Refit(number, evidence)), _corpus_of(results, corpus)


def _require_refittable(comparison: Path, results: Results, variant: str) -> None:
    """Raise UserError if a comparison lacks a variant or its runs, or if the variant has no settings of its own."""
    variants = results.variants
    if variant not in variants:
        raise UserError(f"{comparison} has no variant {variant!r}, expected one of {', '.join(variants)}")
    if not results.done(variant):
        raise UserError(f"{comparison} has no finished run of {variant}; the same compare command trains them")
    entry = results.plan["variants"][variant]
    if "foreign" in entry:
        raise UserError(
            f"{variant} is no model of this project: fit it on all texts by its own means, or name another --variant"
        )
    if entry.get("tuned"):
        example, flags = next(iter(entry["tuned"].items()))
        raise UserError(
            f"{variant} was tuned for each run apart, so it has no settings for all texts: train with those of a run "
            f"and --folds=0, such as those of {example}: {' '.join(flags)}"
        )


def _corpus_of(results: Results, corpus: Corpus | Path | str | None) -> Corpus:
    """Return the corpus of a comparison; raise UserError if it is gone or the given one is another."""
    described, classes = results.plan["corpus"], tuple(results.plan["classes"])
    if corpus is None:
        return reload_corpus(described, classes)
    texts = as_corpus(corpus)
    texts = clean(texts, classes) if described.get("cleaned") and not texts.cleaned else texts
    if texts.checksum != described["checksum"]:
        raise UserError(
            f"{texts.name} has other texts than the comparison on {described['name']}, whose scores stand for the "
            "refit: leave the corpus out, or compare on this one first"
        )
    return texts


def _evidence(comparison: Path, results: Results, variant: str) -> dict[str, Any]:
    """Return what a comparison says about a variant, as JSON values."""
    rows, ranked = results.done(variant), results.ranked()
    texts = [row["train_texts"] for row in rows if row["train_texts"]]
    return {
        "comparison": str(comparison.resolve()),
        "variant": variant,
        "runs": len(rows),
        "planned_runs": sum(row["variant"] == variant for row in results.rows),
        "folds": results.plan["folds"],
        "train_texts": round(statistics.median(texts)) if texts else None,
        "epochs": [row["best_epoch"] for row in rows],
        "fitted_at_once": is_fitted_whole(config_from_dict(results.plan["variants"][variant]["settings"])),
        "metric": results.metric,
        "rank": ranked.index(variant) + 1,
        "variants": len(ranked),
        "estimates": {name: _finite(estimate) for name, estimate in results.estimates[variant].items()},
        "not_trained": [problem.why for problem in results.untrained.get(variant, {}).values()],
    }


def _finite(estimate: Any) -> Mapping[str, Any]:
    """Return an estimate as JSON values; what is undefined is None."""
    mean, low, high = (
        value if math.isfinite(value) else None for value in (estimate.mean, estimate.low, estimate.high)
    )
    return {"mean": mean, "interval": [low, high]}
