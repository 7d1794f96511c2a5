"""The server over real sockets: what it answers, what it refuses, and that no client hurts another."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("uvicorn")

from experiments.printing import short_names
from research import restore
from research.errors import UserError
from research.serving import served_runs
from research.serving.batching import Batcher, Busy, predict_few
from research.serving.request_limits import Limits
from research.serving.server import create_app, create_server

RUN = Path(__file__).parent / "data" / "run"
TEXTS = ["a fine film", "", "two hours of my life <b>lost</b>", "\u7535\u5f71", "x " * 5000]


@pytest.fixture(scope="module")
def run():
    return restore(RUN)


@contextlib.contextmanager
def running(runs, limits=Limits(), until_ready=True, **given):
    """The address of a server in a thread."""
    ready = threading.Event()
    server = create_server(create_app(runs, limits, ready.set, other_names={"runs/other": "other"}, **given))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert not until_ready or ready.wait(60)
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(run):
    with running({"lstm": run, "other": run}) as found:
        yield found


@pytest.fixture
def cold(monkeypatch):
    """Servers say at once that they are ready, and compile when they are asked."""
    monkeypatch.setattr(served_runs, "compile_programs", lambda run, explain: iter(()))


def ask(address, path, body=None, method=None, **headers):
    """`(status, what the JSON says, headers)`; `body` is written as JSON unless it is bytes, and sent as JSON."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    with contextlib.closing(connection):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {n.replace("_", "-"): value for n, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers


def classify(address, texts, **asked):
    return ask(address, "/v1/classify", {"texts": texts} | asked)


def test_it_says_what_the_run_says(address, run):
    status, answer, _ = classify(address, TEXTS)
    assert status == 200
    assert answer["model"] == "lstm"
    expected = run.predict_proba(TEXTS)
    found = [[of_text[name] for name in run.class_names] for of_text in answer["probabilities"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert answer["labels"] == [run.class_names[i] for i in expected.argmax(axis=1)]
    assert classify(address, TEXTS, model="other")[1]["model"] == "other"
    assert classify(address, TEXTS, model="runs/other")[1]["model"] == "other"  # as its folder was given


def test_it_explains_where_it_is_asked_to(address, run):
    status, answer, _ = classify(address, TEXTS[:2], explain=True)
    assert status == 200
    assert [explanation["label"] for explanation in answer["explanations"]] == answer["labels"]
    assert [word["word"] for word in answer["explanations"][0]["words"]] == ["a", "fine", "film"]
    assert "explanations" not in classify(address, TEXTS[:2])[1]


def test_a_text_that_utf_8_cannot_hold_is_answered(address):
    assert classify(address, ["lone \ud800"])[1] == classify(address, ["lone ?"])[1]
    _, answer, _ = classify(address, ["lone \ud800"], explain=True)
    assert answer["explanations"][0]["words"][0]["word"] == "lone"


def test_it_says_what_it_serves(address, run):
    assert ask(address, "/healthz")[:2] == (200, {"status": "alive"})
    assert ask(address, "/readyz")[:2] == (200, {"status": "ready"})
    _, found, _ = ask(address, "/v1/models")
    assert [model["id"] for model in found["models"]] == ["lstm", "other"]
    assert found["models"][0]["classes"] == list(run.class_names)
    for path in ("/", "/v1/models", "/healthz", "/readyz"):
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=30)) as connection:
            connection.request("HEAD", path)
            assert connection.getresponse().status == 200
    assert set(ask(address, "/openapi.json")[1]["paths"]) == {"/v1/classify", "/v1/models", "/healthz", "/readyz"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, 'no list "texts"'),
        (b"null", 422, 'no list "texts"'),
        ({"text": "a fine film"}, 422, 'no list "texts"'),
        ({"texts": "a fine film"}, 422, 'no list "texts"'),
        ({"texts": []}, 422, "0 texts, expected 1 to 256"),
        ({"texts": ["a"] * 257}, 422, "257 texts, expected 1 to 256"),
        ({"texts": ["a"] * 17, "explain": True}, 422, "17 texts, expected 1 to 16 with explanations"),
        ({"texts": ["a", 3]}, 422, "texts[1] is not a string"),
        ({"texts": ["a" * 20_001]}, 422, "texts[0] has 20,001 characters, expected at most 20,000"),
        ({"texts": ["a"], "explain": 1}, 422, '"explain" is neither true nor false'),
        ({"texts": ["a"], "model": "cnn"}, 422, "no such model, expected one of lstm, other"),
        ({"texts": ["a"], "model": ["lstm"]}, 422, "no such model"),
        ({"texts": ["a"], "text": "b"}, 422, 'unknown: "text"; expected texts, explain and model'),
        ({"texts": ["a"], "\ud800": "b"}, 422, 'unknown: "\\ud800"; expected texts, explain and model'),
        ({"texts": [], "explain": True}, 422, "0 texts, expected 1 to 16 with explanations"),
        (b" " * (1 << 20) + b"{}", 413, "more than 1,048,576 bytes"),
    ],
)
def test_what_it_cannot_take_is_refused_in_a_sentence(address, body, status, words):
    found, answer, _ = ask(address, "/v1/classify", body)
    assert found == status
    assert words in answer["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/classify", 405), ("POST", "/none", 404)])
def test_other_addresses_answer_in_json_too(address, method, path, status):
    found, answer, _ = ask(address, path, method=method)
    assert (found, list(answer)) == (status, ["error"])


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.7", ""])
def test_a_name_that_is_not_this_servers_is_refused(address, host):
    for path, body in (("/v1/classify", {"texts": ["a"]}), ("/v1/models", None), ("/", None)):
        status, answer, _ = ask(address, path, body, Host=host)
        assert status == 400
        assert "is not this server's, expected 127.0.0.1, ::1, localhost; --allowed_hosts adds" in answer["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_the_loopback_names_are_this_servers(address, host):
    assert ask(address, "/healthz", Host=host)[0] == 200


def test_a_server_for_all_addresses_trusts_them_and_the_names_that_it_is_given(run, cold):
    with running({"lstm": run}, hosts=["0.0.0.0", "reviews.example.org"]) as address:
        found = {h: ask(address, "/healthz", Host=h)[0] for h in ("10.0.0.7:80", "Reviews.example.org", "evil.example")}
    assert found == {"10.0.0.7:80": 200, "Reviews.example.org": 200, "evil.example": 400}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_what_is_not_said_to_be_json_is_refused(address, kind):
    status, answer, _ = ask(address, "/v1/classify", {"texts": ["a"]}, Content_Type=kind)
    assert status == 415
    assert "application/json" in answer["error"]
    assert ask(address, "/v1/classify", {"texts": ["a"]}, Content_Type="application/json; charset=utf-8")[0] == 200


def test_a_server_that_cannot_compile_ends(run, monkeypatch, caplog):
    def broken(run, explain):
        raise RuntimeError("out of memory")
        yield

    monkeypatch.setattr(served_runs, "compile_programs", broken)
    failed = threading.Event()
    app = create_app({"lstm": run}, on_failure=lambda: (failed.set(), setattr(server, "should_exit", True)))
    server = create_server(app)
    server.run(sockets=[socket.create_server(("127.0.0.1", 0))])  # ends by itself
    assert failed.is_set()
    assert "a program could not be compiled, so the server ends" in caplog.text


class Description:
    """The served OpenAPI document: draws what its schemas allow, and checks what they say."""

    def __init__(self, document):
        self.classify = document["paths"]["/v1/classify"]["post"]
        self._schemas = document["components"]["schemas"]

    def _resolve(self, schema):
        return self._schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def strategy(self, schema):
        """What a schema allows."""
        schema = self._resolve(schema)
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if schema["type"] == "object":
            fields = {name: self.strategy(of) for name, of in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema["required"]}
            return st.fixed_dictionaries(required, optional=fields)
        if schema["type"] == "array":
            return st.lists(self.strategy(schema["items"]), min_size=schema["minItems"], max_size=12)
        return {"string": st.text(max_size=40), "boolean": st.booleans()}[schema["type"]]

    def conforms(self, value, schema):
        """Whether a value is what a schema says."""
        schema = self._resolve(schema)
        if "anyOf" in schema:
            return any(self.conforms(value, one) for one in schema["anyOf"])
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if not isinstance(value, kinds.get(schema["type"], type(None))):
            return False
        if schema["type"] == "array":
            return all(self.conforms(item, schema["items"]) for item in value)
        if schema["type"] == "object" and "properties" in schema:
            return set(schema["required"]) <= set(value) <= set(schema["properties"]) and all(
                self.conforms(of, schema["properties"][name]) for name, of in value.items()
            )
        if schema["type"] == "object":
            return all(self.conforms(of, schema["additionalProperties"]) for of in value.values())
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)


@pytest.fixture(scope="module")
def description(address):
    return Description(ask(address, "/openapi.json")[1])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["texts", "explain", "model", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_sent_is_answered_as_described(address, description, data):
    content = description.classify["requestBody"]["content"]["application/json"]
    body = data.draw(description.strategy(content["schema"]) | json_values | st.binary(max_size=40))
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer, _ = ask(address, "/v1/classify", sent)
    assert status < 500
    response = description.classify["responses"][str(status)]
    assert description.conforms(answer, response["content"]["application/json"]["schema"])
    if isinstance(body, dict) and status == 200:
        assert len(answer["labels"]) == len(body["texts"])


def test_100_clients_at_once_are_all_answered_rightly(address, run):
    random = np.random.default_rng(0)
    words = list(run.vocabulary)
    texts = [" ".join(random.choice(words, 1 + i % 30)) for i in range(300)]
    with ThreadPoolExecutor(100) as clients:
        found = list(clients.map(lambda text: classify(address, [text]), texts))
    assert {status for status, _, _ in found} == {200}
    probabilities = [answer["probabilities"][0]["1"] for _, answer, _ in found]
    np.testing.assert_allclose(probabilities, run.predict_proba(texts)[:, 1], atol=1e-6)


def test_silent_slow_and_broken_clients_are_left_and_hurt_nobody(run, cold):
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 100\r\n\r\n"
    predict_few(run, ["a fine film"])  # compiled, so that half a second is enough
    with running({"lstm": run}, Limits(seconds=0.5)) as address, contextlib.ExitStack() as stack:
        sent = {b"": b"", b"POST /v1/cl": b"", b"nonsense\r\n\r\n": b"400", head + b"{": b"408", head[:-4]: b""}
        sent[b"GET /" + b"x" * 100_000] = b"400"
        clients = [(stack.enter_context(socket.create_connection(address)), start) for start in list(sent) * 10]
        for client, start in clients:
            client.settimeout(10)
            with contextlib.suppress(ConnectionError):
                client.sendall(start)
        for _ in range(3):
            assert classify(address, ["a fine film"])[0] == 200
        for client, start in clients:
            received = b""
            with contextlib.suppress(ConnectionError):
                while part := client.recv(1 << 16):  # until it is closed by the server
                    received += part
            assert received.split(b" ")[1:2] == ([sent[start]] if sent[start] else [])


def test_when_too_much_waits_it_says_so(run, cold):
    with running({"lstm": run}, Limits(waiting_texts=2)) as address:
        status, answer, headers = classify(address, ["a", "b", "c"])
        assert (status, headers["Retry-After"]) == (429, "1")
        assert "too many texts are waiting" in answer["error"]
        assert classify(address, ["a", "b"])[0] == 200
    with running({"lstm": run}, Limits(requests=0)) as address:
        assert classify(address, ["a"])[0] == 429


def test_an_answer_that_takes_too_long_is_given_up(run, cold, monkeypatch):
    monkeypatch.setattr(served_runs, "predict_few", lambda run, texts: time.sleep(0.6) or predict_few(run, texts))
    with running({"lstm": run}, Limits(seconds=0.3)) as address:
        status, answer, _ = classify(address, ["a"])
        assert (status, answer["error"]) == (504, "no answer within 0.3 seconds; send fewer texts")


def test_a_mistake_of_ours_is_logged_without_what_was_asked(run, cold, monkeypatch, caplog):
    def broken(run, texts):
        raise ValueError(f"cannot read {texts[0]}")

    monkeypatch.setattr(served_runs, "predict_few", broken)
    with running({"lstm": run}) as address:
        status, answer, _ = classify(address, ["a private matter"])
    assert status == 500
    assert "log" in answer["error"]
    assert "ValueError at " in caplog.text
    assert "private" not in caplog.text + json.dumps(answer)


def test_it_is_not_ready_before_all_is_compiled(run, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(served_runs, "compile_programs", lambda run, explain: iter(lambda: go_on.wait(30), True))
    with running({"lstm": run}, until_ready=False) as address:
        assert ask(address, "/healthz")[0] == 200
        assert ask(address, "/readyz")[0] == 503
        assert classify(address, ["a"])[0] == 503
        go_on.set()


def test_what_waits_is_answered_together_within_bounds():
    asked = []

    def answer(texts):
        asked.append(len(texts))
        time.sleep(0.05)
        if "bad" in texts:
            raise ValueError
        return [text.upper() for text in texts]

    async def scenario():
        batcher = Batcher(answer, ThreadPoolExecutor(1), max_texts=4, wait_seconds=0.02, max_waiting_texts=12)
        work = asyncio.get_running_loop().create_task(batcher.run())
        first = await asyncio.gather(*(batcher.ask([letter]) for letter in "abc"))
        assert (first, asked) == ([["A"], ["B"], ["C"]], [3])
        asked.clear()
        given_up = asyncio.ensure_future(batcher.ask(["x"]))
        await asyncio.sleep(0)
        given_up.cancel()
        waiting = [asyncio.ensure_future(batcher.ask(list(texts))) for texts in ("abc", "de", "fghij")]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.ask(["k", "l"])
        assert [await future for future in waiting] == [["A", "B", "C"], ["D", "E"], ["F", "G", "H", "I", "J"]]
        assert asked == [3, 2, 5]  # no batch has more than 4, but for the request that is more by itself
        with pytest.raises(ValueError):
            await batcher.ask(["bad"])
        assert await batcher.ask(["fine"]) == ["FINE"]
        work.cancel()

    asyncio.run(scenario())


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    folders = [str(tmp_path / name) for name in ("a/lstm", "a/cnn", "b/lstm", "a/gru/fold0-repeat0")]
    assert short_names(folders[:2]) == ["lstm", "cnn"]
    assert short_names(folders[:3]) == ["a/lstm", "a/cnn", "b/lstm"]
    assert short_names(folders[3:]) == ["gru/fold0-repeat0"]
    with pytest.raises(UserError, match="twice"):
        short_names([folders[0], folders[0]])


@pytest.mark.extra
def test_sigterm_lets_it_answer_what_it_has_taken():
    command = [sys.executable, "-P", "-m", "experiments.serve", f"--workdir={RUN}", "--port=0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        where = process.stderr.readline()
        assert process.stderr.readline() == "ready\n"
        host, port = where.split()[0].removeprefix("http://").split(":")
        text = "a private matter " * 30
        body = json.dumps({"texts": [text] * 16, "explain": True}).encode()
        with socket.create_connection((host, int(port)), timeout=30) as client:
            head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(json.loads(answer.split(b"\r\n\r\n", 1)[1])["explanations"]) == 16
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert err == "stopped\n"
        assert "private" not in out + err + where


@pytest.mark.extra
def test_a_port_that_is_taken_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-P", "-m", "experiments.serve", f"--workdir={RUN}"]
        port = taken.getsockname()[1]
        done = subprocess.run([*command, f"--port={port}"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"--host=127.0.0.1 --port={port}: cannot listen there")
