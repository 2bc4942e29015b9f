"""
Fetching files the service keeps, onto this machine's disk.

Parasail answers a request for a file's content with a redirect to its storage, at an
address that is signed (seen by others in 2026-09). The key must not go there: the
redirect is followed without it, and only to where results may lie.
"""

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import attrs

from gaia_core import ModelError, ProviderError
from gaia_core.fetching import Reach, is_public
from gaia_parasail.clients import CONNECT_SECONDS, Clients
from gaia_parasail.errors import answered
from gaia_parasail.models import NAME

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from openai import AsyncOpenAI

_CHUNK = 1 << 18
_MOST_HOPS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})
_PORTS = frozenset({None, 80, 443})
_OK = 200


class _RefusedError(OSError):
    """The address is not public; an `OSError`, so that aiohttp hands it on."""


@attrs.frozen(kw_only=True)
class Downloads:
    """
    Fetches files.

    Attributes:
        clients: Who asks the service.
        base_url: Where the service is asked.
        result_hosts: The only other hosts files may lie on; empty: any public host.
    """

    clients: Clients
    base_url: str
    result_hosts: frozenset[str] = frozenset()

    async def fetch(self, file_id: str, path: Path) -> None:
        """
        Fetch a file to a path.

        Raises:
            ProviderError: If it did not arrive whole: what it says is about the
                file, never about what is in it.
        """
        try:
            target = await answered(self._from_service(file_id, path))
        except ModelError:  # what every 404 is
            message = f"{NAME} knows no file {file_id} with results of a batch."
            raise ModelError(message) from None
        if target is None:
            return
        try:
            await self._from_elsewhere(urljoin(self.base_url, target), path)
        except Exception as error:  # noqa: BLE001  aiohttp raises all sorts
            kind = type(error).__name__
        else:
            return
        # Outside of the handler: the error behind it may quote a signed address.
        message = f"A file of {NAME} did not arrive ({kind})."
        raise ProviderError(message)

    async def _from_service(self, file_id: str, path: Path) -> str | None:
        """Write what the service answers, or tell where it says that it lies."""
        import openai  # noqa: PLC0415 - half a second

        client: AsyncOpenAI = self.clients.client()
        try:
            async with client.files.with_streaming_response.content(file_id) as answer:
                with path.open("wb") as file:
                    async for chunk in answer.iter_bytes(_CHUNK):
                        await asyncio.to_thread(file.write, chunk)
        except openai.APIStatusError as error:
            if error.status_code not in _MOVED:
                raise
            return str(error.response.headers.get("location", ""))
        return None

    async def _from_elsewhere(self, url: str, path: Path) -> None:
        """Follow a redirect, hop by hop, without the key."""
        reach = Reach.of(self.base_url, self.result_hosts)
        for _ in range(_MOST_HOPS):
            is_own = self._check(url, reach)
            async with _session(is_guarded=not is_own) as session:
                target = await _written(session, url, path)
            if target is None:
                return
            url = urljoin(url, target)
        message = "too many redirects"
        raise _RefusedError(message)

    def _check(self, url: str, reach: Reach) -> bool:
        """
        Refuse an address that results never have; tell whether it is the service's.

        Raises:
            OSError: If it is refused.
        """
        parts = urlsplit(url)
        is_plain = urlsplit(self.base_url).scheme == "http"
        if Reach.of(url, ()).base == reach.base:
            return True
        if parts.scheme != "https" and not (is_plain and parts.scheme == "http"):
            raise _RefusedError(parts.scheme)
        if parts.port not in _PORTS or not reach.takes(parts.hostname or ""):
            raise _RefusedError(parts.hostname)
        return False


async def _written(session: "ClientSession", url: str, path: Path) -> str | None:
    """Write what lies at an address, or tell where else it does."""
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status in _MOVED:
            return answer.headers.get("Location", "")
        if answer.status != _OK:
            raise _RefusedError(answer.status)
        with path.open("wb") as file:
            async for chunk in answer.content.iter_chunked(_CHUNK):
                await asyncio.to_thread(file.write, chunk)
    return None


def _session(*, is_guarded: bool) -> "ClientSession":
    """Open a session that knows no key; a guarded one dials public addresses only."""
    import aiohttp  # noqa: PLC0415 - slow

    factory: Any = _guarded_socket if is_guarded else None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A few packed bytes could fill the disk: none are asked for, or unpacked.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=60.0
        ),
        trust_env=False,
    )


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for an address that is about to be dialled, or refuse."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise _RefusedError(address[0])
    return socket.socket(family, kind, protocol)
