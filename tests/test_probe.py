"""The linear probe: its sentence vectors, its fit, what it refuses, and a run that needs nothing else."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from experiments.grid import expand
from experiments.variants import load_config
from research import restore
from research.data.cache import cache_folder
from research.data.corpora import load
from research.data.fingerprints import fingerprint_corpus
from research.data.pretrained_encoders import read_sentence_settings, read_weights
from research.data.tokenizer import Encoded
from research.errors import UserError
from research.models import build
from research.models.bert_files import tensors_of
from research.models.linear_fit import LogisticLoss
from research.runs import run_files
from research.runs.sentence_vectors import sentence_vectors
from research.runs.train import train
from research.settings import Config
from tests.bert_encoder import DATA
from tests.comparing import compare_into
from tests.huggingface import SENTENCES
from tests.variant_cases import PROBE

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A cache of this test alone, except for what is downloaded."""
    (tmp_path / "cache" / "text-classifier-research").mkdir(parents=True)
    assets = cache_folder("assets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_folder("assets").symlink_to(assets)


def probe(*overrides: str, of: str = PROBE) -> Config:
    return load_config(of, [f"--config.{override}" for override in overrides])


def assert_vectors_are_those_of_transformers(config, reference, tmp_path):
    """The vectors of sentence-transformers: the mean of the states of a sentence alone, scaled to length 1."""
    rows = "".join(json.dumps({"text": text, "label": str(n % 2)}) + "\n" for n, text in enumerate(SENTENCES))
    (tmp_path / "sentences.jsonl").write_text(rows, "utf-8")
    corpus = load(tmp_path / "sentences.jsonl")
    vectors = sentence_vectors(corpus, config).values
    assert vectors.dtype == np.float32
    with np.load(reference) as expected:
        for text, vector in zip(corpus.texts, vectors, strict=True):
            mean = expected[f"{SENTENCES.index(text)}/mean"]
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-5)


_TAKES_LONGER = [pytest.param(name, marks=pytest.mark.extra) for name in ("tiny_distilbert", "tiny_xlmr")]


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta", *_TAKES_LONGER])
def test_vectors_are_those_of_transformers(name, tmp_path):
    config = probe("data.max_length=64", "model.normalize=true", of=f"probe:{DATA / name}")
    assert_vectors_are_those_of_transformers(config, DATA / f"{name}.npz", tmp_path)


@pytest.mark.extra
def test_vectors_of_minilm_are_those_of_transformers(tmp_path):
    config = probe("data.max_length=512", of="probe:minilm")
    assert_vectors_are_those_of_transformers(config, DATA / "minilm.npz", tmp_path)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("l2", [0.3, 30.0])
def test_it_fits_what_scikit_learn_fits(num_classes, l2):
    """To the loss within 1e-5, on vectors whose components differ in spread; one is constant."""
    random = np.random.default_rng(num_classes)
    labels = (np.arange(300) % num_classes).astype(np.int32)
    vectors = random.normal(size=(300, 10)) * np.geomspace(0.01, 10.0, 10) + 0.3 * labels[:, None]
    vectors[:, 4] = 0.7
    texts = Encoded(np.empty(0, np.int32), np.zeros(301, np.int64), labels, vectors.astype(np.float32))
    settings = dataclasses.replace(probe().model, hidden_size=10, heads=2)
    module = build(settings, vocab_size=9, num_outputs=1 if num_classes == 2 else num_classes)
    fitted = module.fit(texts, LogisticLoss(l2))

    features = StandardScaler().fit_transform(texts.vectors.astype(np.float64))
    reference = LogisticRegression(C=1 / l2, max_iter=10_000, tol=1e-10).fit(features, labels)
    expected = reference.predict_proba(features)
    loss = -np.mean(np.log(expected[np.arange(300), labels])) + l2 / 600 * np.sum(np.square(reference.coef_))
    assert fitted.loss == pytest.approx(loss, abs=1e-5)

    ids = np.zeros((1, 2), np.int32)
    variables = module.init(jax.random.key(0), ids, np.ones(1, np.int32), deterministic=True)
    constants = variables["constants"] | fitted.variables["constants"]
    variables = {"params": fitted.variables["params"], "constants": constants}
    logits = np.asarray(module.apply(variables, texts.vectors, method="classify"), np.float64)
    logits = np.concatenate([np.zeros((300, 1)), logits], axis=1) if num_classes == 2 else logits
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True), expected, atol=1e-4)


def test_a_run_needs_neither_the_encoder_nor_the_cache_and_keeps_the_encoder_to_the_bit(
    small_corpus, tmp_path, monkeypatch
):
    folder = shutil.copytree(DATA / "tiny_bert", tmp_path / "encoder")
    expected = {name: np.array(t) for name, t in read_weights(str(folder)).items() if not name.startswith("pooler.")}
    path = train(load_config(f"probe:{folder}"), small_corpus, tmp_path / "run")
    shutil.rmtree(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another_cache"))
    run = restore(path)
    found = tensors_of({"encoder": run.variables["constants"]["encoder"]}, "bert")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].tobytes() == tensor.tobytes(), name
    saved = run_files.read_predictions(path)
    text_of = dict(zip(small_corpus.ids, small_corpus.texts, strict=True))
    # The vectors in the cache were computed in batches of other texts.
    np.testing.assert_allclose(run.predict_proba([text_of[i] for i in saved.id]), saved.probabilities, atol=1e-5)
    record = run_files.read_record(path)
    assert record["parameters"] == 24 + 1
    assert record["frozen_parameters"] == sum(tensor.size for tensor in expected.values())
    train_record, validation, test = run_files.read_metrics(path)
    assert train_record["accuracy"] > 0.6
    assert np.isfinite([validation["loss"], test["loss"]]).all()


def test_the_texts_are_encoded_once_for_folds_and_penalties(small_corpus, tmp_path):
    shares = []
    vectors, seconds = sentence_vectors(small_corpus, probe(), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    variants = expand([PROBE], [], ["training.l2=1,100"])
    folder = compare_into(tmp_path / "comparison", variants, small_corpus, folds=2)
    assert len(list(folder.glob("*/*/predictions.npz"))) == 4
    report = " ".join((folder / "report.md").read_text("utf-8").split())
    assert re.search(rf"frozen encoder, .*=1\] \([\d,]+ parameters, {seconds:.1f} s\)", report)
    assert len(list(cache_folder("sentence_vectors").iterdir())) == 1
    again = sentence_vectors(small_corpus, probe("seed=3", "data.train_size=50"), shares.append)
    assert again.values.tobytes() == vectors.tobytes()
    assert shares.count(1.0) == 1


@pytest.mark.parametrize(
    "override", ["data.max_length=20", "data.keep=last", "model.pooling=cls", "model.normalize=true"]
)
def test_vectors_are_computed_again_where_they_differ(small_corpus, override):
    vectors = sentence_vectors(small_corpus, probe("data.max_length=21")).values
    others = sentence_vectors(small_corpus, probe("data.max_length=21", override)).values
    assert np.abs(others - vectors).max() > 1e-3


def test_nothing_is_kept_of_an_encoding_that_was_interrupted(small_corpus):
    def interrupt(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sentence_vectors(small_corpus, probe(), interrupt)
    assert not cache_folder("sentence_vectors").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.batch_size=32", "training.batch_size is 32, expected 0: a probe is fitted to all training texts"),
        ("optimizer.name=adam", "optimizer.name is adam, expected lbfgs: a probe is fitted to all training texts"),
        ("data.from_scratch=true", "the encoder of a probe is not trained, expected pretrained weights"),
        ("init_from=some/run", "probe.Probe starts from its training texts"),
    ],
)
def test_settings_that_do_not_fit_a_probe_are_refused(small_corpus, tmp_path, override, words):
    with pytest.raises(UserError, match=words):
        train(probe(override), small_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_has_seen_held_out_texts_is_refused(small_corpus, tmp_path):
    folder = shutil.copytree(DATA / "tiny_bert", tmp_path / "encoder")
    seen = fingerprint_corpus(small_corpus)
    run_files.write_seen(folder, [seen], len(seen))
    with pytest.raises(UserError, match="encoder was trained on 48 of the texts that are held out here"):
        train(load_config(f"probe:{folder}"), small_corpus, tmp_path / "run")


TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}
POOLING = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}
NORMALIZE = {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}


def write_modules(folder, modules, pooling):
    shutil.copytree(DATA / "tiny_bert", folder)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(folder)


@pytest.mark.parametrize(
    ("modules", "pooling", "expected"),
    [
        ([TRANSFORMER, POOLING, NORMALIZE], {"pooling_mode_cls_token": True, "include_prompt": True}, ("cls", True)),
        ([TRANSFORMER, POOLING], {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, ("mean", False)),
        ([TRANSFORMER, POOLING, NORMALIZE], {"pooling_mode": "mean"}, ("mean", True)),
    ],
)
def test_a_folder_of_sentence_transformers_says_how_it_pools(tmp_path, modules, pooling, expected):
    folder = write_modules(tmp_path / "encoder", modules, pooling)
    assert tuple(read_sentence_settings(folder).values()) == expected
    model = load_config(f"probe:{folder}").model
    assert (model.pooling, model.normalize) == expected


@pytest.mark.parametrize(
    ("modules", "pooling", "words"),
    [
        ([TRANSFORMER, POOLING], {"pooling_mode_max_tokens": True}, "the pooling is max_tokens, expected mean or cls"),
        ([TRANSFORMER, POOLING], {"pooling_mode": "lasttoken"}, "the pooling is lasttoken, expected mean or cls"),
        ([TRANSFORMER, {"type": "x.Dense", "path": "3_Dense"}], {}, "has a module Dense, expected only Transformer"),
        ([{"name": 0}], {}, "modules.json: cannot be read"),
        ({}, {}, "modules.json: a JSON dict, expected an array"),
    ],
)
def test_a_folder_that_pools_otherwise_is_refused(tmp_path, modules, pooling, words):
    folder = write_modules(tmp_path / "encoder", modules, pooling)
    with pytest.raises(UserError, match=words):
        load_config(f"probe:{folder}")
