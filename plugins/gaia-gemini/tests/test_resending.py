"""The transport sends once: whatever happens, the service is asked one time."""

import asyncio
import base64
import gc
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from gaia_core import (
    GenerateRequest,
    ProviderConnectionError,
    ProviderError,
    Secret,
    UnusableResultError,
)
from gaia_core.testing import context, png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.gemini import GeminiVendor, Manner
from gaia_gemini import GeminiProvider
from gaia_gemini.clients import Access, Connection, connect

KEEP = GenerateRequest(prompt="a keep", width=64, height=64)


@pytest.fixture(name="connection")
async def _connection(vendor: GeminiVendor) -> AsyncIterator[Connection]:
    connection = connect(
        Access(api_key=vendor.api_key, base_url=vendor.url, timeout=30.0)
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.UNAVAILABLE, Fault.BUSY, Fault.ERROR_BEFORE, Fault.ERROR_AFTER),
        *(Fault.BAD_GATEWAY_AFTER, Fault.GATEWAY_TIMEOUT_AFTER),
        *(Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.TRUNCATED_AFTER),
    ],
    ids=str,
)
async def test_one_call_is_one_request(
    vendor: GeminiVendor, provider: GeminiProvider, fault: Fault
) -> None:
    """Whatever goes wrong, always, the service is asked once and charges once."""
    vendor.inject(Faults(rates={fault: 1.0}))

    with pytest.raises(ProviderError):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1
    assert len(vendor.charges) == fault.is_charged


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER], ids=str)
async def test_a_kept_connection_that_dies_is_not_tried_again(
    vendor: GeminiVendor, provider: GeminiProvider, fault: Fault
) -> None:
    """A connection kept from before is used again, and its end is nobody's excuse."""
    vendor.inject(Faults(script=[None, fault]))
    await provider.gaia_generate(KEEP, context())

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())

    first, second = vendor.connections
    assert first == second
    assert type(caught.value) is ProviderError
    assert vendor.requests == 2


async def test_a_kept_connection_that_is_closed_is_not_used(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """What the service closed meanwhile is replaced before anything is sent."""
    await provider.gaia_generate(KEEP, context())
    async with vendor.closed():
        pass

    await provider.gaia_generate(KEEP, context())

    assert vendor.requests == len(vendor.charges) == 2


async def test_a_redirection_is_not_followed(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Following one would send the request, and the key, a second time."""
    there = f"{vendor.url}/v1/models/gemini-3.1-flash-image:generateContent"
    vendor.manner = Manner(status=307, body="", headers={"Location": there})

    with pytest.raises(ProviderError):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1


async def test_an_answer_without_an_end_is_not_read_to_it(
    vendor: GeminiVendor, provider: GeminiProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is longer than any picture is given up, and counts as charged."""
    monkeypatch.setattr("gaia_gemini.transports.MAX_ANSWER", 999)
    vendor.manner = Manner(body="x" * 1_000)

    with pytest.raises(UnusableResultError, match="nobody can read"):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1


async def test_a_packed_answer_is_not_unpacked(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A few bytes may stand for gigabytes: none is asked for, and none is taken."""
    vendor.manner = Manner(body="x", headers={"Content-Encoding": "gzip"})

    with pytest.raises(UnusableResultError, match="nobody can read"):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1


async def test_a_long_answer_is_not_continued(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The SDK would ask for the rest by itself, and that would be paid as well."""
    token = base64.b64encode(b"more").decode()
    reply = {"candidates": [{"finishReason": "CONTINUATION"}]}
    reply["candidates"][0]["continuationToken"] = token
    vendor.manner = Manner(body=json.dumps(reply))

    with pytest.raises(UnusableResultError, match="CONTINUATION"):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1


async def test_a_function_call_is_not_answered(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The SDK would send what a function gave; there are no functions here."""
    part = {"functionCall": {"name": "draw", "args": {}}}
    reply = {"candidates": [{"content": {"role": "model", "parts": [part]}}]}
    vendor.manner = Manner(body=json.dumps(reply))

    with pytest.raises(UnusableResultError):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 1


async def test_nobody_listens(vendor: GeminiVendor, provider: GeminiProvider) -> None:
    """A connection that is refused proves that nothing was sent."""
    async with vendor.closed():
        with pytest.raises(ProviderConnectionError):
            await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 0


async def test_the_sdk_uses_the_transport_it_is_given(connection: Connection) -> None:
    """It does not take its own way through aiohttp, although that is installed."""
    inner = connection.sdk._api_client

    assert not inner._use_aiohttp()
    assert inner._async_httpx_client is connection.http


@pytest.mark.parametrize(
    ("excepted", "arrives"), [("", True), ("127.0.0.1", False)], ids=["used", "passed"]
)
async def test_a_proxy_of_the_environment_is_used(
    vendor: GeminiVendor,
    provider: GeminiProvider,
    monkeypatch: pytest.MonkeyPatch,
    *,
    excepted: str,
    arrives: bool,
) -> None:
    """Hosts behind a proxy reach the service through it; exceptions are heeded."""
    monkeypatch.setenv("http_proxy", vendor.url)
    monkeypatch.setenv("no_proxy", excepted)
    provider.base_url = "http://127.0.0.1:9"

    try:
        await provider.gaia_generate(KEEP, context())
    except ProviderConnectionError:
        assert not arrives

    assert vendor.requests == arrives


async def test_logs_hold_no_key(
    vendor: GeminiVendor, caplog: pytest.LogCaptureFixture
) -> None:
    """At the loudest level nobody logs the key, nor a vendor's echo of it."""
    key = "AIza-canary-of-the-logs"
    vendor.echo = key
    provider = GeminiProvider(api_key=Secret(f" {key}\n"), base_url=vendor.url)

    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()

    assert key not in caplog.text
    assert key not in str(caught.value)
    assert key not in repr(provider)


async def test_an_answer_that_is_no_http_shows_no_key() -> None:
    """The library below keeps the headers of a request in its error, with the key."""
    key = "AIza-canary-of-the-headers"

    async def babble(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/9 babble\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    provider = GeminiProvider(api_key=Secret(key), base_url=url)

    async with server:
        with pytest.raises(ProviderError) as caught:
            await provider.gaia_generate(KEEP, context())
        await provider.gaia_stop()

    assert type(caught.value) is ProviderError
    assert key not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_pictures_are_not_kept_from_their_owner(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """What arrives is what the service made, to the byte."""
    data = png(1024, 1024)
    part = {"inlineData": {"data": base64.b64encode(data).decode()}}
    reply = {"candidates": [{"content": {"role": "model", "parts": [part]}}]}
    vendor.manner = Manner(body=json.dumps(reply))

    result = await provider.gaia_generate(KEEP, context())

    assert result.images[0].data == data


async def test_answers_are_let_go_of(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A connection that is kept keeps nothing of what came over it."""
    data = png() + bytes(3_000_000)
    part = {"inlineData": {"data": base64.b64encode(data).decode()}}
    reply = {"candidates": [{"content": {"role": "model", "parts": [part]}}]}
    vendor.manner = Manner(body=json.dumps(reply))
    await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()
    tracemalloc.start()

    try:
        await provider.gaia_generate(KEEP, context())
        gc.collect()
        ours = tracemalloc.Filter(inclusive=True, filename_pattern="*gaia_gemini*")
        traces = tracemalloc.take_snapshot().filter_traces([ours]).traces
    finally:
        tracemalloc.stop()

    assert sum(trace.size for trace in traces) < len(data)
