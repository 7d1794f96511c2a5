"""What the benchmark makes of its measurements, and what its peers do; no time is asserted."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmarks.measurements import COMPARISON, Measurement, summary_rows
from experiments.benchmarks.peers import Fold, label_file, pad_left, read_fold, save_folds
from experiments.benchmarks.processes import CORES, run_peer, wait_for_peak_memory
from research.data.tokenizer import Encoded
from research.reporting.figures import write_bars


def random_texts(count=40):
    random = np.random.default_rng(0)
    lengths = random.integers(1, 7, count)
    return Encoded(
        random.integers(2, 99, lengths.sum(), np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        random.integers(0, 2, count, np.int32),
    )


def test_shares_are_of_medians_and_of_warm_caches():
    measurements = [
        *(Measurement("step", "ours", value) for value in (1.0, 9.0, 2.0)),
        *(Measurement("step", "torch", value) for value in (4.0, 3.0, 100.0)),
        Measurement(COMPARISON, "ours, caches cold", 30.0, [0.5, 0.7]),
        Measurement(COMPARISON, "ours, caches warm", 10.0, [0.5, 0.7]),
        Measurement(COMPARISON, "torch", 20.0, [0.75]),
    ]
    rows = {row[:2]: row[2:] for row in summary_rows(measurements)}
    assert rows["step", "torch"] == ("4.00", "3.00", "100.00", "0.50", "")
    assert rows["step", "ours"] == ("2.00", "1.00", "9.00", "", "")
    assert rows[COMPARISON, "torch"] == ("20.00", "20.00", "20.00", "0.50", "75.0")
    assert rows[COMPARISON, "ours, caches cold"][-1] == "60.0"


def test_peers_read_the_folds_that_were_written(tmp_path):
    parts = [Encoded(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.array([1, 0], np.int32)) for _ in range(3)]
    save_folds(str(tmp_path / "folds.npz"), [Fold(*parts, (8,)), Fold(*parts, (8, 16))])
    fold = read_fold(str(tmp_path / "folds.npz"), 1)
    assert fold.widths == (8, 16)
    assert fold.test.tokens.tolist() == [0, 1, 2, 3, 4]


def test_texts_are_padded_in_front_as_keras_pads():
    ids = pad_left(Encoded(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.array([1, 0], np.int32)))
    assert ids.shape == (2, 100)
    assert ids[0, -2:].tolist() == [0, 1]
    assert ids[1, -3:].tolist() == [2, 3, 4]
    assert not ids[:, :97].any()


@pytest.fixture
def training(tmp_path):
    """What a peer is told to train: one epoch on 40 texts."""
    texts = random_texts()
    save_folds(str(tmp_path / "folds.npz"), [Fold(texts, texts, texts, (8,))])
    return {"data": str(tmp_path / "folds.npz"), "folds": [0], "epochs": 1}


@pytest.mark.extra
@pytest.mark.parametrize(("peer", "package"), [("flax_rnn", "flax"), ("torch", "torch"), ("fasttext", "fasttext")])
def test_a_peer_trains_in_a_process_of_its_own(training, peer, package):
    pytest.importorskip(package)
    answer = run_peer(peer, "epochs", cores=CORES[:1], **training)
    assert len(answer["accuracy"]) == 1
    assert 0 <= answer["accuracy"][0] <= 1


@pytest.mark.extra
def test_keras_trains_whatever_its_backend(training):
    pytest.importorskip("keras")
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    job = json.dumps(training | {"threads": 1})
    command = [sys.executable, "-P", "-m", "experiments.benchmarks.peers.keras", "epochs", job]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer["epoch_seconds"]) == 1
    assert 0 <= answer["validation_accuracy"][0] <= 1


def test_a_peer_that_fails_says_why():
    with pytest.raises(RuntimeError, match="flax_rnn failed: KeyError: 'no such measure'"):
        run_peer("flax_rnn", "no such measure", cores=CORES[:1])


@pytest.fixture
def labelling_files(tmp_path):
    """The tokenizer, the texts and the output of a labelling; token 2 is "good", 3 is "bad"."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "texts.txt").write_text("good good good\nbad\n\ngood and bad\n", encoding="utf-8")
    names = {"tokenizer": "tokenizer.json", "texts": "texts.txt", "output": "answers.jsonl"}
    return {name: str(tmp_path / file) for name, file in names.items()}


def answers_in(files):
    return [json.loads(line) for line in Path(files["output"]).read_text(encoding="utf-8").splitlines()]


def test_texts_are_labelled_in_their_order_though_batches_are_sorted_by_length(labelling_files):
    def share_of_good(ids, lengths):
        return (ids == 2).sum(axis=1) / np.maximum(lengths, 1)

    label_file(share_of_good, **labelling_files)
    answers = answers_in(labelling_files)
    assert [answer["text"] for answer in answers] == ["good good good", "bad", "", "good and bad"]
    assert [answer["label"] for answer in answers] == ["1", "0", "0", "0"]
    assert answers[3]["probabilities"] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("peer", ["torch", "onnxruntime"])
def test_a_peer_predicts_with_the_weights_of_a_run(tmp_path, labelling_files, peer):
    for package in {"torch": ["torch"], "onnxruntime": ["onnxruntime", "onnx"]}[peer]:
        pytest.importorskip(package)
    random = np.random.default_rng(0)
    shapes = {
        "embedding/embedding": (10_000, 64),
        "forwards_0/kernel": (64, 512),
        "forwards_0/recurrent_kernel": (128, 512),
        "forwards_0/bias": (512,),
        "head/kernel": (128, 1),
        "head/bias": (1,),
    }
    weights = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "weights.npz", **weights)
    job = json.dumps(labelling_files | {"weights": str(tmp_path / "weights.npz"), "threads": 1})
    command = [sys.executable, "-P", "-m", f"experiments.benchmarks.peers.{peer}", "predict", job]
    subprocess.run(command, check=True, capture_output=True)
    answers = answers_in(labelling_files)
    assert len(answers) == 4
    assert all(0 <= answer["probabilities"][1] <= 1 for answer in answers)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is sampled on Linux alone")
def test_the_memory_of_a_process_and_its_children_is_measured():
    child = "data = bytearray(100_000_000); print(flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()  # the child has the memory now

        def end(seconds):
            process.stdin.close()
            return process.wait()

        assert wait_for_peak_memory(SimpleNamespace(pid=process.pid, wait=end, kill=process.kill)) > 100_000_000


def test_bars_are_drawn(tmp_path):
    write_bars(tmp_path / "bars.png", {"seconds": {"ours": 1.0, "torch": 2.0}, "steps": {"ours": 3.0}})
    assert (tmp_path / "bars.png").stat().st_size > 5_000
