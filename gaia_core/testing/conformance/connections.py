# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of connections: none is trusted, none is waited for in vain."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import pytest

from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass
from gaia_core.requests import GenerateRequest
from gaia_core.results import ImageResult
from gaia_core.testing.bench import Bench
from gaia_core.testing.conformance.worlds import Ending, WorldTests
from gaia_core.testing.probes import Load, shown_by
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Fault, Faults, Shop

_MANY = 50
_LONG = 3_600.0
_SHORT = 0.2

_SILENT = (Fault.HANG_AFTER, Fault.SLOW_AFTER)
_SENT = frozenset({OutcomeClass.OK, OutcomeClass.AMBIGUOUS, OutcomeClass.REJECTED_BUSY})


class ConnectionTests(WorldTests):
    """Only Gaia repeats, nobody waits for ever, and what is lost is built anew."""

    @pytest.mark.asyncio
    async def test_only_gaia_repeats(
        self,
        shop: Shop,
        bench: Bench,
        open_gaia: OpenGaia,
        generate_request: GenerateRequest,
    ) -> None:
        """
        A vendor that always answers 503 is asked as often as Gaia says, not more.

        Troubleshooting:
            Turn off the retries of the SDK, and those of its HTTP client.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        shop.inject(Faults(rates={Fault.UNAVAILABLE: 1}))

        async with self.opened(open_gaia, bench) as gaia:
            story = await self.story_of(gaia, generate_request)

        assert story.error is not None
        assert shop.requests == len(story.attempts) == self.reliability().max_attempts

    @pytest.mark.asyncio
    async def test_a_stale_connection_sends_nothing_twice(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        A connection that is closed when it is used again is no reason to repeat.

        Troubleshooting:
            HTTP clients send again by themselves what a kept connection lost. Use a
            transport that does not, and close idle connections after four seconds.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            before = await self.end_of(bench, generate_request)
            shop.inject(Faults(script=[Fault.DROP_BEFORE]))
            lost = await self.end_of(bench, generate_request)
            asked = shop.requests
            after = await self.end_of(bench, generate_request)

        assert asked == 2, (shop.arrivals, before, lost)  # noqa: PLR2004  one for each call
        assert lost.outcome is OutcomeClass.AMBIGUOUS, _told(lost)
        assert before.outcome is after.outcome is OutcomeClass.OK, _told(after)

    @pytest.mark.asyncio
    async def test_it_outlives_a_restart_of_the_vendor(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        A vendor that was away is served again, and asked once a call.

        Troubleshooting:
            Build a connection anew once it is lost, not with the next process.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        closed = _closed(shop)

        async with bench:
            before = await self.end_of(bench, generate_request)
            async with closed():
                pass
            first = await self.end_of(bench, generate_request)
            asked = shop.requests
            after = await self.end_of(bench, generate_request)

        assert before.outcome is after.outcome is OutcomeClass.OK, _told(after)
        assert first.outcome in _SENT, _told(first)
        assert asked <= 2, shop.arrivals  # noqa: PLR2004  one for each call

    @pytest.mark.asyncio
    async def test_a_refused_connection_is_free(
        self, shop: Shop, hurried_bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Where nobody listens nothing was sent: it may be repeated, or go elsewhere.

        Troubleshooting:
            Tell what fails before the request is sent (`ProviderConnectionError`)
            from what fails after (`ProviderError`).
        """
        hurried_bench.needs(Capability.TEXT_TO_IMAGE)
        closed = _closed(shop)

        async with closed(), hurried_bench as bench:
            ending = await self.end_of(bench, generate_request)

        assert ending.outcome is OutcomeClass.REJECTED_BUSY, _told(ending)
        assert shop.requests == 0

    # -- waiting --------------------------------------------------------------------

    @pytest.mark.asyncio
    @pytest.mark.parametrize("fault", _SILENT, ids=str)
    async def test_it_does_not_wait_for_ever(
        self,
        shop: Shop,
        hurried_bench: Bench,
        generate_request: GenerateRequest,
        fault: Fault,
    ) -> None:
        """
        A vendor that falls silent, before or within its answer, is given up in time.

        Troubleshooting:
            Put one time limit around the whole call, the reading of the answer
            included; limits of SDKs are often for each piece. The fixture
            ``hurried_provider`` gives a provider with a limit of about a second.
        """
        hurried_bench.needs(Capability.TEXT_TO_IMAGE)

        async with hurried_bench as bench:
            await self.warm_up(bench, generate_request)
            asked = shop.requests
            shop.inject(Faults(script=[fault], slow_seconds=_LONG, hang_seconds=_LONG))
            ending = await self.end_of(bench, generate_request)

        assert shop.requests == asked + 1
        assert ending.outcome in {OutcomeClass.AMBIGUOUS, OutcomeClass.OK}

    @pytest.mark.asyncio
    async def test_it_does_not_wait_for_a_mute_vendor(
        self, shop: Shop, hurried_bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        A vendor that takes the connection and never says a word is given up, too.

        Troubleshooting:
            Limit connecting, greeting and logging in as well as working.
        """
        hurried_bench.needs(Capability.TEXT_TO_IMAGE)
        closed = _closed(shop)

        async with closed(), _mute(shop), hurried_bench as bench:
            ending = await self.end_of(bench, generate_request)

        assert ending.outcome in _SENT - {OutcomeClass.OK}, _told(ending)

    # -- many -----------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_fifty_requests_at_once_get_their_own_answers(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Fifty at once are served, each with its own picture, over few connections.

        Troubleshooting:
            Match answers by the task id, never by their order.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        shop.delay = _SHORT
        requests = [
            self.like(generate_request, f"keep number {number}")
            for number in range(_MANY)
        ]

        async with bench:
            before = Load.now()
            results = await asyncio.gather(*map(bench.ask, requests))
            after = Load.now()

        mixed_up = [
            request.prompt
            for request, result in zip(requests, results, strict=True)
            if _made(result) != shop.made_for(request.prompt)
        ]
        assert mixed_up == []
        assert len(shop.charges) == shop.requests == _MANY
        assert shop.most_at_once > 1, "It asks for one thing after another."
        # Both ends are in this process.
        assert after.sockets - before.sockets <= 2 * _MANY

    @pytest.mark.asyncio
    async def test_it_works_on_one_event_loop_after_another(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        One instance serves a second event loop when the first one is gone.

        Troubleshooting:
            Connections belong to the loop they were made on: keep them by loop, and
            let go of them in ``gaia_stop``.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async def ask() -> None:
            async with bench:
                self.assert_answers(bench, await bench.ask(generate_request))

        for _ in range(2):
            await asyncio.to_thread(asyncio.run, ask())
        await ask()

        assert shop.requests == len(shop.charges) == 3  # noqa: PLR2004  one each


def _made(result: ImageResult) -> list[bytes]:
    return [one.data for one in result.images]


def _closed(shop: Shop) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Give what closes the vendor for a while; not every stand-in can."""
    closed = getattr(shop, "closed", None)
    if closed is None:
        pytest.skip("has a stand-in that cannot close for a while: `closed`")
    return cast("Callable[[], AbstractAsyncContextManager[None]]", closed)


@asynccontextmanager
async def _mute(shop: Shop) -> AsyncIterator[None]:
    """Listen where the vendor does, and never say a word."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    address = urlsplit(shop.url)
    server = await asyncio.start_server(listen, address.hostname, address.port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def _told(ending: Ending) -> str:
    return "nothing was raised" if ending.error is None else shown_by(ending.error)
