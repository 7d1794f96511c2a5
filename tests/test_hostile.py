"""Whatever a user hands over is accepted or refused in one sentence: files, settings, command lines.

A sample; `HOSTILE=2000 ./launch.sh test tests/test_hostile.py -n0 -s` tries so many of each and says how they fared.
"""

import json
import os
import shutil

import hypothesis.strategies as st
import jax
import pytest
from hypothesis import HealthCheck, given, settings

from experiments.variants import every_variant, load_config
from research.data.corpora import load
from research.data.read_options import ReadOptions
from research.data.splits import resolve_folds
from research.errors import UserError
from research.runs import run_files
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import train
from research.settings import leaves
from research.settings_validation import choices_of
from research.training.programs import programs_for
from tests.comparing import compare_into

TRIED = int(os.environ.get("HOSTILE", "60"))
many = settings(max_examples=TRIED, suppress_health_check=list(HealthCheck))
few = settings(max_examples=max(3, TRIED // 40), suppress_health_check=list(HealthCheck))
SMALL = ("--config.training.epochs=1", "--config.model.embedding_size=4", "--config.model.layers=1")


def is_sentence(error):
    return len(str(error)) > 10 and "\n" not in str(error).strip() and "Traceback" not in str(error)


texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "",
            " ",
            "\u200b",
            "\x00",
            "&amp;&#0;&#x110000;",
            "<p>",
            "[PAD] [UNK]",
            "\ud800".encode("utf-8", "replace").decode(),
        ]
    ),
    st.sampled_from(["ab " * 3000, "x" * 20000, "好" * 500, "e\u0301" * 200, "\U0001f600" * 50]),
)
labels = st.one_of(
    st.sampled_from("01"),
    st.sampled_from("01"),
    st.sampled_from(["neg", "pos", " 1", "-1", "1.0", "1e3", "", "nan", "a b", "ü", "CON", "../x", "\u202e"]),
    st.integers().map(str),
)
breaks = st.sampled_from(["\n"] * 6 + ["\r\n", "\r\n", "\n\n", "\r", "\u2028"])
encodings = st.sampled_from(["utf-8"] * 9 + ["utf-8-sig", "utf-16", "gb18030"])


@st.composite
def contents(draw, suffix):
    """The bytes of a file: rows, in some form, perhaps damaged."""
    some = draw(st.lists(texts, min_size=1, max_size=8))
    names = draw(st.lists(labels, min_size=draw(st.sampled_from([2, 2, 2, 1])), max_size=5, unique=True))
    many = draw(st.sampled_from([40, 40, 40, 20, 2, 1, 0]))
    rows = [(f"{some[i % len(some)]} {i}", names[i % len(names)]) for i in range(many)]
    tab = draw(st.sampled_from(["\t"] * 12 + [",", " ", "\t\t"]))
    if suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    elif suffix == ".csv":
        lines = ["text,label", *('"{}",{}'.format(text.replace('"', '""'), label) for text, label in rows)]
    else:
        clean = str.maketrans(dict.fromkeys("\t\n\r", " "))
        lines = [f"{text.translate(clean)}{tab}{label}" for text, label in rows]
    content = draw(breaks).join([*lines, ""]).encode(draw(encodings), "replace")
    if draw(st.integers(0, 7)) == 7:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=20)) + content[at + draw(st.integers(0, 50)) :]
    return content


@st.composite
def corpora(draw, folder):
    """Writes a file, or a folder of them, and gives its path."""
    suffix = draw(st.sampled_from([".tsv", ".txt", ".csv", ".jsonl"] * 3 + [".TSV", ".xlsx"]))
    names = draw(st.sampled_from([None] * 6 + [("train",), ("train", "test"), ("train", "val", "test"), ("test",)]))
    for path in folder.iterdir():
        path.unlink()
    for name in names or ("all",):
        (folder / f"{name}{suffix}").write_bytes(draw(contents(suffix.lower())))
    return folder if names else folder / f"all{suffix}"


@pytest.fixture(scope="module")
def fared():
    """How many were accepted and refused, by what they were."""
    counts = {}
    yield counts
    print(f"\n{counts}")


def count(fared, what, outcome):
    fared[what, outcome] = fared.get((what, outcome), 0) + 1


@many
@given(data=st.data())
def test_any_file_is_split_and_encoded_or_refused(data, fared, tmp_path_factory):
    path = data.draw(corpora(tmp_path_factory.mktemp("hostile")))
    folds = data.draw(st.sampled_from([None] * 6 + [2, 3, 0, -1, 10**9]))
    try:
        corpus = load(path, ReadOptions(group=data.draw(st.sampled_from([""] * 9 + ["label"]))))
        for tokens in ("words", "characters"):
            config = load_config("lstm", [f"--config.data.tokens={tokens}"])
            prepared = prepare_texts(RunSpec(config, corpus, resolve_folds(corpus, folds), 0, 0))
            assert len(prepared.train.labels) > 0
        count(fared, "files", "accepted")
    except UserError as error:
        assert is_sentence(error), error
        count(fared, "files", "refused")


@few
@given(data=st.data())
def test_what_is_accepted_can_be_trained_on(data, fared, tmp_path_factory):
    path = data.draw(corpora(tmp_path_factory.mktemp("hostile")))
    try:
        corpus = load(path)
        train(load_config("mlp", SMALL), corpus, tmp_path_factory.mktemp("out") / "run")
        count(fared, "trainings", "accepted")
    except UserError as error:
        assert is_sentence(error), error
        count(fared, "trainings", "refused")


values = st.one_of(
    st.integers(-3, 300).map(str),
    st.sampled_from(
        ["", "0", "-0.0", "1e-3", "nan", "inf", "-inf", "1e400", "true", "no", "none", "None", "0x10", "1_0"]
    ),
    st.sampled_from(
        [str(2**31), str(2**63), "9" * 400, "(1,2)", "(1,)", "()", "[1]", "(3,'a')", "{}", "lambda: 0", "a=b", "ü"]
    ),
    st.text(max_size=8),
)


@many
@given(data=st.data())
def test_any_setting_is_built_or_refused(data, fared):
    """Built: parameters, and a forward pass, as shapes."""
    variant = data.draw(st.sampled_from(every_variant()))
    fields = {name: field for name, field, _ in leaves(load_config(variant))}
    overrides = []
    for name in data.draw(st.lists(st.sampled_from([*fields, "model", "data.", "seed.x", "nothing"]), max_size=4)):
        choices = choices_of(fields[name]) if name in fields else ()
        drawn = data.draw(st.one_of(values, st.sampled_from(choices)) if choices else values)
        overrides.append(f"--config.{name}={drawn}")
    try:
        config = load_config(variant, overrides)
        compiled = programs_for(config, data.draw(st.sampled_from([2, 3])))
        ids, lengths = jax.ShapeDtypeStruct((2, 16), "int32"), jax.ShapeDtypeStruct((2,), "int32")
        variables = jax.eval_shape(compiled.init, jax.random.key(0), ids, lengths)
        apply = jax.jit(compiled.module.apply, static_argnames="deterministic")
        logits = jax.eval_shape(lambda *a: apply(*a, deterministic=True), variables, ids, lengths)
        assert logits.shape == (2, compiled.module.num_outputs)
        count(fared, "settings", "accepted")
    except UserError as error:
        assert is_sentence(error), error
        count(fared, "settings", "refused")


FLAGS = {
    "train": ("config", "workdir", "folds", "fold", "repeat", "devices", "overwrite", "clean", "text_column"),
    "compare": ("variants", "workdir", "repeats", "vary", "drop", "pairs", "margin", "baseline", "tuned", "until"),
    "evaluate": ("workdir", "corpus", "split", "text_column", "group_column"),
    "predict": ("workdir", "input", "output"),
    "report": ("workdir", "baseline", "margin", "pairs", "tensorboard"),
    "tune": ("variants", "workdir", "trials", "seed", "repeats"),
}
# What makes most lines end well, unless another word comes before it or after it.
GOOD = {
    "train": ["--corpus=small.tsv", "--folds=2", *SMALL, "--workdir=out"],
    "compare": ["--variants=mlp", "--corpus=small.tsv", "--folds=2", *SMALL, "--workdir=out"],
    "evaluate": ["--workdir=run"],
    "predict": ["--workdir=run", "--input=small.tsv"],
    "report": ["--workdir=comparison"],
    "tune": ["--variants=mlp", "--corpus=small.tsv", "--folds=2", "--trials=2", *SMALL, "--workdir=out"],
}
WORDS = st.one_of(
    st.sampled_from(["small.tsv", "nothing.tsv", ".", "out", "run", "comparison", "broken.tsv", "/dev/null", ""]),
    st.sampled_from(["mlp", "linear", "lstm:x", "mlp,linear", "mlp,mlp", "../mlp", "test", "train", "decided", "all"]),
    st.sampled_from(["seed=1,2", "model.embedding_size=4,8", "x=1", "seed", "0", "-1", "2", "nan", "1e9", "true", "ü"]),
    values,
)


@st.composite
def command_lines(draw, name):
    line = []
    for flag in draw(st.lists(st.sampled_from(FLAGS[name]), max_size=3, unique=True)):
        word = draw(WORDS)
        if flag in ("workdir", "output"):
            word = draw(st.sampled_from(["out", "run", "comparison", "small.tsv", "", "out/deeper", "small.tsv/x"]))
        if (flag, word) != ("variants", "all"):  # which takes its time
            line.append(f"--{flag}={word}")
    stray = st.sampled_from(["stray", "--nothing", "--", "-x", "--config.seed", "--config.seed=ü", "--noclean"])
    line += draw(st.lists(stray, max_size=draw(st.sampled_from([0, 0, 1]))))
    line = [*GOOD[name], *line] if draw(st.integers(0, 3)) else [*line, *GOOD[name]]
    return [word for word in line if "\x00" not in word]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Where the user stands: files, a run and a comparison."""
    folder = tmp_path_factory.mktemp("ground")
    (folder / "small.tsv").write_text("".join(f"text number {i}\t{i % 2}\n" for i in range(20)))
    (folder / "broken.tsv").write_bytes(b"\xff\xfe\x00")
    train(load_config("mlp", SMALL), folder / "small.tsv", folder / "run", folds=2)
    compare_into(folder / "comparison", {"mlp": load_config("mlp", SMALL)}, folder / "small.tsv", folds=2)
    return folder


@pytest.mark.parametrize("name", FLAGS)
def test_any_command_line_is_done_or_refused(name, fared, ground, ask):
    """Nothing is written beside the folder that was named."""
    before = {path.name for path in ground.iterdir()}

    @settings(max_examples=max(5, TRIED // 4), suppress_health_check=list(HealthCheck))
    @given(command_lines(name))
    def check(line):
        code, said, there = ask(name, ground, line)
        assert code in (0, 2), (line, code, said)
        if code == 2:
            assert is_sentence(said.strip().splitlines()[-1]), said
        assert "Traceback" not in said
        assert set(there) <= before | {"out"}, there
        count(fared, name, "done" if code == 0 else "refused")

    check()
    if (ground / "out").is_file():  # what predict wrote
        (ground / "out").unlink()
    shutil.rmtree(ground / "out", ignore_errors=True)


def write(path, rows):
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows))
    return path


def test_a_thousand_classes(tmp_path):
    path = write(tmp_path / "many.tsv", ((f"text {i} on topic{i % 1000}", f"class {i % 1000}") for i in range(4000)))
    folder = train(load_config("mlp", SMALL), path, tmp_path / "run")
    assert run_files.read_predictions(folder).probabilities.shape[1] == 1000


@pytest.mark.parametrize(("rows", "said"), [(2, "has only one text"), (4, "no text can be spared")])
def test_too_few_texts_to_say_anything(tmp_path, rows, said):
    path = write(tmp_path / "few.tsv", ((f"text {i}", i % 2) for i in range(rows)))
    with pytest.raises(UserError, match=said):
        train(load_config("mlp", SMALL), path, tmp_path / "run", folds=2)
    assert not (tmp_path / "run").exists()
