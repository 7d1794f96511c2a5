"""The host names under which clients may call the server."""

import contextlib
import ipaddress
import json
import re
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")  # a server with one of these listens on every address of the machine


class TrustedHosts:
    """Refuse requests whose Host header is not a name of this server (ASGI middleware).

    This stops DNS rebinding: a foreign site can make its own name resolve to this machine, but the browser then sends
    that name as the Host. A server that listens on every address (`ANY_ADDRESS`) trusts every IP address as well,
    because the name of a foreign site is never an IP address. Starlette's own middleware knows neither IPv6 nor this.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]):
        self._app = app
        self._hosts = {name.strip("[]").lower() for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        if scope["type"] != "http" or self._is_trusted(host):
            await self._app(scope, receive, send)
            return
        names = ", ".join(sorted(self._hosts))
        error = f"the Host {json.dumps(host[:80])} is not this server's, expected {names}; --allowed_hosts adds"
        await JSONResponse({"error": error}, 400)(scope, receive, send)

    def _is_trusted(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        listens_everywhere = not self._hosts.isdisjoint(ANY_ADDRESS)
        return name in self._hosts or (listens_everywhere and _is_ip_address(name))


def _is_ip_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False
