"""BERT from files: it equals transformers' BERT, and a folder that it cannot read is an error that says why.

`tests/huggingface.py` made the references.
"""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.grid import expand
from experiments.variants import load_config
from research import restore
from research.data.batches import gather
from research.data.safetensors import read_tensors
from research.data.tokenizer import encode_texts
from research.data.tokenizer_files import read_given_tokenizer
from research.errors import UserError
from research.models.bert_files import tensors_of
from research.runs import run_files
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import RunOptions, train
from research.runs.warm_start import start_from_pretrained
from research.serving.export import TOLERANCE, export
from research.serving.huggingface import write_encoder
from research.training.initial_state import Start, init_state
from research.training.programs import Programs
from tests.bert_encoder import DATA, TENSORS, config_of, edit, rewrite, started
from tests.comparing import compare_into
from tests.huggingface import SENTENCES

pytestmark = pytest.mark.usefixtures("no_plots")


def assert_like_transformers(config, reference):
    """All sentences in one batch, padded to the longest: ids, hidden states and pooled output of each alone."""
    encoded = encode_texts(read_given_tokenizer(config.data), SENTENCES, config.data)
    batch = gather(encoded, np.arange(len(SENTENCES)), len(SENTENCES), (config.data.max_length + 8,))
    module, params = started(config)

    @jax.jit
    def apply(params, token_ids, lengths):
        bound = module.bind({"params": params})
        states = bound.encoder(token_ids, lengths, deterministic=True)
        return states, bound.pool(states, lengths)

    states, pooled = map(np.asarray, apply(params, batch.token_ids, batch.lengths))
    with np.load(reference) as expected:
        for n in range(len(SENTENCES)):
            ids = expected[f"{n}/ids"]
            assert batch.token_ids[n, : batch.lengths[n]].tolist() == ids.tolist()
            rows = states[n, : len(ids)]
            np.testing.assert_allclose(pooled[n], expected[f"{n}/pooled"], atol=2e-5)
            np.testing.assert_allclose(rows[[0, len(ids) // 2, -1]], expected[f"{n}/rows"], atol=2e-5)
            np.testing.assert_allclose(rows.mean(axis=0), expected[f"{n}/mean"], atol=2e-5)


def test_states_are_those_of_transformers():
    assert_like_transformers(config_of(DATA / "tiny_bert", "data.max_length=64"), DATA / "tiny_bert.npz")


@pytest.mark.extra
def test_minilm_is_that_of_transformers():
    try:
        config = load_config("bert:minilm", ["--config.data.max_length=512"])
    except UserError as error:
        pytest.skip(str(error))
    assert_like_transformers(config, DATA / "minilm.npz")


@pytest.fixture
def folder(tmp_path):
    """A folder like any user's."""
    return Path(shutil.copytree(DATA / "tiny_bert", tmp_path / "some_bert"))


def test_tensors_go_back_to_where_they_came_from_to_the_bit(folder):
    expected = read_tensors(folder / TENSORS)
    found = tensors_of(started(config_of(folder))[1], "bert")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes(), name


def as_tensorflow_named_them(tensors):
    names = {
        name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        for name in tensors
    }
    return {f"bert.{names[name]}": tensor for name, tensor in tensors.items()} | {
        "cls.predictions.bias": np.zeros(3, np.float32)
    }


def test_older_names_and_heads_of_other_tasks(folder, caplog):
    expected = started(config_of(folder))[1]
    rewrite(folder, as_tensorflow_named_them)
    found = started(config_of(folder))[1]
    assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == b).all(), found, expected))
    assert "passed over: cls.predictions.bias" in caplog.text


def test_a_pooler_that_is_not_there_starts_at_random_and_is_not_missed_by_the_mean(folder, caplog):
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("pooler.")})
    kernel = np.asarray(started(config_of(folder))[1]["pooler"]["kernel"])
    assert kernel.std() > 0
    assert "starts at random: pooler.dense.bias, pooler.dense.weight" in caplog.text
    caplog.clear()
    assert "pooler" not in started(config_of(folder, "model.pooling=mean"))[1]
    assert not caplog.text


KEY = "encoder.layer.1.attention.self.key.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {name: x for name, x in t.items() if name != KEY}, f"missing: {KEY}"),
        (lambda t: t | {KEY: t[KEY][:, :3]}, rf"of another shape: {KEY} \[24, 3\] instead of \[24, 24\]"),
        (lambda t: t | {"encoder.layer.3.output.dense.bias": t[KEY]}, "without a place in the model: encoder.layer.3"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, words):
    rewrite(folder, change)
    with pytest.raises(UserError, match=words):
        started(config_of(folder))


def break_file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def only_a_pickle(folder):
    (folder / TENSORS).rename(folder / "pytorch_model.bin")


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()


@pytest.mark.parametrize(
    ("change", "overrides", "words"),
    [
        (break_file(TENSORS, b"\0" * 100), (), r"model\.safetensors: damaged or no safetensors file"),
        (only_a_pickle, (), "a pickle can run code: save it as safetensors"),
        (break_file("config.json", b"{"), (), r"config\.json: cannot be read"),
        (break_file("config.json", b"[1]"), (), r"config\.json: a JSON list, expected an object"),
        (lambda folder: (folder / "config.json").unlink(), (), r"config\.json: cannot be read"),
        (
            lambda folder: edit(folder / "config.json", model_type="gpt2"),
            (),
            "'gpt2', expected one of bert, distilbert",
        ),
        (lambda folder: edit(folder / "config.json", is_decoder=True), (), "expected a plain encoder"),
        (lambda folder: edit(folder / "config.json", hidden_act="swish"), (), "activation is 'swish', expected one of"),
        (
            lambda folder: edit(folder / "config.json", hidden_size="x"),
            (),
            "says hidden_size 'x', expected something like 768",
        ),
        (
            lambda folder: edit(folder / "config.json", num_attention_heads=5),
            (),
            "heads is 5, expected a divisor of 24",
        ),
        (break_file("tokenizer.json", b"{}"), (), r"tokenizer\.json: cannot be read"),
        (no_tokenizer, (), r"has neither tokenizer\.json nor vocab\.txt"),
        (None, ("data.vocab_size=100",), "has ids up to 189, expected fewer than config.data.vocab_size=100"),
        (None, ("data.vocab_size=191",), r"embeddings\.word_embeddings\.weight \[190, 24\] instead of \[191, 24\]"),
        (None, ("model.layers=2",), r"without a place in the model: encoder\.layer\.2"),
        (None, ("model.hidden_size=28",), "of another shape: .* and 40 more"),
        (None, ("data.max_length=65",), "expected at most config.model.max_positions=64"),
        (None, ("data.max_length=2",), r"expected room for more than the 2 tokens"),
        (None, ("data.tokens=words",), "need each other"),
        (None, ("data.lowercase=false",), "come with a tokenizer"),
        (None, ("optimizer.frozen=5",), "frozen is 5, expected at most 4"),
    ],
)
def test_what_cannot_be_started_from_is_a_sentence_and_leaves_no_run(
    folder, change, overrides, words, small_corpus, tmp_path
):
    if change:
        change(folder)
    with pytest.raises(UserError, match=words):
        train(config_of(folder, *overrides), small_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_with_a_piece_a_line_is_its_tokenizer(folder, small_corpus):
    data = config_of(folder, "data.max_length=64").data
    texts = [*SENTENCES, *small_corpus.texts]
    expected = encode_texts(read_given_tokenizer(data), texts, data)
    (folder / "tokenizer.json").unlink()
    found = encode_texts(read_given_tokenizer(data), texts, data)
    assert found.tokens.tolist() == expected.tokens.tolist()
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    assert encode_texts(read_given_tokenizer(data), ["A"], data).tokens[1] == 1  # its pieces are lower-case


@pytest.mark.parametrize(("keep", "kept"), [("first", slice(1, 5)), ("last", slice(-5, -1))])
def test_a_long_text_keeps_its_first_and_its_last_token(folder, keep, kept):
    whole = config_of(folder, "data.max_length=64").data
    data = config_of(folder, "data.max_length=6", f"data.keep={keep}").data
    ids = encode_texts(read_given_tokenizer(whole), SENTENCES[3:4], whole).tokens.tolist()
    found = encode_texts(read_given_tokenizer(data), SENTENCES[3:4], data).tokens.tolist()
    assert found == [ids[0], *ids[kept], ids[-1]]


@pytest.fixture(scope="module")
def finished(small_corpus, tmp_path_factory):
    """A run whose weights are gone: the config and the folder."""
    path = tmp_path_factory.mktemp("bert")
    folder = shutil.copytree(DATA / "tiny_bert", path / "some_bert")
    config = config_of(folder, "data.max_length=64", "training.epochs=2", "optimizer.learning_rate=1e-3")
    run = train(config, small_corpus, path / "run")
    shutil.rmtree(folder)
    return config, run


def test_a_run_does_without_the_folder_that_it_started_from(finished, small_corpus):
    config, run = finished
    with pytest.raises(UserError, match="expected none, minilm, or a folder"):
        prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    restored = restore(run)
    predictions = run_files.read_predictions(run)
    texts = dict(zip(small_corpus.ids, small_corpus.texts, strict=True))
    found = restored.predict_proba([texts[i] for i in predictions.id])
    np.testing.assert_allclose(found, predictions.probabilities, atol=1e-6)


def test_texts_are_encoded_the_same_in_training_and_later(finished, small_corpus, tmp_path):
    _, run = finished
    config = config_of(DATA / "tiny_bert", "data.max_length=64")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    later = restore(run).encode([small_corpus.texts[i] for i in prepared.split.test])
    assert later.tokens.tolist() == prepared.test.tokens.tolist()
    assert max(prepared.test.lengths) == 64


def test_an_export_is_the_encoder_to_the_bit_and_its_classifier_gives_the_runs_probabilities(finished, tmp_path):
    _, run = finished
    restored, folder = restore(run), write_encoder(run, tmp_path / "mine")
    config = config_of(folder, "data.max_length=64")
    module, params = started(config)
    for name in ("encoder", "pooler"):
        same = jax.tree.map(
            lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(),
            params[name],
            restored.variables["params"][name],
        )
        assert jax.tree.all(same)
    encoded = encode_texts(read_given_tokenizer(config.data), SENTENCES, config.data)
    assert encoded.tokens.tolist() == restored.encode(SENTENCES).tokens.tolist()
    batch = gather(encoded, np.arange(len(SENTENCES)), len(SENTENCES), (64,))
    bound = module.bind({"params": params})
    pooled = bound.pool(bound.encoder(batch.token_ids, batch.lengths, deterministic=True), batch.lengths)
    tensors = read_tensors(folder / TENSORS)
    found = jax.nn.softmax(pooled @ tensors["classifier.weight"].T + tensors["classifier.bias"][None])
    np.testing.assert_allclose(found, restored.predict_proba(SENTENCES), atol=1e-6)
    with pytest.raises(UserError, match="exists already, expected the name of a new folder"):
        write_encoder(run, folder)


def test_an_export_that_runs_alone_has_the_encoders_own_pieces(finished, tmp_path):
    _, run = finished
    assert export(run, tmp_path / "alone", "stablehlo") <= TOLERANCE
    card = (tmp_path / "alone" / "card.md").read_text("utf-8")
    assert "pieces of words, by the tokenizer of the encoder" in card
    assert "HTML" not in card


@pytest.mark.extra
def test_an_export_of_the_mean_is_the_encoder_alone(folder, small_corpus, tmp_path):
    config = config_of(folder, "model.pooling=mean", "training.epochs=1", "data.train_size=32", "data.max_length=8")
    run = train(config, small_corpus, tmp_path / "run")
    out = write_encoder(run, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["architectures"] == ["BertModel"]
    assert not [name for name in read_tensors(out / TENSORS) if not name.startswith(("embeddings.", "encoder."))]
    found = started(config_of(out, "model.pooling=mean"))[1]
    same = jax.tree.map(
        lambda a, b: (np.asarray(a) == b).all(), found["encoder"], restore(run).variables["params"]["encoder"]
    )
    assert jax.tree.all(same)


def test_only_bert_is_exported(small_corpus, tmp_path):
    config = load_config("mlp", ["--config.training.epochs=1"])
    with pytest.raises(UserError, match=r"is a run of mlp\.MLP, expected one of bert"):
        write_encoder(train(config, small_corpus, tmp_path / "run"), tmp_path / "out")


@pytest.mark.extra
def test_it_stands_in_a_table(small_corpus, tmp_path):
    fast = ["--config.training.epochs=1", "--config.data.max_length=8"]  # one width, so one program
    variants = expand([f"bert:{DATA / 'tiny_bert'}"], fast, [])
    rows = (compare_into(tmp_path / "table", variants, small_corpus, folds=2) / "results.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["variant", "bert:tiny_bert", "bert:tiny_bert"]


def test_weights_that_have_changed_are_another_run(folder, small_corpus, tmp_path):
    def interrupt(run, done, loss):
        raise KeyboardInterrupt

    config = config_of(folder, "data.max_length=64", "training.epochs=1")
    with pytest.raises(KeyboardInterrupt):
        train(config, small_corpus, tmp_path / "run", options=RunOptions(on_progress=interrupt))
    rewrite(folder, lambda tensors: {name: 2 * tensor for name, tensor in tensors.items()})
    with pytest.raises(UserError, match=r"holds another run \(weights_checksum"):
        train(config, small_corpus, tmp_path / "run")


def test_frozen_layers_stay_and_the_others_learn(small_corpus):
    config = config_of(DATA / "tiny_bert", "optimizer.frozen=2", "data.max_length=8")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    programs = Programs(config, 2)
    start_from = functools.partial(start_from_pretrained, programs.module, config, prepared)
    state = init_state(programs, config, prepared.train, (8,), Start(num_steps=9, start_from=start_from))
    before = jax.tree.map(np.asarray, state.params)
    after, _ = programs.train(state, gather(prepared.train, np.arange(8), 8, (8,)))
    moved = jax.tree.map(lambda a, b: bool(np.abs(a - b).max() > 0), before, after.params)
    frozen = {name: moved["encoder"].pop(name) for name in list(moved["encoder"]) if name[:9] == "embedding"}
    frozen["block_0"] = moved["encoder"].pop("block_0")
    assert not any(jax.tree.leaves(frozen))
    assert all(jax.tree.leaves(moved))
