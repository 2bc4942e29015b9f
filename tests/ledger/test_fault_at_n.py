"""Whatever statement fails, the book is whole and the story goes on."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, func, select

from gaia_core import OutcomeClass
from gaia_core.errors import LedgerError
from gaia_core.ledger import (
    Batch,
    IdempotencyKey,
    Operation,
    OperationState,
    SqlLedger,
    connecting,
)
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import balances, entries
from gaia_core.settings import BudgetSettings

from .stories import DAY, a_picture, an_attempt, an_operation, ended, failed, settled

BUDGETS = BudgetSettings(
    total_usd=Decimal(1), campaign_usd=Decimal(1), alert_at=(Decimal("0.1"),)
)
BUSY = an_attempt(outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0))
KEY = IdempotencyKey(key="once", route="generate")
SPENT = Decimal("0.24")
"""What the story costs in all."""

Chapter = Callable[[SqlLedger], Awaitable[None]]


@attrs.define
class Faults:
    """Makes one statement or commit fail, the one of a given number."""

    at: int
    is_late: bool = False
    count: int = 0

    def pass_by(self) -> None:
        """Count, and fail if it is its turn."""
        self.count += 1
        if self.count == self.at:
            raise _failure()


def _failure() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


@contextmanager
def _faulty(ledger: SqlLedger, faults: Faults) -> Iterator[None]:
    """Send every statement and commit of a ledger's writer past the faults."""
    engines = ledger.database._opened().engines
    dialect = engines.writer.dialect

    def watched(name: str) -> Callable[..., None]:
        plain = getattr(dialect, name)

        def call(*arguments: Any, **more: Any) -> None:
            if not faults.is_late:
                faults.pass_by()
            plain(*arguments, **more)
            # Any other statement whose answer is lost is undone with the rest.
            if faults.is_late and name == "do_commit":
                faults.pass_by()

        return call

    begin = connecting._begin

    def watched_begin(connection: Connection, statement: str) -> None:
        if statement == connecting.WRITING and not faults.is_late:
            faults.pass_by()
        begin(connection, statement)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "_begin", watched_begin)
        for name in ("do_execute", "do_executemany", "do_commit"):
            patch.setattr(dialect, name, watched(name))
        yield


@attrs.define
class Story:
    """The lives of a few operations, told in chapters that may be told again."""

    first: Operation = attrs.field(
        factory=lambda: an_operation(result_key="r" * 64, campaign_id="spring")
    )
    lost: Operation = attrs.field(factory=lambda: an_operation(campaign_id="spring"))
    refused: Operation = attrs.field(factory=lambda: an_operation(key=KEY))
    second: Operation = attrs.field(factory=lambda: an_operation(key=KEY))
    items: list[Operation] = attrs.field(init=False)
    batch: Batch = attrs.field(
        factory=lambda: Batch(
            id="b" * 32,
            created_at=DAY,
            key=IdempotencyKey(key="many", route="batch"),
        )
    )

    def __attrs_post_init__(self) -> None:
        """Make the items of the batch."""
        self.items = [
            an_operation(
                batch_id=self.batch.id,
                position=position,
                state=OperationState.QUEUED,
                campaign_id="autumn",
            )
            for position in range(4)
        ]

    @property
    def chapters(self) -> list[Chapter]:
        """Everything that happens, in order."""
        return [
            self.make_after_a_refusal,
            self.lose_an_answer,
            self.find_the_answer,
            self.fail_without_charge,
            self.try_again_under_the_key,
            self.open_a_batch,
            self.work_on_the_batch,
            self.call_the_batch_off,
        ]

    async def make_after_a_refusal(self, ledger: SqlLedger) -> None:
        """One provider is busy, another one serves."""
        one = self.first.id
        other = an_attempt(provider="q", task_id="u")
        await self._accept(ledger, self.first)
        if not await self._is_open(ledger, one):
            return
        await ledger.send(one, an_attempt())
        await ledger.end_attempt(one, BUSY)
        await ledger.send(one, other)
        await self._settle(ledger, self.first, other)

    async def lose_an_answer(self, ledger: SqlLedger) -> None:
        """An attempt may have been charged."""
        await self._accept(ledger, self.lost)
        if not await self._is_open(ledger, self.lost.id):
            return
        await ledger.send(self.lost.id, an_attempt())
        await ledger.fail(self.lost.id, failed(OperationState.UNKNOWN))

    async def find_the_answer(self, ledger: SqlLedger) -> None:
        """The lost answer turns up."""
        await ledger.reopen(self.lost.id)
        if await self._is_open(ledger, self.lost.id):
            await self._settle(ledger, self.lost, an_attempt())

    async def fail_without_charge(self, ledger: SqlLedger) -> None:
        """A key is free again after its operation failed."""
        if await ledger.get(self.second.id) is not None:
            return
        await self._accept(ledger, self.refused)
        if await self._is_open(ledger, self.refused.id):
            await ledger.fail(self.refused.id, failed(is_final=False))

    async def try_again_under_the_key(self, ledger: SqlLedger) -> None:
        """What is received is stored later."""
        await self._accept(ledger, self.second)
        if not await self._is_open(ledger, self.second.id):
            return
        await ledger.send(self.second.id, an_attempt())
        await ledger.receive(self.second.id, ended(an_attempt()))
        await self._settle(ledger, self.second, None)

    async def open_a_batch(self, ledger: SqlLedger) -> None:
        """A batch is taken on once, however often it is asked for."""
        await ledger.batches.open(self.batch, iter(self.items))

    async def work_on_the_batch(self, ledger: SqlLedger) -> None:
        """Two items are made, one fails at a price and one is left."""
        done, failing, other, left = self.items
        for _ in self.items:
            for item in await ledger.batches.lease(self.batch.id, 1):
                if item.id == left.id:
                    await ledger.batches.release(item.id)
            for item in (done, failing, other):
                if not await self._is_open(ledger, item.id):
                    continue
                await ledger.send(item.id, an_attempt())
                if item is failing:
                    await ledger.end_attempt(item.id, an_attempt())
                    await ledger.fail(item.id, failed())
                else:
                    await self._settle(ledger, item, an_attempt())

    async def call_the_batch_off(self, ledger: SqlLedger) -> None:
        """What is left of the batch is not begun."""
        await ledger.batches.cancel(self.batch.id)

    async def _accept(self, ledger: SqlLedger, operation: Operation) -> None:
        if await ledger.get(operation.id) is None:
            accepted = await ledger.accept(operation)
            assert accepted.id == operation.id

    async def _is_open(self, ledger: SqlLedger, operation_id: str) -> bool:
        """Tell whether this process may work on an operation."""
        operation = await ledger.get(operation_id)
        assert operation is not None
        return operation.state in {
            OperationState.ACCEPTED,
            OperationState.LEASED,
            OperationState.SENT,
            OperationState.RECEIVED,
        }

    async def _settle(
        self, ledger: SqlLedger, operation: Operation, attempt: Any
    ) -> None:
        last = attempt and ended(attempt)
        pictures = (a_picture(operation),)
        await ledger.settle(operation.id, settled(images=pictures, attempt=last))


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[SqlLedger]:
    file = folder / "gaia.db"
    ledger = SqlLedger(Database(f"sqlite:///{file}"), budgets=BUDGETS)
    await ledger.open()
    engines = ledger.database._opened().engines
    # The power stays on here, and two hundred stories wait for the disk otherwise.
    for engine in (engines.writer, engines.reader):
        with closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA synchronous=OFF")
    try:
        yield ledger
    finally:
        await ledger.close()


def _sums(connection: Connection) -> tuple[set[int], int]:
    """Say what the balances of everybody hold and have spent, and the entries do."""
    amount = balances.c.reserved + balances.c.spent
    kept = select(amount).where(balances.c.scope == "total")
    booked = select(func.coalesce(func.sum(entries.c.reserved + entries.c.spent), 0))
    return set(connection.scalars(kept)), int(connection.scalar(booked) or 0)


async def _audit(ledger: SqlLedger) -> None:
    """Check the book, and that balances are the sums of entries."""
    assert await ledger.check() == []
    kept, booked = await ledger.database.read(_sums)
    assert kept <= {booked}


async def _end(ledger: SqlLedger, story: Story) -> None:
    """Check that the story came out as it always does."""
    await _audit(ledger)
    _, booked = await ledger.database.read(_sums)
    assert Decimal(booked) / 1_000_000 == SPENT
    for operation in (story.first, story.lost, story.second):
        known = await ledger.get(operation.id)
        assert known is not None
        assert (known.state, len(known.image_ids)) == (OperationState.DONE, 1)
    batch = await ledger.batches.get(story.batch.id)
    assert batch is not None
    assert (batch.done, batch.failed, batch.cancelled) == (2, 1, 1)
    events = await ledger.batches.events(story.batch.id)
    assert [event.sequence for event in events] == list(range(1, batch.last_event + 1))
    assert [event.kind for event in events].count("batch_finished") == 1


async def _tell(fresh: Path, folder: Path, faults: Faults) -> bool:
    """Tell a story until something fails, and to its end after a restart."""
    told, crashed = folder / "told", folder / "crashed"
    shutil.copytree(fresh, told)
    story = Story()
    chapters = story.chapters
    async with _opened(told) as ledger:
        with _faulty(ledger, faults), suppress(LedgerError):
            while chapters:
                await chapters[0](ledger)
                chapters.pop(0)
        # As after a crash: the locks of this process are not there any more.
        shutil.copytree(told, crashed, ignore=shutil.ignore_patterns("*-workers"))
    async with _opened(crashed) as ledger:
        await _audit(ledger)
        await ledger.adopt()
        for chapter in chapters:
            await chapter(ledger)
        await _end(ledger, story)
    shutil.rmtree(folder)
    return faults.count < faults.at


@pytest.mark.slow
@pytest.mark.parametrize("is_late", [False, True], ids=["refused", "answer-lost"])
async def test_every_prefix_recovers(tmp_path: Path, *, is_late: bool) -> None:
    """After any statement or commit that fails, the book is whole and life goes on."""
    fresh = tmp_path / "fresh"
    async with _opened(fresh):
        pass
    at, is_over = 0, False

    while not is_over:
        at += 1
        faults = Faults(at, is_late=is_late)
        is_over = await _tell(fresh, tmp_path / "once", faults)

    assert at > (20 if is_late else 100)
