"""Mistakes in the settings, folds, texts and flags of pre-training end in one sentence before anything is written."""

import pytest

from experiments.variants import load_config
from research.errors import UserError
from research.pretraining.preparation import for_pretraining
from research.pretraining.pretrain import pretrain
from tests.pretraining import SIZES, flags, small_config

FAST = ("training.epochs=3", "training.batch_size=16")
MISTAKES = {
    "cnn": ("cnn", (), {}, r"cnn\.CNN cannot be pre-trained, expected a variant of bert, lstm, gru or rnn"),
    "bilstm": ("bilstm", (), {}, "sees the words that a language model is to guess"),
    "parts": ("lstm", ("training.accumulation=3",), {}, "batch_size is 16, expected a multiple of 3"),
    "words": ("bert:tiny", ("data.tokens=words",), {}, "tokens is words, expected pieces"),
    "pieces": ("lstm", ("data.tokens=pieces",), {}, "tokens is pieces, expected words, characters or a tokenizer file"),
    "short": ("bert:tiny", ("data.max_length=4",), {}, "max_length is 4, expected at least 5"),
    "pieces_few": ("bert:tiny", ("data.vocab_size=10",), {}, "vocab_size is 10, expected at least 20"),
    "init": ("lstm", ("init_from=x",), {}, "init_from is not read in pre-training"),
    "size": ("lstm", ("data.train_size=9",), {}, "train_size is not read in pre-training without folds"),
    "fold": ("lstm", (), {"fold": 2}, "fold is 2, expected folds with it"),
    "folds": ("lstm", (), {"folds": 2, "fold": 2}, "fold is 2, expected 0 to 1"),
    "repeat": ("lstm", (), {"repeat": -1}, "repeat is -1, expected at least 0"),
    "heads": ("bert:tiny", ("model.heads=3",), {}, "heads is 3, expected a divisor of 16"),
    "memory": ("lstm", ("model.hidden_size=3000000",), {}, "which take"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_wrong_settings_are_refused_before_anything_is_written(name, small_corpus, tmp_path):
    variant, overrides, which, words = MISTAKES[name]
    overrides = flags(*SIZES.get(variant, ()), *FAST, *overrides)
    with pytest.raises(UserError, match=words):
        pretrain(load_config(variant, overrides, for_pretraining), small_corpus, tmp_path / "run", **which)
    assert not (tmp_path / "run").exists()


def test_a_plain_file_has_no_folds_and_needs_texts(tmp_path):
    (tmp_path / "x.txt").write_text("one text\n")
    with pytest.raises(UserError, match="is read without labels to make folds by"):
        pretrain(small_config("lstm", *FAST), tmp_path / "x.txt", tmp_path / "run", folds=2)
    with pytest.raises(UserError, match="fewer than two texts, expected one to train on and one for validation"):
        pretrain(small_config("lstm", *FAST), tmp_path / "x.txt", tmp_path / "run")
    (tmp_path / "x.txt").write_bytes(b"one text\n" * 90 + b"caf\xe9\n")
    with pytest.raises(UserError, match=r"x\.txt:91: byte 0xe9 is not UTF-8"):
        pretrain(small_config("lstm", *FAST), tmp_path / "x.txt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=bert:tiny"], "--corpus is missing"),
        (["--corpus=x.txt", "--workdir=run"], "x.txt: no such file or folder"),
        (["--corpus=imdb", "--workdir=run", "--config.training.patience=2"], "there is no setting 'training.patience'"),
        (["--corpus=imdb", "--workdir=run", "--unlabelled"], "--unlabelled is no flag of this program, expected"),
    ],
)
def test_wrong_flags_end_with_one_sentence_and_exit_code_2(arguments, words, tmp_path_factory, ask):
    code, errors, files = ask("pretrain", tmp_path_factory.getbasetemp(), arguments)
    assert code == 2, errors
    assert words in errors
    assert errors.count("\n") == 1
    assert "run" not in files
