"""Runs: each one training of one variant on one fold and repeat, a function of (config, corpus, fold, repeat)."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.atomic_files import write_text
from research.data.batches import gather, steps_per_epoch
from research.data.corpora import Corpus, load
from research.data.fingerprints import fingerprint_run
from research.errors import Diverged
from research.models.layers.recurrence import plain_recurrences
from research.runs import run_files
from research.runs.clearing import clear
from research.runs.code_hash import model_code, training_code
from research.runs.flops import count_flops
from research.runs.multihost import checkpoints_of, own_folder
from research.runs.prepare import Begun, Run, begin, describe, fresh_state, seed, taken_folder
from research.runs.record import write_record
from research.runs.resume import History
from research.runs.texts import Prepared
from research.runs.warm_start import start_from_run
from research.settings import Config
from research.training.early_stopping import chosen_by
from research.training.loop import (
    Fed,
    batches_to_evaluate,
    evaluate_members,
    fit,
    of_member,
    stack,
    warm_up,
)
from research.training.metric_sums import summarise
from research.training.programs import Programs, programs_for
from research.training.sharding import devices_for, put_replicated, shared_among, shares
from research.training.step import TrainState, evaluate_step


def train(
    config: Config,
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
    command: str = "",
    overwrite: bool = False,
    devices: int = 0,
    tick: Callable[[float, float], None] = lambda epochs, loss: None,
) -> Path:
    """Trains one run into a folder, or goes on with one that was interrupted.

    Args:
      config: the variant.
      corpus: labelled texts, a known corpus's name or a path.
      workdir: the run's folder; made where it does not exist.
      folds: of the cross-validation, default 5; not with a corpus that has a test split.
      fold: the fold that is held out as test.
      repeat: which repetition: own split, initialisation, order and dropout.
      command: the command that does the same; kept in the record.
      overwrite: removes what the folder holds of an earlier run, once all else is known to fit.
      devices: that share each batch; 0 takes as many as are good for it.
      tick: called now and then with (epochs done, a recent loss).

    Returns:
      the folder, with the files of the run-folder contract.

    Raises:
      UserError: a setting or fold that does not fit, or a folder that holds something else.
      Diverged: the loss is not finite any more; the best state before is kept.
    """
    if not isinstance(corpus, Corpus):
        corpus = load(corpus)

    def tick_one(_: int, epochs: float, loss: float) -> None:
        tick(epochs, loss)

    with own_folder(Path(workdir)) as folder, shared_among(devices or devices_for(config.training.batch_size)):
        run = Run(config, folder, fold, repeat, command, overwrite)
        (diverged,) = train_together([run], corpus, folds=folds, tick=tick_one)
    if diverged is not None:
        raise diverged
    return Path(workdir)


def train_together(
    asked: Sequence[Run],
    corpus: Corpus,
    *,
    folds: int | None = None,
    test: bool = True,
    tick: Callable[[int, float, float], None] = lambda run, epochs, loss: None,
) -> list[Diverged | None]:
    """Trains runs of equal programs and numbers of epochs in one, on the default device or those of `shared_among`.

    Args:
      asked: the runs; those that are finished are passed over.
      corpus: labelled texts.
      folds: as in `train`.
      test: False for trials, which never look at the test texts and leave no predictions.
      tick: called now and then with (which of the runs, epochs done, a recent loss).

    Returns:
      for each run what ended it before its time.

    Raises:
      UserError: as in `train`.
    """
    start = time.perf_counter()
    begun, found = begin(asked, corpus, folds), [None] * len(asked)
    if not begun:
        return found
    programs, fresh = _fresh(begun, corpus)
    with contextlib.ExitStack() as locks:
        for _, run, spec, prepared, source in begun:
            described = describe(spec) | {"widths": list(prepared.widths)}
            if run.overwrite:
                clear(run.folder)
            locks.enter_context(taken_folder(run.folder, described))
            write_text(run.folder / run_files.TOKENIZER, prepared.tokenizer)
            if source.is_known:  # a file that lacks some would pass for all
                seen = fingerprint_run(corpus, prepared.split.train, prepared.split.validation)
                run_files.write_seen(run.folder, [seen, source.seen], len(seen) + len(source.seen))
        ended = _train_begun(begun, programs, fresh, time.perf_counter() - start, test, tick)
    for of_run, error in zip(begun, ended, strict=True):
        found[of_run.at] = error
    return found


def _fresh(begun: Sequence[Begun], corpus: Corpus) -> tuple[Programs, TrainState]:
    """The programs of runs and their states; before anything is written, because settings may not fit each other."""
    programs = programs_for(begun[0].spec.config, len(corpus.class_names))
    return programs, stack([fresh_state(programs, of_run) for of_run in begun])


def try_out(run: Run, corpus: Corpus, folds: int | None) -> None:
    """Does what a run does before it writes.

    Raises:
      UserError: as in `train`.
    """
    _fresh(begin([run._replace(overwrite=True)], corpus, folds), corpus)


@functools.cache
def _compiling() -> threading.Semaphore:
    """Held while programs are compiled in threads: XLA takes several cores for one, and much memory."""
    return threading.Semaphore(max(1, len(jax.local_devices()) // 2))


def _train_begun(
    begun: Sequence[Begun],
    programs: Programs,
    fresh: TrainState,
    prepare_seconds: float,
    test: bool,
    tick: Callable[[int, float, float], None],
) -> list[Diverged | None]:
    """From the first step to the records; for each run what ended it before its time."""
    seconds = {"prepare": prepare_seconds}
    fed = [Fed(b.prepared.train, b.prepared.validation, seed(b.spec, "order")) for b in begun]
    training, widths, room = begun[0].spec.config.training, begun[0].prepared.widths, begun[0].prepared.room
    with _compiling():
        start = time.perf_counter()
        warm_up(programs, put_replicated(fresh), fed, training, widths, room)
        seconds["compile"] = time.perf_counter() - start
    start = time.perf_counter()
    trained, earlier_seconds = _train_epochs(begun, programs, fresh, fed, tick)
    seconds["train"] = time.perf_counter() - start + earlier_seconds
    start = time.perf_counter()
    done = [(b, best) for b, best in zip(begun, trained, strict=True) if not isinstance(best, Diverged)]
    if test and done:
        _test(programs, done)
    seconds["evaluate"] = time.perf_counter() - start
    seconds = {what: round(of_all / len(begun), 3) for what, of_all in seconds.items()}
    about = {"seconds": seconds, "trained_together": len(begun), "shared_among": shares()}
    ended = [best if isinstance(best, Diverged) else None for best in trained]
    # The records come last: runs that are left after some have theirs need nothing of what they did together.
    for of_run, error in zip(begun, ended, strict=True):
        if error is not None:
            write_record(of_run.run.folder, "diverged", of_run.run.command, error=str(error), **about)
    for of_run, best in done:
        _finish(of_run, programs, best, about)
    return ended


def _train_epochs(
    begun: Sequence[Begun],
    programs: Programs,
    fresh: TrainState,
    fed: Sequence[Fed],
    tick: Callable[[int, float, float], None],
) -> tuple[list[TrainState | Diverged], float]:
    """Trains, logs and saves, from the last checkpoints where there are some.

    Returns:
      each run's best state, or its end; and the seconds up to those checkpoints.
    """
    ended: dict[int, Diverged] = {}
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), fresh)
    with contextlib.ExitStack() as stacked:
        histories = []
        for of_run in begun:
            folder, training = of_run.run.folder, of_run.spec.config.training
            checkpoints = stacked.enter_context(checkpoints_of(folder / run_files.CHECKPOINTS, template))
            steps = steps_per_epoch(len(of_run.prepared.train.labels), training.batch_size)
            histories.append(History(folder, training, checkpoints, select=_chosen_by(of_run), steps=steps))
        resting = {r for r, history in enumerate(histories) if history.is_over}

        def keep(states: TrainState, at_once: bool) -> None:
            for r, history in enumerate(histories):
                if r not in resting and (at_once or history.is_due()):
                    history.keep(of_member(states, r))

        epochs = fit(
            programs,
            put_replicated(stack([history.resume(of_member(fresh, r)) for r, history in enumerate(histories)])),
            fed,
            begun[0].spec.config.training,
            widths=begun[0].prepared.widths,
            room=begun[0].prepared.room,
            done=[history.epochs for history in histories],
            resting=resting,
            tick=lambda r, done, loss: tick(begun[r].at, done, loss),
            keep=keep,
        )
        for states, results in epochs:
            for r, result in enumerate(results):
                if isinstance(result, Diverged):
                    histories[r].save_best()
                    ended[r] = result
                elif result is not None:
                    histories[r].add(result, functools.partial(of_member, states, r))
                    if histories[r].is_over:
                        resting.add(r)
            del states  # their memory is given to the next step
        found = [ended[r] if r in ended else history.best() for r, history in enumerate(histories)]
        return found, float(np.mean([history.seconds_before for history in histories]))


def _chosen_by(begun: Begun) -> str:
    prepared = begun.prepared
    return chosen_by(begun.spec.config.training, prepared.train.labels, len(prepared.validation.labels))


def _test(programs: Programs, done: Sequence[tuple[Begun, TrainState]]) -> None:
    """Writes the metrics of each run's test texts and their probabilities.

    Those written before an interruption stay: what is left of a population may round otherwise. It is evaluated again
    all the same, which takes a moment, because the record says how long that takes.
    """
    texts = [begun.prepared.test for begun, _ in done]
    variables = put_replicated(stack([best.variables for _, best in done]))
    batches = batches_to_evaluate(texts, done[0][0].prepared.widths)
    metrics, probabilities = evaluate_members(programs, variables, batches, [len(t.labels) for t in texts])
    for r, (begun, best) in enumerate(done):
        corpus, folder, split = begun.spec.corpus, begun.run.folder, begun.prepared.split
        if _is_tested(folder):
            continue
        records = [record for record in run_files.read_metrics(folder) if record["split"] != "test"]
        at = {"step": int(best.step), "epoch": _best_epoch(records, best), "split": "test"}
        run_files.write_metrics(folder, [*records, at | summarise(of_member(metrics, r))], append=False)
        ids, labels, groups = (array[split.test] for array in (corpus.ids, corpus.labels, corpus.groups))
        run_files.write_predictions(folder, run_files.Predictions(ids, labels, probabilities[r], groups))


def _is_tested(folder: Path) -> bool:
    """Whether its test texts were evaluated already, before an interruption."""
    return (folder / run_files.PREDICTIONS).exists() and run_files.read_metrics(folder)[-1]["split"] == "test"


def _best_epoch(records: Sequence[dict[str, Any]], best: TrainState) -> int:
    return next(record["epoch"] for record in records if record["step"] == int(best.step))


def _finish(begun: Begun, programs: Programs, best: TrainState, about: dict[str, Any]) -> None:
    """Writes what a run was; with it, it is finished."""
    _, run, spec, prepared, source = begun
    found = {
        "best_epoch": _best_epoch(run_files.read_metrics(run.folder), best),
        "near_copies": source.near_copies,
        "knows_what_sources_saw": source.is_known,
        "chosen_by": _chosen_by(begun),
        "texts": {name: len(part) for name, part in prepared.split._asdict().items()},
        "label_counts": np.bincount(prepared.train.labels, minlength=len(spec.corpus.class_names)).tolist(),
        "predictions_sha256": run_files.predictions_checksum(run.folder),
        "words": len(prepared.vocabulary),
        "words_with_vectors": 0 if prepared.vectors is None else int(prepared.vectors[1].sum()),
        "flops_per_text": _flops_per_text(spec.config, programs, best, prepared),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
        "model_code": model_code(spec.config.model.module),
        "training_code": training_code(),
    }
    if source.run is not None:
        found["init_from"] = start_from_run(best.variables, source.run, prepared.vocabulary)[1]._asdict()
    write_record(run.folder, "done", run.command, **found, **about)


def _flops_per_text(config: Config, programs: Programs, state: TrainState, prepared: Prepared) -> int:
    """Of predicting one text of median length, padded to a multiple of 8."""
    width = -(-max(1, int(np.median(prepared.train.lengths))) // 8) * 8
    if width not in programs.flops:
        example = gather(prepared.train, np.arange(0), 1, (width,))
        step = functools.partial(evaluate_step, programs.module, config)
        with plain_recurrences():
            programs.flops[width] = count_flops(step, state.variables, example)
    return programs.flops[width]
