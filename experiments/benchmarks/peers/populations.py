"""Populations: R runs of a variant that one program trains together, epoch by epoch."""

import gc
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers import Fold, answer, save_folds
from experiments.variants import load_config
from research.data.batches import steps_per_epoch
from research.data.corpora import load
from research.parallel import device_setup
from research.runs.texts import RunSpec, RunTexts, prepare_texts
from research.settings import Config
from research.training.initial_state import Start, init_state
from research.training.loop import Result, fit, stack
from research.training.programs import (
    Programs,
    TrainData,
    classifier_task,
    compile_programs,
    evaluate_runs,
    evaluation_batches,
    programs_for,
)
from research.training.sharding import ONE_DEVICE
from research.training.step import TrainState

_FOLDS = 5  # of rotten_tomatoes; run i has fold i % 5 and seed i
_FEW_EPOCHS = 3  # of the smaller populations, whose accuracy is of no interest


def _prepare(config: Config) -> list[RunTexts]:
    corpus = load("rotten_tomatoes")
    return [prepare_texts(RunSpec(config, corpus, _FOLDS, fold, 0)) for fold in range(_FOLDS)]


def folds(data: str, overrides: Sequence[str]) -> dict[str, int]:
    """Write the folds of the `lstm` into the file `data` for the peers; return the number of training texts."""
    prepared = _prepare(load_config("lstm", overrides))
    save_folds(data, [Fold(p.train, p.validation, p.test, p.shapes.widths) for p in prepared])
    return {"train_texts": len(prepared[0].train.labels)}


def population(
    variant: str, sizes: Sequence[int], epochs: int, overrides: Sequence[str], seconds: float
) -> Iterator[dict[str, Any]]:
    """Train populations of several sizes one after the other.

    Args:
      variant: the variant.
      sizes: the numbers of runs. A size that fails is reported, and the next is tried.
      epochs: the epochs of the two largest sizes; smaller ones take a few.
      overrides: `--config.FIELD=VALUE` of the variant.
      seconds: no epoch is begun that is expected to end later than this.

    Yields:
      after each epoch, what is known of the size until then; and once more with the test accuracies, of the epoch that
      validation chooses.
    """
    deadline = time.perf_counter() + seconds
    device_setup.use_devices()
    config = load_config(variant, overrides)
    prepared = _prepare(config)
    for size in sizes:
        config.training.epochs = epochs if size in sorted(sizes)[-2:] else min(_FEW_EPOCHS, epochs)
        about = {"variant": variant, "runs": size}
        try:
            for measured in _train_together(config, prepared, size, deadline):
                yield about | measured
        except Exception as error:  # noqa: BLE001 - the next size may have enough memory
            traceback.print_exc()
            traceback.clear_frames(error.__traceback__)  # they hold arrays on the device
            reason = "out of memory" if "RESOURCE_EXHAUSTED" in str(error) else f"{type(error).__name__}: {error}"
            yield about | {"error": reason[:300]}
        jax.clear_caches()
        gc.collect()
        if time.perf_counter() > deadline:
            return


def _train_together(
    config: Config, prepared: Sequence[RunTexts], size: int, deadline: float
) -> Iterator[dict[str, Any]]:
    """Train one population. What an epoch takes includes its validation, and keeping the best parameters."""
    start, memory_before = time.perf_counter(), _peak_memory()
    programs = programs_for(config, 2)
    texts = [prepared[run % len(prepared)] for run in range(size)]
    shapes = texts[0].shapes
    data = [TrainData(of_run.train, of_run.validation, run) for run, of_run in enumerate(texts)]
    fresh = stack([_fresh_state(programs, config, of_run, run) for run, of_run in enumerate(texts)])
    started = time.perf_counter()
    compile_programs(programs, ONE_DEVICE.put(fresh), data, config.training, shapes)
    epoch_start = time.perf_counter()
    measured = {
        "epochs": config.training.epochs,
        "train_texts": sum(len(of_run.train.labels) for of_run in texts),
        "start_seconds": round(started - start, 3),
        "compile_seconds": round(epoch_start - started, 3),
        "epoch_seconds": [],
    }
    task = classifier_task(programs, data, config.training, shapes)
    best, best_accuracy = None, np.full(size, -np.inf)
    for states, results in fit(task, ONE_DEVICE.put(fresh), config.training.epochs, done=[0] * size):
        accuracy = np.array([_validation_accuracy(result) for result in results])
        best = _keep_better(accuracy > best_accuracy, states.variables, states.variables if best is None else best)
        del states  # the next step reuses their memory
        best_accuracy = np.maximum(accuracy, best_accuracy)
        jax.block_until_ready(best)
        now = time.perf_counter()
        measured["epoch_seconds"].append(round(now - epoch_start, 4))
        epoch_start = now
        peak = _peak_memory()
        # The peak is of the whole process: that of a size is known if it exceeds the peaks of earlier ones.
        measured["peak_bytes"] = peak if peak > memory_before else None
        measured["validation_accuracy"] = _rounded(accuracy)
        yield measured
        if now + measured["epoch_seconds"][-1] > deadline:
            break
    test_start = time.perf_counter()
    test_accuracy = _rounded(_test_accuracy(programs, best, texts))
    test_seconds = round(time.perf_counter() - test_start, 4)
    yield measured | {"test_accuracy": test_accuracy, "test_seconds": test_seconds}


def _fresh_state(programs: Programs, config: Config, texts: RunTexts, seed: int) -> TrainState:
    steps = config.training.epochs * steps_per_epoch(len(texts.train.labels), config.training.batch_size)
    start = Start(init_seed=seed, dropout_seed=seed, num_steps=steps)
    return init_state(programs, config, texts.train, texts.shapes.widths, start)


def _validation_accuracy(result: Result) -> float:
    """Return the validation accuracy of an epoch of one run; 0 after it diverged."""
    return result[-1]["accuracy"] if isinstance(result, list) else 0.0


@jax.jit
def _keep_better(is_better: jax.Array, new: Any, best: Any) -> Any:
    """Return copies of the variables [R, ...], the new ones of the runs that are better."""

    def choose(new: jax.Array, best: jax.Array) -> jax.Array:
        return jnp.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, best)

    return jax.tree.map(choose, new, best)


def _test_accuracy(programs: Programs, variables: Any, texts: Sequence[RunTexts]) -> np.ndarray:
    """Return the test accuracy of each run, float [R]."""
    parts = [of_run.test for of_run in texts]
    batches = evaluation_batches(parts, texts[0].shapes.widths, ONE_DEVICE)
    _, probabilities = evaluate_runs(programs, variables, batches, [len(part.labels) for part in parts])
    pairs = zip(probabilities, parts, strict=True)
    return np.array([np.mean(of_run.argmax(axis=1) == part.labels) for of_run, part in pairs])


def _peak_memory() -> int:
    """Return the peak bytes of the device's memory in this process; 0 if the device does not tell."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]


if __name__ == "__main__":
    answer({"folds": folds, "population": population})
