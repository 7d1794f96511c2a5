"""What the load test can promise without a server of ours. In a process of its own: the flags of programs meet."""

import json
import subprocess
import sys

import pytest

CODE = """
import asyncio
import contextlib
import json
from types import SimpleNamespace

from experiments.benchmarks import load
from experiments.variants import load_config
from research.errors import UserError
from research.models import config_from_dict
from research.runs import restore
from research.settings import to_dict


def message_of(function, *arguments):
    try:
        function(*arguments)
    except (UserError, RuntimeError) as error:
        return str(error)


def check_run(*overrides):
    saved = config_from_dict(to_dict(load_config("lstm", overrides)))
    restore.restore = lambda folder: SimpleNamespace(config=saved, class_names=("a", "b"))
    return message_of(load.require_article, "run")


async def answer(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):  # the client has no more texts
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
            text = json.loads(await reader.readexactly(length))["texts"][0]
            status, body = ("200 OK", b'{"labels": ["a"]}') if text != "bad" else ("429 Too Many Requests", b"{}")
            writer.write(f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
    writer.close()


async def ask(texts, clients):
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        seconds, failed = await load.ask_all(port, texts, clients)
    return len(seconds), failed, min(seconds) > 0


def line(p):
    return json.dumps({"probabilities": {"a": 1 - p, "b": p}})


def peer_line(p):
    return json.dumps({"probabilities": [1 - p, p]})


print(json.dumps({
    "article": check_run(),
    "other size": check_run("--config.model.hidden_size=8"),
    "same answers": message_of(load.require_equal_answers, [line(0.25), line(0.5)], [peer_line(0.25), peer_line(0.5)]),
    "other answers": message_of(load.require_equal_answers, [line(0.25)], [peer_line(0.5)]),
    "asked": asyncio.run(ask(["good"] * 5 + ["bad"] * 2, 3)),
}))
"""


@pytest.fixture(scope="module")
def results():
    done = subprocess.run([sys.executable, "-P", "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_peers_are_measured_only_beside_the_articles_lstm(results):
    assert results["article"] is None
    assert results["other size"] == "run is not the `lstm` of two classes that the peers have: leave peers out"


def test_a_peer_that_computes_something_else_is_refused(results):
    assert results["same answers"] is None
    assert results["other answers"] == "the peer's probability is 0.5, ours 0.25: it is another model"


def test_every_text_is_asked_once_and_refusals_are_counted(results):
    requests, failed, is_timed = results["asked"]
    assert (requests, failed) == (7, 2)
    assert is_timed
