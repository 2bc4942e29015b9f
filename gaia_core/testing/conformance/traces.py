# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of what a provider leaves behind: tasks, sockets, places, loggers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from gaia_core.capabilities import Capability
from gaia_core.engine import Gaia
from gaia_core.requests import GenerateRequest
from gaia_core.testing.bench import Bench
from gaia_core.testing.conformance.worlds import WorldTests
from gaia_core.testing.probes import Load, host_state, until
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Shop

_FEW = 4
_SHORT = 0.5
_PATIENCE = 10.0
# Idle connections are closed some seconds later anyway, and tasks end.
_MOMENT = 2.0
_FRESH = "CONFORMANCE_IS_FRESH"
# A process that takes longer is ended, and shows what every thread was at.
_HANGING = 90.0


class TraceTests(WorldTests):
    """Whoever gives up, and whoever stops, leaves nothing behind."""

    @pytest.mark.asyncio
    async def test_cancelled_calls_leave_nothing_behind(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Cancelled calls take their tasks and connections with them.

        Troubleshooting:
            Await or cancel every task you make; close the connection of a call that
            was cancelled, or see to it that its answer is dropped.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            await asyncio.gather(*self._calls(bench, generate_request))
            usual = Load.now()
            shop.delay = _SHORT
            await self._cancel(shop, self._calls(bench, generate_request))
            shop.delay = 0.0
            has_ended = await until(lambda: shop.at_once == 0, patience=_PATIENCE)
            # As many calls again fill the pool up as it was.
            await asyncio.gather(*self._calls(bench, generate_request))
            has_settled = await until(usual.has_settled, patience=_MOMENT)
            left = Load.now()

        assert has_ended
        assert has_settled, f"{left} is left, {usual} was there before."

    @pytest.mark.asyncio
    async def test_stopping_leaves_nothing_behind(
        self, shop: Shop, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Once it is stopped, its tasks are over and its connections closed.

        Troubleshooting:
            Close in ``gaia_stop`` what was opened since ``gaia_start``, and wait
            for it: a connection that is dropped is closed some time later.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        shop.delay = 0.01
        before = Load.now()

        async with bench:
            await asyncio.gather(*self._calls(bench, generate_request))
        has_settled = await until(before.has_settled, patience=_MOMENT)

        assert has_settled, f"{Load.now()} is left, {before} was there before."

    @pytest.mark.asyncio
    async def test_callers_who_leave_give_their_places_back(
        self,
        shop: Shop,
        bench: Bench,
        open_gaia: OpenGaia,
        generate_request: GenerateRequest,
    ) -> None:
        """
        Callers of Gaia who leave block nobody: the places at the provider are free.

        Troubleshooting:
            A call ends when the vendor has answered, also when nobody waits.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        shop.delay = _SHORT
        rules = self.reliability(most=_FEW)
        name = bench.info.name

        async with self.opened(open_gaia, bench, rules) as gaia:
            await self._cancel(shop, self._callers(gaia, generate_request))
            is_free = await until(
                lambda: rules.snapshot(name).running == 0, patience=_PATIENCE
            )
            story = await self.story_of(gaia, self.like(generate_request, "a tower"))

        assert is_free, rules.snapshot(name)
        assert story.response is not None
        assert shop.requests == len(shop.charges) == _FEW + 1

    @pytest.mark.asyncio
    async def test_it_leaves_the_host_alone(
        self,
        shop: Shop,
        bench: Bench,
        generate_request: GenerateRequest,
        request: pytest.FixtureRequest,
    ) -> None:
        """
        Importing and using it changes no logger, no warning filter and no signal.

        The test runs in a process of its own, where the SDK is not loaded yet.

        Troubleshooting:
            Put back what the import of the SDK changes, right after it.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        if not os.environ.get(_FRESH):
            _run_afresh(request)
            return
        before = host_state()

        async with bench:
            self.assert_answers(bench, await bench.ask(generate_request))
        after = host_state()

        names = before | after
        changed = [name for name in names if before.get(name) != after.get(name)]
        assert {name: (before.get(name), after.get(name)) for name in changed} == {}
        assert shop.requests == 1

    # -- inside ---------------------------------------------------------------------

    def _calls(
        self, bench: Bench, request: GenerateRequest
    ) -> "Sequence[asyncio.Task[object]]":
        """Begin some calls of the hook."""
        return [
            asyncio.ensure_future(bench.ask(self.like(request, f"keep {number}")))
            for number in range(_FEW)
        ]

    def _callers(
        self, gaia: Gaia, request: GenerateRequest
    ) -> "Sequence[asyncio.Task[object]]":
        """Begin some requests through Gaia."""
        return [
            asyncio.ensure_future(gaia.generate(self.like(request, f"keep {number}")))
            for number in range(_FEW)
        ]

    async def _cancel(
        self, shop: Shop, calls: "Sequence[asyncio.Task[object]]"
    ) -> None:
        """Cancel calls when the vendor is at work on all of them."""
        wanted = shop.requests + len(calls)
        assert await until(lambda: shop.requests >= wanted, patience=self.patience)
        for call in calls:
            call.cancel()
        _, late = await asyncio.wait(calls, timeout=self.cancel_seconds)
        assert not late, "Cancelled calls go on."
        await asyncio.gather(*calls, return_exceptions=True)


def _run_afresh(request: pytest.FixtureRequest) -> None:
    """Run the test that asks in a process of its own."""
    config = request.config
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    options = ["--rootdir", str(config.rootpath)]
    if config.inipath is not None:
        options += ["-c", str(config.inipath)]
    options += ["-o", f"faulthandler_timeout={_HANGING:g}"]
    options += ["-o", "faulthandler_exit_on_timeout=true"]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603  it starts this very Python
        [*command, *options, _node_of(request)],
        cwd=config.rootpath,
        env={**os.environ, _FRESH: "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"In a process of its own:\n{done.stdout}{done.stderr}")


def _node_of(request: pytest.FixtureRequest) -> str:
    """Name the test by the file it is in, wherever pytest was started."""
    _, *names = request.node.nodeid.split("::")
    return "::".join([str(request.path), *names])
