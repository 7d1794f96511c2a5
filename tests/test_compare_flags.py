"""What `compare`, `tune`, `aa` and `variance` do beyond one table, as users run them."""

import json

import pytest

from tests.subset import write_subset

FAST = ("--config.training.epochs=4", "--folds=2")


@pytest.fixture(scope="module")
def stands(tmp_path_factory):
    """Two corpora where the user stands; texts of the second repeat and contradict each other."""
    folder = tmp_path_factory.mktemp("stands")
    lines = write_subset(folder / "one.tsv").read_text("utf-8").rstrip("\n").split("\n")
    text, _, label = lines[0].rpartition("\t")
    other = [f"{text}\t{1 - int(label)}", f"{text} !\t{label}"]
    (folder / "two.tsv").write_text("\n".join(lines[:160] + other) + "\n", "utf-8")
    return folder


def test_several_corpora_make_a_table_each_and_one_of_verdicts(stands, run):
    flags = ("--variants=linear:tfidf,linear:nb", "--corpus=one.tsv,two.tsv", "--workdir=both", *FAST)
    out, err = run("compare", *flags, cwd=stands)
    assert "one (240 texts" in out
    assert "two (162 texts" in out
    assert "Verdicts over the corpora" in out
    assert "linear:nb" in (stands / "both" / "replication.md").read_text()
    claims = [json.loads((stands / "both" / name / "plan.json").read_text())["claims"] for name in ("one", "two")]
    assert [c["corpora"] for c in claims] == [2, 2]
    assert "two: 1 text(s) repeat another" in err
    assert "text(s) have several labels" in err
    _, err = run("compare", "--variants=linear", "--corpus=one.tsv,./one.tsv", "--workdir=no", cwd=stands, code=2)
    assert "expected corpora of different names" in err


def test_a_test_file_without_labels_is_predicted(stands, run):
    (stands / "kaggle").mkdir()
    (stands / "kaggle" / "train.tsv").write_bytes((stands / "one.tsv").read_bytes())
    (stands / "kaggle" / "test.csv").write_text("id,text\n7,a fine film\n9,a bad film\n")
    flags = ("--corpus=kaggle", "--config.training.epochs=1")
    out, err = run("compare", "--variants=linear,mlp", "--folds=2", "--workdir=all", *flags, cwd=stands)
    assert "test.csv: no labels" in err
    assert "has no labels. Predictions of" in out
    run("train", "--config=linear", "--workdir=lone", *flags, cwd=stands)
    for folder in ("all", "lone"):
        header, *rows = (stands / folder / "test_predictions.csv").read_text().splitlines()
        assert header == "text,label,probability_0,probability_1,id"
        assert [row.split(",")[0] for row in rows] == ["a fine film", "a bad film"]
        assert [row.split(",")[-1] for row in rows] == ["7", "9"]
    run("train", "--config=linear", "--workdir=lone", "--overwrite", *flags, cwd=stands)


def test_a_finished_comparison_is_replayed_until_it_is_decided(stands, run):
    flags = ("--variants=linear,linear:nb", "--corpus=one.tsv", "--repeats=2", "--workdir=twice", "--folds=2")
    run("compare", *flags, cwd=stands)
    out, _ = run("studies.replay", "--workdir=twice", "--output=replay.md", cwd=stands)
    assert "pair(s) undecided after 1 repeat(s)" in out
    fixed, rule = (line.split("|")[1:4] for line in (stands / "replay.md").read_text().splitlines()[-2:])
    assert [cell.strip() for cell in fixed] == ["fixed", "2", "8"]
    assert int(rule[2]) in (4, 8)
    _, err = run("studies.replay", "--workdir=twice", "--max_repeats=3", cwd=stands, code=2)
    assert "--max_repeats is 3, expected at most 2, as twice has" in err


def test_a_cleaned_corpus_is_known_again(stands, run):
    run("train", "--config=linear", "--corpus=two.tsv", "--clean", "--workdir=clean", *FAST, cwd=stands)
    texts = json.loads((stands / "clean" / "record.json").read_text())["texts"]
    assert sum(texts.values()) == 160
    for corpus in ((), ("--corpus=two.tsv",)):
        out, _ = run("evaluate", "--workdir=clean", *corpus, cwd=stands)
        assert f"the run's own test split: {texts['test']} texts" in out


def test_what_was_tuned_is_used_and_recorded(stands, run):
    given = ("--variants=linear", "--corpus=one.tsv", *FAST)
    out, _ = run("tune", *given, "--trials=2", "--workdir=tuned", cwd=stands)
    assert "best of 2" in out
    run("compare", *given, "--tuned=tuned", "--workdir=with", cwd=stands)
    chosen = json.loads((stands / "tuned" / "tuned.json").read_text())["variants"]["linear"]
    for name, trial in chosen["chosen"].items():
        record = json.loads((stands / "with" / "linear" / name / "record.json").read_text())
        assert f"--config.training.l2={chosen['settings'][trial]['training.l2']}" in record["command"]
    _, err = run("compare", *given, "--tuned=one.tsv", "--workdir=no", cwd=stands, code=2)
    assert "expected a folder that `tune` wrote" in err


def test_one_model_under_two_names_and_the_sources_of_its_variance(stands, run):
    fast = ("--variant=mlp", "--corpus=one.tsv", "--folds=2", "--config.training.epochs=1")
    out, _ = run("studies.aa", *fast, "--names=4", "--workdir=aa", "--output=aa.md", cwd=stands)
    assert "called different" in out
    assert "./launch.sh aa --variant=mlp" in (stands / "aa.md").read_text()
    assert len(list((stands / "aa").glob("seed*/fold*/predictions.npz"))) == 8
    out, _ = run("studies.variance", *fast, "--repeats=3", "--workdir=variance", cwd=stands)
    for source in ("split", "init", "order", "dropout"):
        assert source in out


def test_simulated_comparisons_end_in_a_table(stands, run):
    out, _ = run("studies.simulate", "--comparisons=10", "--families=1", "--output=simulation.md", cwd=stands)
    assert out.count("fixed split, ") == 36 + 2
    assert (stands / "simulation.md").read_text().count("\n| ") == (1 + 36 + 1 + 25 + 1) + (1 + 43)


def test_training_sets_without_common_texts_end_in_a_table(stands, run):
    fast = ("--variants=linear,mlp", "--corpus=one.tsv", "--config.training.epochs=1", "--sets=3", "--repeats=2")
    out, _ = run("studies.hidden", *fast, "--set_texts=10", "--workdir=hidden", "--output=hidden.md", cwd=stands)
    assert "linear - mlp" in out
    assert "./launch.sh hidden --variants=linear,mlp" in (stands / "hidden.md").read_text()
    assert len(list((stands / "hidden").glob("*/set*/predictions.npz"))) == 12
    _, err = run("studies.hidden", *fast, "--set_texts=1000", "--workdir=more", cwd=stands, code=2)
    assert "too few for 3 training sets" in err
