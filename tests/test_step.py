"""One training step and one evaluation: class weights, merged metrics, dropout, and which settings are compiled."""

import gc

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss

from experiments.variants import load_config
from research.data.batches import Batch, gather
from research.data.tokenizer import Encoded
from research.evaluation.metrics import scores_of_confusion
from research.runs.texts import RunSpec, prepare_texts
from research.training.initial_state import Start, init_state
from research.training.metric_sums import Metrics, cross_entropy, measure, probabilities, summarise, zero
from research.training.programs import Programs, cached_programs, programs_for
from tests.evaluation import evaluate
from tests.small import small_lstm


def test_class_weights_weigh_the_loss():
    config = small_lstm()
    programs = Programs(config, 2)
    texts = Encoded(np.array([2, 3], np.int32), np.array([0, 1, 2]), np.array([0, 1], np.int32))
    ids, lengths = np.array([[2], [3]], np.int32), np.ones(2, np.int32)
    batch = Batch(ids, lengths, np.array([0, 1], np.int32), np.ones(2, np.float32))
    only_one = Batch(ids[1:], lengths[1:], np.array([1], np.int32), np.ones(1, np.float32))

    def step(weights, batch):
        state = init_state(programs, config, texts, (8,), Start(class_weights=np.array(weights, np.float32)))
        return jax.tree.leaves(programs.train(state, batch)[0].params)

    for one, other in zip(step([0.0, 3.0], batch), step([1.0, 1.0], only_one), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_metrics_merge_like_all_rows_at_once():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20, 3)).astype(np.float32)
    labels = random.integers(0, 3, 20).astype(np.int32)
    weights = (random.random(20) > 0.3).astype(np.float32)
    losses = random.random(20).astype(np.float32)
    whole = measure(logits, labels, weights, losses)
    parts = [measure(logits[i : i + 7], labels[i : i + 7], weights[i : i + 7], losses[i : i + 7]) for i in (0, 7, 14)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(zero(3).merge(whole)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert summarise(whole)["accuracy"] == pytest.approx(np.average(logits.argmax(axis=1) == labels, weights=weights))
    assert isinstance(whole, Metrics)


def test_evaluation_weighs_every_text_once(small_corpus):
    """A mean of per-batch means would differ: the last batch is small."""
    config = small_lstm()
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    programs = Programs(config, 2)
    state = init_state(programs, config, prepared.train, prepared.shapes.widths)
    metrics, probabilities = evaluate(programs, state.variables, prepared.train, prepared.shapes.widths)
    accuracy = (probabilities.argmax(axis=1) == prepared.train.labels).mean()
    assert scores_of_confusion(metrics.confusion)["accuracy"] == accuracy
    assert metrics.weight == metrics.confusion.sum() == len(prepared.train.labels)
    assert metrics.confusion.sum(axis=1).tolist() == np.bincount(prepared.train.labels).tolist()
    assert scores_of_confusion(metrics.confusion)["accuracy"] == summarise(metrics)["accuracy"]


def test_dropout_masks_differ_between_steps_and_are_equal_for_the_same_step(small_corpus):
    """With a learning rate of 0, only the masks change the loss of a batch."""
    config = small_lstm(
        "--config.model.dropout=0.5", "--config.optimizer.name=sgd", "--config.optimizer.learning_rate=0"
    )
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    programs = Programs(config, 2)
    batch = gather(prepared.train, np.arange(8), 8, (64,))

    def train(dropout_seed):
        state = init_state(programs, config, prepared.train, (64,), Start(dropout_seed=dropout_seed))
        losses = []
        for _ in range(3):
            state, metrics = programs.train(state, batch)
            losses.append(float(metrics.loss))
        return losses

    first = train(1)
    assert len(set(first)) == 3
    assert train(1) == first
    assert not set(train(2)) & set(first)


def test_settings_that_are_not_compiled_share_a_program():
    def programs_with(setting):
        return programs_for(small_lstm("--config.optimizer.weight_decay=0.1", f"--config.{setting}"), 2)

    base = programs_with("seed=0")
    alike = ("seed=3", "optimizer.learning_rate=0.5", "optimizer.weight_decay=0.2", "training.epochs=2")
    more = ("training.patience=1", "training.class_weights=balanced", "data.train_size=9", "training.random_swap=0.1")
    for setting in alike + more:
        assert programs_with(setting) is base, setting
    other = ("model.hidden_size=8", "optimizer.weight_decay=0", "training.l2=1", "optimizer.schedule=linear")
    for setting in (*other, "training.label_smoothing=0.1", "data.vocab_size=99", "training.compute_dtype=bfloat16"):
        assert programs_with(setting) is not base, setting


@pytest.mark.parametrize("field", ["optimizer.learning_rate=0.01", "optimizer.weight_decay=0.5", "training.l2=5"])
def test_rates_reach_the_step(small_corpus, field):
    """Two configs that share a program train with their own rates."""
    name, _, value = field.partition("=")
    prepared = prepare_texts(RunSpec(small_lstm(), small_corpus, 5, 0, 0))
    moved = []
    for factor in (1, 2):
        config = small_lstm(
            "--config.optimizer.name=sgd",
            "--config.optimizer.learning_rate=0.1",
            f"--config.{name}={float(value) * factor}",
        )
        state = init_state(programs_for(config, 2), config, prepared.train, (64,))
        before = jax.tree.map(np.array, state.params)
        after = programs_for(config, 2).train(state, gather(prepared.train, np.arange(8), 8, (64,)))[0].params
        moved.append(jax.tree.map(lambda a, b: np.asarray(b) - a, before, after))
    changes = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, moved), strict=True)]
    assert max(changes) > 1e-4


@pytest.mark.extra
def test_programs_of_earlier_variants_are_deleted(small_corpus):
    """A process may have 65,530 memory mappings, and the programs of a variant need thousands."""

    def count_steps():
        """Return the number of compiled training steps that this test has in memory."""
        gc.collect()
        own = [e for e in jax.devices()[0].client.live_executables() if e.fingerprint not in earlier]
        return sum("train_step" in executable.hlo_modules()[0].name for executable in own)

    def use(hidden_size):
        config = load_config("mlp", [f"--config.model.hidden_size={hidden_size}", "--config.model.embedding_size=4"])
        state = init_state(programs_for(config, 2), config, texts, (64,))
        state, _ = programs_for(config, 2).train(state, gather(texts, np.arange(4), 4, (64,)))
        evaluate(programs_for(config, 2), state.variables, texts, (64,))

    texts = prepare_texts(RunSpec(load_config("mlp"), small_corpus, 5, 0, 0)).train
    cached_programs.cache_clear()  # which may hold programs of other tests
    jax.clear_caches()
    earlier = {executable.fingerprint for executable in jax.devices()[0].client.live_executables()}
    use(4)
    assert count_steps() > 0
    for hidden_size in range(5, 11):
        use(hidden_size)
    assert count_steps() <= 4


@pytest.mark.parametrize("classes", [1, 3])
def test_smoothing_spreads_the_labels_probability(classes):
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, classes)).astype(np.float32)
    count = max(classes, 2)
    labels = (np.arange(6) % count).astype(np.int32)
    p = np.asarray(probabilities(logits))
    targets = np.eye(count)[labels] * 0.8 + 0.2 / count
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.2), -(targets * np.log(p)).sum(axis=1), rtol=1e-4)
    expected = log_loss(labels, p.astype(np.float64) / p.sum(axis=1, keepdims=True, dtype=np.float64))
    assert float(cross_entropy(logits, labels).mean()) == pytest.approx(expected, rel=1e-4)
