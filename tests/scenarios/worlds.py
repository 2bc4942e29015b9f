"""What the scenarios have in common: many requests at once, and the audit after."""

import asyncio
import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from gaia_core import Gaia, GaiaError, GenerateRequest, ImageResponse, hookimpl
from gaia_core.context import CallContext
from gaia_core.ledger import Operation, OperationState, Problem
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.requests import Request
from gaia_core.results import ImageResult
from gaia_core.testing.vendors import Faults, RecoverableVendorProvider, VendorProvider

Figures = Callable[[str, object], None]
"""Takes a figure that was measured, by its name."""
MANY = 100_000
"""More operations than any scenario has."""


@attrs.frozen(kw_only=True)
class Answer:
    """
    What one caller got.

    Attributes:
        prompt: What was asked for.
        seconds: How long it took.
        response: The response, or None.
        error: The error, or None.
    """

    prompt: str
    seconds: float
    response: ImageResponse | None = None
    error: GaiaError | None = None


@attrs.frozen(kw_only=True)
class Audit:
    """
    What the ledger says when all is over.

    Attributes:
        operations: Every operation.
        spent_usd: What it says was spent.
        held_usd: What it says may have been spent.
        problems: What its own check found.
    """

    operations: Sequence[Operation]
    spent_usd: Decimal
    held_usd: Decimal
    problems: Sequence[Problem]

    @property
    def states(self) -> Counter[OperationState]:
        """How many operations came to what."""
        return Counter(one.state for one in self.operations)

    @property
    def attempts(self) -> int:
        """How many attempts were made in all."""
        return sum(len(one.attempts) for one in self.operations)

    @property
    def shown_usd(self) -> Decimal:
        """What it says was or may have been spent."""
        return self.spent_usd + self.held_usd


@attrs.define(eq=False, kw_only=True)
class PatchyProvider(RecoverableVendorProvider):
    """A provider some of whose connections are refused: another port is closed."""

    away: VendorProvider
    refusals: Faults
    _times: Counter[str] = attrs.field(factory=Counter, init=False)

    async def _ask(
        self, work: str, payload: dict[str, Any], request: Request, context: CallContext
    ) -> ImageResult:
        prompt = payload["prompt"]
        self._times[prompt] += 1
        if self.refusals.drawn(MANY, prompt, self._times[prompt]) is None:
            return await super()._ask(work, payload, request, context)
        return await self.away._ask(work, payload, request, context)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Close the connections, those of the closed port too."""
        await self.away.gaia_stop()
        await super().gaia_stop()


def sql_ledger(folder: Path, **options: Any) -> SqlLedger:
    """Make a ledger in a file, as every host has it."""
    return SqlLedger(Database(f"sqlite:///{folder / 'gaia.db'}"), **options)


def keeps(count: int, **fields: Any) -> list[GenerateRequest]:
    """Make so many requests that differ in their prompt."""
    facts = {"width": 16, "height": 16} | fields
    return [
        GenerateRequest(prompt=f"keep {number}", **facts) for number in range(count)
    ]


async def ask_all(
    gaia: Gaia,
    requests: Iterable[GenerateRequest],
    *,
    at_once: int = 50,
    **choices: Any,
) -> list[Answer]:
    """Ask for everything, so many at a time, and take every answer down."""
    gate = asyncio.Semaphore(at_once)

    async def ask(request: GenerateRequest) -> Answer:
        async with gate:
            start = time.monotonic()
            try:
                response = await gaia.generate(request, **choices)
            except GaiaError as error:
                seconds = time.monotonic() - start
                return Answer(prompt=request.prompt, seconds=seconds, error=error)
        seconds = time.monotonic() - start
        return Answer(prompt=request.prompt, seconds=seconds, response=response)

    return await asyncio.gather(*map(ask, requests))


def served(answers: Iterable[Answer]) -> list[ImageResponse]:
    """Pick the responses."""
    return [one.response for one in answers if one.response is not None]


def errors(answers: Iterable[Answer]) -> Counter[str]:
    """Count the errors by their class."""
    return Counter(type(one.error).__name__ for one in answers if one.error is not None)


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Give the time within which a share of the callers was answered."""
    times = sorted(one.seconds for one in answers)
    return times[max(0, math.ceil(share * len(times)) - 1)]


async def audited(ledger: SqlLedger) -> Audit:
    """Read a ledger once more, after whoever wrote it has let go of it."""
    await ledger.open()
    try:
        usage = await ledger.usage(["provider"])
        return Audit(
            operations=await ledger.listed(limit=MANY),
            spent_usd=sum((row.cost_usd for row in usage), Decimal(0)),
            held_usd=sum((row.held_usd for row in usage), Decimal(0)),
            problems=tuple(await ledger.check()),
        )
    finally:
        await ledger.close()


def paid_twice(prompts: Iterable[str]) -> dict[str, int]:
    """Name what was charged more than once, whatever task it was charged under."""
    return {prompt: times for prompt, times in Counter(prompts).items() if times > 1}


@contextmanager
def closed_port() -> Iterator[str]:
    """Give an address of this machine where nobody listens, nor can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def until(is_so: Callable[[], bool], *, patience: float = 20.0) -> None:
    """Wait for something that is about to be so."""
    async with asyncio.timeout(patience):
        while not is_so():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(0.01)
