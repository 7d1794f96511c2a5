"""Files of users are read, and each mistake is reported in a sentence with its line."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from research.data.corpus_files import read_corpus
from research.data.read_options import ReadOptions
from research.data.reader import read_rows
from research.errors import UserError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(path, columns=ReadOptions()):
    return [(row.text, row.label) for row in read_rows(path, columns)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("good\t1\nbad\t0\n", [("good", "1"), ("bad", "0")]),
        ("good\t1\nbad\t0", [("good", "1"), ("bad", "0")]),  # no final newline
        ("good\t1\r\nbad\t0\r\n", [("good", "1"), ("bad", "0")]),
        (b"\xef\xbb\xbfgood\t1\n", [("good", "1")]),  # byte-order mark
        ("\t1\n", [("", "1")]),  # an empty text
        ("a\x00b\t1\n", [("a\x00b", "1")]),
        ("\n\ngood\t1\n\n", [("good", "1")]),  # blank lines
        ("one\u2028two\x0c\x85three\t1\n", [("one\u2028two\x0c\x85three", "1")]),  # none of these ends a line
        ('"quoted" text\t pos \n', [('"quoted" text', "pos")]),
        ("x" * 10_000_000 + "\t1\n", [("x" * 10_000_000, "1")]),
    ],
)
def test_tsv_accepts(tmp_path, content, rows):
    assert pairs(write(tmp_path / "a.tsv", content)) == rows


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.tsv", "good\t1\nno tab here\n", 2, "no tab, expected one between text and label"),
        ("a.txt", "good\t1\na\tb\t0\n", 2, "more cells than the first row has: 3, expected 2"),
        ("a.tsv", b"good\t1\nbad\xff\t0\n", 2, "not UTF-8"),
        ("a.tsv", b"\xef\xbb\xbfok\t1\n\xe9\t0\n", 2, "byte 0xe9 is not UTF-8"),
        ("a.tsv", "good\t\n", 1, "no label"),
        ("a.tsv", f"good\t{'7' * 5000}\n", 1, f"a label of 5,000 characters ({'7' * 40}...), expected at most"),
        ("a.csv", "text,label\ngood,1\nbad\n", 3, "fewer cells"),
        ("a.csv", "text,label\ngood,1\nbad,0,1\n", 3, "more cells"),
        ("a.csv", 'text,label\n"spans\nlines",1\nbad\n', 4, "fewer cells"),
        ("a.csv", "text,label\n\nbad\n", 3, "fewer cells"),
        ("a.csv", "x,y,label\n1,2,1\n", 1, "no column 'text'. Columns: x, y, label. Use --text_column=NAME"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', 2, "not JSON"),
        ("a.jsonl", '{"text": "a", "label": [0, 1]}\n', 1, "more than one label"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', 1, "expected a string"),
        ("a.jsonl", '{"text": "a", "label": null}\n', 1, "1 of 1 rows have no label; --drop_missing leaves them out"),
        ("a.jsonl", '["a", 1]\n', 1, "expected an object"),
        ("a.jsonl", '{"text": "a", "label": "\\ud800"}\n', 1, "expected valid Unicode"),
        ("a.jsonl", '{"text": "a"}\n', 1, "no column 'label'"),
        ("a.tsv", "a\t1\n" + "x" * 10_000_001 + "\t0\n", 2, "a text of 10,000,001 characters"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, name, content, line, words):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_an_empty_file_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: no rows, expected at least one labelled text"):
        read_rows(write(tmp_path / name, ""))


def test_csv_and_jsonl_take_other_column_names_and_groups(tmp_path):
    columns = ReadOptions("review", "stars", "author")
    csv = write(tmp_path / "a.csv", 'author,review,stars\nann,"so, so",2\nbob,good,5\n')
    jsonl = write(tmp_path / "a.jsonl", '{"review": "so, so", "stars": 2.0, "author": "ann"}\n')
    assert read_rows(csv, columns)[0][:3] == ("so, so", "2", "ann")
    assert read_rows(jsonl, columns)[0][:3] == ("so, so", "2", "ann")
    nobody = write(tmp_path / "b.jsonl", '{"review": "a", "stars": 1, "author": null}\n')
    assert read_rows(nobody, columns)[0].group == ""
    with pytest.raises(UserError, match=r"a\.tsv:1: no column 'review' .* Columns: a, 1\. Use text="):
        read_rows(write(tmp_path / "a.tsv", "a\t1\n"), columns)


def test_a_folder_has_splits_under_any_of_their_names(tmp_path):
    write(tmp_path / "train.tsv", "a\t0\n")
    write(tmp_path / "dev.csv", "text,label\nb,1\n")
    write(tmp_path / "notes.md", "not data")
    assert read_corpus(tmp_path).of_split.keys() == {"train", "validation"}
    write(tmp_path / "valid.tsv", "c\t1\n")
    with pytest.raises(UserError, match=r"both valid\.tsv and dev\.csv"):
        read_corpus(tmp_path)


def test_a_column_that_stands_twice_is_refused_where_it_is_read(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv:1: 2 columns are named 'text'. Name one by its number: text=1 or"):
        read_rows(write(tmp_path / "a.csv", "text,text,label\nfirst,second,1\n"))
    rows = read_rows(write(tmp_path / "b.csv", "text,note,note,label\nfine,a,b,1\n"))
    assert [(row.text, row.label) for row in rows] == [("fine", "1")]


def test_missing_things_are_named(tmp_path):
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_corpus(tmp_path / "nothing.tsv")
    with pytest.raises(UserError, match="no training file"):
        read_corpus(tmp_path)
    for content, words in [
        (b"PK\x03\x04", "damaged zip"),
        (b"%PDF-1.4", "a PDF"),
        (b"\xd0\xcf\x11\xe0", "Office document"),
    ]:
        with pytest.raises(UserError, match=words):
            read_corpus(write(tmp_path / "a.xlsx", content))


text_without_breaks = st.text(st.characters(exclude_characters="\n\r\t", exclude_categories=("Cs",)))


@given(st.lists(st.tuples(text_without_breaks, st.integers()), min_size=1))
def test_any_text_survives_every_format(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("files")
    tsv = "".join(f"{text}\t{label}\n" for text, label in rows)
    jsonl = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    quoted = "text,label\n" + "".join('"{}",{}\n'.format(text.replace('"', '""'), label) for text, label in rows)
    expected = [(text, str(label)) for text, label in rows]
    starts_with_mark = rows[0][0].startswith("\ufeff")
    if not starts_with_mark:  # at the start of a file it is a byte-order mark, not text
        assert pairs(write(folder / "a.tsv", tsv)) == expected
    assert pairs(write(folder / "a.csv", quoted)) == expected
    assert pairs(write(folder / "a.jsonl", jsonl)) == expected


@given(st.binary(max_size=200), st.sampled_from([".tsv", ".csv", ".jsonl"]))
def test_any_bytes_are_read_or_refused_in_a_sentence(tmp_path_factory, content, suffix):
    path = write(tmp_path_factory.mktemp("files") / f"a{suffix}", content)
    try:
        assert read_rows(path)
    except UserError as error:
        assert str(error).startswith(str(path))
