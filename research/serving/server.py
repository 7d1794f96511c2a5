"""The HTTP server: runs that classify texts, in batches and within limits, and a page to try them on."""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from research.runs.restore import RestoredRun
from research.serving.batching import Busy
from research.serving.request_limits import LimitedRoute, Limits, require_ready, too_many
from research.serving.schemas import ClassifyAnswer, Models, Refusal, Status, classify_request, sentence_of
from research.serving.served_runs import ServedRuns
from research.serving.trusted_hosts import LOOPBACK, TrustedHosts

_SHUTDOWN_SECONDS = 20  # time to answer the requests at hand when the server is told to end
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_REFUSALS = {
    400: "not JSON, or a Host that is not this server's",
    408: "not whole in time",
    413: "too many bytes",
    415: "not application/json",
    422: "not what is described here, or beyond a limit",
    429: "too much is waiting; ask again in a second",
    503: "not ready yet",
    504: "no answer in time",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": reason} for status, reason in _REFUSALS.items()
}


def create_app(
    runs: Mapping[str, RestoredRun],
    limits: Limits = Limits(),
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[], None] = lambda: None,
    *,
    hosts: Collection[str] = (),
    other_names: Mapping[str, str] = MappingProxyType({}),
) -> FastAPI:
    """Return the application that answers requests.

    Args:
      runs: name that clients use -> run; the first run answers requests that name none.
      limits: the most that clients may ask for.
      on_ready: called when every program is compiled.
      on_failure: called when a program cannot be compiled; the server is then of no use.
      hosts: host names of this server besides `LOOPBACK`; see `TrustedHosts`.
      other_names: more names that clients may use -> name in `runs`.
    """
    served = ServedRuns(runs, limits.waiting_texts, 4 * limits.explained_texts)
    app = FastAPI(
        title="Text classifiers",
        version="1",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=lambda _: served.running(on_ready, on_failure),
        middleware=[Middleware(TrustedHosts, hosts=[*LOOPBACK, *hosts])],
        exception_handlers={StarletteHTTPException: _refuse, RequestValidationError: _refuse},
    )
    app.state.limits, app.state.served = limits, served
    app.routes.append(_classify_route(served, limits, list(runs), other_names))
    _add_status_routes(app, served)
    return app


def _classify_route(
    served: ServedRuns, limits: Limits, names: Collection[str], other_names: Mapping[str, str]
) -> LimitedRoute:
    async def classify(request: classify_request(limits, names, other_names)) -> Any:
        try:
            async with asyncio.timeout(limits.seconds):
                return await served.classify(request.model, request.texts, request.explain)
        except Busy:
            raise too_many("texts are waiting") from None
        except TimeoutError:
            raise HTTPException(504, f"no answer within {limits.seconds:g} seconds; send fewer texts") from None

    return LimitedRoute(
        "/v1/classify",
        classify,
        methods=["POST"],
        summary="Classify texts",
        response_model=ClassifyAnswer,
        response_model_exclude_unset=True,
        responses=_RESPONSES,
    )


def _add_status_routes(app: FastAPI, served: ServedRuns) -> None:
    page = (Path(__file__).parent / "page.html").read_text("utf-8")

    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def list_models() -> Any:
        return {"models": served.describe()}

    async def answer_alive() -> Any:
        return {"status": "alive"}

    async def answer_ready() -> Any:
        require_ready(served.is_ready)
        return {"status": "ready"}

    _add_get(app, "/", show_page, include_in_schema=False)
    _add_get(app, "/v1/models", list_models, summary="List the runs that answer", response_model=Models)
    _add_get(app, "/healthz", answer_alive, summary="Whether the server is alive", response_model=Status)
    summary, responses = "Whether the server is ready to answer", {503: _RESPONSES[503]}
    _add_get(app, "/readyz", answer_ready, summary=summary, response_model=Status, responses=responses)


def _add_get(app: FastAPI, path: str, endpoint: Callable[[], Any], **description: Any) -> None:
    """Answer GET and, as load balancers may ask, HEAD."""
    app.add_api_route(path, endpoint, methods=["GET"], **description)
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


async def _refuse(_: Request, error: Exception) -> Response:
    """Answer with a sentence that says what is wrong."""
    if isinstance(error, RequestValidationError):
        return JSONResponse({"error": sentence_of(error.errors()[0])}, 422)
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


class _IdleClosingProtocol(H11Protocol):
    """Close connections on which no request is completed within `seconds`, so that idle ones cannot pile up."""

    def __init__(self, *args: Any, seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._last_cycle: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self._seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is self._last_cycle and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
            return
        self._last_cycle = self.cycle
        self.loop.call_later(self._seconds, self._close_if_idle)


def create_server(app: FastAPI) -> uvicorn.Server:
    """Return a server whose `run(sockets=[...])` ends on SIGTERM or Ctrl-C, after it has answered what it has taken."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=functools.partial(_IdleClosingProtocol, seconds=app.state.limits.seconds),
            ws="none",
            lifespan="on",
            log_config=None,  # uvicorn logs nothing; requests are private
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )
