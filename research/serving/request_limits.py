"""The limits of what a client may ask for, and the route that holds them."""

import asyncio
import functools
import json
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

_LOG = logging.getLogger(__name__)
_NOT_JSON = 'not JSON, expected {"texts": ["..."]}'
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Limits(NamedTuple):
    """The most that clients may ask for."""

    body_bytes: int = 1 << 20
    texts: int = 256  # texts in a request
    explained_texts: int = 16  # texts in a request with "explain"
    characters: int = 20_000  # characters in a text
    requests: int = 512  # requests that are answered at the same time
    waiting_texts: int = 8192  # texts that wait for a run, over all requests
    seconds: float = 10.0  # time to send a request, and again to wait for its answer


def too_many(what: str) -> HTTPException:
    """Return the refusal of a client that should ask again a second later."""
    return HTTPException(429, f"too many {what}; ask again in a second", {"Retry-After": "1"})


def require_ready(is_ready: bool) -> None:
    """Raise HTTPException if the server cannot answer yet."""
    if not is_ready:
        raise HTTPException(503, "not ready yet: the programs are being compiled")


class LimitedRequest(Request):
    """A request whose JSON body is read within the limits in `app.state.limits`."""

    _content: bytes | None = None

    async def body(self) -> bytes:
        """Return the body, never empty.

        Raises:
          HTTPException: it is empty or too long, or did not arrive in time.
        """
        if self._content is None:
            limits: Limits = self.app.state.limits
            try:
                async with asyncio.timeout(limits.seconds):
                    self._content = await self._read(limits.body_bytes)
            except TimeoutError:
                raise HTTPException(408, f"the request was not whole after {limits.seconds:g} seconds") from None
            if not self._content:
                raise HTTPException(400, _NOT_JSON)
        return self._content

    async def _read(self, most: int) -> bytes:
        content = bytearray()
        async for part in self.stream():
            content += part
            if len(content) > most:
                raise HTTPException(413, f"the body has more than {most:,} bytes")
        return bytes(content)

    async def json(self) -> Any:
        """Return the parsed body."""
        try:
            return json.loads(await self.body())
        except (ValueError, RecursionError):
            raise HTTPException(400, _NOT_JSON) from None


class LimitedRoute(APIRoute):
    """A route that takes JSON alone, and so many requests at once, as soon as `app.state.served` is ready.

    An unforeseen error is logged by its type and place. Its message may hold what a client sent, so it is not logged.
    """

    _running = 0

    def get_route_handler(self) -> _Handler:
        """Return the handler of FastAPI within the limits."""
        return functools.partial(self._handle, super().get_route_handler())

    async def _handle(self, handler: _Handler, request: Request) -> Response:
        if self._running >= request.app.state.limits.requests:
            raise too_many("requests at once")
        self._running += 1
        try:
            require_ready(request.app.state.served.is_ready)
            # A browser asks this server first before it lets a page of another site send JSON.
            content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if content_type != "application/json":
                raise HTTPException(
                    415, "the Content-Type header is not application/json, expected JSON and this header"
                )
            return await handler(LimitedRequest(request.scope, request.receive))
        except (StarletteHTTPException, RequestValidationError):
            raise
        except Exception as error:  # noqa: BLE001 - the client gets a sentence, and the log the place
            place = traceback.extract_tb(error.__traceback__)[-1]
            _LOG.error("%s at %s:%d", type(error).__name__, place.filename, place.lineno)
            raise HTTPException(500, "this should not have happened; the server's log says where") from None
        finally:
            self._running -= 1
