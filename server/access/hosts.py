"""Names that a request may call this server by, where the browser of somebody on this machine could ask unawares.

A web page may let its own name lead to 127.0.0.1 (DNS rebinding). Its browser then takes this server for the page's own
and lets the page ask and read. What the page cannot change is the name in `Host`.
"""

import ipaddress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.refusals import Reason, refusal

LOCALHOST = "localhost"
MAX_SHOWN_CHARS = 80


class Hosts:
    """ASGI middleware of a server on loopback that asks for no key.

    Args:
        app: the next layer.
        allowed_hosts: names besides addresses and localhost.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("Host")
        other = next((host for host in hosts if not self._is_allowed(_name(host))), None)
        if other is None:
            await self._app(scope, receive, send)
        else:
            await _misdirected(other)(scope, receive, send)

    def _is_allowed(self, name: str) -> bool:
        return name == LOCALHOST or name.endswith(f".{LOCALHOST}") or name in self._allowed_hosts or _is_address(name)


def _name(host: str) -> str:
    """Without the port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(name: str) -> bool:
    """No page has one for a name, unless it was served from there."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _misdirected(host: str) -> ASGIApp:
    return refusal(
        f"Host is {host[:MAX_SHOWN_CHARS]!r}, but a server on loopback without keys answers to addresses, localhost "
        "and --allowed-hosts only, because a web page could be asking. Use one of these, or API keys.",
        reason=Reason.HOST,
        status=HTTPStatus.MISDIRECTED_REQUEST,
        param="Host",
    )
