"""A comparison: variants x runs on one corpus, in a folder that can be resumed and extended."""

import contextlib
import dataclasses
import itertools
import shlex
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.comparison.plan import Comparison, Variant, detectable_sentence, extend_plan
from research.data.corpora import Corpus, load
from research.data.splits import resolve_folds, split_corpus
from research.data.tokenized_corpus import cut_sentence
from research.errors import Diverged, UserError
from research.json_files import write_json
from research.machine import release_memory
from research.parallel.train_runs import Outcome, RunHooks, train_runs
from research.parallel.worker_pool import Workers
from research.reporting.claims import Claims, planned_claims
from research.reporting.report import write_results
from research.reporting.results import NOT_TRAINED, Results, read_results
from research.runs import run_files
from research.runs.claim import claim_folder
from research.runs.clearing import clear
from research.runs.code_hash import was_trained_by_other_code
from research.runs.plan_file import MOST_REPEATS, read_plan
from research.runs.prepare import Run
from research.runs.record import write_record
from research.runs.source import check_source
from research.runs.texts import RunSpec
from research.runs.train import check_run
from research.settings import Config
from research.settings_validation import validate
from research.training.early_stopping import protocol_sentence

REPEATS = 5  # with a test split; 1 with cross-validation, whose folds are repeats of a kind
OnProgress = Callable[[str, float, float], None]  # (run, runs done in all, a recent loss)


@dataclasses.dataclass(frozen=True)
class ComparisonSpec:
    """What to compare.

    Attributes:
      variants: name -> config, or `Variant`s.
      corpus: labelled texts, a known corpus's name or a path.
      folds: of the cross-validation, default 5; not with a corpus that has a test split.
      repeats: default those that the folder holds, in a new one 5 with a test split, else 1.
      max_repeats: if given, repeats are added one by one up to it while a pair is undecided. The intervals are then
        those of all looks that may be taken, so that stopping at a good moment does not raise the rate of errors.
      claims: which pairs the report compares, by which metric and margin; default those that the folder holds, in a
        new one each variant with the baseline, by `default_metric`.
      corpus_flags: how the `train` command names the corpus; kept in the records.
      command: the command that does the same; kept in the report.
      overwrite: removes what the folder holds of an earlier comparison or run, once all else is known to fit.
    """

    variants: Mapping[str, Config] | Sequence[Variant]
    corpus: Corpus | Path | str
    folds: int | None = None
    repeats: int | None = None
    max_repeats: int | None = None
    claims: Claims | None = None
    corpus_flags: Sequence[str] = ()
    command: str = ""
    overwrite: bool = False


def compare(
    spec: ComparisonSpec,
    workdir: Path | str,
    *,
    workers: Workers | None = None,
    on_progress: OnProgress = lambda run, done, loss: None,
    log: Callable[[str], None] = lambda line: None,
) -> Results:
    """Train every variant over folds and repeats and write the report; finished runs are not repeated.

    Args:
      spec: what to compare.
      workdir: the comparison's folder; one with fewer variants or repeats is extended.
      workers: as in `train_runs`.
      on_progress: called now and then.
      log: called with a line before training, for each finished run, and after each look at the table.

    Returns:
      the results, as the folder's report shows them.

    Raises:
      UserError: settings that do not fit, or a folder that holds another comparison.
    """
    folder = Path(workdir)
    comparison = _resolve(spec, folder)
    notes = _notes(comparison)
    release_memory()  # of files that were read
    if spec.overwrite:
        extend_plan(None, comparison)
        for variant in comparison.variants:
            check_run(Run(variant.of_run(0, 0, comparison.folds)[0], folder), comparison.corpus, comparison.folds)
        clear(folder)
    with claim_folder(folder, is_ours=(folder / run_files.PLAN).exists()):
        plan = extend_plan(folder, comparison)
        write_json(folder / run_files.PLAN, plan)
        seen = _results_so_far(folder)
        for line in (*notes, *_lines_before(folder, plan, comparison, seen)):
            log(line)
        for repeats in comparison.looks:
            plan["repeats"] = max(plan["repeats"], repeats)
            write_json(folder / run_files.PLAN, plan)
            is_new = _train_unfinished(folder, comparison, repeats, workers, _Board(on_progress, log))
            release_memory()  # to matplotlib
            results = read_results(folder) if is_new or seen is None else seen
            write_results(results, folder)
            if len(comparison.looks) > 1:
                line, is_decided = _verdict_of_look(results, comparison, repeats)
                log(line)
                if is_decided:
                    break
            seen = results
    return results


def _resolve(spec: ComparisonSpec, folder: Path) -> Comparison:
    """Check what is asked for, and fill in the defaults."""
    variants = spec.variants
    if isinstance(variants, Mapping):
        variants = [Variant(name, config) for name, config in variants.items()]
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    corpus = spec.corpus if isinstance(spec.corpus, Corpus) else load(spec.corpus)
    folds = resolve_folds(corpus, spec.folds)
    repeats = default_repeats(None if spec.overwrite else folder, folds) if spec.repeats is None else spec.repeats
    if not 1 <= repeats <= MOST_REPEATS:
        raise UserError(f"--repeats is {repeats}, expected 1 to {MOST_REPEATS}")
    last = repeats if spec.max_repeats is None else spec.max_repeats
    if not repeats <= last <= MOST_REPEATS:
        raise UserError(f"--max_repeats is {last}, expected {repeats}, as --repeats, to {MOST_REPEATS}")
    for variant in variants:
        validate(variant.config)
        for repeat in range(last):
            variant.of_run(0, repeat, folds)  # raises for tuned settings that are missing
        split_corpus(corpus, variant.config.seed, folds=folds, fold=0, repeat=0)  # raises for too many folds
    looks = range(repeats, last + 1)
    return Comparison(variants, corpus, folds, looks, spec.claims, spec.command, tuple(spec.corpus_flags))


def default_repeats(folder: Path | None, folds: int) -> int:
    """Return how many repeats are taken by default: as many as the folder holds, in a new one 1 with folds, else 5."""
    if folder is not None and (folder / run_files.PLAN).exists():
        return read_plan(folder)["repeats"]
    return 1 if folds else REPEATS


def _notes(comparison: Comparison) -> list[str]:
    """Return what the size of the corpus means for the variants, a sentence each with the variants that it is about."""
    variants_of: dict[str, list[str]] = {}
    for variant in comparison.variants:
        sentences = (
            cut_sentence(comparison.corpus, variant.config.data),
            protocol_sentence(comparison.corpus, variant.config, comparison.folds),
        )
        for sentence in filter(None, sentences):
            variants_of.setdefault(sentence, []).append(variant.name)
    count = len(comparison.names)
    return [f"{s} ({'every variant' if len(v) == count else ', '.join(v)})" for s, v in variants_of.items()]


def _results_so_far(folder: Path) -> Results | None:
    with contextlib.suppress(UserError):  # no run is finished
        return read_results(folder)
    return None


def _lines_before(folder: Path, plan: dict[str, Any], comparison: Comparison, seen: Results | None) -> list[str]:
    """Return what a user should know before training."""
    lines = []
    if others := sorted(plan["variants"].keys() - comparison.names):
        lines.append(
            f"{folder} also holds {', '.join(others)}, by earlier commands; table and claims are of all of them"
        )
    if plan["repeats"] > comparison.looks[-1]:
        lines.append(f"{folder} holds {plan['repeats']} repeats, and table and claims are of all of them")
    corpus = comparison.corpus
    tested = corpus.splits != "validation" if comparison.folds else corpus.splits == "test"
    texts = len(np.unique(corpus.groups[tested]))
    spread = None if seen is None else seen.spread
    return [*lines, detectable_sentence(plan, planned_claims(plan), texts, spread)]


def _verdict_of_look(results: Results, comparison: Comparison, repeats: int) -> tuple[str, bool]:
    """Return a line about a look at the table, and whether every pair is decided."""
    pairs = [pair for pair in results.pairs if {pair["a"], pair["b"]} <= comparison.names]  # others have fewer repeats
    undecided = sum(pair["verdict"] == "undecided" for pair in pairs)
    untrained = sum(pair["verdict"] == NOT_TRAINED for pair in pairs)
    note = f"{untrained} pair(s) have a variant that was not trained, which no repeat mends. " if untrained else ""
    if pairs and not undecided:
        spared = (comparison.looks[-1] - repeats) * len(comparison.variants) * (comparison.folds or 1)
        every = "every pair of trained variants" if untrained else "every pair"
        return f"{note}{every} is decided after {repeats} repeat(s); {spared} of the allowed runs are not needed", True
    allowed = ", as many as are allowed" if repeats == comparison.looks[-1] else ""
    return f"{note}{undecided} pair(s) undecided after {repeats} repeat(s){allowed}", False


def _runs_of(folder: Path, comparison: Comparison, repeats: int) -> dict[str, Run]:
    """Return all runs by their titles, one variant after the other, so that each program is compiled once."""
    runs, folds = {}, comparison.folds
    for variant, repeat, fold in itertools.product(comparison.variants, range(repeats), range(folds or 1)):
        name, (config, flags) = run_files.run_name(fold, repeat, folds), variant.of_run(fold, repeat, folds)
        which = (*((f"--folds={folds}", f"--fold={fold}") if folds else ()), f"--repeat={repeat}", "--workdir=RUN")
        flags = (*flags, *comparison.corpus_flags, *which)
        command = f"./launch.sh train {shlex.join(flags)}" if variant.flags else ""  # from Python there is none
        path = folder / run_files.folder_name(variant.name) / name
        runs[f"{variant.name} {name.replace('-', ' ')}"] = Run(config, path, fold, repeat, command)
    return runs


def _train_unfinished(
    folder: Path, comparison: Comparison, repeats: int, workers: Workers | None, board: "_Board"
) -> bool:
    """Train the runs that are not finished; return whether there were any."""
    runs = _runs_of(folder, comparison, repeats)
    ended = [run for run in runs.values() if run_files.has_ended(run.folder)]
    if ended:
        board.log(f"{len(ended)} of {len(runs)} runs are finished already")
    modules = [(run_files.read_record(run.folder), run.config.model.module) for run in ended]
    if others := sum(was_trained_by_other_code(*of_run) for of_run in modules):
        board.log(f"{others} of them were made by other code; --overwrite makes all of them anew")
    unfinished = [run for run in runs.values() if run not in ended]
    for run in unfinished:  # before any run is trained in vain
        check_source(RunSpec(run.config, comparison.corpus, comparison.folds, run.fold, run.repeat))
    board.start(runs, ended)
    hooks = RunHooks(board.on_progress, board.on_run_end)
    train_runs(list(runs.values()), comparison.corpus, folds=comparison.folds, workers=workers, hooks=hooks)
    return bool(unfinished)


class _Board:
    """Adds up how far the runs are, and logs how each ended."""

    def __init__(self, on_progress: OnProgress, log: Callable[[str], None]):
        self._report, self.log = on_progress, log
        self._titles: dict[Path, str] = {}
        self._ended: set[Path] = set()  # before this call
        self._done: dict[Path, float] = {}  # share of each run

    def start(self, runs: Mapping[str, Run], ended: Sequence[Run]) -> None:
        """Begin with these runs, by title, of which some ended before."""
        self._titles = {run.folder: title for title, run in runs.items()}
        self._ended = {run.folder for run in ended}
        self._done = {}

    def on_progress(self, run: Run, epochs: float, loss: float) -> None:
        """Report a run's progress as a number of runs done in all."""
        self._done[run.folder] = epochs / run.config.training.epochs
        self._report(self._titles[run.folder], len(self._ended) + sum(self._done.values()), loss)

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        """Log how a run ended, unless it had ended before."""
        if run.folder in self._ended:
            return
        self.on_progress(run, run.config.training.epochs, float("nan"))  # it may have ended before its last epoch
        self.log(f"{self._titles[run.folder]}: {_describe_end(run, outcome)}")


def _describe_end(run: Run, outcome: Outcome) -> str:
    """Say how a run ended; record a failure that is not the user's."""
    if isinstance(outcome, Diverged):
        return f"diverged ({outcome})"
    if outcome is not None:
        problem = f"{type(outcome).__name__}: {outcome}".splitlines()[0]
        shown = "".join(traceback.format_exception(outcome))
        with contextlib.suppress(OSError):  # if it cannot be written either, the run counts as unfinished
            write_record(run.folder, "failed", run.command, error=problem, traceback=shown)
        return f"failed ({problem})"
    record = run_files.read_record(run.folder)
    test = next(r for r in run_files.read_metrics(run.folder) if r["split"] == "test")
    seconds = record["seconds"]["compile"] + record["seconds"]["train"]
    which = "the last" if run.config.training.select == "last" else "chosen"
    return f"test accuracy {test['accuracy']:.4f}, epoch {record['best_epoch']}, {which}, {seconds:.1f} s"
