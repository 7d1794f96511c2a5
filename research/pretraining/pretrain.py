"""Pre-training on texts without labels, into a run's folder: BERT's two tasks, or a language model's one.

What it leaves can be started from: an encoder as `bert:RUN/encoder`, the parameters of a recurrent variant by
`init_from=RUN`. A run is a function of (config, texts, fold, repeat), killed and started again or not.
"""

import functools
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.batches import steps_per_epoch
from research.data.corpora import Corpus
from research.data.pretrained_encoders import read_weights
from research.data.token_stream import Rows, batches
from research.data.unlabelled_texts import Part, TextFile, open_texts
from research.errors import Diverged
from research.models import bert_files
from research.pretraining.objectives import Sums, summarise, zero
from research.pretraining.preparation import (
    PreparedStream,
    check,
    check_batch,
    prepare_stream,
    resolve_pretraining_folds,
    split_texts,
    write_seen,
)
from research.pretraining.pretrain_step import PretrainPrograms, PretrainState, init_state, pretrain_programs
from research.runs import run_files
from research.runs.clearing import clear
from research.runs.multihost import checkpoints_of, own_folder
from research.runs.prepare import describe, is_done, seed, taken_folder
from research.runs.record import write_record
from research.runs.resume import History
from research.runs.texts import RunSpec
from research.settings import Config, Pretraining
from research.settings_validation import validate
from research.training.epoch import diverged, kept_if_ended, train_epoch, watch_losses
from research.training.sharding import devices_for, put_replicated, put_rows, shared_among, shares


def pretrain(
    config: Config,
    texts: Corpus | TextFile | Path | str,
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
    """Pre-trains a model into a folder, or goes on where it was interrupted.

    Args:
      config: of `for_pretraining`.
      texts: a corpus, whose labels are not read, or a plain file, by name or path too.
      workdir: the run's folder; made where it does not exist.
      folds: of a cross-validation: trains on the training texts of `fold` alone. Without, on all texts but those of
        a test or validation split, or a fiftieth of them (at most 1,000) where there is none.
      fold: which of them.
      repeat: which repetition: own split, initialisation, order, masks and dropout.
      command: the command that does the same; kept in the record.
      overwrite: removes what the folder holds of an earlier run, once all else is known to fit.
      devices: that share each batch; 0 takes as many as are good for it.
      tick: called now and then with (epochs done, a recent loss).

    Returns:
      the folder, with `config.json`, `tokenizer.json`, `checkpoints/`, `metrics.jsonl`, `record.json` and, of a
      "masked" model, `encoder/`.

    Raises:
      UserError: a setting, fold or text that does not fit, or a folder that holds something else.
      Diverged: the loss is not finite any more.
    """
    if not isinstance(texts, (Corpus, TextFile)):
        texts = open_texts(str(texts))
    spec = RunSpec(validate(config), texts, resolve_pretraining_folds(texts, folds, fold), fold, repeat)
    shapes, parts = check(spec), split_texts(spec)
    with own_folder(Path(workdir)) as folder, shared_among(devices or devices_for(config.training.batch_size)):
        check_batch(config.training, shares())
        description = describe(spec) | {"widths": [config.data.max_length]}
        if overwrite:
            clear(folder)
        elif is_done(folder, description):
            return Path(workdir)
        with taken_folder(folder, description):
            _train(spec, parts, folder, command, shapes, tick)
    return Path(workdir)


def _train(
    spec: RunSpec,
    parts: tuple[Part, Part],
    folder: Path,
    command: str,
    shapes: Any,
    tick: Callable[[float, float], None],
) -> None:
    """From the texts to the record."""
    start, seconds = time.perf_counter(), {}
    config, training = spec.config, spec.config.training
    write_seen(folder, *parts, config.data.weights)
    prepared = prepare_stream(spec, *parts, folder)
    programs = pretrain_programs(config, prepared.special, prepared.pieces)
    steps = steps_per_epoch(len(prepared.train.rows), training.batch_size)
    fresh = init_state(
        programs,
        config,
        init_seed=seed(spec, "init"),
        seed=seed(spec, "dropout"),
        num_steps=steps * training.epochs,
        start_from=functools.partial(_started, config),
    )
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), fresh)
    seconds["prepare"], start = time.perf_counter() - start, time.perf_counter()
    try:
        with checkpoints_of(folder / run_files.CHECKPOINTS, template) as checkpoints:
            history = History(folder, training, checkpoints, select=training.select, steps=steps)
            _train_epochs(programs, history, fresh, prepared, training, seed(spec, "order"), tick)
            best, seconds["train"] = history.best(), history.seconds_before
    except Diverged as error:
        write_record(folder, "diverged", command, error=str(error))
        raise
    seconds["train"] += time.perf_counter() - start
    if programs.module.objective == "masked":
        _write_encoder(folder / run_files.ENCODER, config, best.params, prepared.tokenizer)
    found = {
        "best_epoch": int(best.step) // steps,
        "rows": {"train": len(prepared.train.rows), "validation": len(prepared.validation.rows)},
        "tokens": {"train": len(prepared.train.tokens), "validation": len(prepared.validation.tokens)},
        "ordered_rows": int(prepared.train.rows[:, 3].sum()),
        "words": prepared.pieces,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes)),
        "seconds": {what: round(value, 3) for what, value in seconds.items()},
        "shared_among": shares(),
    }
    del prepared  # it reads the files
    shutil.rmtree(folder / run_files.STREAM)
    write_record(folder, "done", command, **found)


def _train_epochs(
    programs: PretrainPrograms,
    history: History,
    fresh: PretrainState,
    prepared: PreparedStream,
    training: Pretraining,
    order: int,
    tick: Callable[[float, float], None],
) -> None:
    """Trains, logs and saves, from the last checkpoint where there is one."""
    steps = steps_per_epoch(len(prepared.train.rows), training.batch_size)
    state = put_replicated(history.resume(fresh))
    given = {"epochs": training.epochs, "shuffled": True, "taken": int(state.step)}
    feed = batches(prepared.train, prepared.fill, training.batch_size, order, **given)

    def keep(state: PretrainState, at_once: bool) -> None:
        if at_once or history.is_due():
            history.keep(jax.device_get(state))

    def tick_one(_: int, epochs: float, loss: float) -> None:
        tick(epochs, loss)

    for epoch in range(history.epochs, training.epochs):
        taken, lost = int(state.step) - epoch * steps, {}
        if not taken:
            state = state.replace(sums=put_replicated(zero()))
        left = itertools.islice(feed, steps - taken)
        calls = ((functools.partial(_call, programs, training, rows), 1) for rows in left)
        watch = functools.partial(watch_losses, {0: taken}, epoch, [steps], lost, set(), tick_one)
        state = train_epoch(calls, state, watch, keep)
        validated = zero() if lost else _evaluate(programs, state.params, prepared, training)
        if lost or not np.isfinite(validated.loss):  # the last step's own loss is of before it
            history.save_best()
            raise lost.get(0) or diverged(int(state.step))
        at = {"step": int(state.step), "epoch": epoch + 1}
        of_splits = (("train", state.sums), ("validation", validated))
        records = [at | {"split": split} | summarise(sums) for split, sums in of_splits]
        history.add(records, functools.partial(jax.device_get, state))
        with kept_if_ended(keep, state):
            tick(epoch + 1.0, records[0]["loss"])


def _call(
    programs: PretrainPrograms, training: Pretraining, rows: Rows, state: PretrainState
) -> tuple[PretrainState, Sums]:
    parts = training.accumulation
    in_parts = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), rows)
    return programs.step(state, put_rows(in_parts, 1))


def _evaluate(programs: PretrainPrograms, params: Any, prepared: PreparedStream, training: Pretraining) -> Sums:
    """Of the rows that are looked at, with the same masks after every epoch."""
    sums = zero()
    if len(prepared.validation.rows):
        rows = batches(prepared.validation, prepared.fill, training.batch_size, 0, epochs=1, shuffled=False)
        for n, batch in enumerate(rows):
            sums = sums.merge(programs.evaluate(params, put_rows(batch, 0), n))
    return jax.device_get(sums)


def _started(config: Config, params: Any) -> Any:
    """With the weights of the encoder that the settings name, if any."""
    weights = config.data.weights
    return params if weights == "none" else bert_files.place(params, read_weights(weights), weights)


def _write_encoder(folder: Path, config: Config, params: Any, tokenizer: str) -> None:
    """As a BertForPreTraining, whose output layer is the embedding's table."""
    tensors = bert_files.tensors_of(params)
    tensors = {name if name.startswith("cls.") else f"bert.{name}": tensor for name, tensor in tensors.items()}
    described = run_files.read_json(folder.parent / run_files.CONFIG)
    bert_files.write_folder(folder, config, "BertForPreTraining", tensors, tokenizer, described)
    if (folder.parent / run_files.SEEN).exists():  # else nobody can tell what its own source has seen
        shutil.copyfile(folder.parent / run_files.SEEN, folder / run_files.SEEN)
