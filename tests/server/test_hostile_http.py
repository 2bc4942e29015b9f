"""What no honest client sends: the server refuses it, and goes on."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest

from gaia_core import Gaia
from gaia_core.server import connections, create_app, intakes, nobody_asked
from gaia_core.server.connections import BoundedProtocol
from gaia_core.testing import FakeProvider
from tests.server.conftest import serving, settings_in

PATIENCE = 10.0
SHORT = 0.1


@attrs.frozen
class Target:
    """A server, and the raw way to it."""

    url: str
    provider: FakeProvider

    @asynccontextmanager
    async def connect(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection, and leave it without a word."""
        url = httpx.URL(self.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            async with asyncio.timeout(PATIENCE):
                yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def say(self, data: bytes) -> bytes:
        """Send bytes, and read until the other side hangs up."""
        async with self.connect() as (reader, writer):
            writer.write(data)
            return await _read(reader)

    async def is_well(self) -> bool:
        """Tell whether it still serves an honest client."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.get("/api/images/models")
            return answer.status_code == 200


async def _read(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while True:
        try:
            some = await reader.read(65_536)
        except ConnectionResetError:
            return found
        if not some:
            return found
        found += some


Attack = Callable[..., AbstractAsyncContextManager[Target]]


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Attack:
    """Give a function that runs a server as ``gaia serve`` does."""

    @asynccontextmanager
    async def target() -> AsyncIterator[Target]:
        provider = FakeProvider()
        gaia = Gaia.open(settings_in(tmp_path), plugins=[provider], discover=False)
        app = create_app(gaia, auth=nobody_asked)
        options = {"http": BoundedProtocol, "timeout_keep_alive": SHORT}
        async with serving(app, ws="none", **options) as url:
            target = Target(url, provider)
            yield target
            assert await target.is_well()

    return target


@pytest.fixture(name="_short")
def _shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all that is waited for."""
    for name in ("HEADER_SECONDS", "LINGER_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(connections, name, SHORT)
    monkeypatch.setattr(intakes, "BODY_SECONDS", SHORT)


def _statuses(said: bytes) -> list[int]:
    """Read the statuses of all the answers in what a server said."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def _request(line: str, *headers: str, body: bytes = b"", host: str = "a") -> bytes:
    lines = [line, *([] if host == "none" else [f"Host: {_HOSTS[host]}"]), *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


_HOSTS = {"a": "localhost", "b": "evil.example"}
CLOSE = "Connection: close"
GET = "GET /api/images/models HTTP/1.1"
POST = "POST /api/images/generate HTTP/1.1"
JSON = "Content-Type: application/json"
SMUGGLED = _request("GET /smuggled HTTP/1.1")

SHAPES: dict[str, tuple[bytes, set[int]]] = {
    "both lengths": (
        _request(POST, JSON, "Content-Length: 4", "Transfer-Encoding: chunked")
        + b"0\r\n\r\n"
        + SMUGGLED,
        {400},
    ),
    "two lengths": (
        _request(POST, JSON, "Content-Length: 0", "Content-Length: 30") + SMUGGLED,
        {400},
    ),
    "signed length": (_request(POST, JSON, "Content-Length: +2", body=b"{}"), {400}),
    "negative length": (_request(POST, JSON, "Content-Length: -1"), {400}),
    "endless length": (_request(POST, JSON, f"Content-Length: {'9' * 40}"), {400}),
    "listed length": (_request(POST, JSON, "Content-Length: 2, 2", body=b"{}"), {400}),
    "other coding": (
        _request(POST, JSON, "Transfer-Encoding: chunked, identity", body=b"2\r\n{}"),
        {400},
    ),
    "spelt coding": (
        _request(POST, JSON, "Transfer-Encoding: xchunked", CLOSE, body=b"{}"),
        {400},
    ),
    "space before colon": (_request(GET, "X-A : b", CLOSE), {400}),
    "folded header": (_request(GET, "X-A: b", " Host: evil.example", CLOSE), {400}),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: localhost\n\n", {200, 400}),
    "bad chunk": (
        _request(POST, JSON, "Transfer-Encoding: chunked", body=b"ZZ\r\n{}\r\n"),
        {400},
    ),
    "endless chunk size": (
        _request(POST, JSON, "Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n"),
        {400},
    ),
    "chunk too long": (
        _request(
            POST, JSON, "Transfer-Encoding: chunked", body=b"1\r\n{}\r\n0\r\n\r\n"
        ),
        {400},
    ),
    "no host": (_request(GET, CLOSE, host="none"), {421}),
    "two hosts": (_request(GET, "Host: evil.example", CLOSE), {421}),
    "old HTTP": (b"GET /api/images/models HTTP/1.0\r\n\r\n", {421}),
    "oldest HTTP": (b"GET /api/images/models\r\n", set()),
    "newer HTTP": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, {400}),
    "absolute": (
        _request("GET http://evil.example/api/images/models HTTP/1.1", CLOSE),
        {200, 421},
    ),
    "absolute rebound": (
        _request("GET http://localhost/api/health HTTP/1.1", CLOSE, host="b"),
        {421},
    ),
    "authority": (
        _request("CONNECT evil.example:443 HTTP/1.1", CLOSE),
        {400, 404, 405},
    ),
    "asterisk": (_request("OPTIONS * HTTP/1.1", CLOSE), {400, 404, 405}),
    "two slashes": (_request("GET //evil.example/ HTTP/1.1", CLOSE), {404}),
    "dots": (_request("GET /../../etc/passwd HTTP/1.1", CLOSE), {404}),
    "hidden dots": (
        _request("GET /api/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1", CLOSE),
        {404, 422},
    ),
    "backslashes": (_request("GET /..%5c..%5cetc%5cpasswd HTTP/1.1", CLOSE), {404}),
    "NUL in path": (_request("GET /api/images/%00 HTTP/1.1", CLOSE), {400}),
    "NUL in query": (_request("GET /api/images?search=%00 HTTP/1.1", CLOSE), {400}),
    "raw NUL": (_request("GET /api/\0 HTTP/1.1", CLOSE), {400}),
    "raw letters": (_request("GET /api/\xe9 HTTP/1.1", CLOSE), {400}),
    "half letters": (
        _request("GET /api/operations/%ff%fe HTTP/1.1", CLOSE),
        {404, 422},
    ),
    "long address": (_request(f"GET /{'a' * 20_000} HTTP/1.1", CLOSE), {431}),
    "long query": (_request(f"GET /?{'a' * 20_000} HTTP/1.1", CLOSE), {431}),
    "long header": (_request(GET, f"X-A: {'b' * 20_000}", CLOSE), {431}),
    "many headers": (_request(GET, *["X: y"] * 1_000, CLOSE), {431}),
    "a thousand ranges": (
        _request(GET, f"Range: bytes={','.join(['0-1'] * 1_000)}", CLOSE),
        {200},
    ),
    "upgrade": (
        _request(GET, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        {200},
    ),
    "web socket": (
        _request(GET, "Connection: Upgrade", "Upgrade: websocket"),
        {200},
    ),
    "unknown method": (_request("BREW /api/health HTTP/1.1", CLOSE), {400, 405}),
    "wrong method": (_request("DELETE /api/images/generate HTTP/1.1", CLOSE), {405}),
    "trace": (_request("TRACE /api/images/models HTTP/1.1", CLOSE), {405}),
    "no boundary": (
        _request(
            "POST /v1/images/edits HTTP/1.1",
            "Content-Type: multipart/form-data",
            "Content-Length: 2",
            CLOSE,
            body=b"--",
        ),
        {400},
    ),
    "long boundary": (
        _request(
            "POST /v1/images/edits HTTP/1.1",
            f"Content-Type: multipart/form-data; boundary={'x' * 10_000}",
            "Content-Length: 2",
            CLOSE,
            body=b"--",
        ),
        {400},
    ),
}


@pytest.mark.usefixtures("_short")
async def test_what_is_no_honest_request_is_refused(target: Attack) -> None:
    """Each shape gets the answer it should, and nothing behind it is obeyed."""
    found, wrong = {}, {}
    async with target() as server:
        for name, (data, expected) in SHAPES.items():
            said = await server.say(data)
            found[name] = _statuses(said)
            if len(found[name]) != bool(expected) or set(found[name]) - expected:
                wrong[name] = (found[name], expected)
            assert b"Traceback" not in said
            assert b"root:" not in said

    assert wrong == {}
    assert server.provider.calls == []


async def test_what_is_no_http_is_answered_like_the_rest(target: Attack) -> None:
    """Even that has the shape of all errors, and tells nothing of the software."""
    async with target() as server:
        said = await server.say(b"\0\0\0\0\r\n\r\n")

    head, _, body = said.partition(b"\r\n\r\n")
    assert httpx.Response(400, content=body).json()["error_code"] == "bad_http"
    assert b"server:" not in head.lower()


async def test_requests_in_a_row_are_answered_in_order(target: Attack) -> None:
    """Several requests sent at once are several requests, each with its answer."""
    first, last = _request(GET), _request("GET /nothing HTTP/1.1", CLOSE)

    async with target() as server:
        said = await server.say(first + first + last)

    assert _statuses(said) == [200, 200, 404]


async def test_many_parts_are_too_many(target: Attack) -> None:
    """A form of a thousand parts is refused before they are all kept."""
    fields = {f"field-{number}": (None, "x") for number in range(1_000)}
    files = {f"file-{number}": ("a.png", b"x") for number in range(1_000)}

    async with target() as server, httpx.AsyncClient(base_url=server.url) as client:
        statuses = [
            (await client.post("/v1/images/edits", files=parts)).status_code
            for parts in (fields, files)
        ]

    assert statuses == [400, 400]


async def test_names_of_files_mean_nothing(target: Attack) -> None:
    """What a client calls its file is no path here, and no error."""
    name = "../../../../tmp/" + "a" * 2_000 + ".png"
    files = {"image": (name, b"no picture", "image/png")}

    async with target() as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post(
            "/v1/images/edits", data={"prompt": "a hat"}, files=files
        )

    assert answer.status_code == 400
    assert "tmp" not in answer.text


# -- those who keep others waiting ------------------------------------------------


SILENCES = {
    "nothing": b"",
    "half a header": b"GET /api/health HTTP/1.1\r\nHost: loc",
    "an empty line": b"\r\n",
    "half a second request": _request(GET) + b"GET /api/he",
    "an empty line after": _request(GET) + b"\r\n",
    "a body nobody reads": _request(GET, "Content-Length: 9"),
}


@pytest.mark.usefixtures("_short")
async def test_slow_clients_are_hung_up_on(target: Attack) -> None:
    """A connection on which nothing comes any more is closed."""
    async with target() as server:
        said = [await server.say(data) for data in SILENCES.values()]

    assert [_statuses(one) for one in said] == [[], [], [], [200], [200], [200]]


@pytest.mark.usefixtures("_short")
async def test_a_trickle_is_hung_up_on(target: Attack) -> None:
    """Headers that come a letter at a time are not waited for for ever."""
    async with target() as server, server.connect() as (reader, writer):
        writer.write(b"GET /api/health HTTP/1.1\r\nX-A: ")
        ending = asyncio.create_task(_read(reader))
        while not ending.done():
            writer.write(b"a")
            await asyncio.wait({ending}, timeout=0.02)

    assert _statuses(ending.result()) == []


async def test_headers_without_an_end_are_cut_off(target: Attack) -> None:
    """A header that goes on and on ends at the limit, not in the memory."""
    async with target() as server, server.connect() as (reader, writer):
        writer.write(b"GET /api/health HTTP/1.1\r\nX-A: ")
        for _ in range(100):
            writer.write(b"a" * 1_000)
        said = await _read(reader)

    assert _statuses(said) in ([431], [])


@pytest.mark.usefixtures("_short")
async def test_who_reads_nothing_is_hung_up_on(target: Attack) -> None:
    """An answer that nobody takes is not kept for ever."""
    async with target() as server, server.connect() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(_request("GET /openapi.json HTTP/1.1") * 400)
        async with asyncio.timeout(PATIENCE):
            while not writer.transport.is_closing():
                # Only a write that fails tells that nobody is there any more.
                writer.write(b"\r\n")
                await asyncio.sleep(0.02)


async def test_many_idle_connections_stop_nobody(target: Attack) -> None:
    """Two hundred clients that say nothing leave room for one that does."""
    async with target() as server, contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(server.connect())
        is_well = await server.is_well()

    assert is_well
