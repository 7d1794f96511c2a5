"""Tune every variant with the same number of trials, separately in each fold.

A trial is one choice of values for the settings in a variant's space. All folds try the same trials. Each fold (and
repeat) chooses among them by its own validation texts, in runs that never read test texts. So the choice does not
depend on the texts that it is tested on.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from research.data.corpora import Corpus
from research.data.splits import resolve_folds, split_corpus
from research.data.tokenized_corpus import tokenize_corpus
from research.errors import Diverged, UserError
from research.json_files import missing_in, write_json
from research.parallel.train_runs import RunHooks, train_runs
from research.parallel.worker_pool import Workers
from research.runs import run_files
from research.runs.claim import claim_folder
from research.runs.prepare import Run
from research.runs.record import environment
from research.settings import Config, Training
from research.training.early_stopping import chosen_by, score_of

TUNED = "tuned.json"
_LOWEST = -1e300  # a score below all others, which JSON can hold
Space = Mapping[str, tuple]  # field -> ("log", low, high), ("uniform", low, high) or ("choice", value, value, ...)


class SearchedVariant(NamedTuple):
    """A variant, the space of its settings, and a function that makes a config of values from the space."""

    name: str
    space: Space
    make: Callable[[dict[str, Any]], Config]


@dataclasses.dataclass(frozen=True)
class SearchSpec:
    """The variants, the corpus and the budget of a search.

    Attributes:
      variants: the variants to tune.
      corpus: labelled texts.
      trials: number of trials of each variant.
      folds: as in `compare`.
      repeats: number of repeats of the cross-validation. It is ignored with a test split, because no trial reads it.
      seed: the seed of the drawn values.
      metric: the validation metric that chooses among trials, one of `metrics_to_select_by()`; "" is the one that
        `training.select` "auto" stands for.
      command: the command that makes the same search; kept in the file.
    """

    variants: Sequence[SearchedVariant]
    corpus: Corpus
    trials: int
    folds: int | None = None
    repeats: int = 1
    seed: int = 0
    metric: str = ""
    command: str = ""


def draw(space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    """Draw quasi-random values: a scrambled Sobol sequence over the space.

    Args:
      space: the space of a variant.
      trials: number of trials.
      seed: the seed of the scrambling. With the same seed, more trials begin with the same values as fewer trials.

    Returns:
      for each trial, field -> value. Floats have three significant digits, so that they can be typed again.

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
    spec: SearchSpec,
    workdir: Path,
    *,
    workers: Workers | None = None,
    on_progress: Callable[[str, float, float], None] = lambda run, done, loss: None,
) -> dict[str, Any]:
    """Train every trial of every variant in every fold and write `tuned.json`; finished runs are not repeated.

    Args:
      spec: the variants, the corpus and the budget.
      workdir: the folder of the search. A folder with fewer trials, variants or repeats is extended.
      workers: as in `train_runs`.
      on_progress: called when a run ends, with (folder of its trial, total of runs done, nan).

    Returns:
      the content of `tuned.json`: for each variant its trials, their validation scores in each run, and the trial that
      each run chose.

    Raises:
      UserError: settings do not fit, or the folder holds something else.
    """
    folds = resolve_folds(spec.corpus, spec.folds)
    split_corpus(spec.corpus, 0, folds=folds, fold=0, repeat=0)  # raises if there are too many folds
    places = [(fold, repeat) for repeat in range(spec.repeats if folds else 1) for fold in range(folds or 1)]
    with claim_folder(workdir, is_ours=(workdir / TUNED).exists()):
        search = _open_search(workdir, spec, folds)
        start = time.perf_counter()
        trials = {variant.name: _trials_of(variant, spec, workdir, folds, places) for variant in spec.variants}
        finished = itertools.count(1)

        def on_run_end(run: Run, outcome: Exception | None) -> None:
            if outcome is not None and not isinstance(outcome, Diverged):  # a diverged trial has the lowest score
                raise outcome
            on_progress(str(run.folder.relative_to(workdir).parent), next(finished), float("nan"))

        runs = list(itertools.chain.from_iterable(trials.values()))
        hooks = RunHooks(on_run_end=on_run_end)
        train_runs(runs, spec.corpus, folds=folds, test=False, workers=workers, hooks=hooks)
        for variant in spec.variants:
            search["variants"][variant.name] = _outcome(variant, spec, trials[variant.name], folds)
        search["seconds"] = round(time.perf_counter() - start, 1)
        write_json(workdir / TUNED, search)
    return search


def _trials_of(
    variant: SearchedVariant, spec: SearchSpec, workdir: Path, folds: int, places: Sequence[tuple[int, int]]
) -> list[Run]:
    """Return the runs of a variant's trials, one trial after the other."""
    configs = [variant.make(drawn) for drawn in draw(variant.space, spec.trials, spec.seed)]
    tokenize_corpus(spec.corpus, configs[0].data)  # raises if a package is missing, before any run begins
    folder = workdir / run_files.folder_name(variant.name)
    return [
        Run(config, folder / f"trial{trial}" / run_files.run_name(fold, repeat, folds), fold, repeat)
        for trial, config in enumerate(configs)
        for fold, repeat in places
    ]


def _outcome(variant: SearchedVariant, spec: SearchSpec, trials: Sequence[Run], folds: int) -> dict[str, Any]:
    """Return the entry of a variant in `tuned.json`."""
    folders: dict[str, list[Path]] = {}
    for run in trials:
        folders.setdefault(run_files.run_name(run.fold, run.repeat, folds), []).append(run.folder)
    scores = {name: [_score(folder, spec.metric) for folder in of_run] for name, of_run in folders.items()}
    return {
        "space": {name: list(entry) for name, entry in variant.space.items()},
        "settings": draw(variant.space, spec.trials, spec.seed),
        "validation_accuracy": {name: [_accuracy(folder) for folder in of_run] for name, of_run in folders.items()},
        "validation_score": scores,
        "chosen": {name: int(np.argmax(of_run)) for name, of_run in scores.items()},
        "train_seconds": sum(run_files.read_record(run.folder)["seconds"]["train"] for run in trials),
    }


def _open_search(workdir: Path, spec: SearchSpec, folds: int) -> dict[str, Any]:
    """Check that the folder holds the same search, if any, and write the new `tuned.json`."""
    search: dict[str, Any] = {"corpus": spec.corpus.checksum, "folds": folds, "seed": spec.seed, "metric": spec.metric}
    variants = {}
    if (workdir / TUNED).exists():
        saved = _read_search(workdir)
        if {"metric": ""} | {name: saved[name] for name in search.keys() & saved.keys()} != search:
            raise UserError(f"{workdir} holds another search, expected one on this corpus, split, seed and metric")
        variants = saved["variants"]
    for name in variants.keys() - {variant.name for variant in spec.variants}:
        count = len(variants[name]["settings"])
        if count != spec.trials:  # budgets would not be equal
            raise UserError(
                f"--trials is {spec.trials}, expected {count}, as {workdir} has of {name}, or {name} in --variants"
            )
    search |= {"trials": spec.trials, "command": spec.command} | environment() | {"variants": variants}
    write_json(workdir / TUNED, search)
    return search


def _read_search(workdir: Path) -> dict[str, Any]:
    """Read and check the `tuned.json` of a folder."""
    path = workdir / TUNED
    search = run_files.read_json(path)
    problem = missing_in(search, {"corpus": str, "folds": int, "seed": int, "variants": dict})
    if not problem:
        for name, entry in search["variants"].items():
            if missing := missing_in(entry, {"settings": list, "chosen": dict}):
                problem = f"in the variant {name!r} {missing}"
    if problem:
        raise UserError(f"{path}: {problem}; the file is damaged, or a newer version wrote it")
    return search


def chosen_settings(workdir: Path, variant: str, corpus: Corpus, folds: int) -> dict[str, dict[str, Any]]:
    """Return the settings that a search chose for a variant, by the name of the run ("fold0-repeat0", or "repeat0").

    Raises:
      UserError: the folder holds no search or one on another corpus or split, or the search lacks the variant.
    """
    if not (workdir / TUNED).exists():
        raise UserError(f"{workdir}: no {TUNED}, expected a folder that `tune` wrote")
    search = _read_search(workdir)
    if search["corpus"] != corpus.checksum or search["folds"] != folds:
        raise UserError(f"{workdir} holds another search, expected one on this corpus and number of folds")
    if variant not in search["variants"]:
        raise UserError(f"{workdir} has no {variant}, expected one of {', '.join(search['variants'])}")
    entry = search["variants"][variant]
    return {run: entry["settings"][trial] for run, trial in entry["chosen"].items()}


def _accuracy(folder: Path) -> float:
    """Return the validation accuracy of the best epoch; 0 if training diverged."""
    if run_files.has_diverged(folder):
        return 0.0
    return _validation_record(folder, run_files.read_record(folder)["best_epoch"])["accuracy"]


def _score(folder: Path, metric: str) -> float:
    """Return the validation score that trials are compared by; a run that diverged has the lowest of all.

    Without a metric, it is the score that `training.select` "auto" would choose, even if the trial itself chooses its
    epoch otherwise.
    """
    if run_files.has_diverged(folder):
        return _LOWEST
    record = run_files.read_record(folder)
    labels = np.repeat(np.arange(len(record["label_counts"])), record["label_counts"])
    select = metric or chosen_by(Training(), labels, record["texts"]["validation"])
    return score_of(select, _validation_record(folder, record["best_epoch"]))


def _validation_record(folder: Path, epoch: int) -> dict[str, Any]:
    """Return the validation record of an epoch."""
    return next(r for r in run_files.read_metrics(folder) if r["split"] == "validation" and r["epoch"] == epoch)


def expected_best(scores: np.ndarray) -> np.ndarray:
    """Return the expected validation score of the best of k trials, for k = 1 ... n (Dodge et al. 2019, eq. 5).

    Args:
      scores: float [n], the scores of n trials.

    Returns:
      float64 [n].
    """
    ordered, n = np.sort(scores), len(scores)
    share = np.arange(n + 1)[None, :] / n
    k = np.arange(1, n + 1)[:, None]
    return ((share[:, 1:] ** k - share[:, :-1] ** k) * ordered[None, :]).sum(axis=1)
