"""One call for many requests takes one turn at its provider."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from gaia_core import (
    Capability,
    ProviderUnavailableError,
    RateLimitError,
    Settings,
    turns,
)
from gaia_core.plugins import Provider, load_plugins
from gaia_core.reliability import EgressLimits, StandardReliability
from gaia_core.testing import FakeProvider
from gaia_core.turns import turn_of

from .waiting import until

MAKING = Capability.TEXT_TO_IMAGE


@pytest.fixture(name="provider")
def _provider() -> Provider:
    """Give a provider to ask."""
    loaded = load_plugins(Settings(), extra=[FakeProvider()], entry_points=())
    return loaded.providers["fake"]


def _rules(limits: Callable[[str], EgressLimits] | None = None) -> StandardReliability:
    one_at_a_time = EgressLimits(max_concurrent=1)
    return StandardReliability(limits=limits or (lambda _: one_at_a_time))


async def _fail(
    rules: StandardReliability, provider: Provider, error: Exception
) -> None:
    async with turn_of(rules, provider, MAKING):
        raise error


async def test_it_holds_one_place(provider: Provider) -> None:
    """However many go together, one place is taken, and given back at the end."""
    rules = _rules()

    async with turn_of(rules, provider, MAKING):
        within = rules.snapshot("fake").running
    after = rules.snapshot("fake").running

    assert (within, after) == (1, 0)


async def test_it_says_nothing_about_how_long_one_takes(provider: Provider) -> None:
    """A day for fifty thousand is no day for each."""
    rules = _rules()

    async with turn_of(rules, provider, MAKING):
        pass

    assert rules.latency() == {}
    assert rules.snapshot("fake").seconds is None


async def test_a_place_is_not_held_for_hours(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the vendor works by itself, others may be asked for."""
    monkeypatch.setattr(turns, "HELD", 0.01)
    rules = _rules()

    async with turn_of(rules, provider, MAKING):
        await until(lambda: rules.snapshot("fake").running == 0)
        async with turn_of(rules, provider, MAKING):
            pass

    assert rules.snapshot("fake").running == 0


async def test_its_failures_count(provider: Provider) -> None:
    """A provider that fails many times over is left alone for a while."""
    rules = _rules()

    for _ in range(40):
        with suppress(ProviderUnavailableError):
            await _fail(rules, provider, ProviderUnavailableError("down"))

    assert rules.admit("fake", MAKING) is not None


async def test_a_pause_it_is_asked_for_holds_for_all(provider: Provider) -> None:
    """What the vendor says to one call for many is heeded like any other."""
    rules = _rules()

    with pytest.raises(RateLimitError):
        await _fail(rules, provider, RateLimitError("slow down", retry_after=30.0))

    assert rules.snapshot("fake").closed_for > 0


async def test_one_that_is_cancelled_counts_for_nothing(provider: Provider) -> None:
    """Whoever stops says nothing about the provider, and leaves no place taken."""
    rules, is_inside = _rules(), asyncio.Event()

    async def hold() -> None:
        async with turn_of(rules, provider, MAKING):
            is_inside.set()
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    await is_inside.wait()
    holding.cancel()
    await asyncio.wait([holding])

    assert holding.cancelled()
    assert rules.snapshot("fake").running == 0
    assert rules.states() in ({}, {"fake/text-to-image": "closed"})
