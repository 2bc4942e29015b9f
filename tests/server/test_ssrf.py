"""What an ``image_url`` reaches; the guard itself is tested in test_fetching.py."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from gaia_core import Gaia, UpscaleRequest
from gaia_core.fetching import GuardedFetcher
from gaia_core.images import to_image
from gaia_core.server import create_app, nobody_asked
from gaia_core.testing import FakeProvider, png
from tests.server.conftest import serving, settings_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]
PICTURE = png(24, 16)


def page(body: bytes, status: int = 200, **headers: str) -> Page:
    """Answer with bytes that call themselves a picture, unless said."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: web.Request) -> web.StreamResponse:
        whole = {"Content-Type": "image/png", **names}
        return web.Response(body=body, status=status, headers=whole)

    return answer


async def endless(request: web.Request) -> web.StreamResponse:
    """Answer with bytes that never end."""
    response = web.StreamResponse(headers={"Content-Type": "image/png"})
    await response.prepare(request)
    while True:
        await response.write(bytes(65_536))


async def dripping(request: web.Request) -> web.StreamResponse:
    """Answer with a byte at a time."""
    response = web.StreamResponse(headers={"Content-Type": "image/png"})
    await response.prepare(request)
    while True:
        await response.write(b"\x89")
        await asyncio.sleep(0.01)


async def hanging_up(request: web.Request) -> web.StreamResponse:
    """Promise a picture, and hang up."""
    headers = {"Content-Type": "image/png", "Content-Length": "1000"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    assert request.transport is not None
    request.transport.close()
    return response


@attrs.define(eq=False)
class Host:
    """A host on this machine, and what it was asked for."""

    port: int = 0
    pages: dict[str, Page] = attrs.field(factory=dict)
    seen: list[str] = attrs.field(factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer, and remember."""
        self.seen.append(request.path)
        return await self.pages[request.path](request)


@asynccontextmanager
async def hosting(pages: dict[str, Page]) -> AsyncIterator[Host]:
    """Answer on this machine."""
    host = Host(pages=pages)
    application = web.Application()
    application.router.add_get("/{path:.*}", host.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.port = runner.addresses[0][1]
    try:
        yield host
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(name="inside", scope="module", loop_scope="module")
async def _inside() -> AsyncIterator[Host]:
    """Give a host in the server's own network, that no caller may reach."""
    async with hosting({"/": page(PICTURE)}) as host:
        yield host


@pytest_asyncio.fixture(name="outside", scope="module", loop_scope="module")
async def _outside() -> AsyncIterator[Host]:
    """Give a host that stands for one on the internet."""
    async with hosting({"/": page(PICTURE)}) as host:
        yield host


@pytest.fixture(name="provider", scope="module")
def _provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture(name="fetcher", scope="module")
def _fetcher(inside: Host, outside: Host) -> GuardedFetcher:
    """
    Give the server's fetcher, but for two things.

    The outside host may be reached though it is on this machine; and the port of the
    one inside is a usual one, so that nothing but its address protects it.
    """
    return GuardedFetcher(
        allowed_hosts=frozenset({("127.0.0.1", outside.port)}),
        ports=frozenset({80, 443, inside.port}),
        timeout=2.0,
        max_bytes=1_000_000,
    )


@pytest_asyncio.fixture(name="client", scope="module", loop_scope="module")
async def _client(
    tmp_path_factory: pytest.TempPathFactory,
    provider: FakeProvider,
    fetcher: GuardedFetcher,
) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_in(tmp_path_factory.mktemp("server"))
    gaia = Gaia.open(settings, plugins=[provider], discover=False, fetcher=fetcher)
    async with (
        serving(create_app(gaia, auth=nobody_asked)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _as_new(inside: Host, outside: Host, provider: FakeProvider) -> None:
    """Forget what the test before asked for."""
    inside.seen.clear()
    outside.seen.clear()
    provider.calls.clear()


async def upscale(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """Have a picture at an address enlarged."""
    return await client.post("/api/images/upscale", json={"image_url": url})


def assert_refused(answer: httpx.Response, code: str = "image_url") -> None:
    """See that a client learns nothing but that it cannot be had."""
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (422, code), answer.text
    assert body["billed"] is False
    for word in ("127.0.0.1", "localhost", "public", "port", "refused", "status"):
        assert word not in answer.text


# -- what gets through ---------------------------------------------------------------


async def test_a_picture_is_fetched_once_and_cleaned(
    client: httpx.AsyncClient, provider: FakeProvider, outside: Host
) -> None:
    """The provider gets the picture itself, and never the address."""
    outside.pages["/hero.png"] = page(PICTURE + b"canary")

    answer = await upscale(client, f"http://127.0.0.1:{outside.port}/hero.png")

    assert answer.status_code == 200, answer.text
    request = cast("UpscaleRequest", provider.calls[0].request)
    assert to_image(request.image).data == PICTURE
    assert outside.seen == ["/hero.png"]


# -- what does not -------------------------------------------------------------------

ADDRESSES = {
    "this-machine": "http://127.0.0.1:{port}/",
    "this-machine-by-name": "http://localhost:{port}/",
    "dot-behind": "http://localhost.:{port}/",
    "below-localhost": "http://a.localhost:{port}/",
    "decimal": "http://2130706433:{port}/",
    "hexadecimal": "http://0x7f000001:{port}/",
    "octal": "http://0177.0.0.1:{port}/",
    "short": "http://127.1:{port}/",
    "zero": "http://0:{port}/",
    "zeros": "http://0.0.0.0:{port}/",
    "another-loopback": "http://127.9.9.9:{port}/",
    "wide-digits": "http://①②⑦.⓪.⓪.①:{port}/",
    "wide-dots": "http://127。0。0。1:{port}/",
    "loopback-6": "http://[::1]:{port}/",
    "mapped": "http://[::ffff:127.0.0.1]:{port}/",
    "mapped-hexadecimal": "http://[::ffff:7f00:1]:{port}/",
    "compatible": "http://[::127.0.0.1]:{port}/",
    "unspecified-6": "http://[::]:{port}/",
    "nat64": "http://[64:ff9b::7f00:1]/",
    "6to4": "http://[2002:7f00:1::]/",
    "link-local-6": "http://[fe80::1]/",
    "link-local-scoped": "http://[fe80::1%25lo]/",
    "unique-local": "http://[fd00:ec2::254]/latest/meta-data/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata-decimal": "http://2852039166/latest/meta-data/",
    "metadata-alibaba": "http://100.100.100.200/latest/meta-data/",
    "metadata-oracle": "http://192.0.0.192/opc/v1/instance/",
    "metadata-azure": "http://168.63.129.16/machine",
    "private-10": "http://10.0.0.1/",
    "private-172": "http://172.16.0.1/",
    "private-192": "http://192.168.0.1/",
    "broadcast": "http://255.255.255.255/",
    "redis": "http://127.0.0.1:6379/",
    "ssh-port": "http://example.com:22/",
    "high-port": "http://example.com:8080/",
    "no-such-port": "http://example.com:99999/",
    "user": "http://example.com@127.0.0.1:{port}/",
    "password": "http://a:b@127.0.0.1:{port}/",
    "backslash": "http://127.0.0.1:{port}\\@example.com/",
    "backslash-behind": "http://example.com\\@127.0.0.1:{port}/",
    "fragment": "http://127.0.0.1:{port}#@example.com/",
    "tab": "http://127.0.0.1\t:{port}/",
    "newline": "http://127.0.0.1:{port}/\r\nHost: example.com",
    "blank": " http://127.0.0.1:{port}/",
    "no-scheme": "//127.0.0.1:{port}/",
    "no-host": "http:///latest/meta-data",
    "one-slash": "http:/127.0.0.1:{port}/",
    "file": "file:///etc/passwd",
    "file-host": "file://localhost/etc/passwd",
    "ftp": "ftp://127.0.0.1/a.png",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict": "dict://127.0.0.1:11211/stat",
    "data": "data:image/png;base64,AAAA",
    "javascript": "javascript:alert(1)",
    "unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "jar": "jar:http://127.0.0.1:{port}!/",
    "path": "/etc/passwd",
    "nothing": "",
    "a-word": "hero",
    "long": "http://127.0.0.1:{port}/" + "a" * 2_000,
}


@pytest.mark.parametrize("url", ADDRESSES.values(), ids=ADDRESSES)
async def test_addresses_that_are_refused(
    client: httpx.AsyncClient, provider: FakeProvider, inside: Host, url: str
) -> None:
    """However an address is spelt, nothing inside is dialled, and nobody is paid."""
    answer = await upscale(client, url.format(port=inside.port))

    assert_refused(answer)
    assert inside.seen == []
    assert provider.calls == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    [
        pytest.param("http://127.0.0.1:{port}/", id="this-machine"),
        pytest.param("//127.0.0.1:{port}/", id="without-scheme"),
        pytest.param("http://[::ffff:127.0.0.1]:{port}/", id="mapped"),
        pytest.param("file:///etc/passwd", id="file"),
    ],
)
async def test_redirects_inside(
    client: httpx.AsyncClient, inside: Host, outside: Host, target: str, status: int
) -> None:
    """A host outside leads nobody in."""
    location = target.format(port=inside.port)
    outside.pages["/"] = page(b"", status, Location=location)

    answer = await upscale(client, f"http://127.0.0.1:{outside.port}/")

    assert_refused(answer)
    assert outside.seen == ["/"]
    assert inside.seen == []


async def test_a_name_that_changes_its_mind(
    client: httpx.AsyncClient, inside: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a name meant before, what counts is the address that is dialled."""
    answers = iter(("93.184.215.14", "127.0.0.1", "127.0.0.1"))
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def look_up(host: Any, port: Any, **options: Any) -> Any:
        if host != "rebind.example":
            return await ask(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    # Somebody looked it up before, and found it to be harmless.
    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    before = await loop.getaddrinfo("rebind.example", inside.port)

    answer = await upscale(client, f"http://rebind.example:{inside.port}/")

    assert before[0][4][0] == "93.184.215.14"
    assert_refused(answer)
    assert inside.seen == []


HOSTILE: dict[str, Page] = {
    "missing": page(b"", 404),
    "broken": page(b"", 500),
    "no-picture-by-type": page(PICTURE, Content_Type="text/html"),
    "packed": page(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"),
    "too-large": page(PICTURE + bytes(1_000_000)),
    "endless": endless,
    "dripping": dripping,
    "hanging-up": hanging_up,
    "going-round": page(b"", 302, Location="/"),
    "nowhere": page(b"", 302, Location="http://["),
}


@pytest.mark.parametrize("answers", HOSTILE.values(), ids=HOSTILE)
async def test_hosts_that_are_hostile(
    client: httpx.AsyncClient,
    provider: FakeProvider,
    fetcher: GuardedFetcher,
    outside: Host,
    answers: Page,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Size, time, type and hops are bounded, and nobody is paid."""
    monkeypatch.setattr(fetcher, "timeout", 0.5)
    outside.pages["/"] = answers

    answer = await upscale(client, f"http://127.0.0.1:{outside.port}/")

    assert_refused(answer)
    assert provider.calls == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<svg onload='alert(1)'/>", id="svg"),
        pytest.param(b"AKIA-canary", id="secret"),
        pytest.param(PICTURE[:60], id="half"),
    ],
)
async def test_what_calls_itself_a_picture(
    client: httpx.AsyncClient, outside: Host, body: bytes
) -> None:
    """What was fetched is decoded like everything else, and never shown."""
    outside.pages["/"] = page(body)

    answer = await upscale(client, f"http://127.0.0.1:{outside.port}/")

    assert_refused(answer, "invalid_image")
    assert "canary" not in answer.text


async def test_nothing_tells_what_is_inside(
    client: httpx.AsyncClient, inside: Host, outside: Host, unused_tcp_port: int
) -> None:
    """A port that is open, one that is closed and a page that is missing look alike."""
    outside.pages["/gone"] = page(b"", 404)
    outside.pages["/in"] = page(b"", 302, Location=f"http://127.0.0.1:{inside.port}/")
    addresses = (
        f"http://127.0.0.1:{inside.port}/",
        f"http://127.0.0.1:{unused_tcp_port}/",
        "http://no-such-name.invalid/",
        f"http://127.0.0.1:{outside.port}/gone",
        f"http://127.0.0.1:{outside.port}/in",
        "file:///etc/passwd",
    )

    answers = [await upscale(client, url) for url in addresses]

    assert len({answer.content for answer in answers}) == 1
    assert inside.seen == []
