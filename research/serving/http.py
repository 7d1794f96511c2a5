"""The server: runs that answer over HTTP, in batches, within limits."""

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from research.runs.restore import RestoredRun
from research.serving.batching import ROWS, Batcher, Busy, predict_few, warm
from research.serving.explain import explainer
from research.serving.hosts import LOOPBACK, TrustedHosts
from research.serving.openapi import describe

_log = logging.getLogger(__name__)
_WAIT = 0.002  # seconds that a batch which is not full waits for more
_DRAIN_SECONDS = 20  # in which what was taken is answered when the server is told to end
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Limits(NamedTuple):
    """What a client may ask for."""

    body: int = 1 << 20  # bytes
    texts: int = 256  # a request
    explained_texts: int = 16  # a request with "explain"
    characters: int = 20_000  # a text
    requests: int = 512  # at once
    waiting: int = 8192  # texts, of all requests to a run
    seconds: float = 10.0  # to send a request, and again to wait for its answer


class Served(NamedTuple):
    """A run that answers."""

    run: RestoredRun
    about: dict[str, Any]
    predict: Batcher
    explain: Batcher


def application(
    runs: dict[str, RestoredRun],
    limits: Limits = Limits(),
    ready: Callable[[], None] = lambda: None,
    failed: Callable[[], None] = lambda: None,
    *,
    hosts: Collection[str] = (),
    other_names: Mapping[str, str] = MappingProxyType({}),
) -> Starlette:
    """The ASGI application.

    Args:
      runs: by the name that clients call them by; the first answers where none is called.
      limits: what is refused.
      ready: called when all programs are compiled.
      failed: called when a program cannot be compiled; the server is then of no use.
      hosts: names by which this server is called, besides those of `LOOPBACK`; see `TrustedHosts`.
      other_names: by which clients may call runs as well -> the name that they have.
    """
    is_ready, is_leaving = threading.Event(), threading.Event()
    # One thread predicts and one explains, so that the long work does not stand before the short.
    predicts, explains = ThreadPoolExecutor(1, "predict"), ThreadPoolExecutor(1, "explain")
    served: dict[str, Served] = {}
    warming: list[Iterator[Any]] = []
    for name, run in runs.items():
        explain = explainer(run)
        served[name] = Served(
            run,
            about(name, run),
            Batcher(functools.partial(predict_few, run), predicts, most=ROWS[-1], wait=_WAIT, room=limits.waiting),
            Batcher(functools.partial(_each, explain), explains, most=1, wait=0.0, room=4 * limits.explained_texts),
        )
        warming.append(_warm(run, explain))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def warm_all() -> None:
            try:
                for _ in itertools.chain.from_iterable(warming):
                    if is_leaving.is_set():
                        return
            except Exception:  # noqa: BLE001 - whatever it is, without programs there are no answers; no text is in it
                _log.exception("a program could not be compiled, so the server ends")
                failed()
                return
            is_ready.set()
            ready()

        work = [loop.create_task(batcher.run()) for one in served.values() for batcher in (one.predict, one.explain)]
        warmed = loop.run_in_executor(predicts, warm_all)
        yield
        is_leaving.set()
        for task in work:
            task.cancel()
        await warmed
        for pool in (predicts, explains):
            pool.shutdown()

    async def classify(request: Request) -> Response:
        if not is_ready.is_set():
            raise HTTPException(503, "not ready yet: the programs are being compiled")
        # Of JSON alone a browser asks this server first before another site's page may send it.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the Content-Type is not application/json, expected a JSON body and this header")
        try:
            body = await asyncio.wait_for(_body(request, limits.body), limits.seconds)
        except TimeoutError:
            raise HTTPException(408, f"the request was not whole after {limits.seconds:g} seconds") from None
        name, texts, explain = _parse(body, dict.fromkeys(served) | other_names, limits)
        name = other_names.get(name, name)
        one = served[name]
        try:
            async with asyncio.timeout(limits.seconds):
                probabilities = await one.predict.ask(texts)
                # One by one: what nobody waits for any more is then not begun.
                explanations = [found for text in texts for found in await one.explain.ask([text])] if explain else []
        except Busy:
            raise _too_many("texts are waiting") from None
        except TimeoutError:
            raise HTTPException(504, f"no answer within {limits.seconds:g} seconds; send fewer texts") from None
        classes = one.run.class_names
        answer: dict[str, Any] = {
            "model": name,
            "labels": [classes[best] for best in probabilities.argmax(axis=1).tolist()],
            "probabilities": [dict(zip(classes, row, strict=True)) for row in probabilities.tolist()],
        }
        return JSONResponse(answer | {"explanations": list(explanations)} if explain else answer)

    async def readiness(_: Request) -> Response:
        if not is_ready.is_set():
            raise HTTPException(503, "not ready yet: the programs are being compiled")
        return JSONResponse({"status": "ready"})

    page = HTMLResponse(
        (Path(__file__).parent / "page.html").read_text("utf-8"), headers={"Content-Security-Policy": _PAGE_POLICY}
    )
    fixed = {
        "/healthz": JSONResponse({"status": "alive"}),
        "/v1/models": JSONResponse({"models": [one.about for one in served.values()]}),
        "/openapi.json": JSONResponse(describe(limits._asdict(), list(served))),
        "/": page,
    }
    app = Starlette(
        routes=[
            Route("/v1/classify", _guarded(classify, limits), methods=["POST"]),
            Route("/readyz", readiness),
            *(Route(path, response, methods=["GET"]) for path, response in fixed.items()),
        ],
        middleware=[Middleware(TrustedHosts, hosts=[*LOOPBACK, *hosts])],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )
    return app


def about(name: str, run: RestoredRun) -> dict[str, Any]:
    """What clients are told of a run."""
    return {
        "id": name,
        "hash": run.hash,
        "classes": list(run.class_names),
        "corpus": run.corpus_name,
        "max_tokens": run.config.data.max_length,
    }


def _too_many(what: str) -> HTTPException:
    return HTTPException(429, f"too many {what}; ask again in a second", {"Retry-After": "1"})


def _each(explain: Callable[[str], Any], texts: list[str]) -> list[Any]:
    return [explain(text) for text in texts]


def _warm(run: RestoredRun, explain: Callable[[str], Any]) -> Iterator[Any]:
    """Compiles all that may be asked for, a program a step."""
    yield from warm(run)
    around = len(run.words("x")) - 1  # tokens that every text has besides its words
    for width in run.every_width:
        yield explain("x " * (width - around))


async def _refuse(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _guarded(endpoint: Callable[[Request], Any], limits: Limits) -> Callable[[Request], Any]:
    """The endpoint with so many requests at once, and with no mistake of ours in the logs but where it was made."""
    running: set[Request] = set()

    async def guarded(request: Request) -> Response:
        if len(running) >= limits.requests:
            raise _too_many("requests at once")
        running.add(request)
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - its message may hold what a client sent, so it is not logged
            at = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("%s at %s:%d", type(error).__name__, at.filename, at.lineno)
            raise HTTPException(500, "this should not have happened; the server's log says where") from None
        finally:
            running.discard(request)

    return guarded


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, f"the body has more than {limit:,} bytes")
    return bytes(body)


def _parse(body: bytes, served: Mapping[str, Any], limits: Limits) -> tuple[str, list[str], bool]:
    """The run's name, the texts, and whether they are to be explained."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, 'not JSON, expected {"texts": ["..."]}') from None
    if not isinstance(asked, dict) or not isinstance(asked.get("texts"), list):
        raise HTTPException(422, 'no list "texts", expected {"texts": ["..."]}')
    if unknown := sorted(asked.keys() - {"texts", "explain", "model"}):
        shown = ", ".join(json.dumps(name[:40]) for name in unknown[:5])
        raise HTTPException(422, f"unknown: {shown}; expected texts, explain and model")
    texts, explain, name = asked["texts"], asked.get("explain", False), asked.get("model", next(iter(served)))
    if not isinstance(explain, bool):
        raise HTTPException(422, '"explain" is neither true nor false')
    if not isinstance(name, str) or name not in served:
        raise HTTPException(422, f"no such model, expected one of {', '.join(served)}")
    most = limits.explained_texts if explain else limits.texts
    if not 1 <= len(texts) <= most:
        raise HTTPException(422, f"{len(texts)} texts, expected 1 to {most}{' with explanations' if explain else ''}")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise HTTPException(422, f"texts[{i}] is not a string")
        if len(text) > limits.characters:
            raise HTTPException(422, f"texts[{i}] has {len(text):,} characters, expected at most {limits.characters:,}")
    return name, texts, explain


class _Impatient(H11Protocol):
    """Connections on which no request becomes whole within a while are closed, so that idle ones cannot pile up."""

    seconds = Limits().seconds
    _seen: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self.seconds, self._watch)

    def _watch(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is self._seen and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
            return
        self._seen = self.cycle
        self.loop.call_later(self.seconds, self._watch)


def server(app: Starlette) -> uvicorn.Server:
    """A server whose `run(sockets=[...])` ends on SIGTERM or Ctrl-C, after it has answered what it has taken."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Impatient,
            ws="none",
            lifespan="on",
            log_config=None,  # none but ours, and none of what is asked
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
