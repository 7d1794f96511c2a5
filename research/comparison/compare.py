"""A comparison: variants x runs on one corpus, in a folder that can be gone on with and extended."""

import contextlib
import itertools
import shlex
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from research.comparison.plan import Variant, detectable_sentence, extended_plan
from research.data.corpora import Corpus, load
from research.data.splits import resolve_folds, split_corpus
from research.errors import Diverged, UserError
from research.json_files import write_json
from research.machine import release_memory
from research.parallel.train_runs import train_many
from research.parallel.worker_pool import Workers
from research.reporting.claims import Claims, planned_claims
from research.reporting.report import write_report
from research.reporting.results import NOT_TRAINED
from research.runs import run_files
from research.runs.clearing import clear
from research.runs.code_hash import was_trained_by_other_code
from research.runs.plan_file import MOST_REPEATS, read_plan
from research.runs.prepare import Run
from research.runs.record import write_record
from research.runs.source import check_source
from research.runs.texts import RunSpec, cut_sentence
from research.runs.train import try_out
from research.settings import Config
from research.settings_validation import validate
from research.training.early_stopping import protocol_sentence

REPEATS = 5  # with a test split; 1 with cross-validation, where folds are repeats of a kind


def compare(
    variants: Mapping[str, Config] | Sequence[Variant],
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    corpus_flags: Sequence[str] = (),
    command: str = "",
    overwrite: bool = False,
    claims: Claims | None = None,
    max_repeats: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[str, float, float], None] = lambda run, done, loss: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Trains every variant over folds and repeats and writes the report; finished runs are not repeated.

    Args:
      variants: name -> config, or `Variant`s.
      corpus: labelled texts, a known corpus's name or a path.
      workdir: the comparison's folder; one with fewer variants or repeats is extended.
      folds: of the cross-validation, default 5; not with a corpus that has a test split.
      repeats: default those that the folder holds, in a new one 5 with a test split, else 1.
      corpus_flags: how the `train` command names the corpus; kept in the records.
      command: the command that does the same; kept in the report.
      overwrite: removes what the folder holds of an earlier comparison or run, once all else is known to fit.
      claims: which pairs the report compares, by which metric and margin; default those that the folder holds, in a
        new one each variant with the baseline, by `default_metric`.
      max_repeats: where given, repeats are added one by one up to it while a pair is undecided. The intervals are then
        those of all looks that may be taken, so that stopping at a good moment does not raise the rate of errors.
      workers: as in `train_many`.
      progress: called now and then with (run, runs done in all, a recent loss).
      say: called with a line for each finished run.

    Returns:
      the folder.

    Raises:
      UserError: settings that do not fit, or a folder that holds another comparison.
    """
    if isinstance(variants, Mapping):
        variants = [Variant(name, config) for name, config in variants.items()]
    folder = Path(workdir)
    if not isinstance(corpus, Corpus):
        corpus = load(corpus)
    folds = resolve_folds(corpus, folds)
    repeats = default_repeats(None if overwrite else folder, folds) if repeats is None else repeats
    if not 1 <= repeats <= MOST_REPEATS:
        raise UserError(f"--repeats is {repeats}, expected 1 to {MOST_REPEATS}")
    last = repeats if max_repeats is None else max_repeats
    if not repeats <= last <= MOST_REPEATS:
        raise UserError(f"--max_repeats is {last}, expected {repeats}, as --repeats, to {MOST_REPEATS}")
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    said: dict[str, list[str]] = {}
    for variant in variants:
        validate(variant.config)
        for repeat in range(last):
            variant.of_run(0, repeat, folds)  # tuned settings that are missing are said at once
        split_corpus(corpus, variant.config.seed, folds=folds, fold=0, repeat=0)  # a wrong --folds is said at once
        for sentence in (cut_sentence(corpus, variant.config.data), protocol_sentence(corpus, variant.config, folds)):
            said.setdefault(sentence, []).append(variant.name)
    release_memory()  # of files that were read
    tested = corpus.groups[corpus.splits != "validation" if folds else corpus.splits == "test"]
    asked = variants, corpus, folds, range(repeats, last + 1), command, claims
    if overwrite:
        extended_plan(None, *asked)
        for variant in variants:
            try_out(Run(variant.of_run(0, 0, folds)[0], folder), corpus, folds)
        clear(folder)
    with run_files.owned(folder, run_files.PLAN):
        plan = extended_plan(folder, *asked)
        claims = planned_claims(plan)
        names = {variant.name for variant in variants}
        for sentence, of_variants in said.items():
            if sentence:
                say(f"{sentence} ({'every variant' if len(of_variants) == len(names) else ', '.join(of_variants)})")
        if others := sorted(plan["variants"].keys() - names):
            say(f"{folder} also holds {', '.join(others)}, by earlier commands; table and claims are of all of them")
        if plan["repeats"] > last:
            say(f"{folder} holds {plan['repeats']} repeats, and table and claims are of all of them")
        say(detectable_sentence(folder, plan, claims, len(np.unique(tested))))
        for upto in range(repeats, last + 1):
            plan["repeats"] = max(plan["repeats"], upto)
            write_json(folder / run_files.PLAN, plan)
            _train_all(folder, variants, corpus, folds, upto, tuple(corpus_flags), workers, progress, say)
            release_memory()  # to matplotlib
            # Those whose variants both have more repeats now.
            pairs = [pair for pair in write_report(folder).pairs if {pair["a"], pair["b"]} <= names]
            undecided = sum(pair["verdict"] == "undecided" for pair in pairs)
            untrained = sum(pair["verdict"] == NOT_TRAINED for pair in pairs)
            if last > repeats and untrained:
                say(f"{untrained} pair(s) have a variant that was not trained, which no repeat mends")
            if last > repeats and pairs and not undecided:
                spared = (last - upto) * len(variants) * (folds or 1)
                which = "every pair of trained variants" if untrained else "every pair"
                say(f"{which} is decided after {upto} repeat(s); {spared} of the allowed runs are not needed")
                break
            if last > repeats:
                allowed = ", as many as are allowed" if upto == last else ""
                say(f"{undecided} pair(s) undecided after {upto} repeat(s){allowed}")
    return folder


def default_repeats(folder: Path | None, folds: int) -> int:
    """How many a comparison has that is not told: as many as the folder, where there is one, holds already."""
    if folder is not None and (folder / run_files.PLAN).exists():
        return read_plan(folder)["repeats"]
    return 1 if folds else REPEATS


def _train_all(
    folder: Path,
    variants: Sequence[Variant],
    corpus: Corpus,
    folds: int,
    repeats: int,
    corpus_flags: tuple[str, ...],
    workers: Workers | None,
    progress: Callable[[str, float, float], None],
    say: Callable[[str], None],
) -> None:
    """Trains what is not finished, side by side."""
    asked, titles = [], []
    # A variant after the other, so that its compiled programs are used up before they are let go.
    for variant, repeat, fold in itertools.product(variants, range(repeats), range(folds or 1)):
        name, (config, flags) = run_files.run_name(fold, repeat, folds), variant.of_run(fold, repeat, folds)
        which = (*((f"--folds={folds}", f"--fold={fold}") if folds else ()), f"--repeat={repeat}", "--workdir=RUN")
        flags = (*flags, *corpus_flags, *which)
        path = folder / run_files.folder_name(variant.name) / name
        command = f"./launch.sh train {shlex.join(flags)}" if variant.flags else ""  # from Python there is none
        asked.append(Run(config, path, fold, repeat, command))
        titles.append(f"{variant.name} {name.replace('-', ' ')}")
    ended = {at for at, run in enumerate(asked) if run_files.has_ended(run.folder)}
    if ended:
        say(f"{len(ended)} of {len(asked)} runs are finished already")
    records = {at: run_files.read_record(asked[at].folder) for at in ended}
    modules = [run.config.model.module for run in asked]
    if other := [at for at, record in records.items() if was_trained_by_other_code(record, modules[at])]:
        say(f"{len(other)} of them were made by other code; --overwrite makes all of them anew")
    for at, run in enumerate(asked):  # before any run is trained in vain
        if at not in ended:
            check_source(RunSpec(run.config, corpus, folds, run.fold, run.repeat))
    board = _Progress(len(ended), progress)

    def tick(at: int, epochs: float, loss: float) -> None:
        board.update(titles[at], epochs / asked[at].config.training.epochs, loss)

    def done(at: int, error: Exception | None) -> None:
        if at in ended:
            return
        board.update(titles[at], 1.0, float("nan"))  # it may have ended before its last epoch
        say(f"{titles[at]}: {_outcome(asked[at], error)}")

    train_many(asked, corpus, folds=folds, tick=tick, done=done, workers=workers)


def _outcome(run: Run, error: Exception | None) -> str:
    """How a run ended, in words; a failure that is not the user's is recorded."""
    if isinstance(error, Diverged):
        return f"diverged ({error})"
    if error is not None:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        told = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):  # where it cannot be written either, the run counts as unfinished
            write_record(run.folder, "failed", run.command, error=problem, traceback=told)
        return f"failed ({problem})"
    record = run_files.read_record(run.folder)
    test = next(r for r in run_files.read_metrics(run.folder) if r["split"] == "test")
    seconds = record["seconds"]["compile"] + record["seconds"]["train"]
    which = "the last" if run.config.training.select == "last" else "chosen"
    return f"test accuracy {test['accuracy']:.4f}, epoch {record['best_epoch']}, {which}, {seconds:.1f} s"


class _Progress:
    """Adds up what the runs have done, from several threads."""

    def __init__(self, finished: int, progress: Callable[[str, float, float], None]):
        self._finished, self._progress = finished, progress
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()

    def update(self, name: str, done: float, loss: float) -> None:
        with self._lock:
            self._running[name] = done
            self._progress(name, self._finished + sum(self._running.values()), loss)
