import asyncio
import gzip
import ipaddress
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import attrs
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gaia_core.errors import (
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    UnusableResultError,
)
from gaia_core.fetching import GuardedFetcher, Reach, _guarded_socket, is_public

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40

REFUSED = {
    "this-host": "0.0.0.0",  # noqa: S104 - to refuse, not to bind
    "this-network": "0.1.2.3",
    "private-10": "10.1.2.3",
    "carrier-nat": "100.64.0.1",
    "alibaba-metadata": "100.100.100.200",
    "loopback": "127.0.0.1",
    "loopback-high": "127.255.255.254",
    "cloud-metadata": "169.254.169.254",
    "task-metadata": "169.254.170.2",
    "private-172": "172.31.255.255",
    "ietf-protocols": "192.0.0.1",
    "oracle-metadata": "192.0.0.192",
    "documentation-1": "192.0.2.1",
    "6to4-relay": "192.88.99.1",
    "private-192": "192.168.1.1",
    "as112": "192.175.48.1",
    "benchmark": "198.18.0.1",
    "benchmark-high": "198.19.255.255",
    "documentation-2": "198.51.100.7",
    "documentation-3": "203.0.113.9",
    "azure-wire-server": "168.63.129.16",
    "multicast": "224.0.0.1",
    "multicast-global": "239.255.255.250",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified-6": "::",
    "loopback-6": "::1",
    "compatible": "::127.0.0.1",
    "mapped-loopback": "::ffff:127.0.0.1",
    "mapped-public": "::ffff:8.8.8.8",
    "translated": "::ffff:0:8.8.8.8",
    "nat64": "64:ff9b::7f00:1",
    "nat64-public": "64:ff9b::808:808",
    "nat64-local": "64:ff9b:1::a00:1",
    "discard": "100::1",
    "teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "benchmark-6": "2001:2::1",
    "orchid": "2001:20::1",
    "documentation-6": "2001:db8::1",
    "6to4-loopback": "2002:7f00:1::1",
    "6to4-public": "2002:808:808::1",
    "6bone": "3ffe::1",
    "documentation-6-new": "3fff::1",
    "segment-routing": "5f00::1",
    "unassigned-6": "4000::1",
    "amazon-metadata-6": "fd00:ec2::254",
    "unique-local": "fc00::1",
    "link-local-6": "fe80::1",
    "link-local-scoped": "fe80::1%eth0",
    "site-local": "fec0::1",
    "multicast-6": "ff02::1",
    "multicast-6-global": "ff0e::1",
}

ACCEPTED = {
    "resolver": "8.8.8.8",
    "resolver-one": "1.1.1.1",
    "below-private-172": "172.15.255.255",
    "above-private-172": "172.32.0.1",
    "above-carrier-nat": "100.128.0.1",
    "below-multicast": "223.255.255.254",
    "resolver-6": "2606:4700:4700::1111",
    "resolver-6-two": "2001:4860:4860::8888",
    "amazon-6": "2600:1f00::1",
}

ADDRESSES = [
    *(pytest.param(a, False, id=f"refused-{name}") for name, a in REFUSED.items()),
    *(pytest.param(a, True, id=f"accepted-{name}") for name, a in ACCEPTED.items()),
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@attrs.define(eq=False)
class Site:
    """A real server on 127.0.0.1 that remembers who asked for what."""

    pages: dict[str, Handler] = attrs.field(factory=dict)
    seen: list[web.Request] = attrs.field(factory=list, init=False)
    port: int = attrs.field(default=0, init=False)
    _runner: web.AppRunner = attrs.field(init=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Start to listen."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.pages[request.path](request)


def picture(body: bytes = PICTURE, **headers: str) -> Handler:
    """Answer with a picture."""
    kind = headers.pop("content_type", "image/png")

    async def answer(_request: web.Request) -> web.StreamResponse:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, content_type=kind, headers=extra)

    return answer


def redirect(target: str, status: int = 302) -> Handler:
    """Answer that it lies elsewhere."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, headers={"Location": target, "Set-Cookie": "who=gaia"}
        )

    return answer


def status(code: int) -> Handler:
    """Answer with a bare status."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code)

    return answer


def stream(chunk: bytes, delay: float, times: int) -> Handler:
    """Answer in pieces, without saying how many there will be."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        for _ in range(times):
            await response.write(chunk)
            await asyncio.sleep(delay)
        return response

    return answer


async def cut_short(request: web.Request) -> web.StreamResponse:
    """Promise a thousand bytes and hang up after ten."""
    response = web.StreamResponse(
        headers={"Content-Type": "image/png", "Content-Length": "1000"}
    )
    await response.prepare(request)
    await response.write(b"0123456789")
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.fixture(name="site")
async def _site() -> AsyncIterator[Site]:
    async with Site({"/": picture()}) as site:
        yield site


@pytest.fixture(name="fetcher")
async def _fetcher(site: Site) -> AsyncIterator[GuardedFetcher]:
    """Let the site through."""
    allowed = frozenset({("127.0.0.1", site.port)})
    async with GuardedFetcher(allowed_hosts=allowed, timeout=30) as fetcher:
        yield fetcher


@pytest.fixture(name="guarded")
async def _guarded(site: Site) -> AsyncIterator[GuardedFetcher]:
    """Let the site's port through, but not the site."""
    async with GuardedFetcher(ports=frozenset({site.port}), timeout=30) as fetcher:
        yield fetcher


# -- addresses --------------------------------------------------------------------


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_addresses(address: str, expected: bool) -> None:
    """Only addresses of the public internet are public."""
    assert is_public(address) is expected


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_refused(address: ipaddress.IPv4Address) -> None:
    """No IPv4 address gets through in the clothes of an IPv6 address."""
    number = int(address)
    disguises = [
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address(0x64FF9B << 96 | number),
        ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1),
        ipaddress.IPv6Address(0x20010000 << 96 | number ^ 0xFFFFFFFF),
    ]

    assert not any(is_public(str(disguise)) for disguise in disguises)


@given(st.ip_addresses())
def test_public_is_never_wider_than_python(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """What Python calls not global is never public."""
    assert address.is_global or not is_public(str(address))


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_no_socket_is_made_for_a_refused_address(address: str) -> None:
    """The guard refuses before there is a socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with pytest.raises(OSError, match="the address is not public"):
        _guarded_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))


def test_a_socket_is_made_for_a_public_address() -> None:
    """The guard makes the socket it was asked for."""
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))

    with _guarded_socket(info) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


# -- what gets through ------------------------------------------------------------


async def test_allowed_host_passes(site: Site, fetcher: GuardedFetcher) -> None:
    """A host that is allowed on purpose is read, wherever it lies."""
    assert await fetcher.fetch(f"{site.url}/") == PICTURE
    assert await fetcher.fetch_input(f"{site.url}/") == PICTURE


async def test_another_port_of_an_allowed_host_is_refused(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """Allowing a host and port allows neither its other ports."""
    async with Site({"/": picture()}) as other:
        with pytest.raises(UnusableResultError, match="port"):
            await fetcher.fetch(f"{other.url}/")

    assert site.seen == other.seen == []


@pytest.mark.parametrize("kind", ["image/webp", "application/octet-stream"])
async def test_types_that_may_be_pictures(
    site: Site, fetcher: GuardedFetcher, kind: str
) -> None:
    """Pictures and unnamed bytes are taken; the decoder has the last word."""
    site.pages["/"] = picture(content_type=kind)

    assert await fetcher.fetch(f"{site.url}/") == PICTURE


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(
    site: Site, fetcher: GuardedFetcher, code: int
) -> None:
    """Three hops are followed, relative ones too."""
    site.pages["/1"] = redirect("/2", code)
    site.pages["/2"] = redirect(f"{site.url}/3", code)
    site.pages["/3"] = redirect("/", code)

    assert await fetcher.fetch(f"{site.url}/1") == PICTURE


async def test_nothing_is_carried_over(site: Site, fetcher: GuardedFetcher) -> None:
    """A cookie set on the way is not sent on, and nothing packed is asked for."""
    site.pages["/1"] = redirect("/")

    await fetcher.fetch(f"{site.url}/1")
    await fetcher.fetch(f"{site.url}/")

    assert [request.headers.get("Cookie") for request in site.seen] == [None] * 3
    assert {request.headers["Accept-Encoding"] for request in site.seen} == {"identity"}
    assert not any("Authorization" in request.headers for request in site.seen)


async def test_proxies_of_the_environment_are_ignored(
    site: Site, fetcher: GuardedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable does not lead the guard astray."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert await fetcher.fetch(f"{site.url}/") == PICTURE


# -- what does not ----------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="dotted"),
        pytest.param("2130706433", id="decimal"),
        pytest.param("0x7f000001", id="hexadecimal"),
        pytest.param("0177.0.0.1", id="octal"),
        pytest.param("127.1", id="short"),
        pytest.param("0", id="zero"),
        pytest.param("①②⑦.0.0.1", id="unicode-digits"),
        pytest.param("localhost", id="name"),
        pytest.param("localhost.", id="name-with-dot"),
        pytest.param("[::ffff:127.0.0.1]", id="mapped"),
        pytest.param("[::1]", id="loopback-6"),
    ],
)
async def test_ways_to_write_this_machine(
    site: Site, guarded: GuardedFetcher, host: str
) -> None:
    """However this machine is spelt, it is not dialled."""
    with pytest.raises((UnusableResultError, ProviderTimeoutError)):
        await guarded.fetch(f"http://{host}:{site.port}/")

    assert site.seen == []


async def test_a_name_of_this_machine_is_refused_by_address(
    site: Site, guarded: GuardedFetcher
) -> None:
    """The reason is the address the name leads to, not the name."""
    with pytest.raises(UnusableResultError) as caught:
        await guarded.fetch(f"http://localhost:{site.port}/")

    assert (
        str(caught.value) == "Cannot fetch from localhost: the address is not public."
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("file:///etc/passwd", "it is not http or https", id="file"),
        pytest.param("ftp://example.com/a.png", "it is not http or https", id="ftp"),
        pytest.param("gopher://example.com/", "it is not http or https", id="gopher"),
        pytest.param("data:image/png;base64,AA", "it is not http", id="data"),
        pytest.param("//example.com/a.png", "it is not http or https", id="relative"),
        pytest.param("", "it is not http or https", id="empty"),
        pytest.param("http://", "it names no host", id="no-host"),
        pytest.param("http://me@example.com/", "it carries a name", id="user"),
        pytest.param("http://:pw@example.com/", "it carries a name", id="password"),
        pytest.param("http://example.com:22/", "port 22 is not allowed", id="port"),
        pytest.param("https://example.com:8443/", "port 8443", id="port-8443"),
        pytest.param("http://example.com:99999/", "no address", id="port-too-high"),
        pytest.param("http://[::1/", "no address", id="broken-bracket"),
        pytest.param(None, "no address", id="nothing"),
        pytest.param("http://10.0.0.1/", "the address is not public", id="private"),
    ],
)
async def test_addresses_that_are_refused(url: str, reason: str) -> None:
    """What can be seen in the address is refused with its reason."""
    async with GuardedFetcher(timeout=30) as fetcher:
        with pytest.raises(ProviderRequestError, match=reason):
            await fetcher.fetch_input(url)
        with pytest.raises(UnusableResultError, match=reason):
            await fetcher.fetch(url)


async def test_userinfo_does_not_hide_the_host(
    site: Site, guarded: GuardedFetcher
) -> None:
    """An address that looks like another one is refused for its user name."""
    with pytest.raises(UnusableResultError, match="it carries a name or password"):
        await guarded.fetch(f"http://example.com@127.0.0.1:{site.port}/")

    assert site.seen == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param("http://169.254.169.254/latest", "not public", id="metadata"),
        pytest.param("http://[::1]/", "not public", id="loopback-6"),
        pytest.param("http://127.0.0.1:6379/", "port 6379", id="port"),
        pytest.param("file:///etc/passwd", "not http or https", id="file"),
        pytest.param("http://a:b@127.0.0.1/", "name or password", id="userinfo"),
        pytest.param("http://[", "no address", id="nonsense"),
    ],
)
async def test_redirects_are_guarded(
    site: Site, fetcher: GuardedFetcher, target: str, reason: str
) -> None:
    """A redirect to what is refused is refused."""
    site.pages["/1"] = redirect(target)

    with pytest.raises(UnusableResultError, match=reason):
        await fetcher.fetch(f"{site.url}/1")


async def test_redirect_from_an_allowed_to_a_guarded_host(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """The pass of an allowed host does not hold for the next hop."""
    site.pages["/1"] = redirect(f"http://localhost:{site.port}/")
    fetcher.ports = frozenset({site.port})

    with pytest.raises(UnusableResultError, match="the address is not public"):
        await fetcher.fetch(f"{site.url}/1")

    assert [request.path for request in site.seen] == ["/1"]


async def test_redirect_loop_ends(site: Site, fetcher: GuardedFetcher) -> None:
    """A fourth redirect is not followed."""
    site.pages["/loop"] = redirect("/loop")

    with pytest.raises(UnusableResultError, match="it redirects more than 3 times"):
        await fetcher.fetch(f"{site.url}/loop")

    assert len(site.seen) == 4


# -- where a provider's results may lie ----------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        pytest.param("im.example.com", "im.example.com", True, id="same"),
        pytest.param("im.example.com", "IM.Example.COM", True, id="upper-case"),
        pytest.param("IM.Example.COM", "im.example.com", True, id="upper-case-card"),
        pytest.param("im.example.com", "im.example.com.", True, id="root-dot"),
        pytest.param("im.example.com.", "im.example.com", True, id="root-dot-card"),
        pytest.param("im.example.com", "a.im.example.com", False, id="below"),
        pytest.param("im.example.com", "example.com", False, id="above"),
        pytest.param("im.example.com", "im.example.com.evil.net", False, id="prefix"),
        pytest.param("im.example.com", "notim.example.com", False, id="suffix"),
        pytest.param("im.example.com", "im-example.com", False, id="dot-is-no-pattern"),
        pytest.param("*.example.com", "im.example.com", True, id="wildcard"),
        pytest.param("*.example.com", "a.b.example.com", True, id="wildcard-deep"),
        pytest.param("*.Example.com.", "im.example.com", True, id="wildcard-spelling"),
        pytest.param("*.example.com", "example.com", False, id="wildcard-itself"),
        pytest.param("*.example.com", "notexample.com", False, id="wildcard-suffix"),
        pytest.param("*.example.com", "example.com.evil.net", False, id="wildcard-end"),
        pytest.param("*", "example.com", False, id="a-star-alone"),
        pytest.param("*.", "example.com", False, id="a-star-and-a-dot"),
        pytest.param("im.*.com", "im.example.com", False, id="a-star-within"),
        pytest.param("*example.com", "evilexample.com", False, id="a-star-and-no-dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", True, id="unicode"),
        pytest.param("xn--bcher-kva.example", "BÜCHER.example", True, id="punycode"),
        pytest.param("*.bücher.example", "a.xn--bcher-kva.example", True, id="both"),
        pytest.param("ex\u0430mple.com", "example.com", False, id="look-alike"),
        pytest.param("2001:db8::1", "2001:db8:0:0::1", True, id="ipv6"),
        pytest.param("[2001:db8::1]", "2001:db8::1", True, id="ipv6-in-brackets"),
        pytest.param("127.0.0.1", "127.1", False, id="short-ipv4"),
        pytest.param("", "example.com", False, id="empty"),
        pytest.param("\u00ad", "example.com", False, id="no-host-at-all"),
        pytest.param("example.com:8443", "example.com", False, id="with-a-port"),
        pytest.param("https://example.com", "example.com", False, id="an-address"),
    ],
)
def test_hosts_of_results(pattern: str, host: str, expected: bool) -> None:
    """A host is taken by its whole name, however either is spelt."""
    assert Reach.of(None, [pattern]).takes(host) is expected


def test_without_hosts_any_is_taken() -> None:
    """A card that names none leaves it to the guard."""
    assert Reach.of(None, ()).takes("example.com")
    assert Reach.of("https://api.example.com", ()).takes("example.com")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://api.example.com/v1", ("https", "api.example.com", 443)),
        pytest.param("http://api.example.com", ("http", "api.example.com", 80)),
        pytest.param("wss://api.example.com/v1", ("https", "api.example.com", 443)),
        pytest.param("ws://127.0.0.1:9000/v1", ("http", "127.0.0.1", 9000)),
        pytest.param("HTTPS://API.Example.com.:444", ("https", "api.example.com", 444)),
        pytest.param("http://[::0:1]:8000/v1", ("http", "::1", 8000)),
        pytest.param("http://user:pw@host:81", ("http", "host", 81)),
        pytest.param("http://bücher.example", ("http", "xn--bcher-kva.example", 80)),
        pytest.param("http://host:0", ("http", "host", 0)),
        pytest.param("http://[::1", None),
        pytest.param("http://host:99999", None),
        pytest.param("http://host:port", None),
        pytest.param("http://", None),
        pytest.param("http:///v1", None),
        pytest.param("ftp://host", None),
        pytest.param("host:8000", None),
        pytest.param("//host", None),
        pytest.param("host", None),
        pytest.param("", None),
        pytest.param(None, None),
    ],
    ids=str,
)
def test_base_is_read_from_the_card(
    url: str | None, expected: tuple[str, str, int] | None
) -> None:
    """An address that cannot be read lets nothing through."""
    assert Reach.of(url, ()).base == expected


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_results_at_the_base_are_let_through(site: Site, scheme: str) -> None:
    """A vendor on this machine delivers from where it is asked, and only from there."""
    reach = Reach.of(f"{scheme}://127.0.0.1:{site.port}/v1", {"cdn.example.com"})

    async with Site({"/": picture()}) as other, GuardedFetcher(timeout=30) as fetcher:
        taken = await fetcher.fetch(f"{site.url}/", reach)
        with pytest.raises(UnusableResultError, match="never lie on this host"):
            await fetcher.fetch(f"{other.url}/", reach)

    assert taken == PICTURE
    assert other.seen == []


@pytest.mark.parametrize(
    "base",
    [
        pytest.param("https://127.0.0.1:{port}", id="another-scheme"),
        pytest.param("wss://127.0.0.1:{port}", id="another-web-socket"),
        pytest.param("http://127.0.0.1", id="another-port"),
        pytest.param("http://localhost:{port}", id="another-name"),
        pytest.param("http://[::1]:{port}", id="another-family"),
        pytest.param("127.0.0.1:{port}", id="no-scheme"),
        pytest.param("http://127.0.0.1:{port}0000", id="broken"),
        pytest.param("", id="none"),
    ],
)
async def test_a_base_lets_nothing_else_through(
    site: Site, guarded: GuardedFetcher, base: str
) -> None:
    """What is not the same scheme, host and port passes the guard like any other."""
    reach = Reach.of(base.format(port=site.port), ())

    with pytest.raises(UnusableResultError, match="the address is not public"):
        await guarded.fetch(f"{site.url}/", reach)

    assert site.seen == []


async def test_the_base_of_one_provider_is_not_open_to_another(site: Site) -> None:
    """What one fetcher did for one provider it does not do for the next."""
    own, foreign = Reach.of(site.url, ()), Reach.of("https://api.example.com", ())

    async with GuardedFetcher(ports=frozenset({site.port}), timeout=30) as fetcher:
        await fetcher.fetch(f"{site.url}/", own)
        with pytest.raises(UnusableResultError, match="the address is not public"):
            await fetcher.fetch(f"{site.url}/", foreign)
        with pytest.raises(UnusableResultError, match="the address is not public"):
            await fetcher.fetch(f"{site.url}/")

    assert len(site.seen) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("http://example.com/1.png", "never lie on this host", id="name"),
        pytest.param("http://8.8.8.8/1.png", "never lie on this host", id="address"),
        pytest.param(
            "http://cdn.example.org@example.com/", "carries a name", id="userinfo"
        ),
        pytest.param(
            "http://example.com#@cdn.example.org/", "never lie", id="fragment"
        ),
        pytest.param("http://example.com?cdn.example.org", "never lie", id="query"),
        pytest.param(
            "http://example.com\\.cdn.example.org/", "no address", id="backslash"
        ),
        pytest.param(
            "http://example.com\uff0f.cdn.example.org/", "no address", id="wide-slash"
        ),
        pytest.param(
            "http://cdn.example.org\u3002example.com/", "never lie", id="wide-dot"
        ),
        pytest.param(
            "http://cdn.example.org\t.example.com/", "never lie", id="control"
        ),
        pytest.param("http://cdn.example.org:8080/", "port 8080", id="port"),
        pytest.param("ftp://cdn.example.org/", "not http or https", id="scheme"),
        pytest.param("http://localhost/", "address is not public", id="named-private"),
    ],
)
async def test_results_elsewhere_are_refused(url: str, reason: str) -> None:
    """No trick of spelling makes another host one of those the card names."""
    reach = Reach.of(None, {"cdn.example.org", "*.cdn.example.org", "localhost"})

    async with GuardedFetcher(timeout=30) as fetcher:
        with pytest.raises(UnusableResultError, match=reason):
            await fetcher.fetch(url, reach)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param("http://example.org/", "never lie on this host", id="elsewhere"),
        pytest.param("//example.org/", "never lie on this host", id="no-scheme"),
        pytest.param("http://localhost/", "the address is not public", id="private"),
        pytest.param("http://127.0.0.1:1/", "never lie on this host", id="port"),
    ],
)
async def test_redirects_out_of_reach_are_refused(
    site: Site, target: str, reason: str
) -> None:
    """Every hop must lie where results may lie."""
    site.pages["/1"] = redirect(target)
    reach = Reach.of(site.url, {"localhost"})

    async with GuardedFetcher(timeout=30) as fetcher:
        with pytest.raises(UnusableResultError, match=reason):
            await fetcher.fetch(f"{site.url}/1", reach)


async def test_redirects_within_the_base_are_followed(site: Site) -> None:
    """A vendor may send from one of its own pages to another."""
    site.pages["/1"] = redirect("/2")
    site.pages["/2"] = redirect(f"{site.url}/")
    reach = Reach.of(site.url, {"cdn.example.com"})

    async with GuardedFetcher(timeout=30) as fetcher:
        assert await fetcher.fetch(f"{site.url}/1", reach) == PICTURE


@pytest.mark.parametrize(
    "is_first_at_base", [False, True], ids=["from-out", "and-back"]
)
async def test_nobody_else_leads_to_the_base(
    site: Site, is_first_at_base: bool
) -> None:
    """What another host points at inside a private network is not read."""
    async with Site({}) as other:
        other.pages["/2"] = redirect(f"{site.url}/")
        site.pages["/1"] = redirect(f"{other.url}/2")
        start = f"{site.url}/1" if is_first_at_base else f"{other.url}/2"
        fetcher = GuardedFetcher(
            allowed_hosts=frozenset({("127.0.0.1", other.port)}),
            ports=frozenset({site.port}),
            timeout=5,
        )

        async with fetcher:
            with pytest.raises(UnusableResultError, match="the address is not public"):
                await fetcher.fetch(start, Reach.of(site.url, ()))

    assert "/" not in [request.path for request in site.seen]


async def test_a_host_outside_of_reach_is_not_even_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that says more than it should leaves no trace at a name server."""
    asked = []

    async def look_up(*names: object, **_: object) -> list[object]:
        asked.append(names)
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)

    async with GuardedFetcher(timeout=30) as fetcher:
        with pytest.raises(UnusableResultError):
            await fetcher.fetch(
                "http://secret.example.com/", Reach.of(None, {"cdn.example.org"})
            )

    assert asked == []


# -- what lies there --------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(stream(b"x", 0.02, 500), id="drip"),
        pytest.param(stream(b"", 10, 1), id="silence"),
    ],
)
async def test_slow_answers_end(
    site: Site, fetcher: GuardedFetcher, page: Handler
) -> None:
    """The time limit holds for the last byte, not for each of them."""
    site.pages["/"] = page
    fetcher.timeout = 0.3
    start = asyncio.get_running_loop().time()

    with pytest.raises(ProviderTimeoutError, match="it was too slow"):
        await fetcher.fetch(f"{site.url}/")

    assert asyncio.get_running_loop().time() - start < 2


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(picture(bytes(5000)), id="announced"),
        pytest.param(stream(bytes(600), 0, 10), id="streamed"),
    ],
)
async def test_too_large(site: Site, fetcher: GuardedFetcher, page: Handler) -> None:
    """Reading stops at the limit, announced or not."""
    site.pages["/"] = page
    fetcher.max_bytes = 2000

    with pytest.raises(UnusableResultError, match="over 2000 bytes"):
        await fetcher.fetch(f"{site.url}/")


async def test_the_limit_itself_passes(site: Site, fetcher: GuardedFetcher) -> None:
    """Exactly as many bytes as allowed are allowed."""
    fetcher.max_bytes = len(PICTURE)

    assert await fetcher.fetch(f"{site.url}/") == PICTURE


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd"])
async def test_packed_bodies_are_refused(
    site: Site, fetcher: GuardedFetcher, encoding: str
) -> None:
    """A small body that unpacks to a large one is refused, not unpacked."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    site.pages["/"] = picture(bomb, Content_Encoding=encoding)

    with pytest.raises(UnusableResultError, match="it is compressed"):
        await fetcher.fetch(f"{site.url}/")


async def test_unannounced_packed_bodies_stay_packed(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """A packed body that does not say so comes back as it is."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    site.pages["/"] = picture(bomb)

    assert await fetcher.fetch(f"{site.url}/") == bomb


@pytest.mark.parametrize("kind", ["text/html", "application/json", "multipart/mixed"])
async def test_wrong_type(site: Site, fetcher: GuardedFetcher, kind: str) -> None:
    """What calls itself something else than a picture is refused."""
    site.pages["/"] = picture(content_type=kind)

    with pytest.raises(UnusableResultError, match="does not call itself a picture"):
        await fetcher.fetch(f"{site.url}/")


# -- what the engine may do -------------------------------------------------------


@pytest.mark.parametrize("code", [204, 206, 304, 403, 404, 410, 429, 500, 503])
async def test_other_statuses(site: Site, fetcher: GuardedFetcher, code: int) -> None:
    """A status other than 200 means that it did not arrive, and says which."""
    site.pages["/"] = status(code)

    with pytest.raises(ProviderTimeoutError, match=f"status {code}"):
        await fetcher.fetch(f"{site.url}/")
    with pytest.raises(ProviderConnectionError, match=f"status {code}"):
        await fetcher.fetch_input(f"{site.url}/")


async def test_broken_off(site: Site, fetcher: GuardedFetcher) -> None:
    """Half a picture is none."""
    site.pages["/"] = cut_short

    with pytest.raises(ProviderTimeoutError, match="broke off"):
        await fetcher.fetch(f"{site.url}/")


async def test_nobody_listens(unused_tcp_port: int) -> None:
    """A lost result is ambiguous; a lost input may be asked for again."""
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    allowed = frozenset({("127.0.0.1", unused_tcp_port)})
    async with GuardedFetcher(allowed_hosts=allowed) as fetcher:
        with pytest.raises(ProviderTimeoutError) as result:
            await fetcher.fetch(url)
        with pytest.raises(ProviderConnectionError) as given_image:
            await fetcher.fetch_input(url)

    assert result.value.outcome is OutcomeClass.AMBIGUOUS
    assert given_image.value.outcome is OutcomeClass.REJECTED_BUSY


async def test_unknown_name() -> None:
    """A name nobody knows is no connection."""
    async with GuardedFetcher(timeout=30) as fetcher:
        with pytest.raises(ProviderConnectionError, match=r"from nowhere\.invalid"):
            await fetcher.fetch_input("http://nowhere.invalid/a.png")


@pytest.mark.parametrize("error", [ProviderTimeoutError, UnusableResultError])
def test_no_lost_result_is_made_again(
    error: type[ProviderTimeoutError | UnusableResultError],
) -> None:
    """The errors of a result forbid another provider and are not clean refusals."""
    assert not error.is_fallback_allowed
    assert error.outcome in {OutcomeClass.AMBIGUOUS, OutcomeClass.UNUSABLE}


async def test_signatures_stay_out_of_errors(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """Neither an error nor what stands behind it quotes a signed address."""
    site.pages["/private"] = redirect("http://10.0.0.1/?signature=canary")

    url = f"{site.url}/private?signature=canary"

    for fetch in (fetcher.fetch, fetcher.fetch_input):
        with pytest.raises(ProviderError) as caught:
            await fetch(url)

        shown = "".join(traceback.format_exception(caught.value))
        assert "canary" not in shown
        assert "10.0.0.1" not in shown
        assert caught.value.__suppress_context__


async def test_cancelling_is_not_translated(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """Whoever waits may stop waiting."""
    site.pages["/"] = stream(b"", 10, 1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await fetcher.fetch(f"{site.url}/")


# -- sessions ---------------------------------------------------------------------


async def test_sessions_are_kept_and_closed(
    site: Site, fetcher: GuardedFetcher
) -> None:
    """One session serves a loop until it is closed, and a new one after that."""
    await fetcher.fetch(f"{site.url}/")
    (first,) = fetcher._sessions.values()
    await fetcher.fetch(f"{site.url}/")

    assert list(fetcher._sessions.values()) == [first]

    await fetcher.close()

    assert first.closed
    assert await fetcher.fetch(f"{site.url}/") == PICTURE


def test_each_loop_has_its_own_session() -> None:
    """A fetcher works on one event loop after the other."""
    fetcher = GuardedFetcher()

    async def fetch_from_site() -> bytes:
        async with Site({"/": picture()}) as site:
            fetcher.allowed_hosts = frozenset({("127.0.0.1", site.port)})
            async with fetcher:
                return await fetcher.fetch(f"{site.url}/")

    assert [asyncio.run(fetch_from_site()) for _ in range(2)] == [PICTURE] * 2


async def test_many_at_once(site: Site, fetcher: GuardedFetcher) -> None:
    """Fetches do not get in each other's way."""
    urls = [f"{site.url}/"] * 20

    assert await asyncio.gather(*map(fetcher.fetch, urls)) == [PICTURE] * 20
