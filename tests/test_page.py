"""The server's page in a browser, from the keyboard alone."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from research import restore
from tests.test_serve import classify, running

RUN = Path(__file__).parent / "data" / "run"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")


@contextlib.contextmanager
def opened(url, folder):
    """A function that sends a command of the DevTools protocol to the page at `url` and returns its result."""
    (theirs, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    command = [
        "bash",
        "-c",
        f'exec "$0" "$@" 3<&{theirs} 4>&{theirs_out}',
        BROWSER,
        *FLAGS,
        f"--user-data-dir={folder}",
    ]
    command.append(f"--user-data-dir={folder}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(theirs, theirs_out), **quiet)
    os.close(theirs), os.close(theirs_out)
    numbers, session, received = itertools.count(1), {}, b""

    def send(method, **params):
        nonlocal received
        number = next(numbers)
        os.write(ours_out, json.dumps({"id": number, "method": method, "params": params} | session).encode() + b"\0")
        while True:
            while b"\0" not in received:
                received += os.read(ours_in, 1 << 16) or b'{"id": -1}\0'  # it has gone
            message, _, received = received.partition(b"\0")
            message = json.loads(message)
            assert message.get("id") != -1
            if message.get("id") == number:
                return message["result"]

    try:
        target = send("Target.createTarget", url=url)["targetId"]
        session = {"sessionId": send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        yield send
    finally:
        process.kill()
        process.wait()
        os.close(ours_out), os.close(ours_in)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found")
def test_a_text_is_typed_and_answered_without_a_mouse(tmp_path):
    run = restore(RUN)
    with running({"lstm": run, "other": run}) as (host, port), opened(f"http://{host}:{port}/", tmp_path) as send:

        def say(expression):
            return send("Runtime.evaluate", expression=expression)["result"].get("value")

        def until(expression):
            for _ in range(300):
                if say(expression):
                    return
                time.sleep(0.1)
            pytest.fail(f"never {expression}")

        def press(key, code, modifiers=0, **text):
            for kind in ("keyDown", "keyUp"):
                about = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
                send("Input.dispatchKeyEvent", type=kind, **about, **(text if kind == "keyDown" else {}))

        until("document.readyState === 'complete' && document.activeElement.id === 'text'")  # one types at once
        text = "a fine <b>film</b> zyzzyva"
        send("Input.insertText", text=text)
        press("Tab", 9)
        assert say("document.activeElement.id") == "go"
        press("Enter", 13, text="\r")
        until("document.querySelectorAll('#results article').length === 2")
        label = classify((host, port), [text])[1]["labels"][0]
        assert say("[...document.querySelectorAll('h2')].map(h => h.textContent).join()") == "lstm,other"
        assert say("[...document.querySelectorAll('.label')].map(l => l.textContent).join()") == f"{label},{label}"
        words = "[...document.querySelector('.words').children]"
        assert say(f"{words}.map(word => word.textContent).join(' ')") == "a fine film zyzzyva"
        assert say(f"{words}.at(-1).className").endswith("unknown")
        assert say(f"{words}.some(word => word.classList.contains('for') && word.style.backgroundColor)")
        assert say("document.querySelector('[aria-live=polite]').contains(document.querySelector('article'))")
        # Again with Ctrl and Enter from the text, longer than the server takes: it says so.
        say("document.getElementById('text').value = 'x '.repeat(20000); document.getElementById('text').focus()")
        press("Enter", 13, modifiers=2)
        until("document.querySelector('#results .error') !== null")
        assert "20,000" in say("document.querySelector('.error').textContent")
        asked = json.loads(say("JSON.stringify(performance.getEntriesByType('resource').map(entry => entry.name))"))
        assert {url.removeprefix(f"http://{host}:{port}/") for url in asked} == {"v1/models", "v1/classify"}
