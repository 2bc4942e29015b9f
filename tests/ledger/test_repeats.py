"""Batches that make others' items again, opened by many processes at once."""

import asyncio
from decimal import Decimal
from typing import NoReturn

from gaia_core import GenerateRequest
from gaia_core.batches import Batches
from gaia_core.ledger import Operation
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.requests import Request
from gaia_core.testing import MemoryStorage


async def _never(_operation: Operation, _request: Request) -> NoReturn:
    raise AssertionError


def _batches(ledger: SqlLedger) -> Batches:
    return Batches(
        ledger=ledger,
        storage=MemoryStorage(),
        estimate=lambda _: Decimal("0.04"),
        carry_out=_never,
        prepare=lambda request: request,
    )


async def test_many_who_ask_at_once_open_one_batch(address: str) -> None:
    """Whoever comes second is given what the first one opened."""
    ledgers = [SqlLedger(Database(address)) for _ in range(4)]
    several = [_batches(ledger) for ledger in ledgers]
    for ledger in ledgers:
        await ledger.open()

    first = await several[0].open(GenerateRequest(prompt=f"{n}") for n in range(50))
    await several[0].cancel(first.id)
    opened = await asyncio.gather(*(one.again(first.id) for one in several))
    found = await several[0].latest()
    for ledger in ledgers:
        await ledger.close()

    assert len({batch.id for batch in opened}) == 1
    assert [batch.total for batch in found] == [50, 50]
