"""The linear baseline is scikit-learn's logistic regression on its TF-IDF, and its fit reaches the training optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments.variants import load_config
from research.data.batches import gather
from research.data.tokenizer import Encoded
from research.models import build
from research.models.linear import Linear
from research.models.linear_fit import (
    LogisticLoss,
    count_features,
    hash_pairs,
    scale_features,
)
from research.runs.texts import RunSpec, prepare_texts
from research.training.initial_state import Start, init_state
from research.training.programs import Programs

VOCAB_SIZE, BUCKETS, WIDTH = 30, 40, 12
KINDS = [("tfidf", 2), ("tfidf", 3), ("nb", 2), ("nb", 3)]


def make_texts(num_classes, seed=0):
    """Return 90 texts of few words, so that words repeat and pairs share buckets; every tenth text is empty."""
    random = np.random.default_rng(seed)
    labels = np.arange(90, dtype=np.int32) % num_classes
    lengths = random.integers(1, WIDTH + 1, len(labels)) * (np.arange(len(labels)) % 10 > 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = random.integers(2, VOCAB_SIZE - 5, offsets[-1]) + np.repeat(labels, lengths)
    return Encoded(tokens.astype(np.int32), offsets, labels)


def make_module(weighting, num_classes):
    num_outputs = 1 if num_classes == 2 else num_classes
    return Linear(vocab_size=VOCAB_SIZE, num_outputs=num_outputs, weighting=weighting, buckets=BUCKETS)


def pad(texts):
    return gather(texts, np.arange(len(texts.labels)), len(texts.labels), (WIDTH,))


def predict(module, variables, texts):
    """Return probabilities float64 [N, C]."""
    batch = pad(texts)
    logits = np.asarray(module.apply(variables, batch.token_ids, batch.lengths, deterministic=True), np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_pairs_have_the_same_buckets_in_numpy_and_jax():
    first, second = np.random.default_rng(0).integers(0, 2**31 - 1, (2, 1000), dtype=np.int32)
    buckets = hash_pairs(first, second, 2**18)
    assert buckets.dtype == np.int32
    np.testing.assert_array_equal(buckets, hash_pairs(jnp.asarray(first), jnp.asarray(second), 2**18))


def test_few_pairs_share_a_bucket():
    """Random buckets would be as full: n pairs in m buckets fill m (1 - exp(-n / m)) of them."""
    first, second = np.divmod(np.arange(40_000, dtype=np.int32), 200)
    buckets = hash_pairs(first, second, 2**18)
    assert buckets.min() >= 0
    assert buckets.max() < 2**18
    expected = 2**18 * (1 - np.exp(-40_000 / 2**18))
    assert abs(len(np.unique(buckets)) - expected) < 0.01 * expected


@pytest.mark.parametrize(("weighting", "num_classes"), KINDS)
def test_sparse_features_are_those_of_the_module(weighting, num_classes):
    texts, module = make_texts(num_classes), make_module(weighting, num_classes)
    weights = module.fit_constants(texts)["weights"]
    unseen = make_texts(num_classes, seed=1)
    random = np.random.default_rng(2)
    kernel = random.normal(size=(VOCAB_SIZE + BUCKETS, module.num_outputs)).astype(np.float32)
    bias = random.normal(size=module.num_outputs).astype(np.float32)
    features = scale_features(count_features(unseen, VOCAB_SIZE, BUCKETS), weights, weighting)
    batch = pad(unseen)
    variables = {"params": {"kernel": kernel, "bias": bias}, "constants": {"weights": weights}}
    logits = module.apply(variables, batch.token_ids, batch.lengths, deterministic=True)
    np.testing.assert_allclose(features @ (weights * kernel) + bias, logits, atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_fits_what_scikit_learn_fits(small_corpus, num_classes):
    config = load_config("linear")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))

    def name_features(texts):
        """Words by id and pairs by their bucket, which two pairs may share."""
        buckets = hash_pairs(texts.tokens, np.roll(texts.tokens, -1), config.model.buckets)
        words, pairs = (np.split(array, texts.offsets[1:-1]) for array in (texts.tokens, buckets))
        return [[f"w{i}" for i in w] + [f"p{i}" for i in p[:-1]] for w, p in zip(words, pairs, strict=True)]

    labels = prepared.train.labels if num_classes == 2 else np.arange(len(prepared.train.labels)) % num_classes
    vectorizer = TfidfVectorizer(analyzer=lambda features: features)
    reference = LogisticRegression(C=1 / config.training.l2, max_iter=1000, tol=1e-8)
    reference.fit(vectorizer.fit_transform(name_features(prepared.train)), labels)
    expected = reference.predict_proba(vectorizer.transform(name_features(prepared.test)))

    module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1 if num_classes == 2 else num_classes)
    texts = Encoded(prepared.train.tokens, prepared.train.offsets, labels.astype(np.int32))
    fitted = module.fit(texts, LogisticLoss(config.training.l2))
    np.testing.assert_allclose(predict(module, fitted.variables, prepared.test), expected, atol=1e-4)


@pytest.mark.parametrize(("weighting", "num_classes"), [("tfidf", 2), ("tfidf", 3), ("nb", 2)])
def test_class_weights_are_those_of_scikit_learn(weighting, num_classes):
    texts, module = make_texts(num_classes), make_module(weighting, num_classes)
    class_weights = np.array([0.5, 3.0, 1.5], np.float32)[:num_classes]
    l2 = 0.2
    fitted = module.fit(texts, LogisticLoss(l2, class_weights))
    weights = fitted.variables["constants"]["weights"]
    features = scale_features(count_features(texts, VOCAB_SIZE, BUCKETS), weights, weighting)
    # Their penalty is on the sum of the weighted losses and not on the mean.
    strength = len(texts.labels) / (l2 * class_weights[texts.labels].sum())
    reference = LogisticRegression(C=strength, class_weight=dict(enumerate(class_weights)), max_iter=10_000, tol=1e-10)
    matrix = features.toarray() * weights[:, 0]
    reference.fit(matrix, texts.labels)
    np.testing.assert_allclose(predict(module, fitted.variables, texts), reference.predict_proba(matrix), atol=1e-4)


@pytest.mark.parametrize(("weighting", "num_classes"), [("tfidf", 2), ("nb", 3)])
def test_it_reaches_the_optimum_of_the_training_step(weighting, num_classes):
    """L-BFGS in JAX, run to convergence on padded batches, with class weights and label smoothing."""
    flags = [f"model.weighting={weighting}", f"model.buckets={BUCKETS}", f"data.vocab_size={VOCAB_SIZE}"]
    flags += ["training.l2=0.5", "training.label_smoothing=0.1"]
    config = load_config("linear", [f"--config.{flag}" for flag in flags])
    texts, programs = make_texts(num_classes), Programs(config, num_classes)
    class_weights = np.array([0.5, 3.0, 1.5], np.float32)[:num_classes]
    state = init_state(programs, config, texts, (WIDTH,), Start(class_weights=class_weights))
    for _ in range(100):
        state, _ = programs.train(state, pad(texts))

    def loss_of(variables):
        smoothed = np.eye(num_classes)[texts.labels] * 0.9 + 0.1 / num_classes
        losses = -np.sum(smoothed * np.log(predict(programs.module, variables, texts)), axis=1)
        kernel = np.asarray(variables["params"]["kernel"], np.float64)
        penalty = 0.5 * 0.5 / len(texts.labels) * np.sum(np.square(kernel))
        return np.average(losses, weights=class_weights[texts.labels]) + penalty

    fitted = programs.module.fit(texts, LogisticLoss(0.5, class_weights, label_smoothing=0.1))
    assert fitted.loss == pytest.approx(loss_of(fitted.variables), abs=1e-6)
    assert fitted.loss == pytest.approx(loss_of(state.variables), abs=1e-5)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), fitted.variables)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state.variables)
    expected = predict(programs.module, state.variables, texts)
    np.testing.assert_allclose(predict(programs.module, fitted.variables, texts), expected, atol=1e-4)


def test_texts_without_words_get_the_shares_of_the_classes():
    labels = np.array([0, 1, 1, 1], np.int32)
    texts = Encoded(np.empty(0, np.int32), np.zeros(5, np.int64), labels)
    for weighting in ("tfidf", "nb"):
        module = make_module(weighting, 2)
        fitted = module.fit(texts, LogisticLoss(l2=1.0))
        assert not fitted.variables["params"]["kernel"].any()
        np.testing.assert_allclose(predict(module, fitted.variables, texts)[:, 1], 0.75, atol=1e-5)


@pytest.mark.parametrize(("weighting", "num_classes"), KINDS)
def test_a_second_fit_has_the_same_bytes(weighting, num_classes):
    texts, module = make_texts(num_classes), make_module(weighting, num_classes)
    first, second = (module.fit(texts, LogisticLoss(l2=0.1)) for _ in range(2))
    assert first.iterations == second.iterations
    for one, other in zip(jax.tree.leaves(first.variables), jax.tree.leaves(second.variables), strict=True):
        assert one.tobytes() == other.tobytes()


def test_progress_is_reported_after_each_iteration():
    texts, module = make_texts(2), make_module("tfidf", 2)
    reports = []
    fitted = module.fit(texts, LogisticLoss(l2=0.1), 5, lambda iterations, loss: reports.append((iterations, loss)))
    assert [iterations for iterations, _ in reports] == [1, 2, 3, 4, 5]
    losses = [loss for _, loss in reports]
    assert losses == sorted(losses, reverse=True)
    assert (fitted.iterations, fitted.loss) == reports[-1]


def test_the_penalty_is_on_matrices_alone(small_corpus):
    """One step of gradient descent with and without it: the bias moves alike, the kernel by l2 / N of itself more."""
    steps = []
    for l2 in (0.0, 50.0):
        config = load_config("linear", [f"--config.training.l2={l2}", "--config.optimizer.name=sgd"])
        config.optimizer.learning_rate = 0.5
        prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
        programs = Programs(config, 2)
        state = init_state(programs, config, prepared.train, prepared.shapes.widths)
        before = {"kernel": np.full(state.params["kernel"].shape, 2.0, np.float32), "bias": np.ones(1, np.float32)}
        texts = len(prepared.train.labels)
        batch = gather(prepared.train, np.arange(texts), texts, prepared.shapes.widths)
        after, _ = programs.train(state.replace(params=before), batch)
        steps.append({name: np.asarray(after.params[name]) - before[name] for name in before})
    np.testing.assert_allclose(steps[1]["bias"], steps[0]["bias"], atol=1e-6)
    np.testing.assert_allclose(steps[1]["kernel"] - steps[0]["kernel"], -0.5 * 50.0 / texts * 2.0, rtol=1e-3)
