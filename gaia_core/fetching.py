"""
The one way Gaia reads an address that somebody else chose.

The guard looks at the address being dialled, at every hop, at the moment the
socket is made. Nothing is compared beforehand, so no redirect, no odd spelling of
a number and no second answer of a name server can come between.

The numbers are those of the registries of special addresses:
https://www.iana.org/assignments/iana-ipv4-special-registry and its IPv6 sister.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import attrs

from gaia_core.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    UnusableResultError,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

_MOVED = frozenset({301, 302, 303, 307, 308})
_BINARY = frozenset({"application/octet-stream", "binary/octet-stream"})
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "gaia"}

# `is_global` differs between Python versions and lets some of these through.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
        *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
        *("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure answers every machine of a customer here
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48"),
        *("3ffe::/16", "3fff::/20"),
    )
)
# Everything else in IPv6 is local, reserved, or an IPv4 address in disguise.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")


class _RefusedError(OSError):
    """The guard says no; an `OSError`, so that aiohttp hands it on."""


class _MissingError(OSError):
    """There is an answer, but nothing in it."""


def is_public(address: str) -> bool:
    """
    Tell whether an IP address belongs to the public internet.

    >>> is_public("8.8.8.8"), is_public("127.0.0.1"), is_public("::ffff:8.8.8.8")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _REFUSED_NETWORKS):
        return False
    return ip.is_global and (
        isinstance(ip, ipaddress.IPv4Address) or ip in _GLOBAL_IPV6
    )


@attrs.frozen(kw_only=True)
class Reach:
    """
    Where the results of one provider may lie.

    >>> reach = Reach.of("wss://ws.example.com/v1", {"*.example.net"})
    >>> reach.base, reach.takes("im.example.net"), reach.takes("example.org")
    (('https', 'ws.example.com', 443), True, False)

    Attributes:
        base: Scheme, host and port of its configured ``base_url``, which may be
            private. A WebSocket's address stands for HTTP at the same place.
        hosts: The only other hosts; ``*.example.net`` stands for every name below
            example.net. Empty: any public host.
    """

    base: tuple[str, str, int] | None = None
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, base_url: str | None, hosts: Iterable[str]) -> Self:
        """Read it from what a provider's card says; a broken address is none."""
        return cls(base=_origin(base_url or ""), hosts=frozenset(map(_plain, hosts)))

    def takes(self, host: str) -> bool:
        """Tell whether results may be fetched from a host beside the base."""
        name = _plain(host)
        return not self.hosts or any(
            name.endswith(one[1:]) if one.startswith("*.") else name == one
            for one in self.hosts
        )


ANYWHERE = Reach()
"""Any public host."""

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_PORTS = {"http": 80, "https": 443}


def _origin(url: str) -> tuple[str, str, int] | None:
    """Read scheme, host and port of an address, if it has them."""
    try:
        parts = urlsplit(url)
        scheme = _SCHEMES[parts.scheme]
        port = _PORTS[scheme] if parts.port is None else parts.port
        return (scheme, _plain(parts.hostname or ""), port) if parts.hostname else None
    except (KeyError, ValueError):
        return None


def _plain(host: str) -> str:
    """
    Spell a host as it goes over the wire, without the dot of the root.

    >>> _plain("CDN.Example.com."), _plain("[::0:1]"), _plain("*.bücher.example")
    ('cdn.example.com', '::1', '*.xn--bcher-kva.example')
    """
    star, name = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    name = name.lower().rstrip(".").strip("[]")
    try:
        if not name.isascii():
            name = (_parse(f"http://{name}").raw_host or "").rstrip(".")
        return star + (str(ipaddress.ip_address(name)) if ":" in name else name)
    except ValueError:
        return star + name  # no host at all: it is never the one that is asked for


@attrs.define(eq=False, kw_only=True)
class GuardedFetcher:
    """
    Reads pictures from addresses nobody vouches for, within limits.

    ::

        async with GuardedFetcher() as fetcher:
            data = await fetcher.fetch("https://cdn.example.com/1.png")

    Its sessions belong to the event loop they were opened on: close it there.

    Attributes:
        allowed_hosts: ``(host, port)`` pairs that are let through on purpose,
            spelt as in the address: the host of a configured ``base_url``.
        ports: The ports that are dialled at all other hosts.
        timeout: Seconds for everything: all hops, and the last byte.
        max_bytes: The most bytes one address may deliver.
        max_redirects: The most hops from one address to the next.
    """

    allowed_hosts: frozenset[tuple[str, int]] = frozenset()
    ports: frozenset[int] = frozenset({80, 443})
    timeout: float = 15.0
    max_bytes: int = 20 * 1024 * 1024
    max_redirects: int = 3
    _sessions: "dict[tuple[asyncio.AbstractEventLoop, bool], ClientSession]" = (
        attrs.field(factory=dict, init=False, repr=False)
    )

    async def fetch(self, url: str, reach: Reach = ANYWHERE) -> bytes:
        """
        Fetch a result a provider points at: something already paid for.

        A lost download never means "generate again", so no error of this method
        lets the engine repeat the work or take it to another provider: what did
        not arrive is looked up by its task id, what is no picture is settled.

        Args:
            url: Where it lies.
            reach: Where the provider's results may lie, at every hop.

        Raises:
            ProviderTimeoutError: If it did not arrive (outcome class AMBIGUOUS):
                no connection, too slow, broken off, or a status other than 200.
            UnusableResultError: If the guard refuses the address or what lies
                there (outcome class UNUSABLE).
        """
        try:
            return await self.fetch_input(url, reach)
        except ProviderConnectionError as error:
            raise ProviderTimeoutError(str(error)) from None
        except ProviderRequestError as error:
            raise UnusableResultError(str(error)) from None

    async def fetch_input(self, url: str, reach: Reach = ANYWHERE) -> bytes:
        """
        Fetch a picture a caller points at, before anything is bought.

        Args:
            url: Where it lies.
            reach: Where it may lie, at every hop.

        Raises:
            ProviderConnectionError: If it did not arrive; it may be tried again.
            ProviderRequestError: If the guard refuses the address or what lies
                there.
        """
        import aiohttp  # noqa: PLC0415 - slow, and not needed before

        try:
            async with asyncio.timeout(self.timeout):
                return await self._follow(url, reach)
        except (OSError, ValueError, TypeError, aiohttp.ClientError) as error:
            # The chain behind it may quote a signed address: it is cut here.
            raise _translated(error, url) from None

    async def close(self) -> None:
        """Close what was opened on the running event loop."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._sessions if key[0] is loop]:
            await self._sessions.pop(key).close()

    async def __aenter__(self) -> Self:
        """Give back the fetcher itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the fetcher."""
        await self.close()

    async def _follow(self, start: str, reach: Reach) -> bytes:
        """Go from hop to hop; each one passes the guard anew."""
        url, is_at_base = _parse(start), True
        for _ in range(self.max_redirects + 1):
            # Who was led away is not led back in: another host chose that address.
            is_at_base = is_at_base and _origin_of(url) == reach.base
            is_allowed = is_at_base or (url.host, url.port) in self.allowed_hosts
            self._check_address(url, reach, is_allowed=is_allowed)
            session = self._session(is_allowed=is_allowed)
            async with session.get(url, allow_redirects=False) as response:
                target = response.headers.get("Location")
                if response.status not in _MOVED or target is None:
                    return await self._read(response)
            url = url.join(_parse(target))
        message = f"it redirects more than {self.max_redirects} times"
        raise _RefusedError(message)

    async def _read(self, response: "ClientResponse") -> bytes:
        """Read the body, and stop at the limit."""
        _check_head(response)
        chunks, length = [], 0
        async for chunk in response.content.iter_any():
            length += len(chunk)
            _refuse(length > self.max_bytes, f"over {self.max_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _check_address(self, url: "URL", reach: Reach, *, is_allowed: bool) -> None:
        """Refuse what can be seen in the address itself."""
        _refuse(url.scheme not in {"http", "https"}, "it is not http or https")
        _refuse(not url.host, "it names no host")
        _refuse(bool(url.user or url.password), "it carries a name or password")
        if is_allowed:
            return
        _refuse(not reach.takes(url.raw_host or ""), "results never lie on this host")
        _refuse(url.port not in self.ports, f"port {url.port} is not allowed")

    def _session(self, *, is_allowed: bool) -> "ClientSession":
        """Give the running loop's session, guarded unless the host is allowed."""
        key = (asyncio.get_running_loop(), is_allowed)
        if key not in self._sessions:
            self._sessions[key] = _open_session(None if is_allowed else _guarded_socket)
        return self._sessions[key]


def _open_session(socket_factory: Any) -> "ClientSession":
    """Open a session that remembers nothing and unpacks nothing."""
    import aiohttp  # noqa: PLC0415 - slow, and not needed before

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=socket_factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        trust_env=False,
    )


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for an address that is about to be dialled, or refuse."""
    family, kind, protocol, _, address = info
    _refuse(not is_public(address[0]), "the address is not public")
    return socket.socket(family, kind, protocol)


def _parse(url: str) -> "URL":
    """Read an address as aiohttp will read it."""
    from yarl import URL  # noqa: PLC0415 - comes with aiohttp

    return URL(url)


def _origin_of(url: "URL") -> tuple[str, str, int | None]:
    """Give scheme, host and port as they are dialled."""
    return (url.scheme, _plain(url.raw_host or ""), url.port)


def _check_head(response: "ClientResponse") -> None:
    """Take only a 200 that is not packed and calls itself a picture."""
    if response.status != HTTPStatus.OK:
        message = f"it answered with status {response.status}"
        raise _MissingError(message)
    encoding = response.headers.get("Content-Encoding", "identity")
    _refuse(encoding.lower() != "identity", "it is compressed")
    kind = response.content_type
    is_image = kind.startswith("image/") or kind in _BINARY
    _refuse(not is_image, "it does not call itself a picture")


def _refuse(is_refused: bool, reason: str) -> None:  # noqa: FBT001 - a sentence
    """Raise the reason if it applies."""
    if is_refused:
        raise _RefusedError(reason)


def _translated(error: Exception, url: str) -> ProviderError:
    """Choose our error, in words that tell nothing about this machine."""
    match getattr(error, "os_error", error):
        case _RefusedError() as cause:
            return ProviderRequestError(f"Cannot fetch from {_host(url)}: {cause}.")
        case ValueError() | TypeError():
            return ProviderRequestError(f"Cannot fetch from {_host(url)}: no address.")
        case _MissingError() as cause:
            reason = str(cause)
        case TimeoutError():
            reason = "it was too slow"
        case _:
            reason = "it does not answer, or broke off"
    return ProviderConnectionError(f"Cannot fetch from {_host(url)}: {reason}.")


def _host(url: str) -> str:
    """Name the host, never the path or query: those may hold a signature."""
    try:
        return (_parse(url).raw_host or "there")[:100]
    except (ValueError, TypeError):
        return "there"
