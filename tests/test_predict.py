"""Predictions over files: every kind of input and output, in order, in bounded memory, by the run that tests keep."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from research import restore
from research.data.formats import separated, text_lines
from research.data.read_options import ReadOptions
from research.data.reader import find_reading
from research.errors import UserError
from research.parallel import device_setup
from research.serving.prediction_files import (
    MAX_CHUNK_TEXTS,
    Input,
    InputText,
    read_file,
    read_stream,
    split_into_chunks,
    to_jsonl,
)
from research.serving.prediction_stream import OutputFormat, Predictor, predict_here

RUN = Path(__file__).parent / "data" / "run"
TEXTS = ["a fine film", "", "tab\there", '"quoted", with commas', "\u7535\u5f71 <b>bad</b>", "two hours of my life"]


@pytest.fixture(scope="module")
def run():
    return restore(RUN)


@pytest.fixture
def read(tmp_path):
    """Return a function that reads the texts of a file with this suffix and content."""

    def read_content(content, suffix=".txt", column=""):
        (tmp_path / f"texts{suffix}").write_bytes(content)
        source = read_file(find_reading(tmp_path / f"texts{suffix}", ReadOptions(column), labelled=False))
        return [item.text for item in source.texts]

    return read_content


@hypothesis.given(
    st.lists(st.tuples(st.text(), st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2)), min_size=1),
    st.lists(st.text(), min_size=2, max_size=2, unique=True),
    st.booleans(),
)
def test_a_line_is_what_the_json_library_writes(found, class_names, explained):
    texts, rows = zip(*found, strict=True)
    probabilities = np.array(rows, np.float32)
    explanations = [{"words": [text, 0.5]} for text in texts] if explained else []
    expected = ""
    for i, (text, row) in enumerate(zip(texts, probabilities, strict=True)):
        of_classes = dict(zip(class_names, row.tolist(), strict=True))
        answer = {"text": text, "label": class_names[row.argmax()], "probabilities": of_classes}
        answer |= {"explanation": explanations[i]} if explained else {}
        expected += json.dumps(answer, ensure_ascii=False) + "\n"
    assert to_jsonl(texts, probabilities, class_names, explanations) == expected


def as_csv(texts, column="text"):
    written = io.StringIO()
    csv.writer(written).writerows([["id", column], *([i, text] for i, text in enumerate(texts))])
    return written.getvalue().encode()


def test_a_column_of_texts_is_read_from_csv_and_jsonl(read):
    texts = [*TEXTS, "two\nlines"]
    assert read(b"\xef\xbb\xbf" + as_csv(texts, "review"), ".csv", "review") == texts
    jsonl = "\n".join(json.dumps({"review": text, "id": 1}) for text in texts)
    assert read(b"\xef\xbb\xbf" + jsonl.encode(), ".jsonl", "review") == texts
    assert read(b'{"text": "lone \\ud800"}', ".jsonl") == ["lone ?"]


def test_the_label_of_a_corpus_is_no_part_of_its_text(read):
    assert read(b"a fine film\t1\r\ndull\t0\n", ".tsv") == ["a fine film", "dull"]
    assert read(b"a fine film\t1\r\ndull\t0\n", ".txt") == ["a fine film", "dull"]
    assert read(b"a tab\there\nand none here\n") == ["a tab\there", "and none here"]


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".txt", b"good\nbad\xff\n", "texts.txt:2: byte 0xff is not UTF-8. The file is probably cp1252"),
        (".csv", b"id,x\n1,2\n2,4\n3,5\n", "texts.csv:1: no column 'text'. Columns: id, x. Use --text_column=NAME"),
        (".csv", b"id,text\n1,good\n2\n", "texts.csv:3: fewer cells than the first row has: 1, expected 2"),
        (".csv", b'text\n"good\n', "texts.csv:2: a cell opens with a quote on this line and is not closed"),
        (".jsonl", b'{"text": "good"}\n{"text": 3}\n', "texts.jsonl:2: 'text' is a int, expected a string"),
        (".jsonl", b'{"text": "good"}\n{"text": null}\n', "texts.jsonl:2: no text; --drop_missing leaves out rows"),
        (".jsonl", b'{"text": "good"}\n3\n', "texts.jsonl:2: a JSON int, expected an object"),
        (".jsonl", b'{"text": "good"\n', "texts.jsonl:1: not JSON"),
    ],
)
def test_a_mistake_names_its_line(read, suffix, content, words):
    with pytest.raises(UserError) as mistake:
        read(content, suffix)
    assert words in mistake.value.message


def test_a_quote_without_end_is_refused_before_it_fills_the_memory(read, monkeypatch):
    monkeypatch.setattr(separated, "MAX_LINE_BYTES", 1000)
    with pytest.raises(UserError, match=r"texts\.csv:2: a cell opens with a quote on this line and is not closed"):
        read(b'text\n"' + b"good\n" * 1000, ".csv")


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch):
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = b"x" * len(buffer)
            self.given += len(buffer)
            return len(buffer)

    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 1 << 20)
    source = Endless()
    with pytest.raises(UserError, match="standard input: a line of more than 1,048,576 bytes"):
        list(read_stream(io.BufferedReader(source), "standard input").texts)
    assert source.given < 1 << 21


def predict(texts, output_format, max_texts=MAX_CHUNK_TEXTS):
    """Return the chunks of the texts, and everything that is written for them."""
    chunks = split_into_chunks(Input(InputText(text, i) for i, text in enumerate(texts)), max_texts)
    outputs = list(predict_here(Predictor(RUN), chunks, output_format))
    return [chunk for chunk, _ in outputs], "".join(written for _, written in outputs)


def probabilities_of(written):
    return [list(json.loads(line)["probabilities"].values()) for line in written.splitlines()]


@pytest.mark.parametrize("chunk", [1, 4, 2048])
def test_the_answers_stand_in_the_order_of_the_texts_whatever_the_chunks(run, chunk):
    texts = TEXTS * 3
    chunks, written = predict(texts, OutputFormat(), chunk)
    assert [text for of_chunk in chunks for text in of_chunk.texts] == texts
    assert [of_chunk.end for of_chunk in chunks] == [*range(chunk - 1, len(texts) - 1, chunk), len(texts) - 1]
    np.testing.assert_allclose(probabilities_of(written), run.predict_proba(texts), atol=1e-6)


def test_of_no_texts_there_is_a_table_without_rows():
    assert predict([], OutputFormat(csv=True))[1] == "text,label,probability_0,probability_1\n"
    assert predict([], OutputFormat())[1] == ""


def test_no_more_texts_are_read_than_a_few_chunks():
    """However many come: the input is read as the answers are taken."""
    read = []

    def endless():
        while True:
            read.append(1)
            yield InputText("a fine film", len(read))

    found = predict_here(Predictor(RUN), split_into_chunks(Input(endless()), 8), OutputFormat())
    for done in range(1, 6):
        next(found)
        assert len(read) <= 8 * (done + 2 * len(jax.local_devices()))
    found.close()


def test_csv_and_json_lines_say_the_same(run):
    answers = [json.loads(line) for line in predict(TEXTS, OutputFormat())[1].splitlines()]
    rows = list(csv.DictReader(io.StringIO(predict(TEXTS, OutputFormat(csv=True))[1], newline="")))
    assert [row["text"] for row in rows] == [answer["text"] for answer in answers] == TEXTS
    for row, answer, probabilities in zip(rows, answers, run.predict_proba(TEXTS), strict=True):
        assert row["label"] == answer["label"] == "01"[probabilities.argmax()]
        for name, p in zip("01", probabilities.tolist(), strict=True):
            assert float(row[f"probability_{name}"]) == answer["probabilities"][name] == pytest.approx(p, abs=1e-6)


@pytest.fixture(scope="module")
def long_input(tmp_path_factory):
    """Texts for two processes, and their file."""
    texts = [f"{text or 'dull'} {i}" for i, text in enumerate(TEXTS * 20_000)]
    path = tmp_path_factory.mktemp("long") / "texts.txt"
    path.write_text("\n".join([*texts, ""]), encoding="utf-8")
    assert path.stat().st_size > 2 << 20  # a process for each MiB
    return texts, path


def start(path, run=RUN):
    command = [sys.executable, "-P", "-m", "experiments.predict", f"--workdir={run}", f"--input={path}"]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def members(group):
    """The processes of a group that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, of = status.read_text().rpartition(")")[2].split()[:3]
            found += [status.parent.name] if int(of) == group and state != "Z" else []
    return found


@pytest.mark.extra
@pytest.mark.skipif(device_setup.CORES < 2, reason="processes are a core each")
def test_processes_say_what_threads_say_in_the_same_order(long_input):
    texts, path = long_input
    with start(path) as process:
        written, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    answers = [json.loads(line) for line in written.splitlines()]
    assert [answer["text"] for answer in answers] == texts
    some = slice(None, None, 997)
    of_one = probabilities_of(predict(texts[some], OutputFormat())[1])
    np.testing.assert_allclose([list(answer["probabilities"].values()) for answer in answers[some]], of_one, atol=1e-6)


@pytest.mark.extra
@pytest.mark.skipif(device_setup.CORES < 2 or not Path("/proc").is_dir(), reason="processes are a core each")
def test_nothing_is_left_of_a_killed_program(long_input):
    process = start(long_input[1])
    with process:
        assert process.stdout.readline().startswith('{"text"')  # and then nobody reads: all wait for one another
        assert len(members(process.pid)) > 2
        process.kill()
    deadline = time.monotonic() + 60
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)


@pytest.mark.extra
@pytest.mark.skipif(device_setup.CORES < 2 or not Path("/proc").is_dir(), reason="processes are a core each")
def test_a_lost_process_is_one_sentence(long_input):
    with start(long_input[1]) as process:
        assert process.stdout.readline().startswith('{"text"')
        os.kill(max(map(int, set(members(process.pid)) - {str(process.pid)})), signal.SIGKILL)
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert said.startswith("one of 2 processes was lost")


@pytest.mark.extra
@pytest.mark.skipif(device_setup.CORES < 2, reason="processes are a core each")
def test_what_is_wrong_with_a_run_is_one_sentence_from_processes_too(long_input, tmp_path):
    with start(long_input[1], run=tmp_path) as process:
        written, said = process.communicate(timeout=300)
    assert (process.returncode, written, said.count("\n")) == (2, "", 1)
    assert said.startswith(str(tmp_path))


def test_the_program_reads_and_writes_csv(run, tmp_path):
    (tmp_path / "texts.csv").write_bytes(as_csv(TEXTS, "review"))
    command = [sys.executable, "-P", "-m", "experiments.predict", f"--workdir={RUN}", "--input=texts.csv"]
    flags = ("--text_column=review", "--output=labels.csv")
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "labels.csv: 6 texts" in done.stderr
    rows = list(csv.DictReader((tmp_path / "labels.csv").open(newline="", encoding="utf-8")))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["id"] for row in rows] == list("012345")  # the other columns of the input
    np.testing.assert_allclose([float(row["probability_1"]) for row in rows], run.predict_proba(TEXTS)[:, 1], atol=1e-6)
    assert not (tmp_path / "labels.csv.part").exists()
