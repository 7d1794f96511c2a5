"""A run: one training of one variant on one fold and repeat, a function of (config, corpus, fold, repeat)."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import runs
from research.data.batches import gather
from research.data.corpora import Corpus, load
from research.data.splits import resolve_folds, stream_seed
from research.data.tokenizer import build_tokenizer
from research.data.vectors import vectors_checksum
from research.errors import Diverged, UserError
from research.models.layers.recurrence import plain_recurrences
from research.settings import Config, Training, config_hash, differences, repeat_of, to_dict, validate
from research.training.checkpoints import Checkpoints
from research.training.environment import environment
from research.training.flops import count_flops
from research.training.loop import evaluate, fit, steps_per_epoch, warm_up
from research.training.metrics import summarise
from research.training.preparation import Plan, Prepared, prepare
from research.training.step import Programs, TrainState, evaluate_step, init_state, programs

_SAVE_SECONDS = 30.0  # a checkpoint is written no oftener than this, and at the end

# Between two descriptions of the same run: a file may be moved.
_MAY_DIFFER = ("corpus.name:", "corpus.source:", "corpus.columns:", "corpus.cleaned:", "widths:")

Tick = Callable[[float, float], None]  # (epochs done, a recent loss)


def train(
    config: Config,
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
    test: bool = True,
    command: str = "",
    tick: Tick = lambda epochs, loss: None,
) -> Path:
    """Trains one run into a folder, or goes on with one that was interrupted.

    Args:
      config: the variant.
      corpus: labelled texts, a known corpus's name or a path.
      workdir: the run's folder; made where it does not exist.
      folds: of the cross-validation, default 5; not with a corpus that has a test split.
      fold: the fold that is held out as test.
      repeat: which repetition: own split, initialisation, order and dropout.
      test: False for a trial, which never looks at the test texts and leaves no predictions.
      command: the command that does the same; kept in the record.
      tick: called now and then with (epochs done, a recent loss).

    Returns:
      the folder, with the files of the run-folder contract.

    Raises:
      UserError: a setting or fold that does not fit, or a folder that holds something else.
    """
    if not isinstance(corpus, Corpus):
        corpus = load(corpus)
    if repeat < 0:
        raise UserError(f"--repeat is {repeat}, expected at least 0")
    plan = Plan(validate(config), corpus, resolve_folds(corpus, folds), fold, repeat)
    folder = Path(workdir)
    start = time.perf_counter()
    description = _describe(plan)
    if (folder / runs.CONFIG).exists() and _claim(folder, description):
        return folder
    prepared = prepare(plan)
    widths = prepared.widths
    compiled = programs(config, len(corpus.class_names))
    state = _fresh_state(compiled, plan, prepared)  # before anything is written: settings may not fit each other
    _claim(folder, description)
    runs.write_json(folder / runs.CONFIG, description | {"widths": list(widths)})
    build_tokenizer(prepared.vocabulary, config.data).save(str(folder / runs.TOKENIZER))
    prepare_seconds = time.perf_counter() - start
    start = time.perf_counter()
    warm_up(compiled, state, config.training, len(prepared.train.labels), widths)
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()
    try:
        with Checkpoints((folder / runs.CHECKPOINTS).absolute()) as checkpoints:
            best = _train_epochs(folder, compiled, state, plan, prepared, checkpoints, tick)
    except Diverged as error:
        seconds = {"compile": round(compile_seconds, 3), "train": round(time.perf_counter() - start, 3)}
        record = {"status": "diverged", "command": command, "error": str(error), "seconds": seconds}
        runs.write_json(folder / runs.RECORD, record | environment())
        raise
    train_seconds = time.perf_counter() - start

    start = time.perf_counter()
    records = [r for r in runs.read_metrics(folder) if r["split"] != "test"]
    best_epoch = next(r["epoch"] for r in records if r["step"] == int(best.step))
    if test:
        metrics, probabilities = evaluate(compiled, best.variables, prepared.test, widths)
        records.append({"step": int(best.step), "epoch": best_epoch, "split": "test"} | summarise(metrics))
        runs.write_metrics(folder, records, append=False)
        ids, labels, groups = (array[prepared.split.test] for array in (corpus.ids, corpus.labels, corpus.groups))
        runs.write_predictions(folder, runs.Predictions(ids, labels, probabilities, groups))
    record = {
        "status": "done",
        "command": command,
        "best_epoch": best_epoch,
        "texts": {name: len(part) for name, part in prepared.split._asdict().items()},
        "words": len(prepared.vocabulary),
        "words_with_vectors": 0 if prepared.pretrained is None else int(prepared.pretrained[1].sum()),
        "flops_per_text": _flops_per_text(config, compiled, best, prepared),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
        "seconds": {
            "prepare": round(prepare_seconds, 3),
            "compile": round(compile_seconds, 3),
            "train": round(train_seconds, 3),
            "evaluate": round(time.perf_counter() - start, 3),
        },
    }
    runs.write_json(folder / runs.RECORD, record | environment())
    return folder


def _flops_per_text(config: Config, compiled: Programs, state: TrainState, prepared: Prepared) -> int:
    """Of predicting one text of median length, padded to a multiple of 8."""
    median = max(1, int(np.median(prepared.train.lengths)))
    example = gather(prepared.train, np.arange(0), 1, (-(-median // 8) * 8,))
    with plain_recurrences():
        return count_flops(functools.partial(evaluate_step, compiled.module, config), state.variables, example)


def _describe(plan: Plan) -> dict[str, Any]:
    vectors = plan.config.data.vectors
    return {
        "hash": config_hash(plan.config),
        "settings": to_dict(plan.config),
        "corpus": {
            "name": plan.corpus.name,
            "checksum": plan.corpus.checksum,
            "source": plan.corpus.source,
            "columns": list(plan.corpus.columns or ()),
            "cleaned": plan.corpus.cleaned,
        },
        "classes": list(plan.corpus.class_names),
        "folds": plan.folds,
        "fold": plan.fold,
        "repeat": plan.repeat,
    } | ({} if vectors == "none" else {"vectors_checksum": vectors_checksum(vectors)})


def _claim(folder: Path, description: dict[str, Any]) -> bool:
    """Makes the folder or checks that it is the same run; true where that is finished already."""
    if (folder / runs.CONFIG).exists():
        there = runs.read_json(folder / runs.CONFIG)
        changed = [change for change in differences(there, description) if not change.startswith(_MAY_DIFFER)]
        if changed:
            shown = "; ".join(change for change in changed if not change.startswith("hash:"))
            raise UserError(
                f"{folder} holds another run ({shown}); name another --workdir, or pass --overwrite (train, compare)"
            )
        return runs.is_finished(folder)
    runs.require_free(folder)
    runs.make(folder)
    return False


def _seed(plan: Plan, stream: str) -> int:
    return stream_seed(plan.config.seed, stream, repeat_of(plan.config, stream, plan.repeat), plan.fold)


def _fresh_state(compiled: Programs, plan: Plan, prepared: Prepared) -> TrainState:
    training = plan.config.training
    return init_state(
        compiled,
        plan.config,
        prepared.train,
        prepared.widths,
        init_seed=_seed(plan, "init"),
        dropout_seed=_seed(plan, "dropout"),
        class_weights=_class_weights(plan, prepared),
        num_steps=training.epochs * steps_per_epoch(len(prepared.train.labels), training.batch_size),
        pretrained=prepared.pretrained,
    )


def _class_weights(plan: Plan, prepared: Prepared) -> np.ndarray:
    """float32 [C]: ones, or N / (C * count) as scikit-learn's "balanced"."""
    count = np.bincount(prepared.train.labels, minlength=len(plan.corpus.class_names))
    if plan.config.training.class_weights == "none":
        return np.ones(len(count), np.float32)
    return (count.sum() / (len(count) * np.maximum(count, 1))).astype(np.float32)


def _train_epochs(
    folder: Path,
    compiled: Programs,
    state: TrainState,
    plan: Plan,
    prepared: Prepared,
    checkpoints: Checkpoints,
    tick: Tick,
) -> TrainState:
    """Trains, logs and saves; returns the best state. Goes on from the last checkpoint where there is one.

    Raises:
      Diverged: a loss is not finite; the best state before it is saved.
    """
    template = jax.eval_shape(lambda: state)
    records = []
    if (last := checkpoints.last_step()) is not None:
        state = checkpoints.restore(last, template)
        records = [record for record in runs.read_metrics(folder) if record["step"] <= last]
    runs.write_metrics(folder, records, append=False)
    training = plan.config.training
    validated = [r for r in records if r["split"] == "validation"]
    best = max(validated, key=lambda r: (_selection(training.select, r), -r["epoch"]), default=None)
    best_selection, best_epoch = (_selection(training.select, best), best["epoch"]) if best else (-np.inf, 0)
    if validated and _is_last(training, validated[-1]["epoch"], best_epoch):
        return checkpoints.restore(checkpoints.best_step(), template)
    unsaved: TrainState | None = None  # the best so far, on the host, where it is not on disk
    saved_at = time.monotonic()
    epochs = fit(
        compiled,
        state,
        prepared.train,
        prepared.validation,
        training,
        order_seed=_seed(plan, "order"),
        widths=prepared.widths,
        tick=tick,
    )
    try:
        for state, both in epochs:
            runs.write_metrics(folder, both, append=True)
            epoch, selection = both[1]["epoch"], _selection(training.select, both[1])
            if selection > best_selection:
                # A copy: the next step is given the memory of this state.
                best_selection, best_epoch, unsaved = selection, epoch, jax.tree.map(np.array, state)
            is_last = _is_last(training, epoch, best_epoch)
            if is_last or time.monotonic() - saved_at > _SAVE_SECONDS:
                if unsaved is not None and int(unsaved.step) != int(state.step):
                    checkpoints.save(unsaved, selection=best_selection)
                checkpoints.save(state, selection=selection)
                unsaved, saved_at = None, time.monotonic()
            if is_last:
                break
    except Diverged:
        if unsaved is not None:
            checkpoints.save(unsaved, selection=best_selection)
        raise
    return checkpoints.restore(checkpoints.best_step(), template)


def _is_last(training: Training, epoch: int, best_epoch: int) -> bool:
    """Whether training ends with this epoch: it was the last one, or patience ran out."""
    return epoch >= training.epochs or 0 < training.patience <= epoch - best_epoch


def _selection(select: str, record: dict[str, Any]) -> float:
    """What the best epoch is chosen by, higher is better."""
    if select == "last":
        return float(record["epoch"])
    return -record["loss"] if select == "log_loss" else record[select]
