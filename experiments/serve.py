"""Serves runs over HTTP, and a page to try them on.

    ./launch.sh serve --workdir=runs/lstm
    ./launch.sh serve --workdir=runs/lstm,runs/cnn --port=8080
    curl -H 'Content-Type: application/json' -d '{"texts": ["a fine film"]}' http://127.0.0.1:8000/v1/classify

Open http://127.0.0.1:8000 in a browser for the page; /openapi.json describes the interface. SIGTERM and Ctrl-C let it
answer what it has taken. It listens to this machine alone unless --host says otherwise: it asks nobody for a password.
It answers requests to the loopback names, to --host and to --allowed_hosts, and no other name in the Host header.
"""

import functools
import signal
import socket
import sys
import threading

from absl import flags

from experiments import devices, program
from experiments.progress import short_names
from research.errors import UserError, not_installed

flags.DEFINE_list("workdir", None, "Folders of runs; the first answers where a client names none.")
flags.DEFINE_string("host", "127.0.0.1", "The address to listen to.")
flags.DEFINE_integer("port", 8000, "The port to listen to; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_list("allowed_hosts", [], "More names by which clients call this server, such as reviews.example.org.")
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    devices.use_devices(side_by_side=False)
    try:
        from research.serving.http import Limits, application, server
    except ImportError:
        raise not_installed("serve", "starlette uvicorn", "serve") from None
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
    ready = functools.partial(print, "ready", file=sys.stderr, flush=True)
    could_not_compile = threading.Event()

    def failed() -> None:
        could_not_compile.set()
        serving.should_exit = True

    app = application(runs, Limits(), ready, failed, hosts=[FLAGS.host, *FLAGS.allowed_hosts], other_names=names)
    serving = server(app)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server's own stand while it runs, and it raises them again after
    serving.run(sockets=[listening])
    print("stopped", file=sys.stderr)
    if could_not_compile.is_set():
        sys.exit(1)


if __name__ == "__main__":
    program.launch(main, trains=None)
