"""What the device is, and runs that go from one kind of device to another: restored there, resumed there."""

import contextlib
import importlib.metadata
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers import answer
from experiments.variants import load_config
from research.parallel import device_setup
from research.runs import run_files
from research.runs.prepare import Run
from research.runs.record import environment
from research.runs.restore import restore
from research.runs.train import RunOptions, train

_EPOCHS, _INTERRUPTED_AFTER = 3, 1.5
_DRIVER = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader"]


def describe() -> dict[str, Any]:
    """Compute something on the device, and return what it is, with the versions of all that computes on it."""
    device_setup.use_devices()
    jax.block_until_ready(jnp.ones((64, 64)) @ jnp.ones((64, 64)))
    device = jax.local_devices()[0]
    driver = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        driver = subprocess.run(_DRIVER, capture_output=True, text=True, timeout=20).stdout.strip()
    names = {d.name.lower(): d.version for d in importlib.metadata.distributions() if d.name}
    return environment() | {
        "platform": device.platform,
        "platform_version": device.client.platform_version,
        "memory": device.memory_stats() or {},
        "nvidia_smi": driver,
        "libraries": {n: names[n] for n in sorted(names) if n.startswith(("jax", "nvidia-", "torch", "triton"))},
    }


def begin(folder: str, own: str, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Train a run, and one like it that is interrupted, into `FOLDER/OWN/whole` and `FOLDER/OWN/interrupted`."""
    _set_up()
    for name, until in (("whole", np.inf), ("interrupted", _INTERRUPTED_AFTER)):
        epochs = _train(Path(folder, own, name), overrides, until)
        yield {"what": f"{name} run, trained on the {own}", "epochs": epochs[-1]}


def finish(folder: str, own: str, other: str, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Restore the run that the other device trained, and resume the one that it began."""
    _set_up()
    whole, resumed = Path(folder, other, "whole"), Path(folder, other, "interrupted")
    what = f"trained on the {other}, restored on the {own}"
    yield {"what": what} | _compare(_predict(whole), _saved(whole))
    with jax.default_matmul_precision("highest"):
        yield {"what": f"{what}, products in full float32"} | _compare(_predict(whole), _saved(whole))
    first, *_ = _train(resumed, overrides, np.inf)
    if first <= 1:
        raise RuntimeError(f"{resumed} was interrupted after more than an epoch and began again from the start")
    what = f"begun on the {other}, resumed on the {own}"
    for like in (other, own):
        difference = _compare(_saved(resumed), _saved(Path(folder, like, "whole")))
        yield {"what": f"{what}; beside the one trained on the {like}"} | difference


def table(folder: str) -> Iterator[dict[str, Any]]:
    """Restore the first fold of every variant of a comparison, and compare its predictions with those it saved."""
    _set_up()
    for run in sorted(Path(folder).glob("*/fold0-repeat0")):
        yield {"what": f"{run.parent.name} of the default table, restored on the CPU"} | _compare(
            _predict(run), _saved(run)
        )


def _set_up() -> None:
    device_setup.use_devices()
    device_setup.use_one_thread()


def _train(folder: Path, overrides: Sequence[str], until: float) -> list[float]:
    """Train or resume the `lstm` up to some epochs; return the epochs after which each progress was reported."""
    config = load_config("lstm", [f"--config.training.epochs={_EPOCHS}", "--config.training.patience=0", *overrides])
    reported = []

    def on_progress(run: Run, epochs: float, loss: float) -> None:
        reported.append(epochs)
        if epochs >= until:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(config, "rotten_tomatoes", folder, folds=5, options=RunOptions(on_progress=on_progress))
    if run_files.is_finished(folder) != np.isinf(until):
        raise RuntimeError(f"{folder} is finished: {np.isinf(until)} expected")
    return reported


def _saved(folder: Path) -> run_files.Predictions:
    return run_files.read_predictions(folder)


def _predict(folder: Path) -> run_files.Predictions:
    """Return what a run, restored here, predicts for its test texts."""
    run, saved = restore(folder), _saved(folder)
    corpus = run.own_corpus()
    texts = [corpus.texts[i] for i in run.split(corpus).test]
    return saved._replace(probabilities=run.predict_proba(texts))


def _compare(found: run_files.Predictions, expected: run_files.Predictions) -> dict[str, Any]:
    """Return the largest difference of probabilities, how many labels differ, and both accuracies."""
    if found.id.tolist() != expected.id.tolist():
        raise RuntimeError("two runs predict other texts, expected runs on one fold")
    labels = [predictions.probabilities.argmax(axis=1) for predictions in (found, expected)]
    return {
        "largest_difference": float(np.abs(found.probabilities - expected.probabilities).max()),
        "other_labels": int(np.sum(labels[0] != labels[1])),
        "texts": len(expected.label),
        "accuracies": [round(float(np.mean(label == expected.label)), 5) for label in labels],
    }


if __name__ == "__main__":
    answer({"describe": describe, "begin": begin, "finish": finish, "table": table})
