"""
The way to the service: aiohttp, behind the face that the SDK takes a transport by.

httpx2's own transport takes twice as long over a picture. The SDK's own way through
aiohttp sends again when a connection breaks, and follows redirections. This one sends
once: aiohttp repeats only what is safe to repeat, and no POST is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2

from gaia_core.images import MAX_BYTES

CONNECT_SECONDS = 10.0
"""Longest wait for a connection."""
# One kept longer may be closed already at the other end, and then nobody knows
# whether what was sent into it was carried out.
_KEEPALIVE_SECONDS = 4.0
_OK = 200
MAX_ANSWER = 4 * MAX_BYTES
"""Most bytes of an answer: the largest picture as base64, and drafts before it."""

_bodies: ContextVar[list[bytes] | None] = ContextVar("_bodies", default=None)


@contextmanager
def bodies_kept() -> Iterator[list[bytes]]:
    """
    Keep the bodies of good answers here, and give the SDK empty ones.

    Of a picture it would make text, twice, and a model of its own: several
    milliseconds and megabytes. Answers of any other status are left to it.
    """
    bodies: list[bytes] = []
    token = _bodies.set(bodies)
    try:
        yield bodies
    finally:
        _bodies.reset(token)


class OversizeError(Exception):
    """An answer is longer than any that could be of use."""


class OnceTransport(httpx2.AsyncBaseTransport):
    """Sends every request once, over connections of its own."""

    def __init__(self) -> None:
        """Prepare; the first request opens the first connection."""
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """
        Send a request and read the whole answer.

        Raises:
            aiohttp.ClientError: If there is none.
            OversizeError: If it is longer than any that could be of use, or packed.
            TimeoutError: If it takes longer than the request allows.
        """
        if self._session is None:
            self._session = _opened()
        limits: dict[str, Any] = request.extensions.get("timeout") or {}
        async with self._session.request(
            request.method,
            str(request.url),
            headers=[*_unpacked(request.headers)],
            data=await request.aread() or None,
            proxy=self._proxy_for(request.url),
            # Following one would send the request, and the key, a second time.
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=limits.get("read"), sock_connect=CONNECT_SECONDS
            ),
        ) as answer:
            content = await _read(answer)
        response = httpx2.Response(
            answer.status,
            headers=list(answer.headers.items()),
            content=content,
            extensions={"reason_phrase": (answer.reason or "").encode()},
        )
        bodies = _bodies.get()
        if bodies is None or answer.status != _OK:
            return response
        bodies.append(response.content)
        return httpx2.Response(_OK)

    def _proxy_for(self, url: httpx2.URL) -> str | None:
        """Find the proxy that the environment names for a host, once for each."""
        key = (url.scheme, url.host)
        if key not in self._proxies:
            proxy = None if proxy_bypass(url.host) else getproxies().get(url.scheme)
            self._proxies[key] = proxy
        return self._proxies[key]

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _unpacked(headers: httpx2.Headers) -> Iterator[tuple[str, str]]:
    """Give the headers of a request, asking for an answer that is not packed."""
    yield "Accept-Encoding", "identity"
    for name, value in headers.multi_items():
        if name.lower() != "accept-encoding":
            yield name, value


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer to its end, but no further than to the limit."""
    packing = answer.headers.get("Content-Encoding", "identity")
    if packing.lower() != "identity":
        # A few bytes of it may stand for gigabytes, and it was asked for as it is.
        message = f"it is packed: {packing[:20]}"
        raise OversizeError(message)
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            message = f"it has more than {MAX_ANSWER} bytes"
            raise OversizeError(message)
        parts.append(part)
    return b"".join(parts)


def _opened() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            ssl=httpx2.create_ssl_context(),
        ),
        # Nothing packed is asked for, and nothing packed is taken.
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
        # It would look for proxies anew with every request, in a thread; see above.
        trust_env=False,
    )
