"""Explanations of every variant: complete, of the right words, and a function of the text alone."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore
from research.models import build
from research.models.linear_fit import hash_pairs
from research.runs.train import train
from research.serving.explain import ROWS, Explainer, along_path, integrate_path
from research.serving.prediction_files import Input, InputText, split_into_chunks
from research.serving.prediction_stream import OutputFormat, Predictor, predict_here
from tests.test_models import LONGEST, VOCAB_SIZE, random_variables, small_config
from tests.variant_cases import contract_variants

RUN = Path(__file__).parent / "data" / "run"
LENGTH = 9


def embedded():
    """The variants with an embedding, one of those that differ in what they drop out while they train alone."""
    found = {}
    for name in contract_variants():
        model = small_config(name).model
        settings = {k: v for k, v in dataclasses.asdict(model).items() if "dropout" not in k}
        if model.module != "linear.Linear":
            found.setdefault((model.module, str(settings)), name)
    return list(found.values())


def a_text(rows=ROWS):
    ids = np.random.default_rng(1).integers(2, VOCAB_SIZE, LONGEST, dtype=np.int32)
    ids[LENGTH - 1] = ids[0]  # a word that comes twice
    return np.tile(ids, (rows, 1)), np.full(rows, LENGTH, np.int32)


@pytest.mark.parametrize("name", embedded())
def test_attributions_sum_to_the_difference_of_the_logits(name):
    config = small_config(name)
    module = build(config.model, vocab_size=VOCAB_SIZE, num_outputs=3)
    ids, lengths = a_text()
    variables = random_variables(module, ids, lengths)
    towards = np.array([0.0, 1.0, 0.0], np.float32)
    at = functools.partial(jax.jit(functools.partial(along_path, module)), variables, ids, lengths, towards)
    attribution = integrate_path(at, LENGTH)
    logits = jax.jit(functools.partial(module.apply, deterministic=True))
    assert attribution.logit == pytest.approx(float(logits(variables, ids, lengths)[0, 1]), abs=1e-5)
    if name != "article":  # whose padding is a word that stays

        def emptied(path, leaf):
            return 0.0 * leaf if path[-1].key == "embedding" else leaf

        nothing = jax.tree_util.tree_map_with_path(emptied, variables)
        baseline = float(logits(nothing, ids, lengths)[0, 1])
        remedy = "does padding change the logits? see test_models"
        assert attribution.baseline == pytest.approx(baseline, abs=1e-5), remedy
    change = attribution.logit - attribution.baseline
    assert abs(change) > 1e-3
    assert attribution.values.sum() == pytest.approx(change, rel=0.01, abs=1e-4)
    assert (np.abs(attribution.values) > 0).sum() >= LENGTH // 2  # max-pooling reads some words nowhere
    for layer in attribution.attention:
        assert len(layer) == LENGTH
        assert sum(layer) <= 1.0 + 1e-5
    layers = {"luong": 1, "memory": 3, "transformer": 2, "bert": 2, "probe": 3}
    if (family := name.partition(":")[0]) in layers:
        assert len(attribution.attention) == layers[family]


def test_attributions_are_the_integral_written_out():
    """Of the averaging network, by 2,000 steps along vectors that are differentiated one by one."""
    module = build(small_config("mlp").model, vocab_size=VOCAB_SIZE, num_outputs=1)
    ids, lengths = a_text()
    variables = random_variables(module, ids, lengths)
    towards = np.array([-1.0], np.float32)
    at = functools.partial(jax.jit(functools.partial(along_path, module)), variables, ids, lengths, towards)
    found = integrate_path(at, LENGTH).values
    params = variables["params"]

    def logit_of(vectors):
        hidden = params["hidden_0"], params["head"]
        mean = vectors.mean(axis=0)
        inner = jax.nn.sigmoid(mean @ hidden[0]["kernel"] + hidden[0]["bias"])
        return -(inner @ hidden[1]["kernel"] + hidden[1]["bias"])[0]

    vectors = params["embedding"]["embedding"][ids[0, :LENGTH]]
    shares = (jnp.arange(2000) + 0.5) / 2000
    slopes = jax.vmap(lambda share: jax.grad(logit_of)(share * vectors))(shares)
    expected = jnp.sum(vectors * slopes.mean(axis=0), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", ["tfidf", "nb"])
def test_what_a_linear_models_words_add_is_counted_one_by_one(weighting):
    module = build(small_config(f"linear:{weighting}").model, vocab_size=VOCAB_SIZE, num_outputs=3)
    ids, lengths = a_text(3)
    lengths = np.array([LENGTH, 1, 0], np.int32)
    variables = random_variables(module, ids, lengths)
    found = module.apply(variables, ids, lengths, method="contributions")
    logits = module.apply(variables, ids, lengths, deterministic=True)
    bias, kernel = variables["params"]["bias"], np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(found.sum(axis=1) + bias[None], logits, rtol=1e-5, atol=1e-6)
    text = ids[0, :LENGTH]
    pairs = VOCAB_SIZE + np.asarray(hash_pairs(text[:-1], text[1:], 64))
    features = np.concatenate([text, pairs])
    weights = np.asarray(variables["constants"]["weights"])
    counts = {feature: (features == feature).sum() for feature in features}
    expected = np.zeros((LENGTH, 3))
    for place, feature in enumerate(features):
        value = weights[feature] * kernel[feature]
        if weighting == "nb":
            value = value / counts[feature]
        else:
            value = value / np.sqrt(sum((count * weights[f, 0]) ** 2 for f, count in counts.items()))
        if place < LENGTH:
            expected[place] += value
        else:
            expected[place - LENGTH] += value / 2
            expected[place - LENGTH + 1] += value / 2
    np.testing.assert_allclose(found[0, :LENGTH], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found[0, LENGTH:]).max() == 0


TEXTS = ("a fine film", "", "two hours of my <b>life</b> &amp; bad", "the " * 120)


@pytest.fixture(scope="module")
def explained():
    """A run, and what explains its predictions."""
    run = restore(RUN)
    return run, Explainer(run).explain


@pytest.mark.parametrize("text", TEXTS)
def test_an_explanation_is_of_the_runs_own_prediction(text, explained):
    run, say = explained
    found = say(text)
    p = dict(zip(run.class_names, run.predict_proba([text])[0], strict=True))
    assert found["label"] == max(p, key=p.get)
    assert 1 / (1 + np.exp(-found["logit"])) == pytest.approx(p[found["label"]], abs=1e-5)
    assert abs(found["gap"]) <= max(0.01 * abs(found["logit"] - found["baseline"]), 1e-4)
    assert [word["word"] for word in found["words"]] == [word for word, _ in run.words(text)]
    assert len(found["words"]) == len(run.encode([text]).tokens)
    assert "uncertainty" not in found  # it drops nothing out
    ((_, written),) = predict_here(
        Predictor(RUN), split_into_chunks(Input(iter([InputText(text, 0)]))), OutputFormat(explain=True)
    )
    answer = json.loads(written)  # as `predict` writes it
    assert (answer["label"], answer["explanation"]) == (found["label"], found)


def test_unknown_words_are_told_apart(explained):
    found = explained[1]("a zyzzyva film")
    assert [word["known"] for word in found["words"]] == [True, False, True]


@pytest.fixture(scope="module")
def dropping(small_corpus, tmp_path_factory):
    config = load_config("lstm:variational")
    config.model = dataclasses.replace(config.model, hidden_size=8, embedding_size=8, readout="attention")
    config.training.epochs = 1
    run = restore(train(config, small_corpus, tmp_path_factory.mktemp("dropping") / "run"))
    return run, Explainer(run).explain


def test_dropout_says_how_sure_it_is_and_attention_where_it_looks(dropping):
    run, say = dropping
    found, again = say("a fine film"), Explainer(run).explain("a fine film")
    assert found == again
    uncertainty = found["uncertainty"]
    assert sum(uncertainty["mean"].values()) == pytest.approx(1)
    assert 0 < uncertainty["deviation"]["0"] == pytest.approx(uncertainty["deviation"]["1"], rel=1e-4)
    (weights,) = found["attention"]
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_a_long_text_changes_no_explanation_of_another(dropping):
    say = dropping[1]
    alone = say("a fine film")
    say("x " * 100)
    assert say("a fine film") == alone
