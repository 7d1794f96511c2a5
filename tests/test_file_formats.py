"""Files as people have them: in the forms of published corpora and of what spreadsheets and libraries write."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest

from research.data.corpora import load
from research.data.corpus_files import read_corpus
from research.data.read_options import ReadOptions
from research.data.reader import SeveralReadings, find_reading, read_rows, rows_of
from research.errors import UserError

TEXTS = (
    "the kettle sings well",
    "my mug has cracked",
    "our tent stayed dry",
    "the radio hisses, again",
    "a fine wool scarf",
    "the ferry was late",
    "the lamp shines well",
    "a flimsy bicycle here",
)
LABELS = ("1", "0") * 4
NAMES = ("good", "bad") * 4


def lines(form, labels=LABELS, header=""):
    return header + "".join(
        form.format(t=text, l=label, n=n) + "\n" for n, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    )


FILES = {
    "semicolon.csv": lines("{t};{l}", header="text;label\n"),
    "pipe.csv": lines("{t}|{l}", header="text|label\n"),
    "tabs.csv": lines("{t}\t{l}", header="text\tlabel\n"),
    "excel.csv": "sep=;\n" + lines("{t};{l}", header="text;label\n"),
    "names.csv": lines('"{t}",{l}', header=" Text , LABEL\n"),
    "imdb.csv": lines('"{t}",{l}', header="review,sentiment\n"),
    "yelp.csv": lines('"{l}","{t}"'),
    "sentiment140.csv": lines('"{l}","{n}","Mon Apr 06 22:19:{n} PDT 2009","NO_QUERY","user{n}","{t}"'),
    "escaped.csv": lines('"{t}",{l}', header="text,label\n").replace("my mug", 'my \\"mug\\"'),
    "blanks.csv": lines('{l}, "{t}"', header="label, text\n"),
    "single.csv": lines("{l};'{t}; so'"),
    "index.csv": lines('{n},"{t}",{l}', header=",text,label\n"),
    "kaggle.tsv": lines("{n}\t{n}\t{t}\t{l}", header="PhraseId\tSentenceId\tPhrase\tSentiment\n"),
    "cola.tsv": lines("gj0{n}\t{l}\t\t{t}"),
    "sms.txt": lines("{l}\t{t}", NAMES),
    "glue.tsv": lines("{t}\t{l}", header="sentence\tlabel\n"),
    "chinese.tsv": lines("{l}\t{t}", header="label\ttext_a\n"),
    "fasttext.txt": lines("__label__{l} {t}"),
    "last.txt": lines("{t} __label__{l}"),
    "phrasebank.txt": lines("{t}@{l}", NAMES),
    "emotion.txt": lines("{t};{l}", NAMES),
    "mr.txt": lines("{l} {t}"),
    "trec.label": lines("{l}:ind {t}", ("HUM", "NUM") * 4),
    "lines.json": lines('{{"text": "{t}", "label": {l}}}'),
    "lines.data": lines('{{"text": "{t}", "label": {l}}}'),
    "array.jsonl": json.dumps([{"text": t, "label": int(n)} for t, n in zip(TEXTS, LABELS, strict=True)]),
    "pretty.json": json.dumps([{"text": t, "label": float(n)} for t, n in zip(TEXTS, LABELS, strict=True)], indent=2),
    "viewer.json": json.dumps({"rows": [{"row": {"text": t, "label": n}} for t, n in zip(TEXTS, LABELS, strict=True)]}),
    "columns.json": json.dumps({"text": dict(enumerate(TEXTS)), "label": dict(enumerate(LABELS))}),
    "pairs.json": json.dumps([[t, n] for t, n in zip(TEXTS, LABELS, strict=True)]),
    "doccano.jsonl": lines('{{"id": {n}, "text": "{t}", "label": ["{l}"]}}', NAMES),
    "reviews.json": lines('{{"reviewText": "{t}", "overall": {l}.0, "asin": "B{n}"}}'),
    "mac.csv": lines('"{t}",{l}', header="text,label\n").replace("\n", "\r"),
    "spam.csv": lines('{l},"{t}",,,', NAMES, header="v1,v2,,,\n"),
    "word2vec.tsv": lines('"{n}_8"\t{l}\t"{t}"', header="id\tsentiment\treview\n").replace("my mug", '\\"my mug\\"'),
    "short.tsv": lines("{l}\t{t}").replace(" ", "-"),
    "split.json": json.dumps({"columns": ["text", "label"], "data": list(zip(TEXTS, LABELS, strict=True))}),
    "dos.csv": lines('"{t}",{l}', header="text,label\n").replace("\n", "\r\n"),
    "pandas.tsv": lines('"{t} ""so"""\t{l}'),
    "by_row.json": json.dumps({n: {"text": TEXTS[n], "label": LABELS[n]} for n in range(8)}),
    "server.json": json.dumps(
        {
            "features": [{"name": "text"}, {"name": "label"}],
            "rows": [{"row_idx": n, "row": {"text": TEXTS[n], "label": LABELS[n]}} for n in range(8)],
        }
    ),
    "studio.json": json.dumps(
        [
            {"id": n, "annotations": [{"result": [{"value": {"choices": [NAMES[n]]}}]}], "data": {"text": TEXTS[n]}}
            for n in range(8)
        ]
    ),
    "r.txt": lines('"{n}" "{t}" "{l}"', header='"text" "label"\n'),
    "r.tsv": lines("{n}\t{t}\t{l}", header="text\tlabel\n"),
    "ends.csv": lines('"{t}",{l},', header="text,label\n"),
    "blank_line.csv": lines('"{t}",{l}', header="text,label\n") + "   \n",
    "numbered.csv": lines('{l},"{t}"', header="0,1\n"),
    "database.txt": lines("{n}|{t}|{l}"),
    "quoted.txt": lines('"{t}","{l}"', header='"Satz","Klasse"\n'),
    "escaped_few.csv": lines("{t},{l}", header="text,label\n").replace(", a", " a").replace("my mug", '\\"my mug\\"'),
    "overflow.csv": lines('{l},"{t}",,', NAMES, header="v1,v2,,\n").replace('late",,', 'late",and more,'),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_a_well_known_form_is_read(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8", newline="")
    rows = [(row.text, row.label) for row in read_rows(path)]
    expected = NAMES if rows[0][1] == "good" else ("HUM", "NUM") * 4 if name == "trec.label" else LABELS
    texts = [text.replace(", a", " a") for text in TEXTS] if name == "escaped_few.csv" else TEXTS
    suffix = {"single.csv": "; so", "pandas.tsv": ' "so"'}.get(name, "")
    mug = {"escaped.csv": 'my "mug"', "word2vec.tsv": '"my mug"', "escaped_few.csv": '"my mug"'}.get(name, "my mug")
    texts = [text.replace("my mug", mug) + suffix for text in texts]
    texts = [text.replace(" ", "-") for text in texts] if name == "short.tsv" else texts
    assert rows == list(zip(texts, expected, strict=True))


@pytest.mark.parametrize(
    "name",
    ["imdb.csv", "yelp.csv", "sms.txt", "fasttext.txt", "viewer.json", "kaggle.tsv", "short.tsv", "overflow.csv"],
)
def test_a_reading_that_was_found_is_said_with_flags_that_say_the_same(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    reading = find_reading(path)
    assert not reading.is_obvious
    assert all(flag in reading.describe() for flag in reading.resolved.flags())
    assert rows_of(find_reading(path, reading.resolved)).rows == rows_of(reading).rows


@pytest.mark.parametrize("name", ["index.csv", "glue.tsv", "sms.txt", "emotion.txt", "fasttext.txt", "yelp.csv"])
def test_the_text_is_the_same_without_its_label(tmp_path, name):
    """`predict` reads what `train` reads."""
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    reading = find_reading(path, labelled=False)
    assert [reading.text_of(record) for record in reading.records()] == list(TEXTS)


def test_plain_texts_keep_all_that_they_have(tmp_path):
    path = tmp_path / "texts.txt"
    texts = ["a, b; c | d @ e", "", "[spoiler] he dies", "{no json", "a <D because ... >", "last"]
    path.write_text("\n".join(texts), encoding="utf-8")
    reading = find_reading(path, labelled=False)
    assert [reading.text_of(record) for record in reading.records()] == texts


def compressed(content, kind):
    if kind == "gz":
        return gzip.compress(content)
    if kind == "zst":
        pyarrow = pytest.importorskip("pyarrow")
        return pyarrow.compress(content, codec="zstd", asbytes=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inner.csv", content)
        archive.writestr("__MACOSX/._inner.csv", b"\0")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["gz", "zst", "zip"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.{kind}"])
def test_a_compressed_file_is_known_by_its_content(tmp_path, kind, name):
    path = tmp_path / name.format(kind=kind)
    path.write_bytes(compressed(FILES["imdb.csv"].encode(), kind))
    assert [row.text for row in read_rows(path)] == list(TEXTS)
    assert load(path).name == "a"


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(FILES["imdb.csv"].encode())[:-20])
    with pytest.raises(UserError, match=r"a\.csv\.gz: cannot be read .* Is it complete\?"):
        read_rows(path)


@pytest.mark.parametrize(
    ("encoding", "word", "named"),
    [
        ("cp1252", "caf\u00e9", "cp1252"),
        ("gb18030", "\u8fd9\u672c\u4e66\u5f88\u597d" * 5, "gb18030"),
        ("utf-16", "caf\u00e9", ""),
    ],
)
def test_an_encoding_is_found_or_named(tmp_path, encoding, word, named):
    path = tmp_path / "a.csv"
    path.write_text(FILES["imdb.csv"].replace("kettle", word), encoding=encoding)
    if named:
        with pytest.raises(UserError, match=rf"a\.csv:2: byte 0x\w\w is not UTF-8.* use encoding=.{named}"):
            read_rows(path)
    rows = read_rows(path, ReadOptions(encoding=named))
    assert rows[0].text == TEXTS[0].replace("kettle", word)


def test_one_line_that_is_not_utf8_is_not_taken_for_an_encoding(tmp_path):
    path = tmp_path / "a.csv"
    content = FILES["imdb.csv"].replace("the", "th\u00e9").encode()
    path.write_bytes(content.replace(b"bicycle", b"bicycl\xe9"))
    with pytest.raises(UserError, match=r"a\.csv:9: byte 0xe9 is not UTF-8. Other lines are UTF-8, so mend this one"):
        read_rows(path)


def test_labels_that_look_the_same_are_the_same(tmp_path):
    path = tmp_path / "a.jsonl"
    labels = [1, 1.0, "1", " 1\u200b", True, "caf\u00e9", "cafe\u0301", ["caf\u00e9"]]
    path.write_text("".join(json.dumps({"text": "x", "label": label}) + "\n" for label in labels), encoding="utf-8")
    assert [row.label for row in read_rows(path)] == ["1"] * 4 + ["true"] + ["caf\u00e9"] * 3


def test_missing_texts_and_labels_are_counted_and_left_out_on_demand(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(FILES["imdb.csv"].replace('late",0', 'late",').replace('dry",1', 'dry",'), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv:4: no label. 2 of 8 rows have no label; drop_missing=True leaves"):
        read_rows(path)
    rows, notes = rows_of(find_reading(path, ReadOptions(drop_missing=True)))
    assert len(rows) == 6
    assert "2 of 8 rows have no label and are left out" in notes[-1]


def test_python_names_columns_by_number_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(lines('{l},"{t} title","{t}"'), encoding="utf-8")
    corpus = load(path, text=[2, 3], label=1, header="no")
    assert sorted(corpus.texts) == sorted(f"{text} title {text}" for text in TEXTS)


def test_the_labels_of_a_long_sorted_file_are_found(tmp_path):
    path = tmp_path / "a.csv"
    texts = [f"{TEXTS[n % 8]} {n}" for n in range(50_000)]
    lines_of_file = [f'"{4 * (n >= 25_000)}","{n}","{text}"\n' for n, text in enumerate(texts)]
    path.write_text("".join(lines_of_file), encoding="utf-8")
    rows = read_rows(path)
    assert [row.text for row in rows] == texts
    assert {row.label for row in rows[:25_000]} == {"0"}


def test_several_plausible_columns_are_refused_with_the_flags_that_choose(tmp_path):
    path = tmp_path / "ag.csv"
    path.write_text(lines('{l},"{t} title","{t}"', header="Class Index,Title,Description\n"), encoding="utf-8")
    with pytest.raises(SeveralReadings) as caught:
        find_reading(path)
    for flags in caught.value.choices:
        given = {
            flag.partition("=")[0].removeprefix("--").removesuffix("_column"): flag.partition("=")[2] for flag in flags
        }
        assert len(read_rows(path, ReadOptions(given["text"], given["label"]))) == 8
    rows = read_rows(path, ReadOptions("title, description".replace(" ", "")))
    assert rows[0].text == f"{TEXTS[0]} title {TEXTS[0]}"


def test_columns_are_named_by_number_and_without_regard_to_case(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(lines('{n},"{t}",{l}', header="id, Review Text ,Stars\n"), encoding="utf-8")
    expected = [(row.text, row.label) for row in read_rows(path, ReadOptions("2", "3"))]
    assert expected == list(zip(TEXTS, LABELS, strict=True))
    assert [(row.text, row.label) for row in read_rows(path, ReadOptions("review text", "STARS"))] == expected
    with pytest.raises(UserError, match=r"a\.csv:1: no column 'body'\. Columns: id, Review Text, Stars\. Use text="):
        read_rows(path, ReadOptions("body"))
    headerless = tmp_path / "b.csv"
    headerless.write_text(lines('{n},"{t}",{l}'), encoding="utf-8")
    assert len(read_rows(headerless, ReadOptions("2", "3", header="no"))) == 8


def test_a_quote_that_is_not_closed_is_named_by_the_line_on_which_it_opens(tmp_path):
    path = tmp_path / "a.csv"
    content = FILES["imdb.csv"].replace('"a fine wool scarf"', '"a fine wool scarf')
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv:6: a cell opens with a quote on this line and is closed before"):
        read_rows(path)
    path.write_text(FILES["imdb.csv"].replace('here"', "here"), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv:9: a cell opens with a quote on this line and is not closed"):
        read_rows(path)


def test_rows_with_too_many_cells_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(lines("{t},{l}", header="text,label\n").replace("dry", "dry, so"), encoding="utf-8")
    words = r"a\.csv:4: more cells .*: 3, expected 2\. Put a cell that has a comma into double quotes \(2 such rows\)"
    with pytest.raises(UserError, match=words):
        read_rows(path)


def test_a_lone_carriage_return_is_part_of_a_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(FILES["imdb.csv"].replace('"a fine wool', "a fine\rwool").replace('scarf"', "scarf"), newline="")
    assert read_rows(path)[4].text == "a fine\rwool scarf"


def write_parquet(path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pyarrow.table({"text": list(TEXTS), "label": [int(label) for label in LABELS]})
    features = {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "feather":
        feather.write_feather(table, path)
    else:
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("kind", ["parquet", "feather", "arrow"])
def test_arrow_tables_are_read_with_the_names_of_their_classes(tmp_path, kind):
    write_parquet(tmp_path / f"a.{kind}", kind)
    rows = read_rows(tmp_path / f"a.{kind}")
    assert [row.text for row in rows] == list(TEXTS)
    assert [row.label for row in rows] == ["positive", "negative"] * 4


def test_what_huggingface_datasets_saves_is_read(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test", "extra"]}')
    for split in ("train", "test", "extra"):
        (tmp_path / split).mkdir()
        write_parquet(tmp_path / split / "data-00000-of-00001.arrow", "arrow")
        (tmp_path / split / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    assert {split: len(rows) for split, rows in read_corpus(tmp_path).of_split.items()} == {"train": 8, "test": 8}
    assert read_corpus(tmp_path / "test").of_split.keys() == {"all"}


def test_shards_of_a_split_are_one_file(tmp_path):
    (tmp_path / "data").mkdir()
    for n in range(2):
        write_parquet(tmp_path / "data" / f"train-0000{n}-of-00002.parquet", "parquet")
    assert len(read_corpus(tmp_path).of_split["train"]) == 16


def test_folders_with_a_class_each(tmp_path):
    for split in ("train", "test"):
        for n, (text, name) in enumerate(zip(TEXTS, NAMES, strict=True)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{n}.txt").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0.txt").write_text("no class")
    (tmp_path / "README").write_text("about")
    rows, notes, _ = read_corpus(tmp_path)
    assert sorted((row.text, row.label) for row in rows["test"]) == sorted(zip(TEXTS, NAMES, strict=True))
    assert "unsup: texts without a class" in notes[0]
    assert read_corpus(tmp_path / "test").of_split.keys() == {"all"}


@pytest.mark.parametrize("form", ["{}.txt", "rt-polarity.{}"])
def test_a_file_for_each_class(tmp_path, form):
    for name in ("good", "bad"):
        texts = [text for text, label in zip(TEXTS, NAMES, strict=True) if label == name]
        (tmp_path / form.format(name)).write_text("\n".join([*texts, ""]), encoding="utf-8")
    (tmp_path / "README.1.0.txt").write_text("about")
    rows, notes, _ = read_corpus(tmp_path)
    assert sorted(row[:2] for row in rows["all"]) == sorted(zip(TEXTS, NAMES, strict=True))
    assert "read as a class a file" in notes[0]


def test_a_file_of_texts_with_a_file_of_labels(tmp_path):
    (tmp_path / "train_text.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    (tmp_path / "train_labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    assert [row[:2] for row in read_corpus(tmp_path).of_split["train"]] == list(zip(TEXTS, LABELS, strict=True))
    (tmp_path / "train_labels.txt").write_text("1\n0\n")
    with pytest.raises(UserError, match=r"train_labels\.txt: 2 labels for 8 texts in train_text\.txt"):
        read_corpus(tmp_path)


def test_a_test_file_without_labels_is_said_and_left_out(tmp_path):
    (tmp_path / "Train.csv").write_text(lines('{n},"{t}",{l}', header="id,text,target\n"), encoding="utf-8")
    (tmp_path / "Test.csv").write_text(lines('{n},"{t}"', header="id,text\n"), encoding="utf-8")
    read = read_corpus(tmp_path)
    assert read.of_split.keys() == {"train"}
    assert "Test.csv: no labels, so there is no test split" in read.notes[-1]
    assert read.unlabelled == ((tmp_path / "Test.csv", ReadOptions(text="text")),)


def test_a_header_is_no_class_where_there_is_a_test_file(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text(lines("{t}\t{l}", NAMES, header="text\tlabel\n"), encoding="utf-8")
    assert load(tmp_path).class_names == ("bad", "good")


def test_an_archive_of_splits_is_a_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for split in ("train", "test"):
            archive.writestr(f"corpus/{split}.csv", FILES["imdb.csv"])
    assert {split: len(rows) for split, rows in read_corpus(tmp_path / "all.zip").of_split.items()} == {
        "train": 8,
        "test": 8,
    }


def test_a_label_that_is_the_number_of_a_column_makes_no_header(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(lines('"{l}","{t} title","{t}"'), encoding="utf-8")
    rows = read_corpus(tmp_path, ReadOptions("2,3")).of_split
    assert {split: len(rows[split]) for split in rows} == {"train": 8, "test": 8}


def test_a_column_without_a_name_of_its_own_is_called_by_its_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(lines('"{t}","{t} more","{t} much",{l}', header=",Notes,notes,label\n"), encoding="utf-8")
    with pytest.raises(SeveralReadings) as caught:
        find_reading(path)
    assert [flags[0] for flags in caught.value.choices] == [f"--text_column={n}" for n in ("1", "2", "3", "1,2,3")]
    with pytest.raises(UserError, match=r"2 columns are named 'Notes'. Name one by its number: 2 or 3"):
        find_reading(path, ReadOptions("NOTES"))
    assert read_rows(path, ReadOptions("3"))[0].text == f"{TEXTS[0]} much"


def test_one_column_is_not_both_text_and_label(tmp_path):
    (tmp_path / "a.csv").write_text(FILES["imdb.csv"], encoding="utf-8")
    with pytest.raises(UserError, match="both name the column 'review'"):
        find_reading(tmp_path / "a.csv", ReadOptions("review", "1"))


def test_an_empty_cell_adds_no_blank_to_joined_texts(tmp_path):
    (tmp_path / "a.csv").write_text("title,body,label\n,fine,1\nso,so,0\n", encoding="utf-8")
    assert [row.text for row in read_rows(tmp_path / "a.csv", ReadOptions("title,body"))] == ["fine", "so so"]


def test_marks_for_no_label_are_said_and_left_out_on_demand(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(FILES["imdb.csv"].replace('late",0', 'late",NA').replace('dry",1', 'dry",NA'), encoding="utf-8")
    assert "2 row(s) have the label 'NA', a class like others; --drop_missing" in rows_of(find_reading(path)).notes[-1]
    assert len(read_rows(path, ReadOptions(drop_missing=True))) == 6


def test_a_file_of_texts_keeps_its_first_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{text} and the tea is hot\n" for text in TEXTS).replace(",", ""), encoding="utf-8")
    assert len(list(find_reading(path, labelled=False).records())) == 8


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "[]", r"a\.json: no rows, expected a list of objects"),
        ("a.json", '{"train": [["a", 1]], "test": [["b", 2]]}', r"the lists train \(1\), test \(1\), .* in one folder"),
        ("a.json", json.dumps({n: {"a": f"so {n} so", "b": "x"} for n in "pqrstuvwxyz"}), "Name the columns with"),
        ("a.csv", lines("{t}~{l}", header="text~label\n"), "has one column: is the separator another"),
        ("a.csv", b"text,label\n" + b"\0" * 400, "binary or damaged, 400 bytes are zero"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.csv", lines('"{t}",{l}', ("\\N", *LABELS[1:]), "text,label\n"), "stand for no label. drop_missing=True"),
    ],
)
def test_a_refusal_says_how_to_go_on(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words):
        load(tmp_path / name)


def test_an_archive_of_tar_is_named(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("train.csv"))
    with pytest.raises(UserError, match=r"a tar archive. Unpack it \(tar xf "):
        read_rows(path)


def test_separators_of_which_several_fit_are_all_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(lines("{t}, so;{l}", NAMES).replace("again, so", "again so"), encoding="utf-8")
    with pytest.raises(SeveralReadings) as caught:
        find_reading(path)
    given = [dict(flag.removeprefix("--").split("=") for flag in flags) for flags in caught.value.choices]
    assert [flags["separator"] for flags in given] == ["comma", "semicolon"]
    rows = read_rows(path, ReadOptions("1", "2", header="no", separator="semicolon"))
    assert (rows[0].text, rows[0].label) == ("the kettle sings well, so", "good")


def test_an_empty_table_is_no_input(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"a\.csv: no rows, expected at least one text"):
        find_reading(tmp_path / "a.csv", labelled=False)


def test_lists_of_texts_are_texts(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"texts": TEXTS}))
    reading = find_reading(tmp_path / "a.json", labelled=False)
    assert [reading.text_of(record) for record in reading.records()] == list(TEXTS)


def test_a_word_of_a_name_says_the_split(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"IMDB_{split}.csv").write_text(FILES["imdb.csv"])
    (tmp_path / "train_test_split.csv").write_text("about")
    assert read_corpus(tmp_path).of_split.keys() == {"train", "test"}


def test_the_only_folder_may_hold_the_folders_of_classes(tmp_path):
    for name in ("pos", "neg"):
        (tmp_path / "reviews" / name).mkdir(parents=True)
        (tmp_path / "reviews" / name / "0.txt").write_text(f"a {name} text")
    assert {row.label for row in read_corpus(tmp_path).of_split["all"]} == {"pos", "neg"}


def test_a_test_file_without_labels_is_read_as_the_training_texts_are(tmp_path):
    (tmp_path / "train.csv").write_text(lines('"{t}","{t}",{l}', header="title,body,mood\n"), encoding="utf-8")
    (tmp_path / "test.csv").write_text(lines('"{t}","{t}"', header="title,body\n"), encoding="utf-8")
    read = read_corpus(tmp_path, ReadOptions("title,body", "mood"))
    assert read.unlabelled == ((tmp_path / "test.csv", ReadOptions("title,body")),)
