"""Where the vendor is: one setting, two ways in."""

from typing import Literal
from urllib.parse import SplitResult, urlsplit

import attrs

from gaia_core import Secret

Transport = Literal["websocket", "rest"]

SOCKET_URL = "wss://ws-api.runware.ai/v1"
HTTP_URL = "https://api.runware.ai/v1"
"""The vendor's own addresses (runware-sdk 1.8.0)."""

_HOSTS = {"websocket": "ws-api.runware.ai", "rest": "api.runware.ai"}
_SCHEMES = {
    "wss": ("wss", "https"),
    "https": ("wss", "https"),
    "ws": ("ws", "http"),
    "http": ("ws", "http"),
}
_PATH = "/v1"


@attrs.frozen(kw_only=True)
class Address:
    """
    Where the vendor is, and how it is spoken to.

    Attributes:
        socket: The WebSocket's address.
        http: REST's address.
        is_socket: Whether paid work goes over the WebSocket.
        key: The key.
    """

    socket: str
    http: str
    is_socket: bool
    key: Secret = attrs.field(repr=False)

    def over_http(self) -> "Address":
        """Give the same, spoken to over REST."""
        return attrs.evolve(self, is_socket=False)


def is_address(url: str) -> bool:
    """
    Tell whether the vendor can be at an address.

    >>> is_address("wss://ws-api.runware.ai/v1"), is_address("runware.ai")
    (True, False)
    """
    try:
        parts = urlsplit(url)
        is_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and is_host and "@" not in parts.netloc


def address_of(
    base_url: str | None, transport: Transport | None, key: Secret
) -> Address:
    """
    Work out both ways in from the one that is set.

    The vendor has a host for each; anybody else has both on one. A path may be left
    out.

    >>> address = address_of("ws://127.0.0.1:8080", None, Secret("k"))
    >>> address.socket, address.http, address.is_socket
    ('ws://127.0.0.1:8080/v1', 'http://127.0.0.1:8080/v1', True)
    """
    parts = urlsplit(base_url or (HTTP_URL if transport == "rest" else SOCKET_URL))
    way = transport or ("websocket" if parts.scheme in {"ws", "wss"} else "rest")
    socket, http = _SCHEMES[parts.scheme]
    return Address(
        socket=_url(parts, socket, "websocket"),
        http=_url(parts, http, "rest"),
        is_socket=way == "websocket",
        key=key,
    )


def _url(parts: SplitResult, scheme: str, way: Transport) -> str:
    host = _HOSTS[way] if parts.hostname in _HOSTS.values() else parts.netloc
    path = parts.path if parts.path.strip("/") else _PATH
    return parts._replace(scheme=scheme, netloc=host, path=path).geturl()
