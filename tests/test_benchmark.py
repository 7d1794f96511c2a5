"""What the benchmark makes of its measurements; the measurements themselves are not tested."""

import json
import subprocess
import sys

import numpy as np

from experiments.benchmarks import benchmark
from experiments.benchmarks.peers import Fold, padded, read_fold, save_folds
from research.data.tokenizer import Encoded
from research.reporting.plots import write_bars


def test_shares_are_of_medians_and_of_warm_caches():
    measured = [
        *(("step", "ours", value, []) for value in (1.0, 9.0, 2.0)),
        *(("step", "torch", value, []) for value in (4.0, 3.0, 100.0)),
        *((benchmark._COMPARISON, f"ours, caches {t}", v, [0.5, 0.7]) for t, v in (("cold", 30.0), ("warm", 10.0))),
        (benchmark._COMPARISON, "torch", 20.0, [0.75]),
    ]
    rows = {row[:2]: row[2:] for row in benchmark._rows(measured)}
    assert rows["step", "torch"] == ("4.00", "3.00", "100.00", "0.50", "")
    assert rows["step", "ours"] == ("2.00", "1.00", "9.00", "", "")
    assert rows[benchmark._COMPARISON, "torch"] == ("20.00", "20.00", "20.00", "0.50", "75.0")
    assert rows[benchmark._COMPARISON, "ours, caches cold"][-1] == "60.0"


def test_peers_read_the_folds_that_were_written(tmp_path):
    parts = [Encoded(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.array([1, 0], np.int32)) for _ in range(3)]
    save_folds(str(tmp_path / "folds.npz"), [Fold(*parts, (8,)), Fold(*parts, (8, 16))])
    found = read_fold(str(tmp_path / "folds.npz"), 1)
    assert found.widths == (8, 16)
    assert found.test.tokens.tolist() == [0, 1, 2, 3, 4]
    ids = padded(found.train)
    assert ids.shape == (2, 100)
    assert ids[0, -2:].tolist() == [0, 1]  # in front, as Keras pads
    assert ids[1, -3:].tolist() == [2, 3, 4]
    assert not ids[:, :97].any()


def test_a_peer_trains_in_a_process_of_its_own(tmp_path):
    random = np.random.default_rng(0)
    lengths = random.integers(1, 7, 40)
    texts = Encoded(
        random.integers(2, 99, lengths.sum(), np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        random.integers(0, 2, 40, np.int32),
    )
    save_folds(str(tmp_path / "folds.npz"), [Fold(texts, texts, texts, (8,))])
    job = json.dumps({"data": str(tmp_path / "folds.npz"), "folds": [0], "epochs": 1, "threads": 1})
    command = [sys.executable, "-P", "-m", "experiments.benchmarks.peers.flax_rnn", "epochs", job]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    assert len(found["accuracy"]) == 1
    assert 0 <= found["accuracy"][0] <= 1


def test_bars_are_drawn(tmp_path):
    write_bars(tmp_path / "bars.png", {"seconds": {"ours": 1.0, "torch": 2.0}, "steps": {"ours": 3.0}})
    assert (tmp_path / "bars.png").stat().st_size > 5_000


def test_the_peers_of_load_are_for_the_articles_lstm():
    """In a process of its own: the flags of the programs meet."""
    code = """
from types import SimpleNamespace

from experiments.benchmarks import load
from experiments.variants import load_config
from research.errors import UserError
from research.models import config_from_dict
from research.settings import to_dict
from research.runs import restore

for flags in [], ["--config.model.hidden_size=8"]:
    saved = config_from_dict(to_dict(load_config("lstm", flags)))
    restore.restore = lambda folder: SimpleNamespace(config=saved, class_names=("a", "b"))
    try:
        load.require_article("run")
        print("taken")
    except UserError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "taken\nrun is not the `lstm` of two classes that the peers have: leave --peers out\n"
