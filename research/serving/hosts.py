"""The names under which clients may call the server."""

import contextlib
import ipaddress
import json
import re
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")  # to listen to is to listen to every address of the machine


class TrustedHosts:
    """ASGI middleware that refuses requests whose Host header is not one of the server's own names.

    This stops DNS rebinding: a foreign site can make its own name resolve to this machine, but the browser then sends
    that name as the Host. A server that listens to all addresses (`ANY_ADDRESS`) trusts every IP address as well, for a
    site's name is never one.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]):
        self._app, self._hosts = app, {name.strip("[]").lower() for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._trusts(host := dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            await self._app(scope, receive, send)
            return
        shown = json.dumps(host[:80])
        said = f"the Host {shown} is not this server's, expected {', '.join(sorted(self._hosts))}; --allowed_hosts adds"
        await JSONResponse({"error": said}, 400)(scope, receive, send)

    def _trusts(self, header: str) -> bool:
        name = re.sub(r":\d*$", "", header).strip("[]").lower()
        return name in self._hosts or (not self._hosts.isdisjoint(ANY_ADDRESS) and _is_address(name))


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False
