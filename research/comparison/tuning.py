"""Equal budgets: as many trials of settings for every variant, chosen on validation, nested in each fold.

A trial is a setting of the fields that a variant's space names. The trials are the same in every fold; each fold (and
repeat) chooses among them by its own validation texts, in runs that never look at test texts, so no setting has seen
the texts that it is tested on.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from research.data.corpora import Corpus
from research.data.splits import resolve_folds, split_corpus
from research.errors import Diverged, UserError
from research.json_files import missing_in, write_json
from research.parallel.train_runs import train_many
from research.parallel.worker_pool import Workers
from research.runs import run_files
from research.runs.prepare import Run
from research.runs.record import environment
from research.runs.texts import split_into_tokens
from research.settings import Config, Training
from research.training.early_stopping import chosen_by, score_of

TUNED = "tuned.json"
_LOWEST = -1e300  # a score below all others, which JSON can hold
Space = Mapping[str, tuple]  # field -> ("log", low, high), ("uniform", low, high) or ("choice", value, value, ...)


class Searched(NamedTuple):
    """A variant, the space its settings are drawn from, and how a config is made from drawn settings."""

    name: str
    space: Space
    make: Callable[[dict[str, Any]], Config]


def draw(space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    """Quasi-random settings: a scrambled Sobol sequence over the space.

    Args:
      space: of a variant.
      trials: how many.
      seed: of the scrambling; more trials of the same seed begin with the fewer.

    Returns:
      field -> value, a dictionary a trial; floats to three significant digits, so that they can be typed again.

    Raises:
      UserError: an entry of the space is of no known kind.
    """
    points = stats.qmc.Sobol(len(space), seed=seed).random_base2((trials - 1).bit_length())[:trials]
    return [{name: _value(name, entry, u) for (name, entry), u in zip(space.items(), p, strict=True)} for p in points]


def _value(name: str, entry: tuple, u: float) -> Any:
    kind, *values = entry
    if kind == "choice" and values:
        return values[int(u * len(values))]
    if (
        kind not in ("log", "uniform")
        or len(values) != 2
        or not (0 if kind == "log" else -np.inf) < values[0] < values[1]
    ):
        raise UserError(f"SPACE[{name!r}] is {entry!r}, expected ('log' or 'uniform', low, high) or ('choice', ...)")
    low, high = values
    value = low * (high / low) ** u if kind == "log" else low + (high - low) * u
    return round(value) if isinstance(low, int) and isinstance(high, int) else float(f"{value:.3g}")


def tune(
    variants: Sequence[Searched],
    corpus: Corpus,
    workdir: Path,
    *,
    trials: int,
    folds: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    command: str = "",
    workers: Workers | None = None,
    progress: Callable[[str, float, float], None] = lambda run, done, loss: None,
) -> dict[str, Any]:
    """Trains every trial of every variant in every fold and writes `tuned.json`; finished runs are not repeated.

    Args:
      variants: what is tuned.
      corpus: labelled texts.
      workdir: the search's folder; one with fewer trials, variants or repeats is extended.
      trials: of each variant.
      folds: as in `compare`.
      repeats: of the cross-validation that is to be tuned for; 1 with a test split, which no trial looks at.
      seed: of the trials.
      command: kept in the file.
      workers: as in `train_many`.
      progress: called now and then with (run, runs done in all, a recent loss).

    Returns:
      what `tuned.json` says: for each variant its trials, their validation scores in each run, and which was chosen.

    Raises:
      UserError: settings that do not fit, or a folder that holds something else.
    """
    folds = resolve_folds(corpus, folds)
    split_corpus(corpus, 0, folds=folds, fold=0, repeat=0)  # a wrong --folds is said before anything is written
    which = [(fold, repeat) for repeat in range(repeats if folds else 1) for fold in range(folds or 1)]
    with run_files.owned(workdir, TUNED):
        found = _take_folder(workdir, variants, corpus, folds, seed, trials, command)
        start = time.perf_counter()
        settings = {variant.name: draw(variant.space, trials, seed) for variant in variants}
        asked = []
        for variant in variants:
            configs = [variant.make(drawn) for drawn in settings[variant.name]]
            split_into_tokens(corpus, configs[0].data)  # what is missing for that is said before any run begins
            asked += [
                Run(config, _folder(workdir, variant.name, trial, *run, folds), *run)
                for trial, config in enumerate(configs)
                for run in which
            ]
        finished = itertools.count(1)

        def done(at: int, error: Exception | None) -> None:
            if error is not None and not isinstance(error, Diverged):  # that is the worst of all trials
                raise error
            progress(str(asked[at].folder.relative_to(workdir).parent), next(finished), float("nan"))

        train_many(asked, corpus, folds=folds, test=False, done=done, workers=workers)
        for variant in variants:
            folders = {
                run_files.run_name(*run, folds): [
                    _folder(workdir, variant.name, trial, *run, folds) for trial in range(trials)
                ]
                for run in which
            }
            scores = {run: list(map(_validation, of_run)) for run, of_run in folders.items()}
            chosen_among = {run: list(map(_score, of_run)) for run, of_run in folders.items()}
            records = [run_files.read_record(folder) for of_run in folders.values() for folder in of_run]
            found["variants"][variant.name] = {
                "space": {name: list(entry) for name, entry in variant.space.items()},
                "settings": settings[variant.name],
                "validation_accuracy": scores,
                "validation_score": chosen_among,
                "chosen": {run: int(np.argmax(of_run)) for run, of_run in chosen_among.items()},
                "train_seconds": sum(record["seconds"]["train"] for record in records),
            }
        found["seconds"] = round(time.perf_counter() - start, 1)
        write_json(workdir / TUNED, found)
    return found


def _take_folder(
    workdir: Path, variants: Sequence[Searched], corpus: Corpus, folds: int, seed: int, trials: int, command: str
) -> dict[str, Any]:
    """Checks that the folder holds the same search, if any, and writes what it is now."""
    found: dict[str, Any] = {"corpus": corpus.checksum, "folds": folds, "seed": seed}
    of_variants = {}
    if (workdir / TUNED).exists():
        there = _read_search(workdir)
        if {name: there[name] for name in found} != found:
            raise UserError(f"{workdir} holds another search, expected one on this corpus, split and seed")
        of_variants = there["variants"]
    for name in of_variants.keys() - {variant.name for variant in variants}:
        had = len(of_variants[name]["settings"])
        if had != trials:  # budgets would not be equal
            raise UserError(
                f"--trials is {trials}, expected {had}, as {workdir} has of {name}, or {name} in --variants"
            )
    found |= {"trials": trials, "command": command} | environment() | {"variants": of_variants}
    write_json(workdir / TUNED, found)
    return found


def _read_search(workdir: Path) -> dict[str, Any]:
    path = workdir / TUNED
    found = run_files.read_json(path)
    problem = missing_in(found, {"corpus": str, "folds": int, "seed": int, "variants": dict})
    for name, of_variant in {} if problem else found["variants"].items():
        if wrong := missing_in(of_variant, {"settings": list, "chosen": dict}):
            problem = f"of the variant {name!r} {wrong}"
    if problem:
        raise UserError(f"{path}: {problem}; the file is damaged, or a newer version wrote it")
    return found


def chosen_settings(workdir: Path, variant: str, corpus: Corpus, folds: int) -> dict[str, dict[str, Any]]:
    """What a search chose for a variant: name of a run (`fold0-repeat0`; "repeat0" with a test split) -> settings.

    Raises:
      UserError: no search is there, it was on another corpus or split, or the variant was not part of it.
    """
    if not (workdir / TUNED).exists():
        raise UserError(f"{workdir}: no {TUNED}, expected a folder that `tune` wrote")
    found = _read_search(workdir)
    if found["corpus"] != corpus.checksum or found["folds"] != folds:
        raise UserError(f"{workdir} holds another search, expected one on this corpus and number of folds")
    if variant not in found["variants"]:
        raise UserError(f"{workdir} has no {variant}, expected one of {', '.join(found['variants'])}")
    of_variant = found["variants"][variant]
    return {run: of_variant["settings"][trial] for run, trial in of_variant["chosen"].items()}


def _folder(workdir: Path, variant: str, trial: int, fold: int, repeat: int, folds: int) -> Path:
    return workdir / run_files.folder_name(variant) / f"trial{trial}" / run_files.run_name(fold, repeat, folds)


def _validation(folder: Path) -> float:
    """The accuracy on validation of the epoch that was chosen; 0 where training diverged."""
    if run_files.has_diverged(folder):
        return 0.0
    return _taken(folder, run_files.read_record(folder)["best_epoch"])["accuracy"]


def _score(folder: Path) -> float:
    """Return what a trial is chosen by: the validation score that "auto" chooses epochs by, whatever the trial's own.

    A run that diverged has the lowest of all.
    """
    if run_files.has_diverged(folder):
        return _LOWEST
    record = run_files.read_record(folder)
    labels = np.repeat(np.arange(len(record["label_counts"])), record["label_counts"])
    select = chosen_by(Training(), labels, record["texts"]["validation"])
    return score_of(select, _taken(folder, record["best_epoch"]))


def _taken(folder: Path, epoch: int) -> dict[str, Any]:
    """Return the validation record of an epoch."""
    return next(r for r in run_files.read_metrics(folder) if r["split"] == "validation" and r["epoch"] == epoch)


def expected_best(scores: np.ndarray) -> np.ndarray:
    """The expected validation score of the best of k trials, for k = 1 ... n (Dodge et al. 2019, eq. 5).

    Args:
      scores: float [n], of n trials.

    Returns:
      float64 [n].
    """
    ordered, n = np.sort(scores), len(scores)
    share = np.arange(n + 1)[None, :] / n
    k = np.arange(1, n + 1)[:, None]
    return ((share[:, 1:] ** k - share[:, :-1] ** k) * ordered[None, :]).sum(axis=1)
