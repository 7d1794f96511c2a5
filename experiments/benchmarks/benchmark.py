"""How fast this is: ratios to other libraries that train the same classifier on the same texts, in the same run.

    ./launch.sh benchmark --peers=torch,keras,fasttext,flax_rnn --workdir=runs/benchmark
    ./launch.sh benchmark --profile --workdir=runs/profile

A comparison is all folds of rotten_tomatoes, in whole processes: start and compilation are included. Of Keras a few
epochs are measured, without the first, and multiplied. Peers are in `experiments/benchmarks/peers/`, their packages in
the extra `peers`; each runs in processes of its own, PyTorch in two arrangements, and repeats alternate between them.
The limit is the rate of a large product of matrices, measured in the same run. `--profile` measures nothing but where a
step of ours spends its time, and leaves a trace for TensorBoard or Perfetto besides.
"""

import contextlib
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import program
from experiments.benchmarks.memory import memory_to_the_end
from experiments.progress import reporting
from experiments.studies import study as studies
from research.atomic_files import make_folder
from research.json_files import write_json
from research.runs import run_files
from research.runs.clearing import clear

_NEEDS = {
    "torch": ("torch",),
    "transformers": ("torch", "transformers"),
    "keras": ("keras", "tensorflow"),
    "fasttext": ("fasttext",),
    "flax_rnn": (),
}
studies.define_peers(_NEEDS, ["flax_rnn"])
flags.DEFINE_integer("folds", 5, "Runs of the comparison.", lower_bound=2)
flags.DEFINE_integer("epochs", 10, "Epochs of each run.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Of every measurement.", lower_bound=1)
flags.DEFINE_bool("profile", False, "Only account for where a step's time goes, beside a trace of it.")
flags.DEFINE_string("workdir", None, "Where the measurements are kept, as benchmark.json.")
studies.define_output()
FLAGS = flags.FLAGS
_HEADER = ("what", "of", "median", "least", "most", "ours, as a share", "test accuracy")
_KERAS_EPOCHS = 3
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
_STEP, _COMPARISON, _TABLE = "a step of 32 x 100 on one core, ms", "a comparison, s", "the default table, s"
_PRODUCT, _RATE = "product of matrices on one core, GFLOP/s", "training, GFLOP/s of unpadded tokens a core"
_LINEAR, _POPULATION = "a comparison of linear models, s", "training, texts a second"
_TUNING, _TUNING_RATE = "fine-tuning MiniLM-L6, tokens a second", "its products, GFLOP/s of unpadded tokens"
_PRODUCT_ALL = "product of matrices on all cores, GFLOP/s"
_HELP, _SECOND = "train --help, s", "a second start with two steps, s"

Measured = tuple[str, str, float, list[float]]  # what, of whom, the value, test accuracies


def main() -> None:
    program.required("workdir")
    studies.require_peers(_NEEDS)
    start = time.perf_counter()
    folder = Path(FLAGS.workdir)
    run_files.require_free(folder)
    make_folder(folder)
    if FLAGS.profile:
        _account(folder)
        return
    work = _write_folds(folder)
    measured: list[Measured] = []
    with reporting(FLAGS.repeats, "repeats") as reporter:
        for repeat in range(FLAGS.repeats):
            for found in _measure(folder, work):
                measured.append(found)
                reporter.say(f"{found[0]}: {found[1]} {found[2]:.2f}")
            reporter.progress("", repeat + 1, float("nan"))
    from research.reporting.plots import write_bars
    from research.runs.record import environment

    names = ("what", "of", "value", "accuracy")
    entries = [dict(zip(names, found, strict=True)) for found in measured]
    write_json(folder / "benchmark.json", {"measured": entries} | environment())
    title = f"Speed: the article's LSTM on rotten_tomatoes, {FLAGS.folds} runs of {FLAGS.epochs} epochs"
    rows = _rows(measured)
    bars = {what: {row[1]: float(row[2]) for row in rows if row[0] == what} for what in (_COMPARISON, _STEP)}
    write_bars(folder / "benchmark.png", bars)
    studies.show(title, _HEADER, rows, time.perf_counter() - start)


def _write_folds(folder: Path) -> float:
    """Writes what the peers train on, the folds, vocabulary and ids of our own runs; the FLOPs of an epoch of all."""
    from experiments.benchmarks.peers import EMBEDDING_SIZE, HIDDEN_SIZE, Fold, save_folds
    from experiments.variants import load_config
    from research.data.corpora import load
    from research.runs.texts import RunSpec, prepare_texts

    config, corpus = load_config("lstm"), load("rotten_tomatoes")
    prepared = [prepare_texts(RunSpec(config, corpus, FLAGS.folds, fold, 0)) for fold in range(FLAGS.folds)]
    save_folds(str(folder / "folds.npz"), [Fold(p.train, p.validation, p.test, p.widths) for p in prepared])
    tokens = sum(3 * len(p.train.tokens) + len(p.validation.tokens) for p in prepared)  # backwards is twice forwards
    return 2.0 * tokens * (EMBEDDING_SIZE + HIDDEN_SIZE) * 4 * HIDDEN_SIZE


def _measure(folder: Path, work: float) -> Iterator[Measured]:
    """Everything once; `work` is the FLOPs of an epoch of all folds."""
    product = _peer("ours", "product", [_CORES[:1]], [{}])[0]["flops_per_second"]
    yield _PRODUCT, "the processor", sorted(product)[len(product) // 2] / 1e9, []
    for peer in ("ours", *FLAGS.peers):
        if peer in ("fasttext", "transformers"):
            continue
        seconds = sorted(_peer(peer, "step", [_CORES[:1]], [{}])[0]["seconds"])
        yield _STEP, peer, 1e3 * seconds[len(seconds) // 2], []
    shutil.rmtree(folder / "cache", ignore_errors=True)
    for temperature in ("cold", "warm"):
        epochs = [f"--config.training.epochs={FLAGS.epochs}", "--config.training.patience=0"]
        seconds, _, rows = _compare(folder, ["--variants=lstm", f"--folds={FLAGS.folds}", *epochs])
        yield _COMPARISON, f"ours, caches {temperature}", seconds, [float(row["accuracy"]) for row in rows]
    yield _RATE, "ours", work * FLAGS.epochs / sum(float(row["train_seconds"]) for row in rows) / 1e9, []
    if "transformers" in FLAGS.peers:
        yield from _tuning()
    for peer in FLAGS.peers:
        yield from _comparison_of(peer, str(folder / "folds.npz"))
    yield _HELP, "ours", _seconds(folder, ["train", "--help"]), []
    short = ["--config.data.train_size=64", "--config.training.epochs=1", "--corpus=rotten_tomatoes"]
    for start in ("first", "second"):
        seconds = _seconds(folder, ["train", "--config=lstm", *short, f"--workdir={folder / 'run'}"])
        clear(folder / "run")
        if start == "second":
            yield _SECOND, "ours", seconds, []
    shutil.rmtree(folder / "cache")
    seconds, memory, rows = _compare(folder, [])
    yield _TABLE, f"ours, {len(rows)} runs, caches cold", seconds, []
    yield "its peak memory, MB", "ours", memory / 1e6, []
    for what, value in _peer("ours", "encoding", [_CORES], [{}])[0].items():
        yield what, "ours", value, []
    for what, value in _peer("ours", "populations", [_CORES], [{}])[0].items():
        yield _POPULATION, f"ours, {what}", value, []


def _tuning() -> Iterator[Measured]:
    """An encoder fine-tuned on all cores, by us and in PyTorch."""
    product = sorted(_peer("ours", "product", [_CORES], [{}])[0]["flops_per_second"])
    yield _PRODUCT_ALL, "the processor", product[len(product) // 2] / 1e9, []
    for who in ("transformers", "ours"):
        found = _peer(who, "tuning", [_CORES], [{}])[0]
        yield _TUNING, who, found["tokens_per_second"], []
    yield _TUNING_RATE, "ours", found["tokens_per_second"] * found["flops_per_token"] / 1e9, []


def _comparison_of(peer: str, data: str) -> Iterator[Measured]:
    """The folds trained by a peer."""
    folds, epochs, share = list(range(FLAGS.folds)), FLAGS.epochs, len(_CORES)
    if peer == "transformers":
        return
    if peer == "keras":
        found = _peer(peer, "epochs", [_CORES], [{"data": data, "folds": [0], "epochs": _KERAS_EPOCHS}])[0]
        later = found["epoch_seconds"][1:]
        of_run = sum(later) / len(later) * epochs
        yield _COMPARISON, f"keras, {_KERAS_EPOCHS} epochs", of_run * len(folds), []
        yield _TABLE, "keras, a single run", of_run, []
        return
    if peer == "fasttext":
        seconds, _, rows = _compare(Path(data).parent, ["--variants=linear", f"--folds={FLAGS.folds}"])
        yield _LINEAR, "ours", seconds, [float(row["accuracy"]) for row in rows]
        start = time.perf_counter()
        found = _peer(peer, "epochs", [_CORES], [{"data": data, "folds": folds, "epochs": epochs}])
        yield _LINEAR, "fasttext", time.perf_counter() - start, found[0]["accuracy"]
        return
    start = time.perf_counter()
    jobs = [{"data": data, "folds": folds[core::share], "epochs": epochs} for core in range(share)]
    found = _peer(peer, "epochs", [[core] for core in _CORES], jobs)
    accuracies = [accuracy for of_process in found for accuracy in of_process["accuracy"]]
    yield _COMPARISON, f"{peer}, a process a core", time.perf_counter() - start, accuracies
    if peer == "torch":
        start = time.perf_counter()
        found = _peer(peer, "epochs", [_CORES], [{"data": data, "folds": folds, "epochs": epochs}])
        yield _COMPARISON, "torch, one process", time.perf_counter() - start, found[0]["accuracy"]


def _peer(peer: str, measure: str, cores: Sequence[Sequence[int]], jobs: Sequence[dict[str, Any]]) -> list[Any]:
    """Starts a process a job on the given cores; what each answers."""
    started = []
    for on, job in zip(cores, jobs, strict=True):
        threads = str(len(on))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if len(on) == 1 and measure in ("step", "product"):  # of a core, not of an accelerator
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        arguments = [measure, json.dumps(job | {"threads": len(on)})]
        command = [sys.executable, "-P", "-m", f"experiments.benchmarks.peers.{peer}", *arguments]
        with _pinned(on):
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    answers = []
    for process in started:
        out, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{peer} failed: {error.decode().strip().splitlines()[-1]}")
        answers.append(json.loads(out.splitlines()[-1]))
    return answers


@contextlib.contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Processes that are started here get these cores, where the system can pin any."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _ours(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """How one of our programs is started, with a compilation cache of its own."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    command = [sys.executable, "-P", "-m", f"experiments.{arguments[0]}", *arguments[1:]]
    return {"args": command, "env": os.environ | cache, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _seconds(folder: Path, arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(**_ours(folder, arguments), check=True)
    return time.perf_counter() - start


def _compare(folder: Path, arguments: list[str]) -> tuple[float, int, list[dict[str, str]]]:
    """Seconds of a comparison, its bytes of memory, and its `results.csv`."""
    workdir, start = folder / "comparison", time.perf_counter()
    memory = memory_to_the_end(subprocess.Popen(**_ours(folder, ["compare", *arguments, f"--workdir={workdir}"])))
    seconds = time.perf_counter() - start
    with (workdir / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    shutil.rmtree(workdir)
    return seconds, memory, rows


_KINDS = {  # of operations, by the names that XLA gives them
    "products of matrices": r"(ynn_fusion|dot|convolution|gemm|cublas|cutlass)",
    "filling with zeros": r"wrapped_broadcast",
    "copies and other layouts": r"(wrapped_)?(copy|transpose|concatenate|bitcast_copy|multiply_transpose|pad|copy_pad)",
    "rows of the embedding, and their gradient": r".*(gather|scatter)",
    "element by element": r".*(fusion|wrapped_)",
}


def _account(folder: Path) -> None:
    """Writes where a step's time goes, by kind of operation, beside what its FLOPs alone would take."""
    rate = sorted(_peer("ours", "product", [_CORES[:1]], [{}])[0]["flops_per_second"])
    found = _peer("ours", "profile", [_CORES[:1]], [{"folder": str(folder / "trace")}])[0]
    kinds, largest = dict.fromkeys(_KINDS, 0.0), []
    for name, of_step in found["operations"].items():
        kind = next((kind for kind, pattern in _KINDS.items() if re.fullmatch(rf"{pattern}[\w.-]*", name)), None)
        if kind:
            kinds[kind] += of_step
            largest.append((f"{name} ({kind})", of_step))
    step, limit = found["traced_step"], 1e3 * found["flops"] / rate[len(rate) // 2]
    rest = ("loops, starting operations, what overlaps", step - sum(kinds.values()))
    rows = [("a step of the lstm, 32 texts of similar length", found["step"]), ("the same while it is traced", step)]
    rows += [("its products of unpadded tokens at the processor's rate (the limit)", limit), *kinds.items(), rest]
    rows += [(f"largest: {name}", of_step) for name, of_step in sorted(largest, key=lambda row: -row[1])[:8]]
    cells = [(what, f"{of_step:.3f}", f"{of_step / step:.2f}") for what, of_step in rows]
    studies.show("Where a training step's time goes, on one core", ("what", "ms", "share"), cells, step / 1e3)
    print(f"trace: {folder / 'trace'}")


def _rows(measured: list[Measured]) -> list[tuple[str, ...]]:
    """A row a measurement; in those of peers, our median over theirs (of a comparison with warm caches)."""
    values: dict[tuple[str, str], list[float]] = {}
    accuracies: dict[tuple[str, str], list[float]] = {}
    for what, who, value, accuracy in measured:
        values.setdefault((what, who), []).append(value)
        accuracies.setdefault((what, who), []).extend(accuracy)
    median = {key: statistics.median(found) for key, found in values.items()}
    ours = {what: value for (what, who), value in median.items() if who.startswith("ours")}  # the last, so the warm one
    rows = []
    for (what, who), found in values.items():
        share = "" if who.startswith("ours") or what not in ours else f"{ours[what] / median[what, who]:.2f}"
        of_texts = accuracies[what, who]
        accuracy = f"{100 * sum(of_texts) / len(of_texts):.1f}" if of_texts else ""
        rows.append((what, who, *(f"{v:.2f}" for v in (median[what, who], min(found), max(found))), share, accuracy))
    return rows


if __name__ == "__main__":
    program.launch(main, trains=None)
