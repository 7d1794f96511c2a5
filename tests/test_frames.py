"""Corpora of what a Python program holds: DataFrames, lists of texts, data sets of HuggingFace."""

import numpy as np
import pytest

from research import Corpus, load
from research.data.audit import reload_corpus
from research.data.corpora import as_corpus
from research.errors import UserError

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def frame(small_corpus):
    """The small corpus, as a user has it: rows in another order, an index of names, labels as floats."""
    labels = small_corpus.labels.astype(np.float64)
    columns = {"review": small_corpus.texts, "sentiment": labels, "title": "film"}
    index = [f"row {i}" for i in range(len(labels))]
    return pandas.DataFrame(columns, index=index).sample(frac=1, random_state=0)


def dataset_of(frame, names=("0", "1")):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    labels = [-1 if label is None else int(label) for label in frame["sentiment"]]
    return datasets.Dataset.from_dict({"text": list(frame["review"]), "label": labels}, features=features)


def test_a_frame_is_the_same_corpus_as_the_file(frame, small_corpus):
    corpus = Corpus.from_pandas(frame, text="review", label="sentiment")
    assert corpus == small_corpus
    assert corpus.ids.tolist() == small_corpus.ids.tolist()


def test_columns_without_names_are_numbers(frame, small_corpus):
    numbered = pandas.DataFrame(frame.to_numpy())  # as read_csv(header=None) returns them
    assert Corpus.from_pandas(numbered, text=0, label=1) == small_corpus
    assert Corpus.from_pandas(numbered, text=[2, 0], label=1).texts[0].startswith("film ")


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda values: pandas.Series(values, index=range(5, 5 + len(values))),
        lambda values: pandas.Series(values).astype("category"),
        iter,
    ],
    ids=["list", "tuple", "array", "series", "category", "iterator"],
)
def test_texts_of_any_kind_of_list_are_the_same_corpus(make, small_corpus):
    labels = small_corpus.labels.tolist()
    assert Corpus.from_texts(make(list(small_corpus.texts)), make(labels)) == small_corpus


def test_names_of_classes_and_splits_of_a_data_set_are_kept(frame, small_corpus):
    datasets = pytest.importorskip("datasets")
    assert Corpus.from_dataset(dataset_of(frame)) == small_corpus
    train, test = dataset_of(frame[:180], ("bad", "good")), dataset_of(frame[180:], ("bad", "good"))
    corpus = Corpus.from_dataset(datasets.DatasetDict(train=train, test=test))
    assert corpus.class_names == ("bad", "good")
    assert [(corpus.splits == split).sum() for split in ("train", "test")] == [180, 60]
    single = Corpus.from_dataset(datasets.DatasetDict(train=dataset_of(frame)))
    assert single == small_corpus


def test_a_split_without_labels_is_left_out_with_a_warning(frame, small_corpus, caplog):
    datasets = pytest.importorskip("datasets")
    unlabelled = dataset_of(frame[:9].assign(sentiment=None))
    corpus = Corpus.from_dataset(datasets.DatasetDict(train=dataset_of(frame), test=unlabelled))
    assert corpus == small_corpus
    assert "no row of test has a label: left out" in caplog.text


def test_columns_are_joined_and_groups_stay_together(frame):
    corpus = Corpus.from_pandas(frame, text=["title", "review"], label="sentiment", group="title")
    assert all(text.startswith("film ") for text in corpus.texts)
    assert len(np.unique(corpus.groups)) == 1


def test_missing_values_are_counted_and_named_or_dropped(frame):
    holes = frame.copy()
    holes.loc[["row 3", "row 5"], "review"] = None
    holes.loc["row 7", "sentiment"] = np.nan
    with pytest.raises(UserError) as caught:
        Corpus.from_pandas(holes, text="review", label="sentiment")
    places = [f"df.loc[{name!r}]" for name in holes.index if name in ("row 3", "row 5")]
    assert f"2 of 240 rows have no text ({', '.join(places)})" in str(caught.value)
    assert "1 of 240 rows have no label (df.loc['row 7']); drop_missing=True" in str(caught.value)
    assert len(Corpus.from_pandas(holes, text="review", label="sentiment", drop_missing=True)) == 237
    nullable = frame.assign(sentiment=frame["sentiment"].astype("Int64").where(frame.index != "row 9"))
    with pytest.raises(UserError, match=r"1 of 240 rows have no label \(df.loc\['row 9'\]\)"):
        Corpus.from_pandas(nullable, text="review", label="sentiment")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda df: Corpus.from_pandas(df), "no column 'text' and no column 'label'. Columns: 'review', 'sentiment'"),
        (lambda df: Corpus.from_pandas(df, "review", "label"), "no column 'label'. .* Name yours with label="),
        (
            lambda df: Corpus.from_pandas(df, "sentiment", "title"),
            r"df.loc\[.*\]: 'sentiment' is a float, expected a string",
        ),
        (lambda df: Corpus.from_pandas(df, "title", "title"), "text= and label= both name the column 'title'"),
        (lambda df: Corpus.from_pandas(df, [], "title"), "text= names no column"),
        (lambda df: Corpus.from_pandas("my.csv"), r"the frame is a str, expected a pandas.DataFrame; load\(path\)"),
        (lambda df: Corpus.from_pandas(df[:0], "review", "sentiment"), "there are no texts"),
        (lambda df: Corpus.from_pandas(pandas.concat([df, df], axis=1), "review", "title"), "two columns are named"),
        (lambda df: Corpus.from_texts("a text", [1]), "texts is a str, expected a list"),
        (lambda df: Corpus.from_texts(["a", 3], [0, 1]), r"texts\[1\] is a int, expected a string"),
        (lambda df: Corpus.from_texts(["a", "b"], [0]), "there are 2 texts, 1 labels, expected as many of each"),
        (lambda df: Corpus.from_texts(["a", "b"], None), "labels is a NoneType"),
        (lambda df: Corpus.from_texts(["a", "b"], [0, [1, 2]]), r"texts\[1\]: more than one label"),
        (lambda df: Corpus.from_texts(["a", "b"], [0, 0]), "every label is '0', expected at least two classes"),
        (lambda df: Corpus.from_dataset(df), "the data set is a DataFrame, expected a datasets.Dataset"),
        (lambda df: Corpus.from_texts(df[["review"]], df["sentiment"]), r'texts has 2 dimensions, .*as df\["text"\]'),
        (lambda df: Corpus.from_texts(["a", "b"], np.eye(2)), "labels has 2 dimensions, expected one"),
        (lambda df: Corpus.from_pandas(df.assign(y=[np.eye(2)[0]] * 240), "review", "y"), r"more than one label \(2\)"),
        (lambda df: load(df), "load takes a name or a path, not a DataFrame. A DataFrame goes into Corpus.from_pandas"),
        (lambda df: as_corpus(df), "Name yours with text= and label= of Corpus.from_pandas"),
        (lambda df: as_corpus(7), "the corpus is a int, expected a name, a path, a DataFrame"),
    ],
)
def test_a_mistake_is_told_in_words_of_python(frame, call, words):
    with pytest.raises(UserError, match=words) as caught:
        call(frame)
    assert "--" not in str(caught.value)


def test_an_unknown_split_is_named(frame):
    datasets = pytest.importorskip("datasets")
    with pytest.raises(UserError, match="has the splits train, extra, and extra is no split that is known here"):
        Corpus.from_dataset(datasets.DatasetDict(train=dataset_of(frame), extra=dataset_of(frame)))


def test_a_corpus_made_in_python_is_in_no_file(frame):
    corpus = Corpus.from_pandas(frame, text="review", label="sentiment", name="rotten_tomatoes")
    with pytest.raises(UserError, match="the corpus 'rotten_tomatoes' was made in Python and is in no file"):
        reload_corpus(corpus.describe(), corpus.class_names)


def test_a_corpus_is_shown_by_name_and_size(small_tsv):
    assert repr(load(small_tsv)) == "<Corpus reviews: 240 texts, 2 classes (0, 1)>"
