"""The book checked against itself."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, delete, insert, update

from gaia_core import Capability
from gaia_core.ledger import (
    IdempotencyKey,
    Operation,
    OperationState,
    SqlLedger,
    checks,
    rows,
    tables,
)
from gaia_core.ledger.database import Database
from gaia_core.settings import BudgetSettings

from .batching import done, leased, opened
from .stories import a_picture, an_attempt, an_operation, failed, settled

KEY = IdempotencyKey(key="k")
BUDGETS = BudgetSettings(total_usd=Decimal(100), user_usd=Decimal(100))


@pytest.fixture(name="full")
async def _full(address: str) -> Any:
    """Give a book with something of everything."""
    ledger = SqlLedger(Database(address), budgets=BUDGETS)
    await ledger.open()
    facts = {"user_id": "anna", "campaign_id": "c", "result_key": "r" * 64}
    one = await ledger.accept(an_operation(key=KEY, **facts))
    await ledger.send(one.id, an_attempt())
    await ledger.settle(one.id, settled(images=(a_picture(one),)))
    await _unknown(ledger)
    await ledger.accept(an_operation())
    batch = await opened(ledger, 5, user_id="bert")
    await done(ledger, await leased(ledger, batch))
    item = await leased(ledger, batch)
    await ledger.send(item.id, an_attempt())
    await ledger.fail(item.id, failed(OperationState.UNKNOWN))
    yield ledger
    await ledger.close()


async def _unknown(ledger: SqlLedger, **fields: Any) -> Operation:
    now = rows.instant(rows.now())
    operation = await ledger.accept(an_operation(**{"created_at": now, **fields}))
    await ledger.send(operation.id, an_attempt())
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))
    return operation


async def _do(ledger: SqlLedger, statement: Any) -> None:
    await ledger.database.write(
        lambda connection: connection.execute(statement).rowcount
    )


# -- the check ----------------------------------------------------------------------


async def test_sound_book_has_no_problem(full: SqlLedger) -> None:
    """A book that only the ledger wrote is right."""
    assert await full.check() == []


_item = tables.operations.c
_is_done = _item.state == "done"
_is_queued = _item.state == "queued"
_is_accepted = _item.state == "accepted"


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (update(tables.balances).values(spent=7), ["wrong balance"]),
        (
            update(tables.operations).where(_is_queued).values(reserved=7),
            ["wrong sum"],
        ),
        (
            update(tables.operations).where(_is_done).values(cost=7),
            ["wrong sum", "wrong count"],
        ),
        (
            update(tables.operations).where(_is_done).values(reserved=7),
            ["wrong sum", "money held for nothing"],
        ),
        (
            insert(tables.entries).values(
                operation_id="0" * 32,
                kind="settle",
                reserved=0,
                spent=7,
                day="2026-01-01",
                created_at=1,
            ),
            ["wrong balance", "stray money"],
        ),
        (
            update(tables.operations).where(_is_done).values(finished_at=None),
            ["wrong state"],
        ),
        (
            update(tables.operations).where(_is_queued).values(finished_at=1),
            ["wrong state"],
        ),
        (
            update(tables.operations).where(_is_accepted).values(owner=None),
            ["wrong state"],
        ),
        (delete(tables.images), ["missing picture"]),
        (
            update(tables.operations).where(_is_done).values(images=2),
            ["missing picture"],
        ),
        (update(tables.keys).values(operation_id="0" * 32), ["stray key"]),
        (update(tables.results).values(operation_id="0" * 32), ["stray answer"]),
        (update(tables.batches).values(done=2), ["wrong count"]),
        (update(tables.batches).values(unknown=0), ["wrong count"]),
        (update(tables.batches).values(total=6), ["wrong count"]),
        (update(tables.batches).values(state="finished"), ["wrong count"]),
        (
            delete(tables.events).where(tables.events.c.sequence == 2),
            ["missing event"],
        ),
    ],
    ids=[
        *("balance", "reserved", "cost", "held", "stray money", "open", "ended"),
        "owner",
        *("pictures", "count of pictures", "key", "result", "done", "unknown"),
        *("total", "finished", "event"),
    ],
)
async def test_damage_is_found(full: SqlLedger, damage: Any, names: list[str]) -> None:
    """Whatever was changed behind the ledger's back is named, with a next step."""
    await _do(full, damage)

    problems = await full.check()

    assert list(dict.fromkeys(problem.name for problem in problems)) == names
    assert all(problem.detail and problem.next_step for problem in problems)


async def test_done_without_a_picture_is_a_problem(ledger: SqlLedger) -> None:
    """Whatever makes pictures has made one when it is done; words need none."""
    for capability in (Capability.UPSCALING, Capability.IMAGE_DESCRIPTION):
        operation = attrs.evolve(an_operation(), capability=capability)
        await ledger.accept(operation)
        await ledger.send(operation.id, an_attempt())
        await ledger.settle(operation.id, settled())

    (problem,) = await ledger.check()
    listed = await ledger.listed()

    upscaled = listed[-1].id
    assert problem.name == "missing picture"
    assert problem.detail == f"Not every picture of {upscaled} is on the book."


async def test_many_examples_are_counted(ledger: SqlLedger) -> None:
    """A problem names a few examples and says how many more there are."""
    await opened(ledger, 5)
    await _do(ledger, update(tables.operations).values(reserved=7))

    (problem,) = await ledger.check()

    assert problem.detail.count(",") == checks.SHOWN - 1
    assert " and 2 more held" in problem.detail


async def test_damaged_file_is_found(sqlite_address: str) -> None:
    """A database file that is no longer whole says so, and nothing else counts."""
    ledger = SqlLedger(Database(sqlite_address))
    await ledger.open()
    await opened(ledger, 20)
    file = ledger.database.file
    assert file is not None
    await ledger.close()
    _lose_an_index(file)
    await ledger.open()
    await _do(ledger, update(tables.operations).values(reserved=7))

    (problem,) = await ledger.check()

    assert problem.name == "damaged file"
    assert "never used" in problem.detail
    await ledger.close()


def _lose_an_index(file: Path) -> None:
    """Strike an index from the list of what a file holds; its pages stay."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name='ix_images_id'")
        connection.commit()


# -- holds that expire --------------------------------------------------------------


async def _expire(ledger: SqlLedger, *, after: timedelta) -> int:
    """Look at the holds when some time has passed."""

    def expire(connection: Connection) -> int:
        now = rows.now() + after // timedelta(microseconds=1)
        return checks.expire_holds(connection, now)

    return await ledger.database.write(expire)


async def test_old_hold_is_spent(ledger: SqlLedger) -> None:
    """What is unknown for a day has cost what was held; it stays unknown."""
    operation = await _unknown(ledger)

    early = await _expire(ledger, after=timedelta(hours=23))
    late = await _expire(ledger, after=timedelta(hours=25))
    again = await _expire(ledger, after=timedelta(hours=25))

    found = await ledger.get(operation.id)
    assert (early, late, again) == (0, 1, 0)
    assert found is not None
    assert found.state is OperationState.UNKNOWN
    assert (found.reserved_usd, found.cost_usd) == (Decimal(0), Decimal("0.04"))
    assert await ledger.check() == []


async def test_only_unknown_outcomes_expire(ledger: SqlLedger) -> None:
    """Money that is held for what is under way stays held."""
    operation = await ledger.accept(an_operation())
    await ledger.send(operation.id, an_attempt())

    assert await ledger.expire_holds() == 0
    assert await _expire(ledger, after=timedelta(hours=25)) == 0


async def test_hold_counts_from_the_last_try(ledger: SqlLedger) -> None:
    """An old item that was sent a moment ago is held for a day from then on."""
    old = rows.instant(rows.now()) - timedelta(days=3)
    await _unknown(ledger, created_at=old)

    assert await ledger.expire_holds() == 0


async def test_late_answer_corrects_an_expired_hold(ledger: SqlLedger) -> None:
    """What turns up after its hold was spent costs what it cost, not twice."""
    operation = await _unknown(ledger)
    await _expire(ledger, after=timedelta(hours=25))

    await ledger.settle(
        operation.id,
        settled(cost_usd=Decimal("0.01"), images=(a_picture(operation),)),
    )

    (row,) = await ledger.usage(())
    assert row.cost_usd == Decimal("0.01")
    assert await ledger.check() == []


async def test_expired_hold_costs_its_batch(ledger: SqlLedger) -> None:
    """A batch costs what its items cost, also those that were given up."""
    batch = await opened(ledger, 2, created_at=rows.instant(rows.now()))
    item = await leased(ledger, batch)
    await ledger.send(item.id, an_attempt())
    await ledger.fail(item.id, failed(OperationState.UNKNOWN))

    await _expire(ledger, after=timedelta(hours=25))
    expired = await ledger.batches.get(batch.id)
    await ledger.settle(
        item.id, settled(cost_usd=Decimal("0.03"), images=(a_picture(item),))
    )

    corrected = await ledger.batches.get(batch.id)
    assert expired is not None
    assert corrected is not None
    assert expired.cost_usd == Decimal("0.04")
    assert corrected.cost_usd == Decimal("0.03")
    assert await ledger.check() == []
