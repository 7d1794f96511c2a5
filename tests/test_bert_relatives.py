"""DistilBERT, RoBERTa and XLM-R from files: each equals that of transformers, and goes back under its own names.

`tests/huggingface.py relatives` made the references.
"""

import json
import shutil

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore, train
from research.data.batches import gather
from research.data.safetensors import read_tensors
from research.data.tokenizer import encode_texts, split_text
from research.data.tokenizer_files import read_given_tokenizer, unknown_id
from research.errors import UserError
from research.serving.export import TOLERANCE, export
from research.serving.huggingface import write_encoder
from tests.bert_encoder import DATA, TENSORS, config_of, edit, rewrite, started
from tests.huggingface import SENTENCES

RELATIVES = {
    "tiny_distilbert": ("classifier", "relu"),
    "tiny_roberta": ("classifier.out_proj", "tanh"),
    "tiny_xlmr": ("classifier.out_proj", "tanh"),
}
LONGEST = "data.max_length=64"

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(params=RELATIVES)
def relative(request):
    return request.param


def logits_of(folder, config):
    """Return the batch, the hidden states, and the logits of the classifier in a folder."""
    name, _ = RELATIVES[next(name for name in RELATIVES if name in str(folder))]
    encoded = encode_texts(read_given_tokenizer(config.data), SENTENCES, config.data)
    batch = gather(encoded, np.arange(len(SENTENCES)), len(SENTENCES), (72,))
    module, params = started(config)

    @jax.jit
    def apply(params, token_ids, lengths):
        bound = module.bind({"params": params})
        states = bound.encoder(token_ids, lengths, deterministic=True)
        return states, bound.pool(states, lengths)

    states, pooled = map(np.asarray, apply(params, batch.token_ids, batch.lengths))
    tensors = read_tensors(folder / TENSORS)
    return batch, states, pooled @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"][None]


def test_states_and_logits_are_those_of_transformers(relative):
    batch, states, logits = logits_of(DATA / relative, config_of(DATA / relative, LONGEST))
    with np.load(DATA / f"{relative}.npz") as expected:
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
        for n in range(len(SENTENCES)):
            ids = expected[f"{n}/ids"]
            assert batch.token_ids[n, : batch.lengths[n]].tolist() == ids.tolist()
            rows = states[n, : len(ids)]
            np.testing.assert_allclose(rows[[0, len(ids) // 2, -1]], expected[f"{n}/rows"], atol=1e-5)
            np.testing.assert_allclose(rows.mean(axis=0), expected[f"{n}/mean"], atol=1e-5)


_TAKES_LONGER = [pytest.param(name, marks=pytest.mark.extra) for name in ("tiny_distilbert", "tiny_xlmr")]


@pytest.fixture(scope="module", params=["tiny_roberta", *_TAKES_LONGER])
def trained(request, small_corpus, tmp_path_factory):
    """A fine-tuned relative: its name, its run, and the run exported for transformers."""
    path = tmp_path_factory.mktemp(request.param)
    # One width, so one program.
    config = config_of(DATA / request.param, "data.max_length=8", "training.epochs=1", "optimizer.learning_rate=1e-3")
    run = train(config, small_corpus, path / "run")
    return request.param, run, write_encoder(run, path / request.param)


def test_an_export_has_the_names_and_settings_of_its_family_and_gives_the_runs_probabilities(trained):
    name, run, folder = trained
    original = json.loads((DATA / name / "config.json").read_text())
    written = json.loads((folder / "config.json").read_text())
    sizes = [key for key in original if key in written and key not in ("id2label", "label2id")]
    assert {key: written[key] for key in sizes} == {key: original[key] for key in sizes}
    assert {"model_type", "architectures", "max_position_embeddings"} <= {*sizes}
    assert read_tensors(folder / TENSORS).keys() == read_tensors(DATA / name / TENSORS).keys()
    roles = [json.loads((path / "tokenizer_config.json").read_text()) for path in (folder, DATA / name)]
    for role in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        assert roles[0][role] == roles[1][role]
    assert "token_type_ids" not in roles[0]["model_input_names"]
    _, _, logits = logits_of(folder, config_of(folder, "data.max_length=8"))
    np.testing.assert_allclose(jax.nn.softmax(logits), restore(run).predict_proba(SENTENCES), atol=1e-6)


@pytest.mark.extra
def test_transformers_opens_an_export_and_gives_the_runs_probabilities(trained):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    _, run, folder = trained
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = tokenizer(list(SENTENCES), truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**batch).logits.softmax(dim=-1).numpy()
    np.testing.assert_allclose(found, restore(run).predict_proba(SENTENCES), atol=1e-6)


@pytest.mark.extra
def test_an_export_that_runs_alone_has_the_tokenizer_of_the_family(trained, tmp_path):
    assert export(trained[1], tmp_path / "alone", "stablehlo") <= TOLERANCE


def test_tokens_are_shown_as_in_the_text_and_known_by_the_vocabulary():
    config = config_of(DATA / "tiny_roberta", LONGEST)
    tokenizer = read_given_tokenizer(config.data)
    words = [word for word, _ in split_text(tokenizer, "a fine \u4e00", config.data)]
    assert "".join(words) == "<s>afine\u0120" + 3 * "\u4e00" + "</s>"  # a blank, and a character of three bytes
    assert unknown_id(tokenizer) is None
    config = config_of(DATA / "tiny_xlmr", LONGEST)
    tokenizer = read_given_tokenizer(config.data)
    ids = dict(split_text(tokenizer, "a fine \u4e00", config.data))
    assert ids["\u4e00"] == unknown_id(tokenizer) == tokenizer.token_to_id("<unk>")


@pytest.fixture
def roberta(tmp_path):
    return shutil.copytree(DATA / "tiny_roberta", tmp_path / "tiny_roberta")


def test_a_bare_encoder_with_a_pooler_is_read_too(roberta):
    expected = started(config_of(roberta))[1]

    def bare(tensors):
        named = {name.removeprefix("roberta."): t for name, t in tensors.items() if "out_proj" not in name}
        return {name.replace("classifier.dense", "pooler.dense"): tensor for name, tensor in named.items()}

    rewrite(roberta, bare)
    found = started(config_of(roberta))[1]
    assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == b).all(), found, expected))


def test_a_masked_language_model_starts_its_pooler_at_random(roberta, caplog):
    def with_lm_head(tensors):
        encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
        return encoder | {"lm_head.bias": np.zeros(3, np.float32), "lm_head.dense.weight": np.zeros((3, 3), np.float32)}

    rewrite(roberta, with_lm_head)
    assert np.asarray(started(config_of(roberta))[1]["pooler"]["kernel"]).std() > 0
    assert "starts at random: classifier.dense.bias, classifier.dense.weight" in caplog.text
    assert "passed over: lm_head.bias, lm_head.dense.weight" in caplog.text


def test_two_files_of_an_older_folder_are_its_tokenizer(roberta):
    data = config_of(roberta, LONGEST).data
    texts = [*SENTENCES, " a film</s>", "<s>"]
    expected = encode_texts(read_given_tokenizer(data), texts, data)
    model = json.loads((roberta / "tokenizer.json").read_text())["model"]
    (roberta / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab\.txt.*AutoTokenizer"):
        read_given_tokenizer(data)
    (roberta / "vocab.json").write_text(json.dumps(model["vocab"]))
    (roberta / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    found = encode_texts(read_given_tokenizer(data), texts, data)
    assert found.tokens.tolist() == expected.tokens.tolist()


@pytest.mark.parametrize(
    ("changes", "overrides", "words"),
    [
        ({"model_type": "deberta-v2"}, (), "'deberta-v2', expected one of bert, distilbert, roberta, xlm-roberta"),
        ({"pad_token_id": None}, (), "says pad_token_id None, expected something like 1"),
        ({"max_position_embeddings": 66}, (), r"position_embeddings\.weight \[67, 24\] instead of \[66, 24\]"),
        ({}, ("data.max_length=65",), "expected at most config.model.max_positions=64"),
        ({}, ("model.family=albert",), "model.family is 'albert', expected one of bert, distilbert, roberta"),
    ],
)
def test_what_does_not_fit_is_a_sentence(changes, overrides, words, roberta):
    edit(roberta / "config.json", **changes)
    with pytest.raises(UserError, match=words):
        started(config_of(roberta, *overrides))


def test_other_families_are_not_pretrained(roberta, small_corpus, tmp_path):
    from research.pretraining.preparation import for_pretraining
    from research.pretraining.pretrain import pretrain

    config = load_config(f"bert:{roberta}", prepare=for_pretraining)
    with pytest.raises(UserError, match="family is roberta, expected bert"):
        pretrain(config, small_corpus, tmp_path / "run")
