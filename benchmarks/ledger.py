"""
Measure what the ledger adds to an operation: taken on, sent, settled.

Three durable transactions, measured in turns with three plain ``fsync`` of a page on
the same disk, which is the least that three durable transactions can cost; with no
budget and with three; and in memory, where nothing is durable::

    python benchmarks/ledger.py [operations] [address]

Times are medians in milliseconds; ``/fsync`` is how many times as long it takes as
the three plain ones. An address (``postgresql://…``) is measured beside SQLite.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import attrs

from gaia_core import Attempt, Capability, OutcomeClass, StoredImage
from gaia_core.ledger import Ledger, MemoryLedger, Operation, Settlement, SqlLedger
from gaia_core.ledger.database import Database
from gaia_core.settings import BudgetSettings

PRICE = Decimal("0.04")
PAGE = b"\0" * 4_096
BUDGETS = BudgetSettings(
    total_usd=Decimal(10**6), user_usd=Decimal(10**6), campaign_usd=Decimal(10**6)
)
AT_ONCE = 50
"""How many operations are under way at a time in the last column."""
PLAIN = "three fsyncs"


def main(number: int = 500, address: str | None = None) -> None:
    """Print the table."""
    times, together = asyncio.run(_measure(number, address))
    titles = ("p50 ms", "p95 ms", "/fsync", f"ms at {AT_ONCE}")
    print(f"{'':>22}", *(f"{title:>9}" for title in titles))
    least = statistics.median(times[PLAIN])
    for name, values in times.items():
        middle, high = statistics.median(values), statistics.quantiles(values, n=20)[-1]
        figures = [f"{middle:>9.2f}", f"{high:>9.2f}", f"{middle / least:>9.2f}"]
        if name in together:
            figures.append(f"{together[name]:>9.2f}")
        print(f"{name:>22}", *figures)


async def _measure(
    number: int, address: str | None
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Let all take turns, then each do many operations at once."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    together: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            ledgers = await _open(Path(folder), address, stack)
            works: dict[str, Callable[[], Awaitable[None]]] = {
                PLAIN: partial(_fsyncs, _page(Path(folder), stack)),
                **{name: partial(_operation, one) for name, one in ledgers.items()},
            }
            for turn in range(number + 20):
                for name, work in works.items():
                    seconds = await _timed(work)
                    if turn >= 20:  # noqa: PLR2004  by then everything is warm
                        times[name].append(seconds * 1_000)
            for name, ledger in ledgers.items():
                together[name] = await _timed(partial(_many, ledger, number))
                together[name] *= 1_000 / number
    return times, together


async def _open(
    folder: Path, address: str | None, stack: AsyncExitStack
) -> dict[str, Ledger]:
    files = [f"sqlite:///{folder / name}.db" for name in ("plain", "budgets")]
    ledgers: dict[str, Ledger] = {
        "in memory": MemoryLedger(),
        "SQLite": SqlLedger(Database(files[0])),
        "SQLite, 3 budgets": SqlLedger(Database(files[1]), budgets=BUDGETS),
    }
    if address is not None:
        ledgers["PostgreSQL"] = SqlLedger(Database(address))
    for ledger in ledgers.values():
        await ledger.open()
        stack.push_async_callback(ledger.close)
    return ledgers


def _page(folder: Path, stack: AsyncExitStack) -> int:
    """Open a file that is written to as a log is: at its end."""
    page = os.open(folder / "page", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    stack.callback(os.close, page)
    return page


async def _fsyncs(page: int) -> None:
    for _ in range(3):
        os.write(page, PAGE)
        os.fsync(page)


async def _many(ledger: Ledger, number: int) -> None:
    async def some() -> None:
        for _ in range(number // AT_ONCE):
            await _operation(ledger)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _operation(ledger: Ledger) -> None:
    """Take an operation on, send it and settle it, with one picture."""
    operation = Operation(
        id=uuid.uuid4().hex,
        capability=Capability.TEXT_TO_IMAGE,
        user_id="bob",
        campaign_id="spring",
        request={"operation": "generate", "prompt": "a red dragon " * 20},
        fingerprint="f" * 64,
        result_key=uuid.uuid4().hex * 2,
        reserved_usd=PRICE,
    )
    attempt = Attempt(
        provider="p",
        model="m",
        task_id=str(uuid.uuid4()),
        outcome=OutcomeClass.AMBIGUOUS,
        duration_ms=0.0,
        cost_usd=PRICE,
    )
    settlement = Settlement(
        provider="p",
        model="m",
        cost_usd=PRICE,
        images=(_picture(operation),),
        answer={"warnings": [], "duration_ms": 1.0},
        attempt=attrs.evolve(attempt, outcome=OutcomeClass.OK, duration_ms=1.0),
    )
    await ledger.accept(operation)
    await ledger.send(operation.id, attempt)
    await ledger.settle(operation.id, settlement)


def _picture(operation: Operation) -> StoredImage:
    return StoredImage(
        id=uuid.uuid4().hex,
        path=Path("picture.png"),
        media_type="image/png",
        width=1_024,
        height=1_024,
        sha256="0" * 64,
        created_at=datetime.now(UTC),
        operation_id=operation.id,
        provider="p",
        model="m",
    )


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(int(given.get(1, 500)), given.get(2))
