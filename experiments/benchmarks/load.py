"""Measure how fast a run answers: the server under many clients and under one, and `predict` beside other libraries.

    ./launch.sh load --workdir=runs/lstm --clients=100 --requests=10000
    ./launch.sh load --workdir=runs/lstm --peers=torch,onnxruntime --texts=85300

Each client has its own connection and sends one text after the other. Clients run on this machine and share its cores
with the server. `predict` and its peers are whole processes, so start and tokenising are included. They read one text
per line and write JSON lines. A peer gets the run's own weights and tokenizer; this works for an `lstm`.
"""

import asyncio
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from experiments import program
from experiments.studies import study as studies
from research.errors import UserError
from research.machine import peak_memory
from research.parallel import device_setup

_NEEDS = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx")}
flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_integer("clients", 100, "Clients at the same time.", lower_bound=1, upper_bound=500)
flags.DEFINE_integer("requests", 10_000, "Requests of all clients together.", lower_bound=1, upper_bound=1_000_000)
flags.DEFINE_integer("texts", 0, "Texts for predict and its peers; 0 leaves predict out.", lower_bound=0)
studies.define_peers(_NEEDS, [])
studies.define_output()
FLAGS = flags.FLAGS
_HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_HEADER = ("what", "a second", "p50, ms", "p99, ms", "not answered", "peak memory, MB")


def main() -> None:
    program.required("workdir")
    if FLAGS.peers and not FLAGS.texts:
        raise UserError("--peers needs texts to predict. Add --texts=NUMBER.")
    studies.require_peers(_NEEDS)
    if FLAGS.peers:
        require_article(FLAGS.workdir)
    from research.data.corpora import load

    start = time.perf_counter()
    reviews = itertools.cycle([" ".join(text.split()) for text in load("rotten_tomatoes").texts])
    rows = [*_serve(reviews), *_predict(list(itertools.islice(reviews, FLAGS.texts)))]
    studies.show(f"Answers of {Path(FLAGS.workdir).name}", _HEADER, rows, time.perf_counter() - start)


def require_article(folder: str) -> None:
    """Raise UserError if the run is not the article's LSTM, the only model that the peers have."""
    from experiments.variants import load_config
    from research.runs.restore import restore
    from research.settings import to_dict

    run = restore(folder)
    if to_dict(run.config)["model"] != to_dict(load_config("lstm"))["model"] or len(run.class_names) != 2:
        raise UserError(f"{folder} is not the `lstm` of two classes that the peers have: leave --peers out")


def _serve(reviews: Iterator[str]) -> Iterator[tuple[str, ...]]:
    """Yield a table row for one client and one for many clients of a server."""
    command = [sys.executable, "-P", "-m", "experiments.serve", f"--workdir={FLAGS.workdir}", "--port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            address = re.match(r"http://127\.0\.0\.1:(\d+) ", line)
            if not address or process.stderr.readline() != "ready\n":
                process.terminate()
                raise UserError(line.strip() + process.stderr.read())
            for clients in dict.fromkeys((1, FLAGS.clients)):
                requests = FLAGS.requests if clients > 1 else min(1000, FLAGS.requests)
                texts = list(itertools.islice(reviews, requests))
                start = time.perf_counter()
                seconds, failed = asyncio.run(ask_all(int(address[1]), texts, clients))
                rate = requests / (time.perf_counter() - start)
                p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
                what, memory = f"requests of a text, {clients} client(s)", peak_memory(process.pid) / 1e6
                yield what, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", str(failed), f"{memory:,.0f}"
        finally:
            process.terminate()


async def ask_all(port: int, texts: list[str], clients: int) -> tuple[list[float], int]:
    """Return the seconds of each request, and the number of requests that were not answered with 200."""
    remaining, seconds, failed = iter(texts), [], 0

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for text in remaining:  # shared by all clients
            body = json.dumps({"texts": [text]}).encode()
            start = time.perf_counter()
            writer.write(_HEAD % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            answer = await reader.readexactly(length)
            seconds.append(time.perf_counter() - start)
            failed += not head.startswith(b"HTTP/1.1 200") or b'"labels"' not in answer
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds, failed


def _predict(texts: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield a table row for each way to predict the texts: ours with both states of the cache, then the peers."""
    if not texts:
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_lines(folder / "texts.txt", texts)
        answers = folder / "ours.jsonl"
        predict = ["-m", "experiments.predict", f"--workdir={FLAGS.workdir}", f"--input={folder / 'texts.txt'}"]
        for caches in ("as they are", "warm"):
            rate = _rate([[*predict, f"--output={answers}", "--overwrite"]], len(texts))
            yield f"texts of predict, ours, compilation cache {caches}", rate, "", "", "", ""
        if FLAGS.peers:
            _write_weights(folder / "weights.npz")
        for peer, processes in itertools.product(FLAGS.peers, dict.fromkeys((1, device_setup.CORES))):
            rate = _rate(_peer_commands(peer, texts, processes, folder), len(texts))
            parts = [(folder / f"texts{i}.jsonl").read_text("utf-8") for i in range(processes)]
            require_equal_answers(answers.read_text("utf-8").split("\n")[:-1], "".join(parts).split("\n")[:-1])
            yield f"texts of predict, {peer}, {processes} process(es)", rate, "", "", "", ""


def _peer_commands(peer: str, texts: list[str], processes: int, folder: Path) -> list[list[str]]:
    """Write a share of the texts for each process of a peer, and return the commands that predict them."""
    share = -(-len(texts) // processes)
    commands = []
    for i in range(processes):
        part = folder / f"texts{i}.txt"
        _write_lines(part, texts[i * share : (i + 1) * share])
        task = {
            "weights": str(folder / "weights.npz"),
            "tokenizer": str(Path(FLAGS.workdir, "tokenizer.json")),
            "texts": str(part),
            "output": str(part.with_suffix(".jsonl")),
            "threads": device_setup.CORES // processes,
        }
        commands.append(["-m", f"experiments.benchmarks.peers.{peer}", "predict", json.dumps(task)])
    return commands


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _rate(commands: list[list[str]], texts: int) -> str:
    """Run the commands side by side, and return how many texts a second they predict."""
    start = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-P", *command], stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError("predict or a peer failed; its message is above")
    return f"{texts / (time.perf_counter() - start):,.0f}"


def _write_weights(path: Path) -> None:
    from flax.traverse_util import flatten_dict

    from research.runs.restore import restore

    params = flatten_dict(restore(FLAGS.workdir).variables["params"], sep="/")
    np.savez(path, **{name: np.asarray(leaf) for name, leaf in params.items()})


def require_equal_answers(ours: list[str], theirs: list[str]) -> None:
    """Raise RuntimeError if a peer predicts otherwise: its speed would be that of another model."""
    for our_line, their_line in zip(ours, theirs, strict=True):
        p, q = list(json.loads(our_line)["probabilities"].values())[1], json.loads(their_line)["probabilities"][1]
        if abs(p - q) > 1e-5:
            raise RuntimeError(f"the peer's probability is {q}, ours {p}: it is another model")


if __name__ == "__main__":
    program.launch(main, trains=None)
