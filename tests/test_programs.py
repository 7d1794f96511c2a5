"""The programs as users run them: real flags, another folder, another process."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from experiments.variants import every_variant, load_config
from research import load, restore
from research.runs import run_files
from research.runs.train import RunOptions, train
from research.settings import leaves, names_read
from tests.conftest import ROOT

SMALL = ["--config.training.epochs=2"]


def run_process(program, *flags, cwd, text=None, code=0):
    """What a program prints in a process of its own; with one CPU device it starts no worker processes."""
    command = [sys.executable, "-P", "-m", f"experiments.{program}", *map(str, flags)]
    environment = os.environ | {"COLUMNS": "200", "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=cwd, input=text, capture_output=True, env=environment, timeout=300)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the user stands."""
    return tmp_path_factory.mktemp("stands")


@pytest.fixture(scope="module")
def compared(folder, small_tsv):
    out, err = run_process(
        *("compare", "--variants=linear,lstm,luong:dot", f"--corpus={small_tsv}", "--folds=2", "--workdir=out", *SMALL),
        cwd=folder,
    )
    return folder / "out", out, err


def test_compare_prints_a_table_and_leaves_a_report(compared):
    folder, out, err = compared
    for words in ("accuracy", "95 % interval", "macro F1", "parameters", "luong:dot", "verdict"):
        assert words in out
    assert "lstm fold1 repeat0: test accuracy" in err
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [(row["variant"], row["fold"], row["status"]) for row in rows] == [
        (variant, fold, "done") for variant in ("linear", "lstm", "luong:dot") for fold in "01"
    ]
    assert {row["run_folder"] for row in rows} >= {"lstm/fold0-repeat0", "luong-dot/fold1-repeat0"}
    comparison = json.loads((folder / "comparison.json").read_text())
    assert [v["variant"] for v in comparison["variants"]] == ["linear", "lstm", "luong:dot"]
    for variant in comparison["variants"]:
        accuracy = [float(row["accuracy"]) for row in rows if row["variant"] == variant["variant"]]
        estimate = variant["metrics"]["accuracy"]
        assert estimate["mean"] == pytest.approx(np.mean(accuracy))
        assert estimate["interval"][0] <= estimate["mean"] <= estimate["interval"][1]
    assert [(pair["a"], pair["b"]) for pair in comparison["pairs"]] == [("lstm", "linear"), ("luong:dot", "linear")]
    for pair in comparison["pairs"]:
        assert pair["verdict"] in ("better", "worse", "equivalent", "undecided", "not trained")
    report = (folder / "report.md").read_text()
    answer = out.splitlines()[0]
    assert " linear" in answer
    assert f"\n{answer}\n" in report
    for words in (
        "luong:dot",
        "plots/differences.png",
        "plots/scores.png",
        "plots/curves.png",
        "--variants=linear,lstm,luong:dot",
    ):
        assert words in report
    for plot in ("differences", "scores", "curves", "cost", "calibration", "confusion"):
        assert (folder / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_every_text_is_tested_once_a_repeat(compared, small_corpus):
    folder, _, _ = compared
    ids = np.concatenate([run_files.read_predictions(folder / "lstm" / f"fold{fold}-repeat0").id for fold in range(2)])
    assert sorted(ids) == sorted(small_corpus.ids)


def test_compare_goes_on_and_is_extended(compared, small_tsv, run):
    folder, _, _ = compared
    before = (folder / "lstm/fold0-repeat0/record.json").read_bytes()
    (folder / "lstm/fold1-repeat0/record.json").unlink()  # as if it had been killed there
    predictions = (folder / "lstm/fold1-repeat0/predictions.npz").read_bytes()
    flags = ("--variants=lstm,cnn", f"--corpus={small_tsv}", "--folds=2", "--workdir=out", *SMALL)
    out, err = run("compare", *flags, cwd=folder.parent)
    assert "1 of 4 runs are finished already" in err
    assert (folder / "lstm/fold0-repeat0/record.json").read_bytes() == before
    assert (folder / "lstm/fold1-repeat0/predictions.npz").read_bytes() == predictions
    assert all(name in out for name in ("linear", "lstm", "luong:dot", "cnn"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--config.optimizer.learning_rate=0.1"], "optimizer.learning_rate: 0.001 -> 0.1"),
        (["--folds=3"], "folds"),
        (["--corpus=rotten_tomatoes"], "corpus"),
    ],
)
def test_another_comparison_in_the_same_folder_is_refused(compared, small_tsv, ask, change, words):
    flags = ["--variants=lstm", f"--corpus={small_tsv}", "--folds=2", "--workdir=out", *SMALL, *change]
    code, err, _ = ask("compare", compared[0].parent, flags)
    assert code == 2
    assert words in err
    assert "--overwrite" in err


def test_a_run_of_a_comparison_is_the_train_command_in_its_record(compared, run):
    folder, _, _ = compared
    there = folder / "luong-dot" / "fold1-repeat0"
    command = shlex.split(json.loads((there / "record.json").read_text())["command"])
    assert command[:2] == ["./launch.sh", "train"]
    run("train", *command[2:], cwd=folder.parent)
    for name in ("predictions.npz", "metrics.jsonl", "tokenizer.json", "config.json"):
        assert (folder.parent / "RUN" / name).read_bytes() == (there / name).read_bytes()


def test_train_says_from_where_it_goes_on(folder, small_tsv, run):
    def stop(run, epochs, loss):
        if epochs >= 1:
            raise KeyboardInterrupt

    config = load_config("mlp", SMALL)
    with pytest.raises(KeyboardInterrupt):
        train(config, small_tsv, folder / "begun", options=RunOptions(on_progress=stop))
    _, err = run("train", "--config=mlp", f"--corpus={small_tsv}", "--workdir=begun", *SMALL, cwd=folder)
    assert "begun is resumed after 1.0 epochs" in err


def test_predict_does_not_write_over_its_input(folder, run):
    (folder / "texts.txt").write_text("a fine film\n")
    same = ("--input=texts.txt", "--output=./texts.txt", "--overwrite")
    _, err = run("predict", f"--workdir={ROOT / 'tests' / 'data' / 'run'}", *same, cwd=folder, code=2)
    assert "is the input too, expected another file" in err
    assert (folder / "texts.txt").read_text() == "a fine film\n"


def test_cleaning_says_how_many_texts_are_dropped(folder, run):
    rows = [f"{word} film\t{label}" for word, label in (("good", 1), ("bad", 0)) for _ in range(12)]
    (folder / "copies.tsv").write_text("\n".join([*rows, *(f"number {n}\t{n % 2}" for n in range(30))]))
    command = ("train", "--config=mlp", "--corpus=copies.tsv", "--clean", "--workdir=cleaned", *SMALL)
    _, err = run(*command, cwd=folder)
    assert "copies: 22 of 54 texts are dropped" in err


def test_report_is_rebuilt_from_the_runs_alone(compared, run):
    folder, _, _ = compared
    expected = json.loads((folder / "comparison.json").read_text())["variants"]
    for name in ("results.csv", "comparison.json", "report.md"):
        (folder / name).unlink()
    out, _ = run("report", "--workdir=out", cwd=folder.parent)
    assert "luong:dot" in out
    found = {v["variant"]: v for v in json.loads((folder / "comparison.json").read_text())["variants"]}
    assert all(found[v["variant"]] == v for v in expected)


def test_evaluate_scores_only_what_was_held_out(compared, small_tsv, run):
    folder, _, _ = compared
    there = folder / "lstm" / "fold0-repeat0"
    predictions = run_files.read_predictions(there)
    accuracy = (predictions.probabilities.argmax(axis=1) == predictions.label).mean()
    out, _ = run("evaluate", f"--workdir={there}", f"--corpus={small_tsv}", cwd=folder.parent)
    assert f"{len(predictions.id)} texts" in out
    assert f"{accuracy:.4f}" in out
    assert run("evaluate", f"--workdir={there}", cwd=folder.parent)[0] == out  # the run knows its own corpus
    other = folder.parent / "other.tsv"
    other.write_text("a fine film\t1\ndull\t0\nbad\t0\n", encoding="utf-8")
    out, _ = run("evaluate", f"--workdir={there}", "--corpus=other.tsv", cwd=folder.parent)
    assert "all of it: 3 texts" in out
    other.write_text("a fine film\tpositive\n", encoding="utf-8")
    _, err = run("evaluate", f"--workdir={there}", "--corpus=other.tsv", cwd=folder.parent, code=2)
    assert "other.tsv:1: label 'positive' was not trained on, expected one of 0, 1" in err


def test_evaluate_without_a_corpus_that_is_still_the_runs_own_is_a_sentence(folder, small_tsv, run):
    texts = folder / "mine.tsv"
    texts.write_bytes(small_tsv.read_bytes())
    run("train", "--config=mlp", "--corpus=mine.tsv", "--workdir=own", *SMALL, cwd=folder)
    texts.write_text("a fine film\t1\ndull\t0\nbad\t0\n", encoding="utf-8")
    _, err = run("evaluate", "--workdir=own", cwd=folder, code=2)
    assert "mine.tsv has changed since the run was trained on it" in err
    texts.unlink()
    _, err = run("evaluate", "--workdir=own", cwd=folder, code=2)
    assert "mine.tsv, which is not there: name it with --corpus" in err


def test_predict_answers_line_for_line_in_a_new_process(compared, run):
    folder, _, _ = compared
    there = folder / "lstm" / "fold0-repeat0"
    texts = ["a fine film", "", "\u7535\u5f71\u5f88\u597d", "tab\there", "x " * 5000, "<b>bad</b>"]
    # With a byte-order mark, CRLF line ends, and no final newline.
    source = b"\xef\xbb\xbf" + "\r\n".join(texts).encode()
    out, _ = run_process("predict", f"--workdir={there}", cwd=folder.parent, text=source)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["text"] for answer in answers] == texts
    expected = restore(there).predict_proba(texts)
    for answer, row in zip(answers, expected, strict=True):
        assert answer["label"] == "01"[row.argmax()]
        np.testing.assert_allclose([answer["probabilities"][c] for c in "01"], row, atol=1e-6)
    (folder.parent / "texts.txt").write_bytes(source)
    run("predict", f"--workdir={there}", "--input=texts.txt", "--output=labels.jsonl", cwd=folder.parent)
    assert (folder.parent / "labels.jsonl").read_text(encoding="utf-8") == out
    _, err = run(
        "predict", f"--workdir={there}", "--input=texts.txt", "--output=labels.jsonl", cwd=folder.parent, code=2
    )
    assert "exists already" in err


def test_fixed_splits_are_used_as_they_are(folder, small_corpus, run):
    data = folder / "splits"
    data.mkdir()
    rows = [f"{text}\t{label}\n" for text, label in zip(small_corpus.texts, small_corpus.labels, strict=True)]
    for name, part in (("train", rows[:160]), ("dev", rows[160:200]), ("test", rows[200:])):
        (data / f"{name}.tsv").write_text("".join(part), encoding="utf-8")
    flags = ("--variants=linear,mlp", "--corpus=splits", "--workdir=fixed", "--repeats=2", *SMALL)
    out, _ = run("compare", *flags, cwd=folder)
    assert "fixed test split, 2 repeat(s)" in out
    corpus = load(data)
    test_ids = sorted(corpus.ids[corpus.splits == "test"])
    for repeat in range(2):
        assert sorted(run_files.read_predictions(folder / "fixed" / "mlp" / f"repeat{repeat}").id) == test_ids
    _, err = run("train", "--config=lstm", "--corpus=splits", "--folds=5", "--workdir=x", cwd=folder, code=2)
    assert "a test split of its own" in err


@pytest.mark.extra
def test_a_config_file_of_the_users_own(folder, small_tsv, run):
    (folder / "mine.py").write_text(
        "from research.models import settings_for\nfrom research.settings import Config\n\n\n"
        "def get_config():\n    return Config(model=settings_for('mlp.MLP', hidden_size=9))\n"
    )
    flags = (f"--corpus={small_tsv}", "--config.training.epochs=1")
    run("train", "--config=mine.py", *flags, "--workdir=mine", cwd=folder)
    assert run_files.read_json(folder / "mine" / "config.json")["settings"]["model"]["hidden_size"] == 9
    # What is tuned for it is found again, by the name that tables give it.
    search = ("--variants=mine.py", *flags, "--folds=2")
    run("tune", *search, "--trials=2", "--workdir=search", cwd=folder)
    out, _ = run("compare", *search, "--tuned=search", "--workdir=tuned", cwd=folder)
    assert "mine" in out
    chosen = run_files.read_json(folder / "search" / "tuned.json")["variants"]["mine"]
    for name, trial in chosen["chosen"].items():
        used = run_files.read_json(folder / "tuned" / "mine" / name / "config.json")["settings"]["optimizer"]
        assert used["learning_rate"] == chosen["settings"][trial]["optimizer.learning_rate"]


MANY = ["--config.data.train_size=100000"]


def test_overwrite_starts_afresh(folder, small_tsv, ask):
    flags = ("--config=mlp", f"--corpus={small_tsv}", "--workdir=again", "--config.training.epochs=1")
    for given in (["--config.model.hidden_size=8"], ["--config.model.hidden_size=9", "--overwrite"]):
        assert ask("train", folder, [*flags, *given])[0] == 0
    assert run_files.read_json(folder / "again" / "config.json")["settings"]["model"]["hidden_size"] == 9


def test_overwrite_removes_nothing_before_the_flags_are_known_to_fit(folder, small_tsv, ask):
    corpus = (f"--corpus={small_tsv}", "--config.training.epochs=1", "--overwrite")
    assert ask("train", folder, ["--config=linear", "--workdir=kept", *corpus])[0] == 0
    for wrong in (["--fold=9"], ["--repeat=-1"], ["--devices=99"], ["--config.init_from=nowhere"], MANY):
        assert ask("train", folder, ["--config=linear", "--workdir=kept", *corpus, *wrong])[0] == 2
        assert run_files.is_finished(folder / "kept")
    compared = ["--variants=linear", "--folds=2", "--workdir=kept-too", *corpus]
    assert ask("compare", folder, compared)[0] == 0
    twice = ["--variants=linear,linear"]
    for wrong in (
        ["--baseline=lsmt"],
        ["--folds=1"],
        ["--tuned=nowhere"],
        ["--repeats=0"],
        ["--until=decided"],
        twice,
        MANY,
    ):
        wrong = [*wrong, "--repeats=12"] if "--until=decided" in wrong else wrong
        assert ask("compare", folder, [*compared, *wrong])[0] == 2
        assert run_files.is_finished(folder / "kept-too" / "linear" / "fold0-repeat0")


def test_corpora_lists_what_there_is(folder, run):
    out, _ = run("corpora", cwd=folder)
    assert "rotten_tomatoes" in out
    assert "imdb" in out


@pytest.mark.parametrize(
    "program", ["train", "pretrain", "compare", "evaluate", "predict", "serve", "export", "report", "corpora"]
)
def test_help_says_what_the_program_does(program, folder, run):
    out, _ = run(program, "--help", cwd=folder)
    assert "./launch.sh" in out
    assert program == "corpora" or "--workdir" in out
    assert ("--config.optimizer.learning_rate=0.001: " in out) == (program in ("train", "pretrain", "compare"))


def test_help_lists_the_settings_of_a_variant(folder, run):
    out, _ = run("train", "--config=luong:dot", "--help", cwd=folder)
    config = load_config("luong:dot")
    listed = {f"--config.{name}={value}".lower() for name, _, value in leaves(config)}
    lines = settings_in(out)
    assert {line.partition(":")[0].lower() for line in lines} == listed
    assert "(one of dot, general, concat, location, local_m" in out
    without_effect = {line.partition("=")[0].removeprefix("--config.") for line in lines if "No effect with" in line}
    assert without_effect == {name for name, _, _ in leaves(config)} - names_read(config)
    assert "model.window" in without_effect


def settings_in(out):
    """Return the lines about settings, each as one line."""
    parts = re.split(r"\n(?=  --config|\n)", out)
    return [" ".join(part.split()) for part in parts if part.lstrip().startswith("--config.")]


@pytest.mark.parametrize("program", ["compare", "tune"])
def test_help_lists_the_settings_of_several_variants(program, folder, run):
    out, _ = run(program, "--variants=lstm,cnn", "--help", cwd=folder)
    assert f"./launch.sh {program} --variants=lstm,cnn --help" in run(program, "--help", cwd=folder)[0]
    both, lstm, cnn = out.partition("settings of lstm, cnn:")[2].split("\nsettings of ")
    assert "--config.data.max_length=100: " in both
    assert "--config.model.cell=lstm: " in lstm
    assert "--config.model.widths=(3,4,5): widths of the filters, in tokens (integers with commas, at least 1)" in cnn
    for name, own in (("lstm", lstm), ("cnn", cnn)):
        listed = {line.partition("=")[0] for line in settings_in(both + "\n\n" + own)}
        assert listed == {f"--config.{field}" for field, _, _ in leaves(load_config(name))}


@pytest.mark.parametrize("name", every_variant())
def test_every_setting_says_what_it_is(name):
    undescribed = [field for field, about, _ in leaves(load_config(name)) if not about.metadata.get("what")]
    assert undescribed == []


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        ("train", ["--config.typo=1"], "no setting 'typo', expected one of data.from_scratch"),
        ("train", ["--config.optimizer.learning_rate=abc"], "--config.optimizer.learning_rate=abc, expected a number"),
        ("train", ["--config.data.lowercase=maybe"], "--config.data.lowercase=maybe, expected true or false"),
        ("train", ["--config.optimizer.learning_rate=-1"], "expected at least 0"),
        ("train", ["--config.optimizer.learning_rate=nan"], "expected at least 0"),
        ("train", ["--config.optimizer.learning_rate=inf"], "expected a finite number"),
        ("train", ["--config.optimizer.name=adm"], "expected one of adam, adamw, sgd"),
        ("train", ["--config.training.epochs=1.5"], "--config.training.epochs=1.5, expected an integer"),
        ("train", ["--config.seed"], "config.seed"),
        ("train", ["--config.model=3"], "no setting 'model'"),
        ("train", ["--config=nothing"], "no variant 'nothing', expected one of article, bert, bilstm, cnn"),
        ("train", ["--config=missing.py"], "no variant 'missing.py'"),
        ("train", ["--config=luong:typo"], "there is no variant luong:typo, expected one of luong:general, luong:dot"),
        ("train", ["--config=cnn:typo"], "there is no variant cnn:typo, expected one of cnn"),
        ("train", ["--config=cnn", "--config.model.widths=(2,x)"], "config.model.widths"),
        (
            "train",
            ["--corpus=nothing"],
            "nothing: no such file or folder, and no known corpus. Known are rotten",
        ),
        ("train", ["--fold=7"], "--fold is 7, expected 0 to 4"),
        ("train", ["--folds=1"], "--folds is 1, expected 2 to"),
        ("train", ["--fold=x"], "fold"),
        ("train", ["stray"], "'stray' is not a flag, expected --NAME=VALUE, such as --"),
        ("compare", ["--variants=lstm,typo"], "no variant 'typo'"),
        ("compare", ["--variants=lstm,lstm"], "the variant lstm is named twice"),
        ("compare", ["--variants="], "--variants is empty"),
        ("compare", ["--tuned=x", "--vary=seed=1,2"], "expected neither --vary nor --drop"),
        ("compare", ["--until=decided", "--repeats=12"], "--max_repeats is 10, expected 12, as --repeats"),
        ("compare", ["--max_repeats=8"], "--max_repeats is 8, expected --until=decided with it"),
        ("train", ["--processes=2"], "--processes is 2, expected --coordinator with it"),
        ("compare", ["--vary=optimizer.rate=1,2"], "no setting 'optimizer.rate'"),
        ("compare", ["--vary=seed"], "expected FIELD=VALUE,VALUE"),
        (
            "compare",
            ["--variants=lstm,cnn", "--vary=model.score=8,16"],
            "lstm, cnn: there is no setting 'model.score'",
        ),
        ("compare", ["--repeats=0"], "--repeats is 0"),
        ("train", ["--config=bert:minilm", "--config.training.random_swap=0.1"], "would move [CLS] and [SEP]"),
        ("evaluate", [], "no such file, expected a run folder"),
        ("predict", [], "no such file, expected a run folder"),
        ("predict", ["--config.seed=1"], "--config.seed=1: this program trains nothing and has no settings"),
        ("predict", ["--explain", "--format=csv"], "--explain has no place in a table"),
        ("serve", ["--port=0"], "no such file, expected a run folder"),
        ("export", ["--output=exported"], "no such file, expected a run folder"),
        ("export", [], "--output is missing"),
        ("report", [], "expected a folder that `compare` wrote"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(program, flags, words, folder, small_tsv, ask):
    given = ["--workdir=nowhere"]
    if program in ("train", "compare", "evaluate"):
        given.append(f"--corpus={small_tsv}")
    code, err, there = ask(program, folder, [*given, *flags])
    assert code == 2, err
    assert words in err
    assert err.count("\n") == 1
    assert "nowhere" not in there


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        ("train", ["--coordinator=localhost:1", "--processes=2", "--process=2"], "--process is 2, expected 0 to 1"),
        ("train", ["--coordinator=localhost", "--processes=2"], "--coordinator is 'localhost', expected HOST:PORT"),
        ("train", ["--wrokdir=x"], "--wrokdir is no flag of this program, expected --workdir, or one of --config,"),
        ("train", ["--epochs=3"], "--epochs is no flag of this program, expected --config.training.epochs, or one of"),
        ("evaluate", ["--workdir=nowhere"], "no such file, expected a run folder"),
    ],
)
def test_a_mistake_ends_a_process_so_too(program, flags, words, folder, small_tsv):
    _, err = run_process(program, "--workdir=nowhere", f"--corpus={small_tsv}", *flags, cwd=folder, code=2)
    assert words in err
    assert err.count("\n") == 1
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"good\t1\nno tab\n", ":2: no tab, expected one between text and label"),
        (b"good\t1\nfine\t1\n", "every label is '1', expected at least two classes"),
    ],
)
def test_a_broken_corpus_is_named_by_file_and_line(content, words, folder, ask):
    (folder / "broken.tsv").write_bytes(content)
    code, err, _ = ask("train", folder, ["--config=lstm", "--corpus=broken.tsv", "--workdir=nowhere"])
    assert code == 2
    assert err.startswith("broken.tsv")
    assert words in err
    assert err.count("\n") == 1


def test_odd_but_sound_files_work(folder, run):
    """CRLF, a byte-order mark, no final newline, NUL, an empty text, a 2 MB line, duplicates, two classes by name."""
    rows = [f"text number {i} is {'fine' if i % 2 else 'dull'}\t{'pos' if i % 2 else 'neg'}" for i in range(24)]
    rows += ["\tneg", "a\x00b\tpos", "word " * 400_000 + "\tneg", "twice\tpos", "twice\tpos"]
    (folder / "odd.tsv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    flags = ("--config=mlp", "--corpus=odd.tsv", "--workdir=odd", "--folds=3", "--config.training.epochs=1")
    run("train", *flags, cwd=folder)
    out, _ = run_process("predict", "--workdir=odd", cwd=folder, text=b"\n")
    assert set(json.loads(out)["probabilities"]) == {"neg", "pos"}
