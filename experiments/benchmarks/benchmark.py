"""Measure speed in relation to other libraries that train the same classifier on the same texts.

    ./launch.sh benchmark --peers=torch,keras,fasttext,sklearn --workdir=runs/benchmark
    ./launch.sh benchmark --profile --workdir=runs/profile

A comparison trains all folds of rotten_tomatoes in whole processes, so start and compilation are included. Of Keras a
few epochs are measured, without the first, and extrapolated. Peers are in `experiments/benchmarks/peers/`, and the
extra `peers` installs their packages. Each peer runs in processes of its own, PyTorch in two arrangements, and repeats
alternate between the peers. The limit is the rate of a large product of matrices, measured in the same call.
`--profile` measures only where a step of ours spends its time, of each default variant that takes steps, and writes
traces for TensorBoard or Perfetto.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from experiments import program
from experiments.benchmarks import measurements as names
from experiments.benchmarks.measurements import HEADER, Measurement, summary_rows
from experiments.benchmarks.processes import CORES, run_peer, run_peers, time_comparison, time_program
from experiments.benchmarks.step_profile import HEADER as PROFILE_HEADER
from experiments.benchmarks.step_profile import profile_steps
from experiments.studies import study as studies
from research.atomic_files import make_folder
from research.json_files import write_json
from research.progress import reporting
from research.runs.claim import require_free
from research.runs.clearing import clear
from research.runs.run_files import read_predictions

_NEEDS = {
    "torch": ("torch",),
    "transformers": ("torch", "transformers"),
    "keras": ("keras", "tensorflow"),
    "fasttext": ("fasttext",),
    "sklearn": ("sklearn",),
    "flax_rnn": (),
}
studies.define_peers(_NEEDS, ["flax_rnn"])
flags.DEFINE_integer("folds", 5, "Number of runs of the comparison.", lower_bound=2)
flags.DEFINE_integer("epochs", 10, "Epochs of each run.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Repeats of every measurement.", lower_bound=1)
flags.DEFINE_bool("profile", False, "Only show where the time of a step goes, and write a trace of it.")
flags.DEFINE_string("workdir", None, "The folder for the measurements, benchmark.json.")
studies.define_output()
FLAGS = flags.FLAGS
_KERAS_EPOCHS = 3


def main() -> None:
    program.required("workdir")
    studies.require_peers(_NEEDS)
    start = time.perf_counter()
    folder = Path(FLAGS.workdir)
    require_free(folder)
    make_folder(folder)
    if FLAGS.profile:
        rows = profile_steps(folder, _product_rate(CORES[:1]))
        studies.show(
            "Where a training step's time goes, on one core", PROFILE_HEADER, rows, time.perf_counter() - start
        )
        return
    flops = _write_folds(folder)
    measured: list[Measurement] = []
    with reporting(FLAGS.repeats, "repeats") as reporter:
        for repeat in range(FLAGS.repeats):
            for measurement in _measure_all(folder, flops):
                measured.append(measurement)
                reporter.say(f"{measurement.what}: {measurement.of} {measurement.value:.2f}")
            reporter.progress("", repeat + 1, float("nan"))
    from research.reporting.figures import write_bars
    from research.runs.record import environment

    write_json(folder / "benchmark.json", {"measured": [m._asdict() for m in measured]} | environment())
    title = f"Speed: the article's LSTM on rotten_tomatoes, {FLAGS.folds} runs of {FLAGS.epochs} epochs"
    rows = summary_rows(measured)
    bars = {what: {row[1]: float(row[2]) for row in rows if row[0] == what} for what in (names.COMPARISON, names.STEP)}
    write_bars(folder / "benchmark.png", bars)
    studies.show(title, HEADER, rows, time.perf_counter() - start)


def _write_folds(folder: Path) -> float:
    """Write the folds, vocabulary and token ids of our own runs for the peers; return the FLOPs of an epoch of all."""
    from experiments.benchmarks.peers import EMBEDDING_SIZE, HIDDEN_SIZE, Fold, save_folds
    from experiments.variants import load_config
    from research.data.corpora import load
    from research.runs.texts import RunSpec, prepare_texts

    config, corpus = load_config("lstm"), load("rotten_tomatoes")
    prepared = [prepare_texts(RunSpec(config, corpus, FLAGS.folds, fold, 0)) for fold in range(FLAGS.folds)]
    save_folds(str(folder / "folds.npz"), [Fold(p.train, p.validation, p.test, p.shapes.widths) for p in prepared])
    # The backward pass costs twice the forward pass.
    tokens = sum(3 * len(p.train.tokens) + len(p.validation.tokens) for p in prepared)
    return 2.0 * tokens * (EMBEDDING_SIZE + HIDDEN_SIZE) * 4 * HIDDEN_SIZE


def _measure_all(folder: Path, flops: float) -> Iterator[Measurement]:
    """Measure everything once; `flops` are those of an epoch of all folds."""
    yield Measurement(names.PRODUCT, "the processor", _product_rate(CORES[:1]) / 1e9)
    for peer in ("ours", *FLAGS.peers):
        if peer not in ("fasttext", "sklearn", "transformers"):
            yield Measurement(names.STEP, peer, 1e3 * _middle(run_peer(peer, "step", cores=CORES[:1])["seconds"]))
    shutil.rmtree(folder / "cache", ignore_errors=True)
    for temperature in ("cold", "warm"):
        epochs = [f"--config.training.epochs={FLAGS.epochs}", "--config.training.patience=0"]
        comparison = time_comparison(folder, ["--variants=lstm", f"--folds={FLAGS.folds}", *epochs])
        accuracies = [float(row["accuracy"]) for row in comparison.rows]
        yield Measurement(names.COMPARISON, f"ours, caches {temperature}", comparison.seconds, accuracies)
    train_seconds = sum(float(row["train_seconds"]) for row in comparison.rows)
    yield Measurement(names.RATE, "ours", flops * FLAGS.epochs / train_seconds / 1e9)
    for peer in FLAGS.peers:
        yield from _measure_peer(peer, folder)
    yield from _measure_programs(folder)
    for what, value in run_peer("ours", "encoding").items():
        yield Measurement(what, "ours", value)
    for what, value in run_peer("ours", "populations").items():
        yield Measurement(names.POPULATION, f"ours, {what}", value)


def _middle(values: list[float]) -> float:
    """Return the median, or the upper one of two."""
    return sorted(values)[len(values) // 2]


def _product_rate(cores: list[int]) -> float:
    """Return the FLOPs a second of a large product of matrices."""
    return _middle(run_peer("ours", "product", cores=cores)["flops_per_second"])


def _measure_programs(folder: Path) -> Iterator[Measurement]:
    """Measure the start of our programs and the default comparison."""
    yield Measurement(names.HELP, "ours", time_program(folder, ["train", "--help"]))
    short = ["--config.data.train_size=64", "--config.training.epochs=1", "--corpus=rotten_tomatoes"]
    for _ in range(2):  # the second start finds everything compiled
        seconds = time_program(folder, ["train", "--config=lstm", *short, f"--workdir={folder / 'run'}"])
        clear(folder / "run")
    yield Measurement(names.SECOND_START, "ours", seconds)
    shutil.rmtree(folder / "cache")
    comparison = time_comparison(folder, [])
    yield Measurement(names.TABLE, f"ours, {len(comparison.rows)} runs, caches cold", comparison.seconds)
    yield Measurement(names.MEMORY, "ours", comparison.memory / 1e6)


def _measure_peer(peer: str, folder: Path) -> Iterator[Measurement]:
    """Measure how a peer trains the folds."""
    job = {"data": str(folder / "folds.npz"), "folds": list(range(FLAGS.folds)), "epochs": FLAGS.epochs}
    if peer == "transformers":
        yield from _measure_fine_tuning()
    elif peer == "keras":
        answer = run_peer(peer, "epochs", **job | {"folds": [0], "epochs": _KERAS_EPOCHS})
        later = answer["epoch_seconds"][1:]
        run_seconds = sum(later) / len(later) * FLAGS.epochs
        yield Measurement(names.COMPARISON, f"keras, {_KERAS_EPOCHS} epochs", run_seconds * FLAGS.folds)
        yield Measurement(names.TABLE, "keras, a single run", run_seconds)
    elif peer == "sklearn":
        yield from _measure_long_texts(folder)
    elif peer == "fasttext":
        comparison = time_comparison(folder, ["--variants=linear", f"--folds={FLAGS.folds}"])
        accuracies = [float(row["accuracy"]) for row in comparison.rows]
        yield Measurement(names.LINEAR, "ours", comparison.seconds, accuracies)
        start = time.perf_counter()
        answer = run_peer(peer, "epochs", **job)
        yield Measurement(names.LINEAR, "fasttext", time.perf_counter() - start, answer["accuracy"])
    else:
        start = time.perf_counter()
        jobs = [job | {"folds": job["folds"][core :: len(CORES)]} for core in range(len(CORES))]
        answers = run_peers(peer, "epochs", [[core] for core in CORES], jobs)
        accuracies = [accuracy for answer in answers for accuracy in answer["accuracy"]]
        yield Measurement(names.COMPARISON, f"{peer}, a process a core", time.perf_counter() - start, accuracies)
    if peer == "torch":
        start = time.perf_counter()
        answer = run_peer(peer, "epochs", **job)
        yield Measurement(names.COMPARISON, "torch, one process", time.perf_counter() - start, answer["accuracy"])


def _measure_long_texts(folder: Path) -> Iterator[Measurement]:
    """Measure a linear run on whole reviews of IMDb; with warm caches, an earlier run has cut them into words."""
    train = ["train", "--config=linear", "--corpus=imdb", "--config.data.max_length=3000"]
    train += ["--config.data.vocab_size=50000", f"--workdir={folder / 'imdb'}"]
    shutil.rmtree(folder / "texts", ignore_errors=True)
    for temperature in ("cold", "warm"):
        seconds = time_program(folder, train, XDG_CACHE_HOME=str(folder / "texts"))
        predictions = read_predictions(folder / "imdb")
        accuracy = np.mean(predictions.probabilities.argmax(axis=1) == predictions.label)
        clear(folder / "imdb")
        yield Measurement(names.LINEAR_IMDB, f"ours, caches {temperature}", seconds, [accuracy])
    start = time.perf_counter()
    answer = run_peer("sklearn", "imdb")
    yield Measurement(names.LINEAR_IMDB, "sklearn", time.perf_counter() - start, answer["accuracy"])


def _measure_fine_tuning() -> Iterator[Measurement]:
    """Measure how an encoder is fine-tuned on all cores, by us and in PyTorch."""
    yield Measurement(names.PRODUCT_ALL, "the processor", _product_rate(CORES) / 1e9)
    for owner in ("transformers", "ours"):
        answer = run_peer(owner, "tuning")
        yield Measurement(names.FINE_TUNING, owner, answer["tokens_per_second"])
    flops = answer["tokens_per_second"] * answer["flops_per_token"]
    yield Measurement(names.FINE_TUNING_RATE, "ours", flops / 1e9)


if __name__ == "__main__":
    program.launch(main, trains=None)
