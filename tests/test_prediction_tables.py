"""Predictions that were made elsewhere: the splits for them, and what is refused."""

import csv
import gzip
import json
import re

import numpy as np
import pytest

from experiments.variants import load_config
from research.comparison.foreign_variant import ForeignVariant
from research.comparison.plan import Variant
from research.comparison.prediction_tables import read_predictions
from research.comparison.split_tables import write_splits
from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.data.splits import split_corpus
from research.errors import UserError
from research.runs import run_files
from tests.comparing import compare_into

FOLDS, REPEATS = 3, 2


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def splits(run, small_tsv, tmp_path_factory):
    """The rows of `splits`, and what the program said."""
    folder = tmp_path_factory.mktemp("splits")
    flags = [f"--corpus={small_tsv}", f"--folds={FOLDS}", f"--repeats={REPEATS}", "--output=splits.csv"]
    said, _ = run("splits", *flags, cwd=folder)
    return read_csv(folder / "splits.csv"), said, folder


@pytest.fixture(scope="module")
def tested(splits):
    """The rows of a right file of predictions, in another order; a third of the predicted labels are wrong."""
    tested = sorted((row for row in splits[0] if row["part"] == "test"), key=lambda row: row["text"])
    labels = [str(int(row["label"]) ^ (i % 3 == 0)) for i, row in enumerate(tested)]
    return [
        {"fold": row["fold"], "id": row["id"], "label": label, "repeat": row["repeat"], "other": ""}
        for row, label in zip(tested, labels, strict=True)
    ]


@pytest.fixture(scope="module")
def tests_of_runs(small_corpus):
    return {
        (repeat, fold): split_corpus(small_corpus, 0, folds=FOLDS, fold=fold, repeat=repeat).test
        for repeat in range(REPEATS)
        for fold in range(FOLDS)
    }


def test_splits_are_those_of_the_runs(splits, small_corpus):
    rows, said, _ = splits
    assert list(rows[0]) == ["id", "text", "label", "repeat", "fold", "part"]
    assert len(rows) == len(small_corpus) * FOLDS * REPEATS
    assert "1,440 rows, 240 texts in 2 repeat(s) of 3 folds" in said
    assert f"--repeats={REPEATS} --folds={FOLDS} --predictions=NAME=FILE" in said
    text_of = {text_id: (text, label) for text_id, text, label in zip(*texts_of(small_corpus), strict=True)}
    assert all(text_of[row["id"]] == (row["text"], row["label"]) for row in rows)
    for repeat in range(REPEATS):
        for fold in range(FOLDS):
            split = split_corpus(small_corpus, 0, folds=FOLDS, fold=fold, repeat=repeat)
            for part, texts in split._asdict().items():
                of_part = (str(repeat), str(fold), part)
                ids = [row["id"] for row in rows if (row["repeat"], row["fold"], row["part"]) == of_part]
                assert ids == small_corpus.ids[texts].tolist()


def texts_of(corpus):
    return corpus.ids, corpus.texts, [corpus.class_names[label] for label in corpus.labels]


def test_a_file_of_splits_is_not_overwritten_unasked(splits, ask, small_tsv):
    folder = splits[2]
    before = (folder / "splits.csv").read_bytes()
    flags = [f"--corpus={small_tsv}", "--folds=2", "--seed=1", "--output=splits.csv"]
    code, error, _ = ask("splits", folder, flags)
    assert (code, error) == (2, "--output=splits.csv exists already; name another file, or pass --overwrite\n")
    assert (folder / "splits.csv").read_bytes() == before


def test_splits_of_a_fixed_test_split_and_of_odd_texts(tmp_path):
    rows = [Row(f'a "{i}",\r\n\ud800', "ab"[i % 2], "", f"f:{i}") for i in range(20)]
    corpus = make_corpus("odd", {"train": rows[:15], "test": rows[15:]})
    config = load_config("linear", ["--config.data.train_size=6"])
    write_splits(tmp_path / "splits.csv.gz", corpus, config, folds=0, repeats=2)
    with gzip.open(tmp_path / "splits.csv.gz", "rt", newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert {(row["repeat"], row["fold"]) for row in written} == {("0", "0"), ("1", "0")}
    assert [row["part"] for row in written if row["repeat"] == "0"].count("train") == 6
    text_of = dict(zip(corpus.ids, corpus.texts, strict=True))
    assert all(row["text"] == text_of[row["id"]].replace("\ud800", "?") for row in written)


def test_a_right_file_is_compared_with_ours_and_alone(tested, run, small_tsv, tmp_path):
    write_csv(tmp_path / "svm.csv", tested)
    probability = [0.875 if row["label"] == "1" else 0.25 for row in tested]
    quoted = [row | {"id": f'"{row["id"]}"', "repeat": f"{row['repeat']}.0"} for row in without(tested, "label")]
    write_csv(
        tmp_path / "nn.csv",
        [row | {"probability_1": p, "probability_0": 1 - p} for row, p in zip(quoted, probability, strict=True)],
    )
    common = [f"--corpus={small_tsv}", f"--folds={FOLDS}", f"--repeats={REPEATS}"]
    both = ["--predictions=svm=svm.csv", "--predictions=nn=nn.csv"]
    run("compare", "--variants=linear", *both, *common, "--workdir=c", cwd=tmp_path)
    comparison = json.loads((tmp_path / "c" / "comparison.json").read_text())
    means = {of["variant"]: {name: m["mean"] for name, m in of["metrics"].items()} for of in comparison["variants"]}
    assert means["svm"]["accuracy"] == pytest.approx(2 / 3)
    assert means["nn"]["accuracy"] == pytest.approx(2 / 3)
    assert means["svm"]["log_loss"] is means["svm"]["auroc"] is None
    assert 0 < means["nn"]["log_loss"] < 2
    assert {(pair["a"], pair["b"]) for pair in comparison["pairs"]} == {("svm", "linear"), ("nn", "linear")}
    report = (tmp_path / "c" / "report.md").read_text()
    assert "The predictions of svm, nn were made elsewhere" in report
    assert "From files of predictions: svm, nn. All their costs are unknown." in report
    _, said = run("compare", "--variants=", *both, *common, "--workdir=c", cwd=tmp_path)
    assert "12 of 12 runs are finished already" in said
    _, said = run("compare", "--variants=", *both, *common, "--workdir=alone", cwd=tmp_path)
    assert "svm fold0 repeat0: test accuracy 0." in said
    (pair,) = json.loads((tmp_path / "alone" / "comparison.json").read_text())["pairs"]
    assert (pair["a"], pair["b"], pair["difference"]) == ("nn", "svm", 0.0)


def test_other_predictions_of_a_name_are_refused_and_more_repeats_are_not(tested, ask, small_tsv, tmp_path):
    one = [row for row in tested if row["repeat"] == "0"]
    write_csv(tmp_path / "svm.csv", one)
    flags = ["--variants=", "--predictions=svm=svm.csv", f"--corpus={small_tsv}", f"--folds={FOLDS}", "--workdir=c"]
    assert ask("compare", tmp_path, flags)[0] == 0
    code, error, _ = ask("compare", tmp_path, [*flags, "--repeats=2"])
    assert (code, error.partition(". ")[0]) == (2, "svm.csv has predictions for 1 repeat(s), expected 2")
    write_csv(tmp_path / "svm.csv", tested[::-1])
    assert ask("compare", tmp_path, [*flags, "--repeats=2"])[0] == 0
    other = [row | {"label": "0"} for row in tested]
    write_csv(tmp_path / "svm.csv", other)
    code, error, _ = ask("compare", tmp_path, flags)
    assert code == 2
    assert re.fullmatch(r"c holds svm with other predictions than .*svm.csv; give it another name, .*\n", error)
    assert ask("compare", tmp_path, [*flags, "--overwrite"])[0] == 0
    record = run_files.read_record(tmp_path / "c" / "svm" / "fold0-repeat0")
    assert record["seconds"] == {}


CHANGES = {
    r"svm.csv: 2 of 480 predictions are missing: id \w+-0 \(repeat \d, fold \d\), id": lambda rows: rows[2:],
    r"svm.csv:482: id \w+-0, repeat \d, fold \d is in line 2 already; expected each": lambda rows: [*rows, rows[0]],
    r"svm.csv:3: there is no id '0000-0' in reviews. Take id,": lambda rows: changed(rows, 1, id="0000-0"),
    r"svm.csv:3: id \w+-0 is not tested in fold 7 of repeat \d, but in fold": lambda rows: changed(rows, 1, fold="7"),
    r"svm.csv:3: the label is 'good', expected one of 0, 1": lambda rows: changed(rows, 1, label="good"),
    r"svm.csv:3: the label is '', expected": lambda rows: changed(rows, 1, label=""),
    r"svm.csv:3: fold is 'a', expected a whole number from 0": lambda rows: changed(rows, 1, fold="a"),
    r"svm.csv:1: no column 'id'. Columns: fold": lambda rows: without(rows, "id"),
    r"svm.csv:1: no column 'fold'": lambda rows: without(rows, "fold"),
    r"svm.csv:1: no column 'label', and no probability for each class \(probability_0, probability_1\)": (
        lambda rows: without(rows, "label")
    ),
    r"svm.csv:1: no column 'probability_1', expected": lambda rows: [row | {"probability_0": "1"} for row in rows],
    r"svm.csv:3: the probability of '1' is 'nan', expected a number": (
        lambda rows: changed(with_probabilities(rows), 1, probability_1="nan")
    ),
    r"svm.csv:3: the probabilities are 0.25, 0.7, expected numbers that sum to 1": (
        lambda rows: changed(with_probabilities(rows), 1, probability_1="0.7")
    ),
    r"svm.csv:3: the probabilities are -0.5, 1.5, expected": (
        lambda rows: changed(with_probabilities(rows), 1, probability_0="-0.5", probability_1="1.5")
    ),
}


def changed(rows, n, **cells):
    return [*rows[:n], rows[n] | cells, *rows[n + 1 :]]


def without(rows, name):
    return [{other: cell for other, cell in row.items() if other != name} for row in rows]


def with_probabilities(rows):
    return [row | {"probability_0": "0.25", "probability_1": "0.75"} for row in rows]


@pytest.mark.parametrize("message", CHANGES)
def test_a_wrong_file_is_refused_with_its_line(tested, small_corpus, tests_of_runs, tmp_path, message):
    file = write_csv(tmp_path / "svm.csv", CHANGES[message](tested))
    with pytest.raises(UserError, match=message):
        read_predictions(file, small_corpus, tests_of_runs)


def test_forms_of_a_file(tested, small_corpus, tests_of_runs, tmp_path):
    """Probabilities count before labels, and only the rows of test texts; rounded ones are made to sum to 1."""
    rows = [row | {"0": "0.333", "1": "0.666", "Part": "test"} for row in tested]
    train = rows[0] | {"Part": "train", "label": "no label", "id": "other"}
    write_csv(tmp_path / "wide.csv", [train, *rows])
    text = (tmp_path / "wide.csv").read_text().replace(",", ";").replace("id;", " ID ;")
    (tmp_path / "wide.csv").write_text("\ufeff" + text)
    table = read_predictions(tmp_path / "wide.csv", small_corpus, tests_of_runs)
    assert table.kind == "probabilities"
    np.testing.assert_allclose(table.of_run[1, 2].scores, [[1 / 3, 2 / 3]] * 80, atol=1e-3)
    np.testing.assert_allclose(table.of_run[1, 2].scores.sum(axis=1), 1, rtol=1e-6)
    one_repeat = {run: texts for run, texts in tests_of_runs.items() if run[0] == 0}
    assert read_predictions(tmp_path / "wide.csv", small_corpus, one_repeat).unused_repeats == 1


def test_wrong_predictions_are_refused_before_anything_is_trained(tested, ask, small_tsv, tmp_path):
    write_csv(tmp_path / "svm.csv", tested[1:])
    flags = ["--variants=linear", f"--corpus={small_tsv}", f"--folds={FOLDS}", f"--repeats={REPEATS}", "--workdir=c"]
    code, error, names = ask("compare", tmp_path, [*flags, "--predictions=svm=svm.csv"])
    assert (code, names) == (2, ["svm.csv"])
    assert error.startswith("svm.csv: 1 of 480 predictions are missing: id ")
    for value, words in (
        ("svm.csv", "--predictions is 'svm.csv', expected NAME=FILE, such as svm=svm.csv"),
        ("svm=other.csv", "--predictions=svm=other.csv: there is no file other.csv"),
    ):
        assert ask("compare", tmp_path, [*flags, f"--predictions={value}"])[:2] == (2, f"{words}\n")


def test_variants_of_different_splits_share_none_with_predictions(tested, small_tsv, tmp_path):
    write_csv(tmp_path / "svm.csv", tested)
    ours = [Variant(f"linear{seed}", load_config("linear", [f"--config.seed={seed}"])) for seed in (1, 2)]
    variants = [*ours, ForeignVariant("svm", predictions=tmp_path / "svm.csv")]
    with pytest.raises(UserError, match="they have no split in common with svm"):
        compare_into(tmp_path / "c", variants, load(small_tsv), folds=FOLDS, repeats=REPEATS)
