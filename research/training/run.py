"""Runs: each one training of one variant on one fold and repeat, a function of (config, corpus, fold, repeat)."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from research.settings import Config, config_hash, differences, repeat_of, to_dict, validate
from research.training.checkpoints import Checkpoints
from research.training.environment import environment
from research.training.flops import count_flops
from research.training.history import History
from research.training.loop import (
    Fed,
    batches_to_evaluate,
    evaluate_members,
    fit,
    of_member,
    stack,
    steps_per_epoch,
    warm_up,
)
from research.training.metrics import Metrics, summarise
from research.training.preparation import Plan, Prepared, prepare
from research.training.sharing import devices_for, put_whole, shared_among, shares
from research.training.step import Programs, TrainState, evaluate_step, init_state, programs

# Between two descriptions of the same run: a file may be moved.
_MAY_DIFFER = ("corpus.name:", "corpus.source:", "corpus.columns:", "corpus.cleaned:", "widths:")


class Run(NamedTuple):
    """What is to be trained, and where it is kept."""

    config: Config
    folder: Path
    fold: int = 0
    repeat: int = 0
    command: str = ""  # that does the same; kept in the record


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
      test: False for a trial, which never looks at the test texts and leaves no predictions.
      command: the command that does the same; kept in the record.
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
    run = Run(config, Path(workdir), fold, repeat, command)
    tick_one = lambda member, *done: tick(*done)  # noqa: E731
    with shared_among(devices or devices_for(config.training.batch_size)):
        (diverged,) = train_together([run], corpus, folds=folds, test=test, tick=tick_one)
    if diverged is not None:
        raise diverged
    return run.folder


class _Begun(NamedTuple):
    """A run whose folder is made and whose training is not finished."""

    at: int  # its place among those that were asked for
    run: Run
    plan: Plan
    prepared: Prepared


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
      test: as in `train`.
      tick: called now and then with (which of the runs, epochs done, a recent loss).

    Returns:
      for each run what ended it before its time.

    Raises:
      UserError: as in `train`.
    """
    start = time.perf_counter()
    begun = []
    for at, run in enumerate(asked):
        if run.repeat < 0:
            raise UserError(f"--repeat is {run.repeat}, expected at least 0")
        plan = Plan(validate(run.config), corpus, resolve_folds(corpus, folds), run.fold, run.repeat)
        if not ((run.folder / runs.CONFIG).exists() and _claim(run.folder, _describe(plan))):
            begun.append(_Begun(at, run, plan, prepare(plan)))
    found: list[Diverged | None] = [None] * len(asked)
    if not begun:
        return found
    training, widths, room = begun[0].plan.config.training, begun[0].prepared.widths, begun[0].prepared.room
    compiled = programs(begun[0].plan.config, len(corpus.class_names))
    fresh = [_fresh_state(compiled, b.plan, b.prepared) for b in begun]  # settings may not fit: nothing is written yet
    for _, run, plan, prepared in begun:
        description = _describe(plan)
        _claim(run.folder, description)
        runs.write_json(run.folder / runs.CONFIG, description | {"widths": list(widths)})
        build_tokenizer(prepared.vocabulary, plan.config.data).save(str(run.folder / runs.TOKENIZER))
    seconds = {"prepare": time.perf_counter() - start}
    start = time.perf_counter()
    fed = [Fed(b.prepared.train, b.prepared.validation, _seed(b.plan, "order")) for b in begun]
    warm_up(compiled, put_whole(stack(fresh)), fed, training, widths, room)
    seconds["compile"] = time.perf_counter() - start

    start = time.perf_counter()
    diverged: dict[int, Diverged] = {}
    with contextlib.ExitStack() as stacked:
        histories = []
        for (_, run, plan, _), state in zip(begun, fresh, strict=True):
            checkpoints = stacked.enter_context(Checkpoints((run.folder / runs.CHECKPOINTS).absolute()))
            histories.append(History(run.folder, plan.config.training, checkpoints, state))
        del fresh
        resting = {r for r, history in enumerate(histories) if history.is_over}
        states = put_whole(stack([history.state for history in histories]))
        epochs = fit(
            compiled,
            states,
            fed,
            training,
            widths=widths,
            room=room,
            resting=resting,
            tick=lambda r, done, loss: tick(begun[r].at, done, loss),
        )
        del states  # they are donated
        for after, results in epochs:
            for r, result in enumerate(results):
                if isinstance(result, Diverged):
                    histories[r].save_best()
                    diverged[r] = found[begun[r].at] = result
                elif result is not None:
                    histories[r].add(result, functools.partial(of_member, after, r))
                    if histories[r].is_over:
                        resting.add(r)
            del after  # their memory is given to the next step
        best = [None if r in diverged else history.best() for r, history in enumerate(histories)]
    seconds["train"] = time.perf_counter() - start

    start = time.perf_counter()
    done = [r for r in range(len(begun)) if r not in diverged]
    tested = _evaluate_test(compiled, [best[r] for r in done], [begun[r].prepared for r in done]) if test else []
    seconds["evaluate"] = time.perf_counter() - start
    seconds = {what: round(of_all / len(begun), 3) for what, of_all in seconds.items()}
    about = {"seconds": seconds, "trained_together": len(begun), "shared_among": shares()}
    for r, error in diverged.items():
        run = begun[r].run
        record = {"status": "diverged", "command": run.command, "error": str(error)}
        runs.write_json(run.folder / runs.RECORD, record | about | environment())
    for r, of_run in itertools.zip_longest(done, tested):
        _finish(begun[r], compiled, best[r], of_run, about)
    return found


def _evaluate_test(
    compiled: Programs, best: Sequence[TrainState], prepared: Sequence[Prepared]
) -> list[tuple[Metrics, np.ndarray]]:
    """The metrics of each run's test texts and their probabilities."""
    if not best:
        return []
    texts = [p.test for p in prepared]
    variables = put_whole(stack([state.variables for state in best]))
    batches = batches_to_evaluate(texts, prepared[0].widths)
    metrics, probabilities = evaluate_members(compiled, variables, batches, [len(t.labels) for t in texts])
    return [(of_member(metrics, r), of_run) for r, of_run in enumerate(probabilities)]


def _finish(
    begun: _Begun,
    compiled: Programs,
    best: TrainState,
    tested: tuple[Metrics, np.ndarray] | None,
    about: dict[str, Any],
) -> None:
    """Writes what a run leaves behind; the record comes last."""
    _, run, plan, prepared = begun
    corpus, folder = plan.corpus, run.folder
    records = [r for r in runs.read_metrics(folder) if r["split"] != "test"]
    best_epoch = next(r["epoch"] for r in records if r["step"] == int(best.step))
    if tested is not None:
        metrics, probabilities = tested
        records.append({"step": int(best.step), "epoch": best_epoch, "split": "test"} | summarise(metrics))
        runs.write_metrics(folder, records, append=False)
        ids, labels, groups = (array[prepared.split.test] for array in (corpus.ids, corpus.labels, corpus.groups))
        runs.write_predictions(folder, runs.Predictions(ids, labels, probabilities, groups))
    record = {
        "status": "done",
        "command": run.command,
        "best_epoch": best_epoch,
        "texts": {name: len(part) for name, part in prepared.split._asdict().items()},
        "words": len(prepared.vocabulary),
        "words_with_vectors": 0 if prepared.pretrained is None else int(prepared.pretrained[1].sum()),
        "flops_per_text": _flops_per_text(plan.config, compiled, best, prepared),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
    }
    runs.write_json(folder / runs.RECORD, record | about | environment())


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
