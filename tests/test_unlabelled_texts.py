"""Texts without labels: plain files, training and validation parts, sentences, and learnt vocabularies."""

import numpy as np
import pytest

from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.tokenized_corpus import fit_vocabulary, learn_vocabulary
from research.data.tokenizer import intern_texts, read_tokenizer
from research.data.unlabelled_texts import Part, TextFile, open_texts, pretraining_split, split_sentences
from research.data.word_pieces import learn_word_pieces
from research.errors import UserError
from research.settings import Data
from tests.pretraining import TEXTS


def test_a_tab_in_the_first_line_makes_a_file_a_labelled_corpus(tmp_path):
    plain, labelled = tmp_path / "plain.txt", tmp_path / "labelled.txt"
    plain.write_bytes("\ufeff\nfirst line\r\n\n second\u2028line\nlast".encode())
    labelled.write_text("a\t1\nb\t0\nc\t1\nd\t0\n")
    texts = open_texts(str(plain))
    assert isinstance(texts, TextFile)
    assert list(texts) == ["first line", " second\u2028line", "last"]
    assert len(open_texts(str(labelled))) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\n\xff\n", r"x\.txt:2: byte 0xff is not UTF-8"),
        (b"a\n" + b"x" * 10_000_001, r"x\.txt:2: a text of 10,000,001 characters"),
    ],
)
def test_a_plain_file_that_cannot_be_read_is_refused(content, words, tmp_path):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        list(open_texts(str(tmp_path / "x.txt")))


def test_every_text_is_in_the_training_or_the_validation_part(small_corpus, tmp_path):
    (tmp_path / "x.txt").write_text("".join(f"text {n}\n" for n in range(120)))
    file = open_texts(str(tmp_path / "x.txt"))
    held_out = list(Part(file, None, held_out=True))
    assert held_out == ["text 0", "text 50", "text 100"]
    assert sorted([*held_out, *Part(file, None)]) == sorted(file)
    whole = pretraining_split(small_corpus, 0, folds=0, fold=0, repeat=0)
    assert sorted([*whole.train, *whole.validation]) == list(range(len(small_corpus)))
    assert not len(whole.test)


def test_a_validation_split_is_used_for_validation_only():
    rows = {split: [Row(f"{split} {i}", str(i % 2), "", "f") for i in range(9)] for split in ("train", "validation")}
    corpus = make_corpus("c", rows)
    split = pretraining_split(corpus, 0, folds=0, fold=0, repeat=0)
    assert [set(corpus.splits[part]) for part in split] == [{"train"}, {"validation"}, set()]
    assert len(split.train) == len(split.validation) == 9


def test_texts_are_split_into_sentences():
    sentences = [split_sentences(text) for text in [*TEXTS, " "]]
    assert list(map(len, sentences)) == [3, 1, 3, 1, 2, 1]
    assert sentences[4] == ["好的。", "不好。"]


def test_word_pieces_are_deterministic(small_corpus):
    """The library itself breaks ties by the order of a hash table."""
    data = Data(vocab_size=400)
    tokenizers = [learn_word_pieces(lambda: iter(small_corpus.texts), data).to_str() for _ in range(3)]
    assert tokenizers[0] == tokenizers[1] == tokenizers[2]
    tokenizer = read_tokenizer(tokenizers[0])
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(400))
    assert [tokenizer.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "the" in vocabulary
    assert tokenizer.encode("The <b>film</b>").tokens[1] == "the"
    for size in (20, 50):
        assert len(learn_word_pieces(lambda: iter(small_corpus.texts), Data(vocab_size=size)).get_vocab()) <= size


def test_words_are_counted_in_chunks(small_corpus, monkeypatch):
    data = Data(vocab_size=200)
    every = np.arange(len(small_corpus))
    expected = fit_vocabulary(intern_texts(small_corpus.texts, data), every, 200)
    monkeypatch.setattr("research.data.tokenized_corpus.CHUNK_TEXTS", 7)
    assert learn_vocabulary(iter(small_corpus.texts), data) == expected
