"""Several devices that share the batches of a run take the same steps as one device."""

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research.data.batches import blocks
from research.errors import UserError
from research.runs import run_files
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import RunOptions, train
from research.training.initial_state import init_state
from research.training.loop import of_run, stack
from research.training.programs import programs_for
from research.training.sharding import share_rows
from research.training.step import pad_texts

pytestmark = pytest.mark.usefixtures("two_devices")

SIZES = {
    "lstm:variational": ("--config.model.hidden_size=8", "--config.model.embedding_size=8"),
    "bilstm": ("--config.model.hidden_size=8", "--config.model.embedding_size=8"),
    "gru": ("--config.model.hidden_size=8", "--config.model.embedding_size=8"),
    "cnn:rand": ("--config.model.features=8",),
    "luong:local_p": ("--config.model.hidden_size=8", "--config.model.embedding_size=8"),
    "transformer:pre": ("--config.model.embedding_size=8",),
    "linear": (),
}
NAMES = [
    pytest.param(name, marks=() if name in ("lstm:variational", "cnn:rand") else pytest.mark.extra) for name in SIZES
]


@pytest.mark.accelerator
@pytest.mark.parametrize("name", NAMES)
def test_steps_of_several_devices_are_those_of_one(name, small_corpus):
    """With dropout, and with filler in the last batch.

    SGD is used because Adam turns gradients that are zero except for rounding into whole steps.
    """
    sgd = [] if name == "linear" else ["--config.optimizer.name=sgd", "--config.optimizer.learning_rate=0.5"]
    config = load_config(name, [*SIZES[name], *sgd])
    compiled = programs_for(config, 2)
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    widths = prepared.shapes.widths[-1:]
    fresh = jax.tree.map(np.array, init_state(compiled, config, prepared.train, widths))
    order = [(prepared.train.lengths, [np.arange(8), np.arange(8, 11)])]
    ((index, width),) = blocks(order, 8, widths, 2)
    results = []
    for devices in sorted({1, 2, len(jax.local_devices())}):
        placement = share_rows(devices, 8)
        assert placement.row_shares == devices
        compiled = programs_for(config, 2, placement)
        states = placement.put(stack([fresh]))
        texts = placement.put(stack([pad_texts(prepared.train, prepared.shapes.capacity)]))
        rows = placement.put_rows(index, 2)
        assert devices == 1 or len(rows.devices()) == devices
        results.append(of_run(compiled.train_steps(states, texts, rows, width, widths=widths), 0))
    for one, *others in zip(*map(jax.tree.leaves, results), strict=True):
        for several in others:
            np.testing.assert_allclose(several, one, rtol=1e-5, atol=1e-5)


@pytest.mark.accelerator
def test_a_run_on_two_devices_ends_near_the_same_run_on_one(small_corpus, tmp_path):
    config = load_config("lstm", ["--config.model.hidden_size=8", "--config.training.epochs=3"])
    folders = [train(config, small_corpus, tmp_path / str(n), options=RunOptions(devices=n)) for n in (1, 2)]
    assert [run_files.read_json(folder / run_files.RECORD)["shared_among"] for folder in folders] == [1, 2]
    for one, two in zip(*map(run_files.read_metrics, folders), strict=True):
        np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)
    one, two = map(run_files.read_predictions, folders)
    np.testing.assert_allclose(two.probabilities, one.probabilities, atol=1e-3)


def test_the_number_of_devices_is_chosen_or_checked(small_corpus, tmp_path):
    assert share_rows(0, 4096).row_shares == 1  # on CPU one device is best
    with pytest.raises(UserError, match="devices is 999, expected 1 to"):
        train(load_config("lstm"), small_corpus, tmp_path / "run", options=RunOptions(devices=999))
    assert not (tmp_path / "run").exists()
