"""Train runs into their folders. The result depends on (config, corpus, fold, repeat), and not on interruptions."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.atomic_files import write_text
from research.data.corpora import Corpus, as_corpus
from research.data.fingerprints import fingerprint_run
from research.errors import Diverged
from research.runs import run_files
from research.runs.clearing import clear
from research.runs.multihost import local_folder, open_checkpoints
from research.runs.prepare import PreparedRun, Run, add_vectors, claim_run, describe, fresh_state, prepare_run
from research.runs.record import epoch_of, run_facts, write_record
from research.runs.resume import History
from research.settings import Config, Pretraining, Training, is_fitted_whole
from research.training.loop import Hooks, Task, fit, of_run, stack
from research.training.metric_sums import summarise
from research.training.programs import (
    Programs,
    classifier_task,
    compile_programs,
    evaluate_runs,
    evaluation_batches,
    programs_for,
)
from research.training.sharding import ONE_DEVICE, Placement, share_rows
from research.training.step import TrainState
from research.training.whole_fit import whole_fit_task

OnProgress = Callable[[Run, float, float], None]  # (run, epochs done, a recent loss)


def ignore_progress(run: Run, epochs: float, loss: float) -> None:
    """Do nothing; the default of `on_progress`."""


class RunOptions(NamedTuple):
    """How to train a single run; no option changes the result."""

    command: str = ""  # a command line that trains the same run; saved in the record
    overwrite: bool = False  # whether to remove an earlier run from the folder, after everything else is checked
    devices: int = 0  # number of devices that share each batch; 0 uses as many as make training faster
    on_progress: OnProgress = ignore_progress


def train(
    config: Config,
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
    options: RunOptions = RunOptions(),
) -> Path:
    """Train one run into a folder, or resume it if it was interrupted.

    Args:
      config: the variant's settings.
      corpus: labelled texts, or the name or path of a corpus.
      workdir: the run's folder, created if it does not exist.
      folds: the number of folds, 5 by default; 0 tests no text. Leave it out if the corpus has a test split.
      fold: the fold that is held out as test.
      repeat: the number of the repetition; each has its own split, initialisation, data order and dropout.
      options: how to train.

    Returns:
      the run's folder.

    Raises:
      UserError: a setting or fold is wrong, or the folder holds something else.
      Diverged: the loss is no longer finite; the best state before is saved.
    """
    corpus = as_corpus(corpus)
    run = Run(config, Path(workdir), fold, repeat, options.command, options.overwrite)
    return train_run(run, corpus, folds=folds, options=options)


def train_run(run: Run, corpus: Corpus, *, folds: int | None = None, options: RunOptions = RunOptions()) -> Path:
    """Train a run with the devices and the callback of `options`; return its folder, and raise as `train`."""
    placement = share_rows(options.devices, run.config.training.batch_size)
    with local_folder(run.folder) as folder:
        local_run = run._replace(folder=folder)
        (diverged,) = train_group(
            [local_run], corpus, folds=folds, placement=placement, on_progress=options.on_progress
        )
    if diverged is not None:
        raise diverged
    return run.folder


def train_group(
    runs: Sequence[Run],
    corpus: Corpus,
    *,
    folds: int | None = None,
    test: bool = True,
    placement: Placement = ONE_DEVICE,
    on_progress: OnProgress = ignore_progress,
) -> list[Diverged | None]:
    """Train runs with equal programs and numbers of epochs together.

    Args:
      runs: the runs; finished ones are skipped.
      corpus: labelled texts.
      folds: as in `train`.
      test: whether to evaluate the test texts; False for tuning trials, which must not see them.
      placement: the devices.
      on_progress: called regularly; an exception that it raises ends training.

    Returns:
      for each run, the error that ended it early, or None.

    Raises:
      UserError: as in `train`.
    """
    start = time.perf_counter()
    prepared = [prepare_run(run, corpus, folds) for run in runs]
    unfinished = [add_vectors(run, on_progress) for run in prepared if run is not None]
    if not unfinished:
        return [None] * len(runs)
    programs, fresh = _fresh_states(unfinished, placement)
    with contextlib.ExitStack() as claims:
        for run in unfinished:
            claims.enter_context(_open_folder(run))
        group = _Group(unfinished, programs, test, time.perf_counter() - start, on_progress)
        errors = iter(_train(group, fresh))
    return [None if run is None else next(errors) for run in prepared]


def check_run(run: Run, corpus: Corpus, folds: int | None) -> None:
    """Check everything that a run checks before it writes anything.

    Raises:
      UserError: as in `train`.
    """
    _fresh_states([prepare_run(run._replace(overwrite=True), corpus, folds)], ONE_DEVICE)


def _fresh_states(prepared: Sequence[PreparedRun], placement: Placement) -> tuple[Programs, TrainState]:
    """Return the programs and the fresh states [R, ...] of runs. Raise UserError if their settings do not fit."""
    spec = prepared[0].spec
    programs = programs_for(spec.config, len(spec.corpus.class_names), placement)
    return programs, stack([fresh_state(programs, run) for run in _pad(prepared, placement)])


def _pad(items: Sequence[Any], placement: Placement) -> list[Any]:
    """Repeat the last item until every device has equally many; results of the repeated items are not read."""
    return [*items, *[items[-1]] * (-len(items) % placement.run_shares)]


@contextlib.contextmanager
def _open_folder(prepared: PreparedRun) -> Iterator[None]:
    """Claim the folder of a run and write the files that exist before training."""
    run, texts, source = prepared.run, prepared.texts, prepared.source
    description = describe(prepared.spec) | {"widths": list(texts.shapes.widths)}
    if run.overwrite:
        clear(run.folder)
    with claim_run(run.folder, description):
        write_text(run.folder / run_files.TOKENIZER, texts.tokenizer)
        if source.seen.is_complete:  # without the file, later runs know that the texts are unknown
            own = fingerprint_run(prepared.spec.corpus, texts.split.train, texts.split.validation)
            earlier = source.seen.fingerprints
            run_files.write_seen(run.folder, [own, earlier], len(own) + len(earlier))
        yield


class _Group(NamedTuple):
    """Runs that are trained together."""

    prepared: Sequence[PreparedRun]
    programs: Programs
    test: bool
    seconds_to_prepare: float
    on_progress: OnProgress


def _train(group: _Group, fresh: TrainState) -> list[Diverged | None]:
    """Compile, train, test and write the records; return for each run the error that ended it early, or None."""
    prepared, programs = group.prepared, group.programs
    training, shapes = prepared[0].spec.config.training, prepared[0].texts.shapes
    data = [run.data for run in _pad(prepared, programs.placement)]
    times = [time.perf_counter()]
    is_whole = is_fitted_whole(prepared[0].spec.config)
    compile_programs(programs, programs.placement.put(fresh), data, None if is_whole else training, shapes)
    times.append(time.perf_counter())
    if is_whole:
        runs = [run.run for run in _pad(prepared, programs.placement)]
        task = whole_fit_task(programs, data, prepared[0].spec.config, shapes, group.on_progress, runs)
    else:
        task = classifier_task(programs, data, training, shapes)
    saved = [SavedRun(run.run, run.training, run.select) for run in prepared]
    outcomes, earlier_seconds = train_epochs(saved, task, fresh, group.on_progress)
    times.append(time.perf_counter())
    finished = [(run, best) for run, best in zip(prepared, outcomes, strict=True) if not isinstance(best, Diverged)]
    if group.test and finished and len(finished[0][0].texts.split.test):
        _test(programs, finished)
    times.append(time.perf_counter())
    compiling, training_time, evaluating = np.diff(times)
    seconds = {
        "prepare": group.seconds_to_prepare,
        "compile": compiling,
        "train": training_time + earlier_seconds,
        "evaluate": evaluating,
    }
    common_facts = {
        "seconds": {name: round(float(value) / len(prepared), 3) for name, value in seconds.items()},
        "trained_together": len(prepared),
        "shared_among": programs.placement.row_shares,
    }
    # All records are written last, so that any run of an interrupted group can be resumed without the others.
    for run, best in zip(prepared, outcomes, strict=True):
        if isinstance(best, Diverged):
            write_record(run.run.folder, "diverged", run.run.command, error=best.message, **common_facts)
    for run, best in finished:
        write_record(run.run.folder, "done", run.run.command, **run_facts(run, programs, best), **common_facts)
    return [best if isinstance(best, Diverged) else None for best in outcomes]


class SavedRun(NamedTuple):
    """A run whose epochs `train_epochs` logs and saves."""

    run: Run
    training: Training | Pretraining
    select: str  # the validation score that chooses the epoch, see `early_stopping.chosen_by`


def train_epochs(
    runs: Sequence[SavedRun], task: Task, fresh: Any, on_progress: OnProgress
) -> tuple[list[Any | Diverged], float]:
    """Train all epochs, log them and save checkpoints; start from the last checkpoints if there are any.

    Args:
      runs: at most R runs; further states are padding and are not trained.
      task: the training task.
      fresh: the states [R, ...] before the first step.
      on_progress: called regularly; an exception that it raises ends training.

    Returns:
      for each run, its best state or the error that ended it early; and the mean seconds of training before this call.
    """
    with contextlib.ExitStack() as checkpoints:
        histories = [_open_history(r, run, task, fresh, checkpoints) for r, run in enumerate(runs)]

        def on_checkpoint(states: Any, trained: set[int], is_end: bool) -> None:
            for r in trained:
                if is_end or histories[r].is_due():
                    histories[r].save(of_run(states, r))

        epochs, padding = runs[0].training.epochs, range(len(runs), len(task.steps))
        resumed = [history.resume(of_run(fresh, r)) for r, history in enumerate(histories)]
        every_epoch = fit(
            task,
            task.placement.put(stack(resumed + [of_run(fresh, r) for r in padding])),
            epochs,
            done=[history.epochs for history in histories] + [epochs for _ in padding],
            is_finished=lambda r: histories[r].is_over,
            hooks=Hooks(on_progress, on_checkpoint, [saved.run for saved in runs]),
        )
        errors: dict[int, Diverged] = {}
        for states, results in every_epoch:
            for r, history in enumerate(histories):
                if isinstance(results[r], Diverged):
                    history.save_best()
                    errors[r] = results[r]
                elif results[r] is not None:
                    history.add(results[r], functools.partial(of_run, states, r))
            del states  # the next step reuses their memory
        outcomes = [errors[r] if r in errors else history.best() for r, history in enumerate(histories)]
        return outcomes, float(np.mean([history.seconds_before for history in histories]))


def _open_history(r: int, saved: SavedRun, task: Task, fresh: Any, checkpoints: contextlib.ExitStack) -> History:
    """Open the checkpoints of a run and read its saved epochs. The exit stack `checkpoints` closes them."""
    folder = saved.run.folder
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), fresh)
    opened = checkpoints.enter_context(open_checkpoints(folder / run_files.CHECKPOINTS, template))
    return History(folder, saved.training, opened, select=saved.select, steps=task.steps[r])


def _test(programs: Programs, finished: Sequence[tuple[PreparedRun, TrainState]]) -> None:
    """Evaluate the test texts of each run, and write their metrics and predictions.

    Predictions written before an interruption are kept, because a smaller group may round differently. Such runs are
    evaluated again nevertheless, because the record states how long that takes.
    """
    placement, widths = programs.placement, finished[0][0].texts.shapes.widths
    texts = _pad([run.encoded("test") for run, _ in finished], placement)
    variables = placement.put(stack(_pad([best.variables for _, best in finished], placement)))
    batches = evaluation_batches(texts, widths, placement)
    metrics, probabilities = evaluate_runs(programs, variables, batches, [len(part.labels) for part in texts])
    for r, (prepared, best) in enumerate(finished):
        corpus, folder, test = prepared.spec.corpus, prepared.run.folder, prepared.texts.split.test
        if _is_tested(folder):
            continue
        records = [record for record in run_files.read_metrics(folder) if record["split"] != "test"]
        record = {"step": int(best.step), "epoch": epoch_of(records, best), "split": "test"}
        run_files.write_metrics(folder, [*records, record | summarise(of_run(metrics, r))], append=False)
        ids, labels, groups = corpus.ids[test], corpus.labels[test], corpus.groups[test]
        run_files.write_predictions(folder, run_files.Predictions(ids, labels, probabilities[r], groups))


def _is_tested(folder: Path) -> bool:
    """Return whether the test texts were evaluated before an interruption."""
    return (folder / run_files.PREDICTIONS).exists() and run_files.read_metrics(folder)[-1]["split"] == "test"
