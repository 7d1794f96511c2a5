"""Pre-train on texts without labels, into a run's folder: BERT's two tasks, or a language model's one.

A classifier can start from the result: from an encoder as `bert:RUN/encoder`, from the parameters of a recurrent
variant by `init_from=RUN`. A run is a function of (config, texts, fold, repeat), interrupted or not. It is trained by
the same loop and saved by the same code as a classifier.
"""

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
    """Pre-train a model into a folder, or go on where that was interrupted.

    Args:
      config: of `for_pretraining`.
      texts: a corpus, whose labels are not read, or a plain file, by name or path too.
      workdir: the run's folder; made if there is none.
      folds: of a cross-validation: trains only on the training texts of `fold`. Without folds it trains on all texts
        but those of a test or validation split, or a fiftieth of them (at most 1,000) if there is none.
      fold: the fold that is held out.
      repeat: which repetition: own split, initialisation, order, masks and dropout.
      options: how it is trained.

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
    """Train from the texts to the record."""
    spec, folder, config = job.spec, job.folder, job.spec.config
    start = time.perf_counter()
    write_seen(folder, job.train, job.validation, config.data.weights)
    prepared = prepare_stream(spec, job.train, job.validation, folder)
    programs = pretrain_programs(config, prepared.special, prepared.pieces, job.placement)
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
        write_record(folder, "diverged", options.command, error=str(best))
        raise best
    train_seconds = time.perf_counter() - start + earlier_seconds
    if programs.module.objective == "masked":
        _write_encoder(folder / run_files.ENCODER, config, best.params, prepared.tokenizer)
    facts = _facts(prepared, best, steps) | {
        "seconds": {"prepare": round(prepare_seconds, 3), "train": round(train_seconds, 3)},
        "shared_among": job.placement.row_shares,
    }
    del prepared, task  # they read the files
    shutil.rmtree(folder / run_files.STREAM)
    write_record(folder, "done", options.command, **facts)


def _task(programs: PretrainPrograms, prepared: PreparedStream, config: Config, order_seed: int) -> Task:
    """Return the task of pre-training one model; arrays have a leading axis of one run, [1, ...]."""
    training, placement = config.training, programs.placement
    steps = steps_per_epoch(len(prepared.train.rows), training.batch_size)

    def calls(epoch: int, taken: Mapping[int, int]) -> Iterator[Call]:
        rest = {"epochs": epoch + 1, "taken": epoch * steps + taken[0]}
        for rows in read_batches(prepared.train, prepared.fill, training.batch_size, order_seed, shuffled=True, **rest):
            parts = jax.tree.map(lambda leaf: leaf.reshape(1, training.accumulation, -1, *leaf.shape[1:]), rows)
            yield Call((placement.put_rows(parts, 2),), {}, 1)

    def validate(state: PretrainState) -> Sums:
        """Return the sums of the validation rows, [1], with the same masks after every epoch."""
        sums = zero()
        if len(prepared.validation.rows):
            rows = read_batches(prepared.validation, prepared.fill, training.batch_size, 0, epochs=1, shuffled=False)
            for n, batch in enumerate(rows):
                sums = sums.merge(
                    programs.evaluate(state.params, placement.put_rows(batch, 0), placement.put_shared(np.int32(n)))
                )
        return stack([jax.device_get(sums)])

    return Task([steps], programs.step, calls, validate, summarise, placement)


def _facts(prepared: PreparedStream, best: PretrainState, steps: int) -> dict[str, Any]:
    """Return what the record says of a finished run."""
    return {
        "best_epoch": int(best.step) // steps,
        "rows": {"train": len(prepared.train.rows), "validation": len(prepared.validation.rows)},
        "tokens": {"train": len(prepared.train.tokens), "validation": len(prepared.validation.tokens)},
        "ordered_rows": int(prepared.train.rows[:, 3].sum()),
        "words": prepared.pieces,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
    }


def _start_from(config: Config) -> Callable[[Any], Any]:
    """Return what puts the weights of the encoder that the settings name, if any, into fresh parameters."""
    weights = config.data.weights
    return lambda params: params if weights == "none" else bert_files.place(params, read_weights(weights), weights)


def _write_encoder(folder: Path, config: Config, params: Any, tokenizer: str) -> None:
    """Write a BertForPreTraining, whose output layer is the embedding's table."""
    tensors = bert_files.tensors_of(params)
    tensors = {name if name.startswith("cls.") else f"bert.{name}": tensor for name, tensor in tensors.items()}
    described = run_files.read_json(folder.parent / run_files.CONFIG)
    bert_files.write_folder(folder, config, "BertForPreTraining", tensors, tokenizer, described)
    if (folder.parent / run_files.SEEN).exists():  # otherwise nobody can tell what its own source has seen
        shutil.copyfile(folder.parent / run_files.SEEN, folder / run_files.SEEN)
