"""Serve runs over HTTP, and a page to try them on.

    ./launch.sh serve --workdir=runs/lstm
    ./launch.sh serve --workdir=runs/lstm,runs/cnn --port=8080
    curl -H 'Content-Type: application/json' -d '{"texts": ["a fine film"]}' http://127.0.0.1:8000/v1/classify

Open http://127.0.0.1:8000 in a browser for the page; /openapi.json describes the interface. On SIGTERM or Ctrl-C the
server answers the requests at hand and ends. It asks for no password, so it is reachable from this machine alone unless
--host says otherwise. The Host header must be a loopback name, --host, or one of --allowed_hosts.
"""

import functools
import signal
import socket
import sys
import threading

from absl import flags

from experiments import program
from experiments.printing import short_names
from research.errors import UserError, not_installed
from research.parallel import device_setup

flags.DEFINE_list("workdir", None, "Folders of runs; the first answers requests that name no model.")
flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
flags.DEFINE_integer("port", 8000, "The port to listen on; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_list("allowed_hosts", [], "More names by which clients call this server, such as reviews.example.org.")
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    device_setup.use_devices()
    try:
        from research.serving.server import create_app, create_server
    except ImportError:
        raise not_installed("serve", "fastapi uvicorn", "serve") from None
    from research.runs.restore import restore

    names = dict(zip(FLAGS.workdir, short_names(FLAGS.workdir), strict=True))
    runs = {name: restore(folder) for folder, name in names.items()}
    family = socket.AF_INET6 if ":" in FLAGS.host else socket.AF_INET
    try:
        listening = socket.create_server((FLAGS.host, FLAGS.port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(f"--host={FLAGS.host} --port={FLAGS.port}: cannot listen there ({error.strerror})") from error
    host = f"[{FLAGS.host}]" if ":" in FLAGS.host else FLAGS.host
    address = f"http://{host}:{listening.getsockname()[1]}"
    print(f"{address} serves {', '.join(runs)} once their programs are compiled", file=sys.stderr, flush=True)
    could_not_compile = threading.Event()

    def on_failure() -> None:
        could_not_compile.set()
        server.should_exit = True

    app = create_app(
        runs,
        on_ready=functools.partial(print, "ready", file=sys.stderr, flush=True),
        on_failure=on_failure,
        hosts=[FLAGS.host, *FLAGS.allowed_hosts],
        other_names=names,
    )
    server = create_server(app)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server has its own handlers while it runs, and raises again after
    server.run(sockets=[listening])
    print("stopped", file=sys.stderr)
    if could_not_compile.is_set():
        sys.exit(1)


if __name__ == "__main__":
    program.launch(main, trains=None)
