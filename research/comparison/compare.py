"""Compare variants over folds and repeats of one corpus, in a folder that can be resumed and extended."""

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
from research.data.corpora import Corpus, as_corpus
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

REPEATS = 5  # with a test split; with cross-validation 1, because its folds are repeats already
OnProgress = Callable[[str, float, float], None]  # (title of a run, total of runs done, a recent loss)


@dataclasses.dataclass(frozen=True)
class ComparisonSpec:
    """The variants, the corpus and the protocol of a comparison.

    Attributes:
      variants: name -> config, or `Variant`s.
      corpus: labelled texts, the name of a known corpus, or a path.
      folds: number of folds of the cross-validation, by default 5; None for a corpus with a test split.
      repeats: number of repeats. The default is the number that the folder holds; in a new folder it is 5 with a test
        split, else 1.
      max_repeats: if given, repeats are added one by one up to this number while a pair is undecided. The intervals
        then allow for every look that may be taken, so that stopping at a good moment does not raise the error rate.
      claims: the pairs that the report compares, with metric and margin. The default is the claims that the folder
        holds; in a new folder each variant is compared with the baseline, by `default_metric`.
      corpus_flags: the flags that name the corpus in a `train` command; kept in the records.
      command: the command that makes the same comparison; kept in the report.
      overwrite: whether to remove an earlier comparison or run from the folder. It is removed after all other checks.
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


def run_comparison(
    spec: ComparisonSpec,
    workdir: Path | str,
    *,
    workers: Workers | None = None,
    on_progress: OnProgress = lambda run, done, loss: None,
    log: Callable[[str], None] = lambda line: None,
) -> Results:
    """Train every variant over folds and repeats and write the report; finished runs are not repeated.

    Args:
      spec: the variants, the corpus and the protocol.
      workdir: the folder of the comparison. A folder with fewer variants or repeats is extended.
      workers: as in `train_runs`.
      on_progress: called now and then.
      log: called with a line before training, for each run that ends, and after each look at the table.

    Returns:
      the results, as the folder's report shows them.

    Raises:
      UserError: settings do not fit, or the folder holds another comparison.
    """
    folder = Path(workdir)
    comparison = _resolve(spec, folder)
    notes = _notes(comparison)
    release_memory()  # that reading files has taken
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
            release_memory()  # before matplotlib needs some
            results = read_results(folder) if is_new or seen is None else seen
            write_results(results, folder, comparison.corpus)
            if len(comparison.looks) > 1:
                line, is_decided = _verdict_of_look(results, comparison, repeats)
                log(line)
                if is_decided:
                    break
            seen = results
    return results


def _resolve(spec: ComparisonSpec, folder: Path) -> Comparison:
    """Check a specification, and fill in the defaults."""
    variants = spec.variants
    if isinstance(variants, Mapping):
        variants = [Variant(name, config) for name, config in variants.items()]
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    corpus = as_corpus(spec.corpus)
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
            variant.of_run(0, repeat, folds)  # raises if tuned settings are missing
        split_corpus(corpus, variant.config.seed, folds=folds, fold=0, repeat=0)  # raises if there are too many folds
    looks = range(repeats, last + 1)
    return Comparison(variants, corpus, folds, looks, spec.claims, spec.command, tuple(spec.corpus_flags))


def default_repeats(folder: Path | None, folds: int) -> int:
    """Return the default number of repeats: the number that the folder holds; in a new folder 1 with folds, else 5."""
    if folder is not None and (folder / run_files.PLAN).exists():
        return read_plan(folder)["repeats"]
    return 1 if folds else REPEATS


def _notes(comparison: Comparison) -> list[str]:
    """Return warnings about the size of the corpus, each with the variants that it is about."""
    variants_of: dict[str, list[str]] = {}
    for variant in comparison.variants:
        sentences = (
            cut_sentence(comparison.corpus, variant.config.data),
            protocol_sentence(comparison.corpus, variant.config, comparison.folds),
        )
        for sentence in filter(None, sentences):
            variants_of.setdefault(sentence, []).append(variant.name)
    notes = []
    for sentence, names in variants_of.items():
        about = "every variant" if len(names) == len(comparison.names) else ", ".join(names)
        notes.append(f"{sentence} ({about})")
    return notes


def _results_so_far(folder: Path) -> Results | None:
    with contextlib.suppress(UserError):  # no run is finished
        return read_results(folder)
    return None


def _lines_before(folder: Path, plan: dict[str, Any], comparison: Comparison, seen: Results | None) -> list[str]:
    """Return the lines that a user should read before training."""
    lines = []
    if others := sorted(plan["variants"].keys() - comparison.names):
        lines.append(
            f"{folder} also holds {', '.join(others)}, from earlier commands; table and claims include all of them"
        )
    if plan["repeats"] > comparison.looks[-1]:
        lines.append(f"{folder} holds {plan['repeats']} repeats; table and claims include all of them")
    corpus = comparison.corpus
    tested = corpus.splits != "validation" if comparison.folds else corpus.splits == "test"
    texts = len(np.unique(corpus.groups[tested]))
    spread = None if seen is None else seen.spread
    return [*lines, detectable_sentence(plan, planned_claims(plan), texts, spread)]


def _verdict_of_look(results: Results, comparison: Comparison, repeats: int) -> tuple[str, bool]:
    """Return a line that sums up the table after some repeats, and whether every pair is decided."""
    # Pairs with a variant that this call does not train have fewer repeats.
    pairs = [pair for pair in results.pairs if {pair["a"], pair["b"]} <= comparison.names]
    undecided = sum(pair["verdict"] == "undecided" for pair in pairs)
    untrained = sum(pair["verdict"] == NOT_TRAINED for pair in pairs)
    note = ""
    if untrained:
        note = f"{untrained} pair(s) have a variant that was not trained; more repeats will not change that. "
    if pairs and not undecided:
        spared = (comparison.looks[-1] - repeats) * len(comparison.variants) * (comparison.folds or 1)
        every = "every pair of trained variants" if untrained else "every pair"
        return f"{note}{every} is decided after {repeats} repeat(s); {spared} of the allowed runs are not needed", True
    allowed = ", as many as are allowed" if repeats == comparison.looks[-1] else ""
    return f"{note}{undecided} pair(s) undecided after {repeats} repeat(s){allowed}", False


def _runs_of(folder: Path, comparison: Comparison, repeats: int) -> dict[str, Run]:
    """Return all runs by title, one variant after the other, so that each program is compiled once."""
    runs, folds = {}, comparison.folds
    for variant, repeat, fold in itertools.product(comparison.variants, range(repeats), range(folds or 1)):
        name, (config, flags) = run_files.run_name(fold, repeat, folds), variant.of_run(fold, repeat, folds)
        fold_flags = (f"--folds={folds}", f"--fold={fold}") if folds else ()
        flags = (*flags, *comparison.corpus_flags, *fold_flags, f"--repeat={repeat}", "--workdir=RUN")
        command = f"./launch.sh train {shlex.join(flags)}" if variant.flags else ""  # a call from Python has none
        path = folder / run_files.folder_name(variant.name) / name
        runs[f"{variant.name} {name.replace('-', ' ')}"] = Run(config, path, fold, repeat, command)
    return runs


def _train_unfinished(
    folder: Path, comparison: Comparison, repeats: int, workers: Workers | None, board: "_Board"
) -> bool:
    """Train the runs that are not finished; return whether there were any."""
    runs = _runs_of(folder, comparison, repeats)
    ended = [run for run in runs.values() if run_files.has_ended(run.folder)]
    ended_folders = {run.folder for run in ended}
    if ended:
        board.log(f"{len(ended)} of {len(runs)} runs are finished already")
    outdated = [r for r in ended if was_trained_by_other_code(run_files.read_record(r.folder), r.config.model.module)]
    if outdated:
        board.log(f"{len(outdated)} of them were made by other code; --overwrite trains all runs again")
    unfinished = [run for run in runs.values() if run.folder not in ended_folders]
    for run in unfinished:  # all of them, before any is trained
        check_source(RunSpec(run.config, comparison.corpus, comparison.folds, run.fold, run.repeat))
    board.start(runs, ended)
    hooks = RunHooks(board.on_progress, board.on_run_end)
    train_runs(list(runs.values()), comparison.corpus, folds=comparison.folds, workers=workers, hooks=hooks)
    return bool(unfinished)


class _Board:
    """Adds up the progress of all runs, and logs how each run ended."""

    def __init__(self, on_progress: OnProgress, log: Callable[[str], None]):
        self._report, self.log = on_progress, log
        self._titles: dict[Path, str] = {}
        self._ended: set[Path] = set()  # the runs that ended before this call
        self._done: dict[Path, float] = {}  # the share of each run that is done

    def start(self, runs: Mapping[str, Run], ended: Sequence[Run]) -> None:
        """Begin with runs, by title; `ended` are those that ended before this call."""
        self._titles = {run.folder: title for title, run in runs.items()}
        self._ended = {run.folder for run in ended}
        self._done = {}

    def on_progress(self, run: Run, epochs: float, loss: float) -> None:
        """Report the progress of a run as the total of runs done."""
        self._done[run.folder] = epochs / run.config.training.epochs
        self._report(self._titles[run.folder], len(self._ended) + sum(self._done.values()), loss)

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        """Log how a run ended, unless it had ended before."""
        if run.folder in self._ended:
            return
        self.on_progress(run, run.config.training.epochs, float("nan"))  # it may have ended before its last epoch
        self.log(f"{self._titles[run.folder]}: {_describe_end(run, outcome)}")


def _describe_end(run: Run, outcome: Outcome) -> str:
    """Return how a run ended, as a phrase; write the record of a run that failed."""
    if isinstance(outcome, Diverged):
        return f"diverged ({outcome.message})"
    if outcome is not None:
        problem = f"{type(outcome).__name__}: {outcome}".splitlines()[0]
        trace = "".join(traceback.format_exception(outcome))
        with contextlib.suppress(OSError):  # a run without a record counts as unfinished
            write_record(run.folder, "failed", run.command, error=problem, traceback=trace)
        return f"failed ({problem})"
    record = run_files.read_record(run.folder)
    test = next(r for r in run_files.read_metrics(run.folder) if r["split"] == "test")
    seconds = record["seconds"]["compile"] + record["seconds"]["train"]
    origin = "the last" if run.config.training.select == "last" else "chosen"
    return f"test accuracy {test['accuracy']:.4f}, epoch {record['best_epoch']}, {origin}, {seconds:.1f} s"
