"""Connections: few, lent to whoever asks, given up when lost, closed at the end."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    CallContext,
    GenerateRequest,
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderUnavailableError,
    Secret,
)
from gaia_core.testing.probes import Load, until
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider, lines, watching

Made = Callable[..., RunwareProvider]
Attempt = Callable[..., CallContext]

KEEP = GenerateRequest(prompt="a keep", model="runware:100@1", width=256, height=256)


async def _many(
    provider: RunwareProvider, attempt: Attempt, number: int
) -> list[bytes]:
    results = await asyncio.gather(
        *(
            provider.gaia_generate(attrs.evolve(KEEP, prompt=f"keep {one}"), attempt())
            for one in range(number)
        )
    )
    return [result.images[0].data for result in results]


async def test_fifty_at_once_share_the_pool(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """As many sockets as the pool is large, and everybody gets his own picture."""
    vendor.delay = 0.2
    provider = made(pool_size=2)

    pictures = await _many(provider, attempt, 50)

    assert len(set(pictures)) == 50
    assert vendor.logins == vendor.open_sockets == 2


async def test_one_after_another_needs_one_socket(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """A further socket is opened only when all have work."""
    provider = made(pool_size=3)

    for _ in range(3):
        await provider.gaia_generate(KEEP, attempt())

    assert vendor.logins == 1


async def test_work_goes_to_the_socket_that_has_least(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """Fewer share what may happen to a socket."""
    vendor.delay = 0.3
    provider = made(pool_size=3)
    calls = asyncio.ensure_future(_many(provider, attempt, 9))
    await until(lambda: vendor.requests == 9, patience=20.0)

    (clients,) = provider._vendor()._pool._clients.values()
    shares = [client.busy for client in clients]
    await calls

    assert shares == [3, 3, 3]


async def test_a_socket_that_was_lost_while_idle_is_replaced(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The next one who asks gets a new one, and nothing is sent into the old one."""
    await provider.gaia_generate(KEEP, attempt())
    await vendor.cut()
    (clients,) = provider._vendor()._pool._clients.values()
    await until(lambda: clients[0].is_lost, patience=20.0)

    await provider.gaia_generate(KEEP, attempt())

    assert (vendor.logins, vendor.requests) == (2, 2)
    assert len(clients) == 1


async def test_nothing_is_opened_before_it_is_needed(
    made: Made, vendor: RunwareVendor
) -> None:
    """Making a provider and looking at it leaves the network alone."""
    provider = made()

    provider.gaia_provider_info()
    await provider.gaia_list_models(refresh=False, search=None)

    assert vendor.logins == 0
    assert vendor.frames == {}


# -- who is not let in -------------------------------------------------------------


async def _refused(provider: RunwareProvider, attempt: Attempt) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, attempt())
    return caught.value


@pytest.mark.parametrize("way", ["url", "http_url"], ids=["socket", "REST"])
async def test_a_wrong_key_is_said_to_be_wrong(
    made: Made, vendor: RunwareVendor, attempt: Attempt, way: str
) -> None:
    """Nothing was charged, and another provider may serve."""
    provider = made(base_url=getattr(vendor, way), api_key=Secret("wrong-canary"))

    failure = await _refused(provider, attempt)

    assert isinstance(failure, AuthenticationError)
    assert "canary" not in str(failure)


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        ("silent", ProviderConnectionError),
        ("closed", ProviderConnectionError),
        ("busy", ProviderUnavailableError),
    ],
)
async def test_who_is_not_greeted_has_sent_nothing(
    made: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    greeting: str,
    expected: type[ProviderError],
) -> None:
    """No answer to the key, a closed door, a refusal for now: all is free."""
    vendor.greeting = greeting
    provider = made(timeout=1.0)

    failure = await _refused(provider, attempt)

    assert type(failure) is expected
    assert vendor.requests == 0


async def test_after_a_refusal_the_next_one_may_be_let_in(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """A client that could not connect is given up."""
    vendor.greeting = "closed"
    provider = made(pool_size=1)
    await _refused(provider, attempt)
    vendor.greeting = "answered"

    result = await provider.gaia_generate(KEEP, attempt())

    assert len(result.images) == 1


async def test_all_who_wait_for_one_connection_hear_that_it_failed(
    made: Made, attempt: Attempt
) -> None:
    """Each has an error object of his own."""
    provider = made(pool_size=1, api_key=Secret("wrong"))

    failures = await asyncio.gather(
        *(provider.gaia_generate(KEEP, attempt()) for _ in range(3)),
        return_exceptions=True,
    )

    assert [type(one) for one in failures] == [AuthenticationError] * 3
    assert len({id(one) for one in failures}) == 3


async def test_no_proxy_of_the_surroundings_comes_between(
    provider: RunwareProvider, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot fetch a result must not pay for it first."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    result = await provider.gaia_generate(KEEP, attempt())

    assert len(result.images) == 1


# -- the end -----------------------------------------------------------------------


async def test_stopping_closes_everything(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """No task, no socket."""
    before, provider = Load.now(), made()
    await _many(provider, attempt, 5)
    await provider.gaia_recover(attempt().task_id, attempt())

    await provider.gaia_stop()

    assert await until(before.has_settled, patience=20.0)
    assert vendor.open_sockets == 0


async def test_who_still_waits_is_told_that_it_was_closed(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """What was sent may be charged; it is looked up later."""
    vendor.delay = 30.0
    provider = made()
    call = asyncio.ensure_future(
        provider.gaia_generate(KEEP, attempt(deadline=time.monotonic() + 2.0))
    )
    await until(lambda: vendor.requests == 1, patience=20.0)

    await provider.gaia_stop()
    with pytest.raises(ProviderError) as caught:
        await call
    await provider.gaia_stop()

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


async def test_cancelling_leaves_nothing_behind(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """No task, no place, and nothing that waits for an answer."""
    vendor.delay = 0.2
    provider = made()
    await _many(provider, attempt, 5)
    usual = Load.now()
    calls = [
        asyncio.ensure_future(provider.gaia_generate(KEEP, attempt())) for _ in range(4)
    ]
    await until(lambda: vendor.requests == 9, patience=20.0)

    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    (clients,) = provider._vendor()._pool._clients.values()

    assert [type(one) for one in ended] == [asyncio.CancelledError] * 4
    assert [client.busy for client in clients] == [0] * len(clients)
    assert all(not client._tasks for client in clients)
    assert await until(usual.has_settled, patience=20.0)


async def test_one_who_leaves_does_not_end_the_connecting_of_others(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The connection belongs to all who wait for it."""
    provider = made(pool_size=1)
    first = asyncio.ensure_future(provider.gaia_generate(KEEP, attempt()))
    second = asyncio.ensure_future(provider.gaia_generate(KEEP, attempt()))
    await asyncio.sleep(0)

    first.cancel()
    result = await second

    assert len(result.images) == vendor.logins == 1


# -- several event loops -----------------------------------------------------------


def _on_another_loop(
    provider: RunwareProvider,
    attempt: Callable[..., CallContext],
    stop: threading.Event,
) -> bytes:
    """Ask from a thread, on a loop that stays until it is told to go."""

    async def ask() -> bytes:
        result = await provider.gaia_generate(KEEP, attempt())
        await asyncio.to_thread(stop.wait)
        return result.images[0].data

    return asyncio.run(ask())


async def test_all_loops_share_one_line(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one, made by those who came first at once, would never be closed."""

    def slow(**facts: Any) -> lines.Line:
        time.sleep(0.05)
        return Line(**facts)

    Line, provider = lines.Line, made()  # noqa: N806  a class
    monkeypatch.setattr(lines, "Line", slow)

    found = await asyncio.gather(
        *(asyncio.to_thread(provider._vendor) for _ in range(4))
    )

    assert len({id(one) for one in found}) == 1


async def test_two_loops_at_once_use_one_provider(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """Each has its own sockets; stopping closes those of both."""
    stop = threading.Event()
    other = asyncio.ensure_future(
        asyncio.to_thread(_on_another_loop, provider, attempt, stop)
    )
    await until(lambda: len(vendor.charges) == 1, patience=30.0)
    mine = await provider.gaia_generate(KEEP, attempt())
    open_before = vendor.open_sockets

    await provider.gaia_stop()
    is_closed = await until(lambda: vendor.open_sockets == 0, patience=20.0)
    stop.set()

    assert (await other, open_before, is_closed) == (mine.images[0].data, 2, True)


async def test_rest_does_not_connect_for_ever(
    made: Made, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that answers nobody is given up long before an answer would be."""
    monkeypatch.setattr(watching, "CONNECT_SECONDS", 0.0)

    failure = await _refused(made(base_url="http://127.0.0.1:9/v1"), attempt)

    assert isinstance(failure, ProviderConnectionError)
