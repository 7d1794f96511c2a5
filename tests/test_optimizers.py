"""Optimizers, schedules, smoothing and augmentation, against their definitions."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from sklearn.metrics import log_loss

from experiments.variants import load_config
from research import runs, train
from research.data.augmentation import augment
from research.data.corpora import make_corpus
from research.data.files import Row
from research.data.tokenizer import Encoded
from research.errors import UserError
from research.settings import Optimizer, validate
from research.training import history
from research.training.metrics import cross_entropy, probabilities
from research.training.optimizers import depths, limit_columns, make_optimizer, rate_factor, rates_of
from research.training.step import Programs

PARAMS = {"matrix": jnp.array([[1.0, -2.0], [3.0, 4.0]]), "bias": jnp.array([1.0, -1.0])}
GRADIENTS = {"matrix": jnp.array([[0.1, 0.2], [-0.3, 0.4]]), "bias": jnp.array([0.5, -0.5])}


def steps(settings, count=3):
    optimizer, params = make_optimizer(settings), PARAMS
    state = optimizer.init(params)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params, rates=rates_of(settings))
        params = optax.apply_updates(params, updates)
    return params


def reference_steps(optimizer, count=3):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params


def matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (Optimizer(name="sgd", learning_rate=0.1), optax.sgd(0.1)),
        (Optimizer(name="sgd", learning_rate=0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (Optimizer(name="adam", learning_rate=0.1), optax.adam(0.1, eps=1e-7)),
        (
            Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.2),
            optax.adamw(0.1, eps=1e-7, weight_decay=0.2, mask=matrices),
        ),
        (Optimizer(name="adadelta", learning_rate=1.0), optax.adadelta(1.0, rho=0.95, eps=1e-6)),
        (
            Optimizer(name="lion", learning_rate=0.1, weight_decay=0.2),
            optax.lion(0.1, weight_decay=0.2, mask=matrices),
        ),
    ],
)
def test_names_are_the_optimizers_of_optax(settings, reference):
    for one, other in zip(jax.tree.leaves(steps(settings)), jax.tree.leaves(reference_steps(reference)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adadelta", "lion"])
def test_decay_shrinks_matrices_and_leaves_biases(name):
    """Without a gradient, decay moves a matrix towards 0 - flax's own example once moved it away."""
    settings = Optimizer(name=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(settings)
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(nothing, optimizer.init(PARAMS), PARAMS, rates=rates_of(settings))
    after = optax.apply_updates(PARAMS, updates)
    assert (jnp.abs(after["matrix"]) < jnp.abs(PARAMS["matrix"])).all()
    np.testing.assert_array_equal(after["bias"], PARAMS["bias"])


def test_a_bias_of_several_axes_does_not_decay():
    """Those of the GRU and of attention have two."""
    settings, params = Optimizer(weight_decay=0.5), {"gru": {"bias": jnp.ones((2, 3)), "kernel": jnp.ones((2, 3))}}
    optimizer = make_optimizer(settings)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(params), params, rates=rates_of(settings))
    assert (updates["gru"]["kernel"] < 0).all()
    assert (updates["gru"]["bias"] == 0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lstm", {"embedding": 0, "forwards_0": 1, "head": 2}),
        ("mlp:dan", {"embedding": 0, "hidden_0": 1, "hidden_1": 2, "head": 3}),
        ("transformer:pre", {"embedding": 0, "block_0": 1, "block_1": 2, "norm": 3, "head": 3}),
        (
            "bert:tiny",
            {"embedding_position": 0, "embedding_norm": 0, "block_0": 1, "block_1": 2, "pooler": 3, "head": 3},
        ),
        ("luong:general", {"embedding": 0, "lstm": 1, "head": 2}),
        ("memory", {"embedding": 0, "lstm": 1, "head": 2}),
        ("article", {"embedding": 0, "lstm": 1, "head": 2}),
        ("deep_cnn:dpcnn", {"embedding": 0, "first": 1, "stage_0_block_0_norm_0": 1, "head": 5}),
        ("cnn", {"embedding": 0, "width_3": 1, "width_5": 1, "head": 1}),
        ("linear", {"kernel": 1, "bias": 1}),
    ],
)
def test_layers_are_counted_from_the_input(name, expected):
    programs = Programs(load_config(name), 2)
    ids, lengths = np.zeros((1, 8), np.int32), np.ones(1, np.int32)
    found = {}
    for path, depth in jax.tree_util.tree_leaves_with_path(
        depths(programs.init(jax.random.key(0), ids, lengths)["params"])
    ):
        found |= {key.key: depth for key in path}
    assert {part: found[part] for part in expected} == expected


LAYERS = {"embedding": jnp.ones((2, 2)), "block_0": jnp.ones(2), "block_1": jnp.ones((2, 2)), "head": jnp.ones(2)}


def moved(settings):
    """How far each layer is moved by a gradient of ones."""
    optimizer = make_optimizer(settings)
    ones = jax.tree.map(jnp.ones_like, LAYERS)
    updates, _ = optimizer.update(ones, optimizer.init(LAYERS), LAYERS, rates=rates_of(settings))
    return {name: float(-update.mean()) for name, update in updates.items()}


def test_the_rate_falls_from_layer_to_layer():
    found = moved(Optimizer(name="sgd", learning_rate=1.0, layer_decay=0.5))
    assert found == {"embedding": 0.125, "block_0": 0.25, "block_1": 0.5, "head": 1.0}


def test_frozen_layers_do_not_move_and_have_no_part_in_the_norm_that_is_clipped():
    settings = Optimizer(name="sgd", learning_rate=1.0, weight_decay=0.5, clip_norm=1.0, frozen=2, layer_decay=0.5)
    found = moved(settings)
    assert found["embedding"] == found["block_0"] == 0
    alone = {name: LAYERS[name] for name in ("block_1", "head")}
    clipped = 1 / optax.global_norm(alone)
    assert found["head"] == pytest.approx(float(clipped))
    assert found["block_1"] == pytest.approx(0.5 * float(clipped + 0.5))
    with pytest.raises(UserError, match="frozen is 4, expected at most 3"):
        moved(Optimizer(frozen=4))


def test_clipping_limits_the_whole_gradient():
    after = steps(Optimizer(name="sgd", learning_rate=1.0, clip_norm=0.01), count=1)
    moved = jax.tree.map(lambda a, b: a - b, after, PARAMS)
    assert optax.global_norm(moved) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1, 1, 1, 1]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("linear", 0.0, [0.75, 0.5, 0.25, 0]),
        ("linear", 0.5, [0.5, 1, 0.5, 0]),
        ("cosine", 0.0, [0.8535534, 0.5, 0.1464466, 0]),
        ("rsqrt", 0.25, [1, 0.7071068, 0.5773503, 0.5]),
    ],
)
def test_schedules(schedule, warmup, expected):
    settings = Optimizer(schedule=schedule, warmup=warmup)
    found = [float(rate_factor(settings, jnp.float32(p))) for p in (0.25, 0.5, 0.75, 1.0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_columns_are_limited():
    params = {"head": {"kernel": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "bias": jnp.ones(2)}, "x": jnp.ones(1)}
    limited = limit_columns(params, 2.0)
    np.testing.assert_allclose(jnp.linalg.norm(limited["head"]["kernel"], axis=0), [2.0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(limited["head"]["bias"], params["head"]["bias"])


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


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 3))
def test_augmented_texts_are_made_of_their_own_tokens(lengths, deletion, swap, epoch):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    texts = Encoded(np.arange(offsets[-1], dtype=np.int32), offsets, np.arange(len(lengths), dtype=np.int32))
    found = augment(texts, 5, epoch, deletion=deletion, swap=swap)
    assert found.labels.tolist() == texts.labels.tolist()
    for n, length in enumerate(lengths):
        part = found.tokens[found.offsets[n] : found.offsets[n + 1]].tolist()
        assert set(part) <= set(range(offsets[n], offsets[n + 1]))
        assert len(part) == len(set(part)) <= length
        assert bool(part) == bool(length)
        if not deletion:
            assert len(part) == length
        if not swap:
            assert part == sorted(part)
    again = augment(texts, 5, epoch, deletion=deletion, swap=swap)
    assert found.tokens.tolist() == again.tokens.tolist()
    assert texts.tokens.tolist() == list(range(offsets[-1]))  # left as it was


def test_augmentation_deletes_at_its_rate():
    texts = Encoded(np.zeros(10_000, np.int32), np.array([0, 10_000]), np.zeros(1, np.int32))
    assert len(augment(texts, 0, 0, deletion=0.3, swap=0.0).tokens) == pytest.approx(7000, abs=150)
    assert (
        augment(texts, 0, 0, deletion=0.3, swap=0.0).tokens.size
        != augment(texts, 0, 1, deletion=0.3, swap=0.0).tokens.size
    )


def small(*overrides):
    sizes = ("--config.model.hidden_size=16", "--config.model.embedding_size=8", "--config.training.epochs=3")
    return load_config("lstm", [*sizes, *overrides])


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.name=lion",
        "optimizer.schedule=cosine",
        "optimizer.warmup=0.5",
        "optimizer.weight_decay=0.1",
        "optimizer.clip_norm=0.01",
        "optimizer.max_norm=0.01",
        "optimizer.layer_decay=0.5",
        "optimizer.frozen=1",
        "training.label_smoothing=0.2",
        "training.random_deletion=0.3",
        "training.random_swap=0.3",
        "training.class_weights=balanced",
        "training.l2=1.0",
        "training.batch_size=16",
        "data.keep=last",
        "data.max_length=10",
        "data.vocab_size=100",
        "data.tokens=characters",
        "data.stop_words=english",
    ],
)
def test_every_setting_changes_a_run(override, uneven_corpus, tmp_path, plain_metrics):
    folder = train(small(*CUT, f"--config.{override}"), uneven_corpus, tmp_path / "run")
    assert runs.read_metrics(folder) != plain_metrics


CUT = ("--config.data.max_length=16",)  # so that it matters which end is kept


@pytest.fixture(scope="module")
def uneven_corpus(small_corpus):
    """A third of one class left out, so that class weights matter."""
    kept = [i for i, label in enumerate(small_corpus.labels) if label == 0 or i % 3]
    rows = [Row(small_corpus.texts[i], str(small_corpus.labels[i]), "", "") for i in kept]
    return make_corpus("uneven", {"all": rows})


@pytest.fixture(scope="module")
def plain_metrics(uneven_corpus, tmp_path_factory):
    return runs.read_metrics(train(small(*CUT), uneven_corpus, tmp_path_factory.mktemp("plain") / "run"))


def test_patience_stops_and_stays_stopped(small_corpus, tmp_path, monkeypatch):
    flags = (
        "--config.training.epochs=40",
        "--config.training.select=log_loss",
        "--config.optimizer.learning_rate=0.02",
    )
    config = small(*flags, "--config.training.patience=2")
    folder = train(config, small_corpus, tmp_path / "run")
    epochs = [r["epoch"] for r in runs.read_metrics(folder) if r["split"] == "validation"]
    best = runs.read_json(folder / runs.RECORD)["best_epoch"]
    assert epochs[-1] == best + 2 < 40
    predictions = (folder / runs.PREDICTIONS).read_bytes()
    # Killed after the last checkpoint and before the record: it does not train on.
    (folder / runs.RECORD).unlink()
    train(config, small_corpus, folder, tick=lambda done, loss: pytest.fail("trained on"))
    assert (folder / runs.PREDICTIONS).read_bytes() == predictions
    # Interrupted before: it ends as if it had not been.
    monkeypatch.setattr(history, "_SAVE_SECONDS", 0.0)

    def interrupt(done, loss):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, small_corpus, tmp_path / "other", tick=interrupt)
    other = train(config, small_corpus, tmp_path / "other")
    assert (other / runs.PREDICTIONS).read_bytes() == predictions
    assert (other / runs.METRICS).read_bytes() == (folder / runs.METRICS).read_bytes()


def test_settings_that_nothing_would_read_are_refused():
    with pytest.raises(UserError, match="it is not read by adam"):
        load_config("lstm", ["--config.optimizer.momentum=0.9"])
    with pytest.raises(UserError, match="expected a warmup above 0"):
        load_config("lstm", ["--config.optimizer.schedule=rsqrt"])
    for setting in ("schedule=linear", "warmup=0.1", "weight_decay=0.1", "clip_norm=1", "layer_decay=0.5", "frozen=1"):
        with pytest.raises(UserError, match="it is not read by lbfgs"):
            load_config("linear", [f"--config.optimizer.{setting}"])
    assert validate(load_config("lstm", ["--config.optimizer.name=sgd", "--config.optimizer.momentum=0.9"]))


def test_a_limit_of_columns_that_are_not_there_is_refused_before_anything_is_written(small_corpus, tmp_path):
    with pytest.raises(UserError, match=r"max_norm is 3\.0, expected 0: the model has no head"):
        train(load_config("linear", ["--config.optimizer.max_norm=3"]), small_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()
