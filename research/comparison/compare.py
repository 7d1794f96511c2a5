"""Compare variants over folds and repeats of one corpus, in a folder that can be resumed and extended."""

import contextlib
import dataclasses
import itertools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.comparison.foreign_runs import ForeignRun, common_split, make_foreign_run, resolve_foreign
from research.comparison.foreign_variant import ForeignVariant
from research.comparison.next_repeat import Limits, Pace, next_repeat
from research.comparison.plan import (
    Comparison,
    Variant,
    detectable_sentence,
    extend_plan,
    make_variant,
    plan_repeat,
)
from research.comparison.run_board import OnProgress, RunBoard
from research.data.corpora import Corpus, as_corpus
from research.data.splits import resolve_folds, split_corpus
from research.data.tokenized_corpus import cut_sentence
from research.data.tokenizer_files import fit_to_tokenizer
from research.errors import UserError
from research.json_files import write_json
from research.machine import release_memory
from research.parallel.train_runs import RunHooks, train_runs
from research.parallel.worker_pool import Workers
from research.reporting.claims import Claims, planned_claims
from research.reporting.report import write_results
from research.reporting.results import Results, read_results
from research.runs import run_files
from research.runs.claim import claim_folder
from research.runs.clearing import clear
from research.runs.code_hash import was_trained_by_other_code
from research.runs.plan_file import MOST_REPEATS, read_plan, repeats_of
from research.runs.prepare import Run
from research.runs.source import check_source
from research.runs.texts import RunSpec
from research.runs.train import check_run
from research.settings import Config
from research.settings_validation import validate
from research.training.early_stopping import protocol_sentence

REPEATS = 5  # with a test split; with cross-validation 1, because its folds are repeats already


@dataclasses.dataclass(frozen=True)
class ComparisonSpec:
    """The variants, the corpus and the protocol of a comparison.

    Attributes:
      variants: name -> config or a model with scikit-learn's methods; or `Variant`s and `ForeignVariant`s.
      corpus: labelled texts, the name of a known corpus, or a path.
      folds: number of folds of the cross-validation, by default 5; None for a corpus with a test split.
      repeats: number of repeats. The default is the number that the folder holds; in a new folder it is 5 with a test
        split, else 1.
      max_repeats: if given, repeats are added one by one, up to this number, to the variants of undecided pairs. The
        intervals then allow for every look that may be taken, so that stopping at a good moment does not raise the
        error rate.
      minutes: with `max_repeats`: no repeat is begun that is expected to end later than this.
      claims: the pairs that the report compares, with metric and margin. The default is the claims that the folder
        holds; in a new folder each variant is compared with the baseline, by `default_metric`.
      corpus_flags: the flags that name the corpus in a `train` command; kept in the records.
      command: the command that makes the same comparison; kept in the report.
      overwrite: whether to remove an earlier comparison or run from the folder. It is removed after all other checks.
      split_by: the config whose seed, `varies` and `data.train_size` split the corpus, if no variant has one; otherwise
        those of the variants do.
    """

    variants: Mapping[str, Any] | Sequence[Variant | ForeignVariant]
    corpus: Corpus | Path | str
    folds: int | None = None
    repeats: int | None = None
    max_repeats: int | None = None
    minutes: float | None = None
    claims: Claims | None = None
    corpus_flags: Sequence[str] = ()
    command: str = ""
    overwrite: bool = False
    split_by: Config | None = None


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
        for variant in comparison.own:
            check_run(Run(variant.of_run(0, 0, comparison.folds)[0], folder), comparison.corpus, comparison.folds)
        clear(folder)
    with claim_folder(folder, is_ours=(folder / run_files.PLAN).exists()):
        plan = extend_plan(folder, comparison)
        write_json(folder / run_files.PLAN, plan)
        seen = _results_so_far(folder)
        for line in (*notes, *_lines_before(folder, plan, comparison, seen)):
            log(line)
        first, most = comparison.looks.start, comparison.looks[-1]
        start = max(first, min(plan["repeats"], most))  # the repeats that an earlier call has planned
        pace, variants = Pace(), comparison.names
        for repeats in range(start, most + 1):
            plan_repeat(plan, comparison, variants, first if repeats == start else repeats)
            write_json(folder / run_files.PLAN, plan)
            begin = pace.elapsed
            new = _train_unfinished(folder, comparison, plan, repeats, workers, RunBoard(on_progress, log))
            release_memory()  # before matplotlib needs some
            results = read_results(folder) if new or seen is None else seen
            write_results(results, folder, comparison.corpus)
            if len(comparison.looks) > 1:
                pace.learn(results, new, pace.elapsed - begin)
                limits = Limits(most, spec.minutes)
                variants, sentences = next_repeat(results, comparison.names, pace, repeats, limits)
                for sentence in sentences:
                    log(sentence)
                if not variants:
                    break
            seen = results
    return results


def _resolve(spec: ComparisonSpec, folder: Path) -> Comparison:
    """Check a specification, and fill in the defaults."""
    variants = spec.variants
    if isinstance(variants, Mapping):
        variants = [make_variant(name, value) for name, value in variants.items()]
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    variants = [_fitted(variant) if isinstance(variant, Variant) else variant for variant in variants]
    own = [variant for variant in variants if isinstance(variant, Variant)]
    corpus = as_corpus(spec.corpus)
    folds = resolve_folds(corpus, spec.folds)
    repeats = default_repeats(None if spec.overwrite else folder, folds) if spec.repeats is None else spec.repeats
    if not 1 <= repeats <= MOST_REPEATS:
        raise UserError(f"--repeats is {repeats}, expected 1 to {MOST_REPEATS}")
    last = repeats if spec.max_repeats is None else spec.max_repeats
    if spec.minutes is not None and spec.minutes <= 0:
        raise UserError(f"--minutes is {spec.minutes:g}, expected more than 0")
    if not repeats <= last <= MOST_REPEATS:
        raise UserError(f"--max_repeats is {last}, expected {repeats}, as --repeats, to {MOST_REPEATS}")
    for variant in own:
        for repeat in range(last):
            variant.of_run(0, repeat, folds)  # raises if tuned settings are missing
        split_corpus(corpus, variant.config.seed, folds=folds, fold=0, repeat=0)  # raises if there are too many folds
    looks, split_by = range(repeats, last + 1), None
    if len(own) < len(variants):
        split_by = common_split(variants, spec.split_by)
        split_corpus(corpus, split_by.seed, folds=folds, fold=0, repeat=0)
        variants = [
            resolve_foreign(variant, corpus, split_by, folds=folds, repeats=last)
            if isinstance(variant, ForeignVariant)
            else variant
            for variant in variants
        ]
    return Comparison(variants, corpus, folds, looks, spec.claims, spec.command, tuple(spec.corpus_flags), split_by)


def _fitted(variant: Variant) -> Variant:
    """Check the settings of a variant, and set the vocabulary size to that of its tokenizer."""
    return variant._replace(config=fit_to_tokenizer(validate(variant.config)))


def default_repeats(folder: Path | None, folds: int) -> int:
    """Return the default number of repeats: the number that the folder holds; in a new folder 1 with folds, else 5."""
    if folder is not None and (folder / run_files.PLAN).exists():
        return read_plan(folder)["repeats"]
    return 1 if folds else REPEATS


def _notes(comparison: Comparison) -> list[str]:
    """Return warnings about the size of the corpus, each with the variants that it is about."""
    variants_of: dict[str, list[str]] = {}
    for variant in comparison.own:
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
    unused = {v.predictions.file: v.predictions.unused_repeats for v in comparison.foreign if v.predictions is not None}
    notes += [f"{file} has {count} more repeat(s), which are not used" for file, count in unused.items() if count]
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


def _places(
    variants: Sequence[Variant | ForeignVariant], plan: dict[str, Any], repeats: int
) -> Iterator[tuple[Variant | ForeignVariant, int, int]]:
    """Yield variant, repeat and fold of the runs of the first repeats, one variant after the other."""
    for variant in variants:
        yield from itertools.product(
            [variant], range(min(repeats, repeats_of(plan, variant.name))), range(plan["folds"] or 1)
        )


def _runs_of(folder: Path, comparison: Comparison, plan: dict[str, Any], repeats: int) -> dict[str, Run]:
    """Return all runs of own models by title, one variant after the other, so that each program is compiled once."""
    runs, folds = {}, comparison.folds
    for variant, repeat, fold in _places(comparison.own, plan, repeats):
        name, (config, flags) = run_files.run_name(fold, repeat, folds), variant.of_run(fold, repeat, folds)
        fold_flags = (f"--folds={folds}", f"--fold={fold}") if folds else ()
        flags = (*flags, *comparison.corpus_flags, *fold_flags, f"--repeat={repeat}", "--workdir=RUN")
        command = f"./launch.sh train {shlex.join(flags)}" if variant.flags else ""  # a call from Python has none
        path = folder / run_files.folder_name(variant.name) / name
        runs[f"{variant.name} {name.replace('-', ' ')}"] = Run(config, path, fold, repeat, command)
    return runs


def _foreign_runs_of(folder: Path, comparison: Comparison, plan: dict[str, Any], repeats: int) -> dict[str, ForeignRun]:
    """Return all runs of models from elsewhere by title."""
    runs, folds = {}, comparison.folds
    for variant, repeat, fold in _places(comparison.foreign, plan, repeats):
        name = run_files.run_name(fold, repeat, folds)
        path = folder / run_files.folder_name(variant.name) / name
        runs[f"{variant.name} {name.replace('-', ' ')}"] = ForeignRun(variant, path, fold, repeat)
    return runs


def _train_unfinished(
    folder: Path, comparison: Comparison, plan: dict[str, Any], repeats: int, workers: Workers | None, board: RunBoard
) -> frozenset[str]:
    """Train the runs that are not finished; return their folders within the comparison's."""
    own, foreign = _runs_of(folder, comparison, plan, repeats), _foreign_runs_of(folder, comparison, plan, repeats)
    runs = own | foreign
    ended = [run for run in runs.values() if run_files.has_ended(run.folder)]
    ended_folders = {run.folder for run in ended}
    if ended:
        board.log(f"{len(ended)} of {len(runs)} runs are finished already")
    outdated = [
        run
        for run in own.values()
        if run.folder in ended_folders
        and was_trained_by_other_code(run_files.read_record(run.folder), run.config.model.module)
    ]
    if outdated:
        board.log(f"{len(outdated)} of them were made by other code; --overwrite trains all runs again")
    for run in own.values():  # all of them, before any is trained
        if run.folder not in ended_folders:
            check_source(RunSpec(run.config, comparison.corpus, comparison.folds, run.fold, run.repeat))
    board.start(runs, ended)
    for run in foreign.values():  # first, because most of them take seconds, and their mistakes end the comparison
        if run.folder not in ended_folders:
            board.on_run_end(run, _try_foreign_run(run, comparison))
    if own:
        hooks = RunHooks(board.on_progress, board.on_run_end)
        train_runs(list(own.values()), comparison.corpus, folds=comparison.folds, workers=workers, hooks=hooks)
    return frozenset(
        run.folder.relative_to(folder).as_posix() for run in runs.values() if run.folder not in ended_folders
    )


def _try_foreign_run(run: ForeignRun, comparison: Comparison) -> Exception | None:
    """Make a run; return the error that the model raised, if any: other runs go on."""
    try:
        make_foreign_run(run, comparison)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the model is the user's code: anything may be raised
        return error
    return None
