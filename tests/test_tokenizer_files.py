"""A tokenizer of the user's own, `data.tokens=FILE`: of every kind, in training and later, and files that do not."""

import itertools
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from configs import lstm
from experiments.variants import load_config
from research import restore, train
from research.data.tokenizer import encode_texts, split_text
from research.data.tokenizer_files import fit_to_tokenizer, read_given_tokenizer, unknown_id
from research.errors import UserError
from research.runs import run_files
from research.runs.texts import RunSpec, prepare_texts
from research.serving.export import TOLERANCE, export
from research.settings_validation import validate

SPECIAL = ("[UNK]", "[PAD]")  # not in the order of a tokenizer that is fitted here
KINDS = {
    "bpe": (lambda: models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
    "word_piece": (lambda: models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
    "unigram": (models.Unigram, trainers.UnigramTrainer),
    "word_level": (lambda: models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer),
}

pytestmark = pytest.mark.usefixtures("no_plots")


def learn(kind, texts, special=SPECIAL):
    make, trainer = KINDS[kind]
    tokenizer = tokenizers.Tokenizer(make())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    more = {"unk_token": "[UNK]"} if kind == "unigram" else {}
    tokenizer.train_from_iterator(
        texts, trainer(vocab_size=120, special_tokens=list(special), show_progress=False, **more)
    )
    return tokenizer


@pytest.fixture(scope="module", params=KINDS)
def file(request, small_corpus, tmp_path_factory):
    """A file as the library saves it, with padding and truncation of its owner."""
    path = tmp_path_factory.mktemp(request.param) / "own.json"
    tokenizer = learn(request.param, small_corpus.texts)
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(path))
    return path


def config_of(file, *overrides):
    return load_config("mlp", [f"--config.data.tokens={file}", *(f"--config.{override}" for override in overrides)])


TEXTS = ("", "A", "a fine film &amp; <br> more", "\u4e00 [PAD] caf\u00e9", "no " * 150)


def test_ids_are_those_of_the_library_and_the_embedding_has_its_size(file):
    config = config_of(file)
    theirs = tokenizers.Tokenizer.from_file(str(file))
    theirs.no_padding()
    theirs.no_truncation()
    found = encode_texts(read_given_tokenizer(config.data), TEXTS, config.data)
    expected = [theirs.encode(text).ids[: config.data.max_length] for text in TEXTS]
    assert found.tokens.tolist() == list(itertools.chain(*expected))
    assert found.lengths.tolist() == list(map(len, expected))
    assert config.data.vocab_size == theirs.get_vocab_size()
    assert unknown_id(read_given_tokenizer(config.data)) == 0


def test_a_run_trains_predicts_and_does_without_the_file(file, small_corpus, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(file.read_text())
    config = config_of(own, "training.epochs=1", "data.max_length=8")
    run = train(config, small_corpus, tmp_path / "run")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    own.unlink()
    restored = restore(run)
    test = [small_corpus.texts[i] for i in prepared.split.test]
    assert restored.encode(test).tokens.tolist() == prepared.test.tokens.tolist()
    predictions = run_files.read_predictions(run)
    texts = dict(zip(small_corpus.ids, small_corpus.texts, strict=True))
    found = restored.predict_proba([texts[i] for i in predictions.id])
    np.testing.assert_allclose(found, predictions.probabilities, atol=1e-6)
    assert restored.variables["params"]["embedding"]["embedding"].shape[0] == config.data.vocab_size


@pytest.fixture
def own(small_corpus, tmp_path):
    path = tmp_path / "own.json"
    learn("bpe", small_corpus.texts).save(str(path))
    return path


def test_a_run_goes_on_with_a_moved_file_and_not_with_a_changed_one(own, small_corpus, tmp_path):
    run = train(config_of(own, "training.epochs=1", "data.max_length=8"), small_corpus, tmp_path / "run")
    moved = own.rename(tmp_path / "moved.json")
    train(config_of(moved, "training.epochs=1", "data.max_length=8"), small_corpus, run)
    learn("bpe", small_corpus.texts[:40]).save(str(moved))
    with pytest.raises(UserError, match=r"holds another run \(.*tokens_checksum"):
        train(config_of(moved, "training.epochs=1", "data.max_length=8"), small_corpus, run)
    words = load_config("mlp", ["--config.training.epochs=1", "--config.data.max_length=8"])
    with pytest.raises(UserError, match=r"settings\.data\.tokens: 'a tokenizer file' -> 'words'"):
        train(words, small_corpus, run)


@pytest.mark.extra
def test_linear_and_an_export_take_it_too(own, small_corpus, tmp_path):
    config = load_config("linear", [f"--config.data.tokens={own}"])
    run = train(config, small_corpus, tmp_path / "run")
    assert export(run, tmp_path / "alone", "stablehlo") <= TOLERANCE
    assert json.loads((tmp_path / "alone" / "model.json").read_text())["tokens"] == "file"
    card = (tmp_path / "alone" / "card.md").read_text("utf-8")
    assert "tokens of a tokenizer file" in card
    assert "HTML" not in card


def test_python_needs_no_size(own):
    config = lstm.get_config()
    config.data.tokens = str(own)
    fitted = fit_to_tokenizer(validate(config))
    assert fitted.data.vocab_size == tokenizers.Tokenizer.from_file(str(own)).get_vocab_size()


def test_tokens_around_a_text_count_and_tokens_are_shown_as_in_the_text(own):
    tokenizer = tokenizers.Tokenizer.from_file(str(own))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[PAD] $A [UNK]", special_tokens=[("[PAD]", 1), ("[UNK]", 0)]
    )
    tokenizer.save(str(own))
    data = config_of(own, "data.max_length=4").data
    given = read_given_tokenizer(data)
    assert encode_texts(given, ["", "Q Q Q Q"], data).tokens.tolist()[:2] == [1, 0]
    words = [word for word, _ in split_text(given, "Q \u4e00 Q", data)]
    assert words == ["[PAD]", "Q", "\u4e00", "[UNK]"]
    with pytest.raises(UserError, match="max_length is 2, expected room for more than the 2 tokens"):
        read_given_tokenizer(config_of(own, "data.max_length=2").data)


def test_the_random_merges_of_a_file_are_switched_off(own):
    model = json.loads(own.read_text())
    model["model"]["dropout"] = 0.9
    own.write_text(json.dumps(model))
    data = config_of(own).data
    ids = [encode_texts(read_given_tokenizer(data), ["better than the one before"], data).tokens.tolist() for _ in "12"]
    model["model"]["dropout"] = None
    own.write_text(json.dumps(model))
    assert ids[0] == ids[1] == tokenizers.Tokenizer.from_file(str(own)).encode("better than the one before").ids


def test_the_article_needs_padding_as_its_first_token(own, small_corpus):
    config = load_config("article", [f"--config.data.tokens={own}"])
    with pytest.raises(UserError, match=r"article\.Article reads padding as token 0, which is '\[UNK\]'"):
        prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    learn("bpe", small_corpus.texts, SPECIAL[::-1]).save(str(own))
    prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))


def no_unknown_token(path):
    tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2})).save(str(path))


@pytest.mark.parametrize(
    ("change", "overrides", "words"),
    [
        (lambda path: path.unlink(), (), r"own\.json', expected one of words, .*, pieces, or a tokenizer\.json file"),
        (lambda path: path.write_text("{}"), (), r"own\.json: cannot be read"),
        (lambda path: path.write_bytes(b"\xff\0"), (), r"own\.json: cannot be read"),
        (lambda path: (path.unlink(), path.mkdir()), (), r"is the folder .*own\.json, expected a file"),
        (no_unknown_token, (), "cannot tokenize characters that are not in its vocabulary"),
        (lambda path: tokenizers.Tokenizer(models.BPE()).save(str(path)), (), "has 0 tokens, expected at least 3"),
        (None, ("data.lowercase=false",), "lowercase is False, but config.data.tokens names a tokenizer"),
        (
            None,
            ("data.vectors=glove",),
            'vectors is glove, but .* expected config.data.vectors = "none"',
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence(change, overrides, words, own):
    if change:
        change(own)
    with pytest.raises(UserError, match=words):
        config_of(own, *overrides)


@pytest.mark.extra
def test_a_language_model_is_pretrained_with_it(own, small_corpus, tmp_path):
    from research.pretraining.preparation import for_pretraining
    from research.pretraining.pretrain import pretrain

    pytest.importorskip("grain")
    flags = [f"--config.data.tokens={own}", "--config.training.epochs=1", "--config.model.hidden_size=8"]
    run = pretrain(load_config("lstm", flags, for_pretraining), small_corpus, tmp_path / "run")
    assert (run / run_files.TOKENIZER).exists()
    config = load_config("bert:tiny", [f"--config.data.tokens={own}"], for_pretraining)
    with pytest.raises(UserError, match="expected pieces for bert"):
        pretrain(config, small_corpus, tmp_path / "masked")
