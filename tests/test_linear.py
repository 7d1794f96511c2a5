"""The linear baseline is scikit-learn's logistic regression on its TF-IDF."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments.variants import load_config
from research.data.batches import gather
from research.models.linear import hash_pairs
from research.runs.texts import RunSpec, prepare_texts
from research.training.initial_state import init_state
from research.training.programs import Programs
from tests.evaluation import evaluate


@pytest.mark.parametrize("classes", [2, 3])
def test_it_fits_what_scikit_learn_fits(small_corpus, classes):
    config = load_config("linear")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))

    def features(encoded):
        """Words by id and pairs by their bucket, which two pairs may share."""
        pieces = np.split(encoded.tokens, encoded.offsets[1:-1])
        hashed = np.asarray(hash_pairs(encoded.tokens, np.roll(encoded.tokens, -1), config.model.buckets))
        pairs = [of_text[:-1] for of_text in np.split(hashed, encoded.offsets[1:-1])]
        return [[f"w{i}" for i in words] + [f"p{i}" for i in two] for words, two in zip(pieces, pairs, strict=True)]

    labels = prepared.train.labels if classes == 2 else np.arange(len(prepared.train.labels), dtype=np.int32) % classes
    prepared.train.labels[:] = labels
    vectorizer = TfidfVectorizer(analyzer=lambda features: features)
    reference = LogisticRegression(C=10.0, max_iter=1000, tol=1e-8)
    reference.fit(vectorizer.fit_transform(features(prepared.train)), labels)
    expected = reference.predict_proba(vectorizer.transform(features(prepared.test)))

    programs = Programs(config, classes)
    state = init_state(programs, config, prepared.train, prepared.shapes.widths)
    everything = gather(prepared.train, np.arange(len(labels)), len(labels), prepared.shapes.widths)
    for _ in range(config.training.epochs):
        state, _ = programs.train(state, everything)
    _, found = evaluate(programs, state.variables, prepared.test, prepared.shapes.widths)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_few_pairs_share_a_bucket():
    """About as few as independent random buckets would: n - m (1 - exp(-n / m)) of n pairs in m buckets."""
    first, second = np.divmod(np.arange(40_000, dtype=np.int32), 200)
    buckets = np.asarray(hash_pairs(first, second, 2**18))
    assert buckets.min() >= 0
    assert buckets.max() < 2**18
    expected = 2**18 * (1 - np.exp(-40_000 / 2**18))
    assert abs(len(np.unique(buckets)) - expected) < 0.01 * expected


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
