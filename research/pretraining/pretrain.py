"""Pre-train on texts without labels, into a run folder, by the two tasks of BERT or as a language model.

A classifier can start from the result: from an encoder as the variant `bert:RUN/encoder`, or from the parameters of a
recurrent variant with `--config.init_from=RUN`. The result depends on (config, texts, fold, repeat), and not on
interruptions. Classifiers are trained by the same loop and saved by the same code.
"""

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.batches import steps_per_epoch
from research.data.corpora import Corpus
from research.data.pretrained_encoders import read_weights
from research.data.token_stream import read_batches
from research.data.tokenizer_files import fit_to_tokenizer
from research.data.unlabelled_texts import Part, TextFile, open_texts
from research.errors import Diverged
from research.models import bert_files
from research.pretraining.objectives import Sums, summarise, zero
from research.pretraining.preparation import (
    PreparedStream,
    check_batch,
    check_spec,
    prepare_stream,
    resolve_pretraining_folds,
    split_texts,
    write_seen,
)
from research.pretraining.pretrain_step import PretrainPrograms, PretrainState, init_state, pretrain_programs
from research.runs import run_files
from research.runs.clearing import clear
from research.runs.multihost import local_folder
from research.runs.prepare import Run, claim_run, describe, holds_finished, seed_of
from research.runs.record import write_record
from research.runs.texts import RunSpec
from research.runs.train import RunOptions, SavedRun, train_epochs
from research.settings import Config
from research.settings_validation import validate
from research.training.loop import Call, Task, stack
from research.training.sharding import Placement, share_rows


def pretrain(
    config: Config,
    texts: Corpus | TextFile | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
    options: RunOptions = RunOptions(),
) -> Path:
    """Pre-train a model into a folder, or resume it if it was interrupted.

    Args:
      config: settings as returned by `for_pretraining`.
      texts: a corpus, whose labels are not read, or a plain file; also its name or path.
      workdir: the run's folder, created if it does not exist.
      folds: the number of folds of a cross-validation; then only the training texts of `fold` are used. Without folds,
        all texts are used except the test and validation splits. If there is neither split, a fiftieth of the texts
        (at most 1,000) is used for validation.
      fold: the fold that is held out.
      repeat: the number of the repetition; each has its own split, initialisation, data order, masks and dropout.
      options: how to train.

    Returns:
      the run's folder. For a "masked" model, it contains `encoder/`.

    Raises:
      UserError: a setting, fold or text is wrong, or the folder holds something else.
      Diverged: the loss is no longer finite.
    """
    if not isinstance(texts, (Corpus, TextFile)):
        texts = open_texts(str(texts))
    config = fit_to_tokenizer(validate(config))
    spec = RunSpec(config, texts, resolve_pretraining_folds(texts, folds, fold), fold, repeat)
    check_spec(spec)
    parts, placement = split_texts(spec), share_rows(options.devices, config.training.batch_size)
    check_batch(config.training, placement.row_shares)
    with local_folder(Path(workdir)) as folder:
        description = describe(spec) | {"widths": [config.data.max_length]}
        if options.overwrite:
            clear(folder)
        elif holds_finished(folder, description):
            return Path(workdir)
        with claim_run(folder, description):
            _pretrain(_Job(spec, *parts, folder, placement), options)
    return Path(workdir)


class _Job(NamedTuple):
    spec: RunSpec
    train: Part
    validation: Part
    folder: Path
    placement: Placement


def _pretrain(job: _Job, options: RunOptions) -> None:
    """Prepare the texts, train, and write the encoder and the record."""
    spec, folder, config = job.spec, job.folder, job.spec.config
    start = time.perf_counter()
    write_seen(folder, job.train, job.validation, config.data.weights)
    prepared = prepare_stream(spec, job.train, job.validation, folder)
    programs = pretrain_programs(config, prepared.special, prepared.num_ids, job.placement)
    steps = steps_per_epoch(len(prepared.train.rows), config.training.batch_size)
    fresh = init_state(
        programs,
        config,
        init_seed=seed_of(spec, "init"),
        seed=seed_of(spec, "dropout"),
        num_steps=steps * config.training.epochs,
        start_from=_start_from(config),
    )
    prepare_seconds, start = time.perf_counter() - start, time.perf_counter()
    task = _task(programs, prepared, config, seed_of(spec, "order"))
    saved = SavedRun(
        Run(config, folder, spec.fold, spec.repeat, options.command), config.training, config.training.select
    )
    (best,), earlier_seconds = train_epochs([saved], task, stack([fresh]), options.on_progress)
    if isinstance(best, Diverged):
        write_record(folder, "diverged", options.command, error=best.message)
        raise best
    train_seconds = time.perf_counter() - start + earlier_seconds
    if programs.module.objective == "masked":
        _write_encoder(folder / run_files.ENCODER, config, best.params, prepared.tokenizer)
    facts = _facts(prepared, best, steps) | {
        "seconds": {"prepare": round(prepare_seconds, 3), "train": round(train_seconds, 3)},
        "shared_among": job.placement.row_shares,
    }
    del prepared, task  # they have the files of the stream open
    shutil.rmtree(folder / run_files.STREAM)
    write_record(folder, "done", options.command, **facts)


def _task(programs: PretrainPrograms, prepared: PreparedStream, config: Config, order_seed: int) -> Task:
    """Return the task of pre-training one model. Arrays have a leading axis of one run, [1, ...]."""
    training, placement = config.training, programs.placement
    steps = steps_per_epoch(len(prepared.train.rows), training.batch_size)

    def calls(epoch: int, taken: Mapping[int, int]) -> Iterator[Call]:
        read = functools.partial(read_batches, prepared.train, prepared.fill, training.batch_size, order_seed)
        for rows in read(epochs=epoch + 1, taken=epoch * steps + taken[0], shuffled=True):
            parts = jax.tree.map(lambda leaf: leaf.reshape(1, training.accumulation, -1, *leaf.shape[1:]), rows)
            yield Call((placement.put_rows(parts, 2),), {}, 1)

    def validate(state: PretrainState) -> Sums:
        """Return the sums of the validation rows, [1], with the same masks after every epoch."""
        sums = zero()
        if len(prepared.validation.rows):
            batches = read_batches(prepared.validation, prepared.fill, training.batch_size, 0, epochs=1, shuffled=False)
            for n, rows in enumerate(batches):
                number = placement.put_shared(np.int32(n))
                sums = sums.merge(programs.evaluate(state.params, placement.put_rows(rows, 0), number))
        return stack([jax.device_get(sums)])

    return Task([steps], programs.step, calls, validate, summarise, placement)


def _facts(prepared: PreparedStream, best: PretrainState, steps: int) -> dict[str, Any]:
    """Return the facts that the record states about a finished run."""
    return {
        "best_epoch": int(best.step) // steps,
        "rows": {"train": len(prepared.train.rows), "validation": len(prepared.validation.rows)},
        "tokens": {"train": len(prepared.train.tokens), "validation": len(prepared.validation.tokens)},
        "ordered_rows": int(prepared.train.rows[:, 3].sum()),
        "words": prepared.num_ids,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
    }


def _start_from(config: Config) -> Callable[[Any], Any]:
    """Return a function that puts the weights of the encoder that the settings name, if any, into fresh parameters."""
    weights = config.data.weights
    if weights == "none":
        return lambda params: params
    return lambda params: bert_files.place(params, read_weights(weights), weights, config.model.family)


def _write_encoder(folder: Path, config: Config, params: Any, tokenizer: str) -> None:
    """Write a BertForPreTraining, whose output layer shares the table of the embedding."""
    family = config.model.family
    tensors = bert_files.with_prefix(bert_files.tensors_of(params, family), family)
    description = run_files.read_json(folder.parent / run_files.CONFIG)
    bert_files.write_folder(folder, config, "BertForPreTraining", tensors, tokenizer, description)
    if (folder.parent / run_files.SEEN).exists():  # it does not if the texts of the run's own source are unknown
        shutil.copyfile(folder.parent / run_files.SEEN, folder / run_files.SEEN)
