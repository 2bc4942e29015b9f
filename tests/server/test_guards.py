"""Where requests may come from, and how much of them is taken."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from gaia_core.requests import GenerateRequest
from gaia_core.server import guards, intakes, traffic
from gaia_core.server.intakes import FORM_BODY, JSON_BODY, SMALL_BODY
from gaia_core.server.keys import bearer
from gaia_core.settings import ServerSettings
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient
from tests.waiting import HeldProvider

DATA = "/api/images/models"
MAKE = "/api/images/generate"
DRAGON = {"prompt": "a dragon"}
FRIEND = "https://campaign.example"


# -- by which name ----------------------------------------------------------------


HOSTS = {
    "localhost": 200,
    "localhost:9999": 200,
    "LOCALHOST": 200,
    "[::1]:8188": 200,
    "evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example:8188": 421,
    "localhost/api/images/models?": 421,
    "localhost@evil.example": 421,
    "localhost:port": 421,
    "[::1": 421,
    "": 421,
}


async def test_only_own_names_are_answered(open_client: OpenClient) -> None:
    """A name that somebody else has pointed here leads nowhere."""
    async with open_client() as client:
        found = {
            host: (await client.get(DATA, headers={"Host": host})).status_code
            for host in HOSTS
        }

    assert found == HOSTS


async def test_the_settings_give_it_more_names(open_client: OpenClient) -> None:
    """It answers to the names of the settings, that of its public address included."""
    server = {
        "allowed_hosts": ("Gaia.example",),
        "public_url": "https://pictures.example/gaia",
    }
    async with open_client(server=server) as client:
        statuses = [
            (await client.get(DATA, headers={"Host": host})).status_code
            for host in ("gaia.example:443", "pictures.example", "localhost", "other")
        ]

    assert statuses == [200, 200, 200, 421]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, True, id="as-it-comes"),
        pytest.param({"host": "::1"}, True, id="ipv6"),
        pytest.param({"host": "localhost"}, True, id="by-name"),
        pytest.param({"host": "::"}, False, id="everywhere"),
        pytest.param({"host": ""}, False, id="empty"),
        pytest.param({"host": "gaia.example"}, False, id="another-name"),
        pytest.param({"public_url": "https://gaia.example"}, False, id="known"),
        pytest.param({"public_url": "http://localhost:8188"}, True, id="known-here"),
        pytest.param({"allowed_hosts": ("gaia.example",)}, False, id="named"),
        pytest.param({"trusted_proxies": ("127.0.0.1",)}, False, id="proxied"),
    ],
)
def test_what_others_can_reach_is_not_private(
    fields: dict[str, object], expected: bool
) -> None:
    """A server that a proxy shows to others asks for keys, wherever it listens."""
    settings = ServerSettings(**fields)  # type: ignore[arg-type]

    assert guards.is_private(settings) is expected


# -- from whose page --------------------------------------------------------------


HOME = {"Host": "localhost"}
PAGES: dict[str, tuple[dict[str, str], int]] = {
    "no browser": ({}, 200),
    "own page": ({"Sec-Fetch-Site": "same-origin"}, 200),
    "typed": ({"Sec-Fetch-Site": "none"}, 200),
    "cross-site": ({"Sec-Fetch-Site": "cross-site"}, 403),
    "sibling": ({"Sec-Fetch-Site": "same-site"}, 403),
    "sandboxed": ({"Origin": "null"}, 403),
    "foreign": ({"Origin": "https://evil.example"}, 403),
    "allowed": ({"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}, 200),
    "longer": ({"Origin": f"{FRIEND}.evil.example"}, 403),
    "own origin": ({"Origin": "http://localhost", **HOME}, 200),
    "own by TLS": ({"Origin": "https://localhost", **HOME}, 200),
    "other port": ({"Origin": "http://localhost:1", **HOME}, 403),
    "public": ({"Origin": "https://pictures.example"}, 200),
}


async def test_pages_of_other_sites_are_refused(open_client: OpenClient) -> None:
    """Only own pages and those of allowed origins get data or have work done."""
    server = {"allowed_origins": (FRIEND,), "public_url": "https://pictures.example"}
    provider = FakeProvider()
    expected = {page: (status, status) for page, (_, status) in PAGES.items()}

    found = {}
    async with open_client(provider, server=server) as client:
        for page, (headers, _) in PAGES.items():
            read = await client.get(DATA, headers=headers)
            made = await client.post(MAKE, json=DRAGON, headers=headers)
            found[page] = (read.status_code, made.status_code)

    assert found == expected
    assert len(provider.calls) == list(expected.values()).count((200, 200))


async def test_a_form_of_another_site_makes_nothing(open_client: OpenClient) -> None:
    """What a browser sends without asking first is refused, whatever its type."""
    provider = FakeProvider()
    headers = {
        "Origin": "https://evil.example",
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "text/plain",
    }
    async with open_client(provider) as client:
        plain = await client.post(MAKE, content=json.dumps(DRAGON), headers=headers)
        form = await client.post(
            MAKE, data=DRAGON, headers={"Origin": "https://evil.example"}
        )

    assert plain.status_code in {403, 415}
    assert form.status_code in {403, 415}
    assert provider.calls == []


async def test_a_signed_picture_opens_anywhere(open_client: OpenClient) -> None:
    """A page of another site may show a picture whose address it was given."""
    async with open_client() as client:
        url = (await client.post(MAKE, json=DRAGON)).json()["image_url"]
        headers = {"Sec-Fetch-Site": "cross-site"}
        signed = await client.get(url, headers=headers)
        bare = await client.get(url.partition("?")[0], headers=headers)
        other = await client.get(f"{DATA}?{url.partition('?')[2]}", headers=headers)

    assert signed.status_code == 200
    assert "cross-origin-resource-policy" not in signed.headers
    assert (bare.status_code, other.status_code) == (403, 403)


async def test_allowed_origins_may_read(open_client: OpenClient) -> None:
    """Browsers are told that pages of allowed origins may read, and no others."""
    async with open_client(server={"allowed_origins": (FRIEND,)}) as client:
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = await client.options(MAKE, headers={"Origin": FRIEND, **asked})
        foreign = await client.options(
            MAKE, headers={"Origin": "https://evil.example", **asked}
        )
        read = await client.get(DATA, headers={"Origin": FRIEND})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == FRIEND
    assert "access-control-allow-credentials" not in preflight.headers
    assert foreign.status_code == 400
    assert "access-control-allow-origin" not in foreign.headers
    assert read.headers["access-control-allow-origin"] == FRIEND


async def test_nobody_may_read_unless_said(open_client: OpenClient) -> None:
    """Without allowed origins no answer says that any page may read it."""
    async with open_client() as client:
        answers = [
            await client.options(MAKE, headers={"Origin": FRIEND}),
            await client.get("/api/health", headers={"Origin": FRIEND}),
        ]

    found = [name for answer in answers for name in answer.headers]
    assert [name for name in found if name.startswith("access-control")] == []


# -- how much ---------------------------------------------------------------------


async def _pieces(size: int) -> AsyncIterator[bytes]:
    """Give a body in pieces, without saying how long it is."""
    for start in range(0, size, 65_536):
        yield b" " * min(65_536, size - start)


@pytest.mark.parametrize(
    ("path", "kind", "most"),
    [
        pytest.param(MAKE, "application/json", JSON_BODY, id="json"),
        pytest.param("/v1/images/edits", "multipart/form-data", FORM_BODY, id="form"),
    ],
)
async def test_large_bodies_are_refused_unread(
    open_client: OpenClient, path: str, kind: str, most: int
) -> None:
    """What says that it is too large is refused before a byte of it is read."""
    lines = [f"Content-Type: {kind}; boundary=x", f"Content-Length: {most + 1}"]

    async with open_client() as client:
        status = await _status_of(client, path, *lines)

    assert b" 413 " in status


async def _status_of(
    client: httpx.AsyncClient, path: str, *lines: str, body: bytes = b""
) -> bytes:
    """Send headers and perhaps a part of a body, and read how it is answered."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]
    writer.write("\r\n".join(head).encode() + body)
    async with asyncio.timeout(60):
        status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return status


@pytest.mark.parametrize(
    "header", ["Content-Length: 20000000", "Transfer-Encoding: chunked"]
)
async def test_no_large_body_of_a_stranger_is_read(
    open_client: OpenClient, header: str
) -> None:
    """Who has no key is refused before the body, and takes nobody's room with it."""
    head = f"POST {MAKE} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"
    kind = "Content-Type: application/json\r\n\r\n"

    async with open_client(auth=bearer) as client:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write((head + kind).encode())
        async with asyncio.timeout(60):
            said = await reader.readline()
        writer.close()

    assert b" 401 " in said


async def test_bodies_are_counted_as_they_come(open_client: OpenClient) -> None:
    """A body that does not say how large it is has the same limit."""
    async with open_client() as client:
        headers = {"Content-Type": "application/json"}
        large = await client.post(MAKE, content=_pieces(JSON_BODY + 1), headers=headers)
        whole = await client.post(MAKE, content=_pieces(JSON_BODY), headers=headers)

    assert large.status_code == 413
    assert large.json()["error_code"] == "too_large"
    assert whole.status_code == 422


def test_routes_without_pictures_take_little() -> None:
    """Limits follow from what a route can be sent."""
    assert SMALL_BODY < JSON_BODY < FORM_BODY


async def test_slow_bodies_are_not_waited_for(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that does not come in time ends the request."""
    monkeypatch.setattr(intakes, "BODY_SECONDS", 0.05)
    lines = ["Content-Type: application/json", "Content-Length: 99"]

    async with open_client() as client:
        status = await _status_of(client, MAKE, *lines, body=b'{"prompt":')

    assert b" 408 " in status


JSON = {"Content-Type": "application/json"}
BODIES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "text": ({"Content-Type": "text/plain"}, b"{}", 415),
    "no type": ({}, b"{}", 415),
    "form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
    "almost JSON": ({"Content-Type": "application/jsonp"}, b"{}", 415),
    "packed": ({**JSON, "Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
    "no prompt": (JSON, b"{}", 422),
    "charset": ({"Content-Type": "Application/JSON; charset=utf-8"}, b"{}", 422),
    "empty": (JSON, b"", 422),
    "half": (JSON, b"{", 422),
    "bytes": (JSON, b"\xff", 422),
    "nested lists": (JSON, b"[" * 200_000, 422),
    "nested objects": (JSON, b'{"a":' * 99_999 + b"1" + b"}" * 99_999, 422),
    "huge number": (JSON, b'{"prompt":"a","seed":1' + b"0" * 10_000 + b"}", 422),
    "infinite": (JSON, b'{"prompt":"a","guidance_scale":1e999}', 422),
    "no number": (JSON, b'{"prompt":"a","guidance_scale":NaN}', 422),
    "half a letter": (JSON, b'{"prompt":"\\ud800"}', 422),
}


async def test_bodies_are_json_that_says_so(open_client: OpenClient) -> None:
    """What is not JSON, or not said to be, is refused as the caller's mistake."""
    found = {}
    async with open_client() as client:
        for name, (headers, content, _) in BODIES.items():
            answer = await client.post(MAKE, content=content, headers=headers)
            found[name] = answer.status_code
            assert answer.json()["success"] is False

    assert found == {name: status for name, (_, _, status) in BODIES.items()}


async def test_of_two_equal_keys_the_last_counts(open_client: OpenClient) -> None:
    """A key that stands twice cannot mean one thing here and another there."""
    provider = FakeProvider()
    body = b'{"prompt":"a cat","prompt":"a dragon"}'

    async with open_client(provider) as client:
        await client.post(MAKE, content=body, headers=JSON)

    (call,) = provider.calls
    assert isinstance(call.request, GenerateRequest)
    assert call.request.prompt == "a dragon"


async def test_nested_options_are_taken_or_refused(open_client: OpenClient) -> None:
    """A field that may hold anything cannot be nested until something breaks."""
    nested = b'{"a":' * 900 + b"1" + b"}" * 900
    body = b'{"prompt":"a","provider_options":{"fake":%s}}' % nested

    async with open_client() as client:
        answer = await client.post(
            MAKE, content=body, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code in {200, 422}


async def test_bodies_leave_room_for_each_other(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large bodies wait their turn; what is small goes on."""
    monkeypatch.setattr(traffic, "MOST_HELD", JSON_BODY)
    provider = HeldProvider()
    picture = base64.b64encode(b" " * 2 * SMALL_BODY).decode()

    async with open_client(provider) as client:
        first = asyncio.create_task(
            client.post(MAKE, content=_then(DRAGON, SMALL_BODY), headers=JSON)
        )
        await provider.called()
        second = await client.post(MAKE, json=DRAGON | {"image_base64": picture})
        small = await client.post(MAKE, json={"prompt": ""})
        provider.go.set()
        made = await first

    assert (second.status_code, small.status_code) == (503, 422)
    assert second.json()["error_code"] == "busy"
    assert second.headers["Retry-After"] == "1"
    assert made.status_code == 200


async def _then(document: dict[str, str], size: int) -> AsyncIterator[bytes]:
    """Give a document in pieces, with white space behind it."""
    yield json.dumps(document).encode()
    yield b" " * size


# -- how many at a time -----------------------------------------------------------


async def test_a_caller_has_so_many_places(open_client: OpenClient) -> None:
    """One request too many is refused, with when to come again."""
    provider = HeldProvider()
    async with open_client(provider, server={"max_concurrent": 1}) as client:
        first = asyncio.create_task(client.post(MAKE, json=DRAGON))
        await provider.called()
        second = await client.post(MAKE, json=DRAGON)
        provider.go.set()
        made = await first
        third = await client.get(DATA)

    assert second.status_code == 429
    assert second.headers["Retry-After"] == "1"
    assert (made.status_code, third.status_code) == (200, 200)


async def test_who_hangs_up_gives_their_place_back(open_client: OpenClient) -> None:
    """A place is free again as soon as nobody waits for the answer."""
    provider = HeldProvider()
    async with open_client(provider, server={"max_concurrent": 1}) as client:
        async with httpx.AsyncClient(base_url=client.base_url) as other:
            leaving = asyncio.create_task(other.post(MAKE, json=DRAGON))
            await provider.called()
            leaving.cancel()
            await asyncio.wait({leaving})
        async with asyncio.timeout(60):
            while (await client.get(DATA)).status_code != 200:  # noqa: ASYNC110  only asking tells
                await asyncio.sleep(0.01)
        provider.go.set()


# -- what answers say -------------------------------------------------------------


ADDRESSES = ("/", "/api/health", DATA, "/openapi.json", "/no", "/v1/models", "/v1/no")


async def test_answers_say_how_browsers_may_use_them(open_client: OpenClient) -> None:
    """No answer can be taken for another type, kept, framed, or tell where it was."""
    async with open_client() as client:
        answers = [await client.get(path) for path in ADDRESSES]

    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert len(answer.headers.get_list("Cache-Control")) == 1
