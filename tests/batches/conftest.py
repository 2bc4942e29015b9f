"""What tests of batches are made of: a real ledger, and a cook for its items."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import OutcomeClass
from gaia_core.batches import Batches
from gaia_core.ledger import Operation, Settlement
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.metrics import MemoryMetrics
from gaia_core.requests import Request
from gaia_core.responses import Attempt, ImageResponse, Response
from gaia_core.testing import MemoryStorage

PRICE = Decimal("0.04")
Script = Callable[[Operation], Awaitable[None]]


@attrs.define(eq=False)
class Kitchen:
    """
    Carries items out as the engine does: noted as sent, made, settled.

    Attributes:
        ledger: The ledger.
        delay: Seconds each takes after it was sent.
        before: Prompt to what happens before anything is sent.
        after: Prompt to what happens after it was sent.
        asked: The prompt of every item that was begun.
        sent: The prompt of every item that was sent.
        most: How many were under way at once.
    """

    ledger: SqlLedger
    delay: float = 0.0
    before: dict[str, Script] = attrs.field(factory=dict)
    after: dict[str, Script] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    sent: list[str] = attrs.field(factory=list)
    most: int = 0
    _under_way: int = 0

    async def carry_out(self, operation: Operation, request: Request) -> Response:
        """Make one item."""
        prompt = getattr(request, "prompt", "")
        self.asked.append(prompt)
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await self.before.get(prompt, _nothing)(operation)
            # What was sent goes on, whoever leaves.
            made = asyncio.create_task(self._make(operation, prompt))
            return await asyncio.shield(made)
        finally:
            self._under_way -= 1

    async def _make(self, operation: Operation, prompt: str) -> Response:
        attempt = Attempt(
            provider="kitchen",
            model="stove",
            task_id=operation.id,
            outcome=OutcomeClass.AMBIGUOUS,
            duration_ms=0.0,
            cost_usd=PRICE,
        )
        await self.ledger.send(operation.id, attempt)
        self.sent.append(prompt)
        await asyncio.sleep(self.delay)
        await self.after.get(prompt, _nothing)(operation)
        ended = attrs.evolve(attempt, outcome=OutcomeClass.OK)
        settlement = Settlement(
            provider="kitchen", model="stove", cost_usd=PRICE, attempt=ended
        )
        await self.ledger.settle(operation.id, settlement)
        return ImageResponse(
            operation_id=operation.id,
            provider="kitchen",
            model="stove",
            attempts=(ended,),
            images=(),
        )


async def _nothing(_: Operation) -> None:
    """Let it happen."""


@attrs.define(eq=False)
class Shop:
    """
    One process's view: a ledger of its own, a kitchen, batches.

    Attributes:
        ledger: The ledger.
        kitchen: What carries items out.
        batches: What is tested.
        storage: Where pictures are kept.
    """

    ledger: SqlLedger
    kitchen: Kitchen
    batches: Batches
    storage: MemoryStorage


def _shop(address: str, **choices: Any) -> Shop:
    ledger, storage = SqlLedger(Database(address), **choices), MemoryStorage()
    kitchen = Kitchen(ledger)
    batches = Batches(
        ledger=ledger,
        storage=storage,
        estimate=lambda _: PRICE,
        carry_out=kitchen.carry_out,
        prepare=lambda request: request,
        adopt=ledger.adopt,
        metrics=MemoryMetrics(),
    )
    return Shop(ledger=ledger, kitchen=kitchen, batches=batches, storage=storage)


@pytest.fixture(name="new_shop")
async def _new_shop(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Shop]]]:
    """Give a function that opens another shop over the same database."""
    shops: list[Shop] = []

    async def new_shop(**choices: Any) -> Shop:
        shop = _shop(f"sqlite:///{tmp_path / 'gaia.db'}", **choices)
        await shop.ledger.open()
        shops.append(shop)
        return shop

    yield new_shop
    for shop in shops:
        await shop.ledger.close()


@pytest.fixture(name="shop")
async def _one_shop(new_shop: Callable[..., Awaitable[Shop]]) -> Shop:
    """Give a shop."""
    return await new_shop()
