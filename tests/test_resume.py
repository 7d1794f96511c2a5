"""The choice of the epoch, early stopping, and records that do not match the checkpoints of a resumed run."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from research.data.corpora import make_corpus
from research.data.reader import Row
from research.errors import UserError
from research.models import settings_for
from research.runs import run_files
from research.runs.multihost import MemoryCheckpoints
from research.runs.resume import History
from research.runs.train import train
from research.settings import Config, Training
from research.training.early_stopping import chosen_by, protocol_sentence
from tests.small import small_lstm


@struct.dataclass
class State:
    step: jnp.ndarray


def epochs_of(folder, validated, *, steps=10, select="accuracy", **settings):
    """Return how many epochs a run trains with these validation results (accuracy, loss), and which is best."""
    checkpoints = MemoryCheckpoints(folder / "none", None)
    history = History(folder, Training(**settings), checkpoints, select=select, steps=steps)
    for epoch, (accuracy, loss) in enumerate(validated, 1):
        at = {"step": epoch * steps, "epoch": epoch, "accuracy": accuracy, "loss": loss}
        history.add([at | {"split": split} for split in ("train", "validation")], functools.partial(State, at["step"]))
        if history.is_over:
            break
    return epoch, int(history.best().step) // steps


FLAT = [(0.5, 0.7)] * 50
RISING = [(0.5 + n / 100, 0.7) for n in range(20)] + [(0.6, 0.8)] * 30
FALLING = [(0.5, 0.7 - n / 100) for n in range(20)] + [(0.5, 0.8)] * 30


@pytest.mark.parametrize(
    ("epochs", "settings", "ends", "chosen"),
    [
        (FLAT, {"min_steps": 0}, 4, 1),
        (FLAT, {"min_steps": 200}, 20, 1),  # 20 epochs of 10 steps
        (FLAT, {"min_steps": 200, "patience": 0, "epochs": 30}, 30, 1),
        (FLAT, {"min_steps": 10_000, "epochs": 7}, 7, 1),  # never more epochs than `epochs`
        (RISING, {"min_steps": 0}, 23, 20),
        (FALLING, {"min_steps": 0}, 23, 20),  # a falling loss prevents stopping, and breaks ties
    ],
)
def test_training_stops_when_neither_score_nor_loss_improve(tmp_path, epochs, settings, ends, chosen):
    assert epochs_of(tmp_path, epochs, **settings) == (ends, chosen)


def test_the_loss_breaks_ties_of_equal_scores(tmp_path):
    validated = [(0.75, 0.6), (0.75, 0.5), (0.75, 0.55), (0.74, 0.4)]
    for select, chosen in (("accuracy", 2), ("log_loss", 4), ("last", 4)):
        assert epochs_of(tmp_path, validated, select=select, epochs=4) == (4, chosen)


def test_the_default_score_is_the_loss_for_few_texts_and_macro_f1_for_unbalanced_ones():
    even, rare = np.arange(400) % 2, (np.arange(400) % 10 == 0).astype(int)
    chosen = {n: chosen_by(Training(), labels, n) for labels, n in ((even, 49), (even, 50))}
    assert chosen == {49: "log_loss", 50: "accuracy"}
    assert chosen_by(Training(), rare, 50) == "macro_f1"
    assert chosen_by(Training(select="macro_recall"), rare, 10) == "macro_recall"


@pytest.mark.parametrize(
    ("rows", "settings", "words"),
    [
        (300, {}, "7 steps per epoch, 24 validation texts; no run stops before 60 epochs; the epoch is"),
        (300, {}, "on these texts, whose accuracy may be off by 20 points by luck"),
        (300, {"epochs": 2}, "2 epoch(s) are 14 steps, too few for most models"),
        (900, {"select": "accuracy"}, "the epoch is chosen by accuracy on"),
        (900, {"patience": 0}, "21 steps per epoch, 72 validation texts; the epoch is chosen"),
        (900, {"select": "last"}, None),
        (6000, {}, None),
    ],
)
def test_the_protocol_sentence_warns_of_few_texts(rows, settings, words):
    corpus = make_corpus("c", {"all": [Row(f"text {n}", str(n % 2), "", "") for n in range(rows)]})
    sentence = protocol_sentence(corpus, Config(model=settings_for("mlp.MLP"), training=Training(**settings)), 5)
    assert words in sentence if words else not sentence


@pytest.fixture(scope="module")
def finished(small_corpus, tmp_path_factory):
    return train(small_lstm(), small_corpus, tmp_path_factory.mktemp("resume") / "run")


@pytest.mark.parametrize("lines", [0, 1, 2, 4])
def test_a_run_whose_metrics_lack_epochs_is_not_resumed(finished, small_corpus, lines):
    """The last checkpoint is of the third epoch, and each epoch has two records."""
    before = {
        name: (finished / name).read_bytes() for name in (run_files.METRICS, run_files.RECORD, run_files.PREDICTIONS)
    }
    for name in (run_files.RECORD, run_files.PREDICTIONS):
        (finished / name).unlink()
    records = before[run_files.METRICS].splitlines(keepends=True)
    (finished / run_files.METRICS).write_bytes(b"".join(records[:lines]))
    if not lines:
        (finished / run_files.METRICS).unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl lacks some of the 3 epochs before the checkpoint of step"):
        train(small_lstm(), small_corpus, finished)
    for name, content in before.items():
        (finished / name).write_bytes(content)


def test_a_finished_run_without_its_record_writes_it_again(finished, small_corpus):
    before = {name: (finished / name).read_bytes() for name in (run_files.METRICS, run_files.PREDICTIONS)}
    (finished / run_files.RECORD).unlink()
    train(small_lstm(), small_corpus, finished)
    assert before == {name: (finished / name).read_bytes() for name in before}
    record = run_files.read_record(finished)
    assert record["predictions_sha256"] == run_files.predictions_checksum(finished)
    assert (sum(record["label_counts"]), record["chosen_by"]) == (record["texts"]["train"], "log_loss")
