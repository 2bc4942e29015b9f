# ruff: noqa: S101 - these are tests, although no folder says so
"""What the tests with a vendor have in common: one request, and how it ended."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import ClassVar

import attrs

from gaia_core.answers import blame, checked
from gaia_core.capabilities import HOOK_OF
from gaia_core.engine import Gaia
from gaia_core.errors import GaiaError, InvalidImageError, OutcomeClass
from gaia_core.ledger import MemoryLedger, Operation
from gaia_core.lookups import Lookup
from gaia_core.reliability import EgressLimits, StandardReliability, classify
from gaia_core.requests import GenerateRequest
from gaia_core.responses import Attempt, ImageResponse
from gaia_core.testing.bench import Bench
from gaia_core.testing.conformance.fixtures import Conformance
from gaia_core.testing.contexts import context
from gaia_core.testing.pytest_plugin import OpenGaia

_TRIES = 3


class _NoDice(Random):
    """Draws the smallest number there is, so that nobody waits."""

    def uniform(self, a: float, _b: float) -> float:
        """Draw."""
        return a


@attrs.frozen(kw_only=True)
class Ending:
    """
    How a hook call ended.

    Attributes:
        outcome: What it says about money and repetition.
        error: What it raised, or None.
    """

    outcome: OutcomeClass
    error: Exception | None = None


@attrs.frozen(kw_only=True)
class Story:
    """
    What came of a request that went through Gaia.

    Attributes:
        operation: What the ledger says in the end.
        response: The response, or None.
        error: What the caller got instead, or None.
    """

    operation: Operation
    response: ImageResponse | None = None
    error: GaiaError | None = None

    @property
    def attempts(self) -> Sequence[Attempt]:
        """What was tried."""
        told = self.response or self.error
        assert told is not None
        return told.attempts


class WorldTests(Conformance):
    """What the tests with a vendor call."""

    lookup: ClassVar[Lookup] = Lookup(spacing=0.01)

    def like(self, request: GenerateRequest, words: str) -> GenerateRequest:
        """Ask for something else, as large, so that the vendor can tell them apart."""
        return attrs.evolve(request, prompt=words)

    async def end_of(self, bench: Bench, request: GenerateRequest) -> Ending:
        """Call the hook once, as the engine does, and tell how it ended."""
        chosen = await bench.choose(request)
        hook = HOOK_OF[request.capability]
        limit = asyncio.timeout(self.hurry_seconds)
        try:
            async with limit:
                result = await self._answer_of(bench, request)
            await checked(result, chosen, hook)
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            assert not limit.expired(), "It waits without a limit of its own."
            return Ending(outcome=classify(error), error=error)
        return Ending(outcome=OutcomeClass.OK)

    async def warm_up(self, bench: Bench, request: GenerateRequest) -> None:
        """
        Let a provider load its SDK and connect.

        On a slow machine that takes longer than one in a hurry has.
        """
        for _ in range(_TRIES):
            ending = await self.end_of(bench, self.like(request, "a first tower"))
            if ending.outcome is OutcomeClass.OK:
                return

    async def story_with_response(self, gaia: Gaia, request: GenerateRequest) -> Story:
        """Ask Gaia, again if a provider in a hurry had too little time."""
        for number in range(_TRIES):
            story = await self.story_of(gaia, self.like(request, f"tower {number}"))
            if story.response is not None:
                break
        return story

    async def _answer_of(self, bench: Bench, request: GenerateRequest) -> object:
        try:
            answer: object = await bench.ask(request, context(**bench.facts))
        except InvalidImageError as error:
            await blame(error, request, await bench.choose(request))
            raise
        return answer

    def reliability(self, *, most: int | None = None) -> StandardReliability:
        """Make the rules Gaia goes by, without the waiting."""
        return StandardReliability(
            random=_NoDice(), limits=lambda _: EgressLimits(max_concurrent=most)
        )

    def opened(
        self,
        open_gaia: OpenGaia,
        bench: Bench,
        reliability: StandardReliability | None = None,
    ) -> Gaia:
        """Open a `Gaia` over the provider of a bench alone."""
        return open_gaia(
            bench.provider,
            ledger=MemoryLedger(),
            reliability=reliability or self.reliability(),
            lookup=self.lookup,
        )

    async def story_of(self, gaia: Gaia, request: GenerateRequest) -> Story:
        """Ask Gaia, and read in the ledger what that came to."""
        response, failure = None, None
        try:
            async with asyncio.timeout(self.patience):
                response = await gaia.generate(request)
        except GaiaError as error:
            failure = error
        told = response or failure
        assert told is not None
        operation = await gaia.operation(told.operation_id or "")
        assert operation is not None, f"{failure} left nothing in the ledger"
        return Story(operation=operation, response=response, error=failure)
