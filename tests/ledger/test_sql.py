"""What only a ledger in a database does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, select, update

from gaia_core import OutcomeClass
from gaia_core.errors import (
    IdempotencyConflictError,
    InvalidRequestError,
    LeaseLostError,
    LedgerError,
)
from gaia_core.ledger import (
    IdempotencyKey,
    Operation,
    OperationState,
    SqlLedger,
    keys,
    results_index,
    rows,
)
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import keys as key_rows
from gaia_core.ledger.tables import operations, results

from .stories import a_picture, an_attempt, an_operation, ended, failed, make, settled

KEY = IdempotencyKey(key="once", route="generate")
HOUR = timedelta(hours=1) // timedelta(microseconds=1)


@pytest.fixture(name="other")
async def _other(ledger: SqlLedger) -> AsyncIterator[SqlLedger]:
    """Give another process's ledger in the same database."""
    other = SqlLedger(Database(ledger.database.address))
    await other.open()
    yield other
    await other.close()


async def _known(ledger: SqlLedger, operation: Operation) -> Operation:
    known = await ledger.get(operation.id)
    assert known is not None
    return known


async def _sent(ledger: SqlLedger, **fields: Any) -> Operation:
    operation = an_operation(**fields)
    await ledger.accept(operation)
    await ledger.send(operation.id, an_attempt())
    return operation


async def _give(ledger: SqlLedger, operation: Operation, owner: str) -> None:
    """Let an operation change hands behind its owner's back."""
    await ledger.database.write(
        lambda connection: connection.execute(
            update(operations)
            .where(operations.c.id == operation.id)
            .values(owner=owner, fence=operations.c.fence + 1)
        )
    )


# -- whose it is --------------------------------------------------------------------

STEPS: dict[str, Callable[[SqlLedger, str], Any]] = {
    "send": lambda ledger, own: ledger.send(own, an_attempt()),
    "end_attempt": lambda ledger, own: ledger.end_attempt(own, ended(an_attempt())),
    "receive": lambda ledger, own: ledger.receive(own, ended(an_attempt())),
    "settle": lambda ledger, own: ledger.settle(own, settled()),
    "fail": lambda ledger, own: ledger.fail(own, failed()),
}
steps = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


@steps
async def test_what_another_took_over_is_not_written(
    ledger: SqlLedger, other: SqlLedger, step: Callable[[SqlLedger, str], Any]
) -> None:
    """A process that lost an operation cannot change it any more."""
    operation = await _sent(ledger)
    await _give(ledger, operation, other.database.worker)
    before = await _known(ledger, operation)

    with pytest.raises(LeaseLostError, match=operation.id):
        await step(ledger, operation.id)

    assert await _known(ledger, operation) == before


@steps
async def test_older_lease_of_the_same_process_is_over(
    ledger: SqlLedger, step: Callable[[SqlLedger, str], Any]
) -> None:
    """What came back to its own process under a new lease is not written as before."""
    operation = await _sent(ledger)
    await _give(ledger, operation, ledger.database.worker)

    with pytest.raises(LeaseLostError):
        await step(ledger, operation.id)


@steps
async def test_unknown_operation_is_an_error(
    ledger: SqlLedger, step: Callable[[SqlLedger, str], Any]
) -> None:
    """What is not on the book cannot be changed."""
    with pytest.raises(LedgerError, match="knows no operation"):
        await step(ledger, "0" * 32)


@pytest.mark.parametrize(
    "state", [OperationState.FAILED, OperationState.CANCELLED], ids=str
)
async def test_what_has_ended_is_not_sent(
    ledger: SqlLedger, state: OperationState
) -> None:
    """Nothing is sent for an operation that has ended."""
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.fail(operation.id, failed(state))

    with pytest.raises(LeaseLostError, match="has ended"):
        await ledger.send(operation.id, an_attempt())

    assert (await _known(ledger, operation)).attempts == ()


async def test_late_result_of_a_failure_is_kept(ledger: SqlLedger) -> None:
    """A result that comes after a failure was written is booked at its own cost."""
    operation = await _sent(ledger)
    await ledger.fail(operation.id, failed())

    pictures = (a_picture(operation),)
    await ledger.settle(
        operation.id, settled(cost_usd=Decimal("0.05"), images=pictures)
    )

    done = await _known(ledger, operation)
    assert (done.state, done.cost_usd) == (OperationState.DONE, Decimal("0.05"))
    assert len(done.image_ids) == 1
    assert await ledger.check() == []


async def test_failure_after_the_end_changes_nothing(ledger: SqlLedger) -> None:
    """What has failed stays failed as it did."""
    operation = await _sent(ledger)
    await ledger.fail(operation.id, failed())
    before = await _known(ledger, operation)

    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))

    assert await _known(ledger, operation) == before


# -- across processes ---------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from decimal import Decimal
from gaia_core import Attempt, Capability, OutcomeClass
from gaia_core.ledger import Operation, SqlLedger
from gaia_core.ledger.database import Database

async def main():
    ledger = SqlLedger(Database(sys.argv[1]))
    await ledger.open()
    operation = Operation(
        id="f" * 32, capability=Capability.TEXT_TO_IMAGE, reserved_usd=Decimal("0.04")
    )
    await ledger.accept(operation)
    await ledger.send(operation.id, Attempt(
        provider="p", model="m", task_id="t", outcome=OutcomeClass.AMBIGUOUS,
        duration_ms=0.0, cost_usd=Decimal("0.04"),
    ))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_process_leaves_its_operation_to_others(sqlite_address: str) -> None:
    """What a process had sent when it was killed passes to the next one, money held."""
    subprocess.run(
        [sys.executable, "-c", KILLED, sqlite_address],
        check=False,
        stderr=subprocess.DEVNULL,
    )

    async def after() -> tuple[list[Operation], list[Operation]]:
        ledger = SqlLedger(Database(sqlite_address))
        await ledger.open()
        adopted = list(await ledger.adopt())
        again = list(await ledger.adopt())
        await ledger.settle(adopted[0].id, settled(images=(a_picture(adopted[0]),)))
        assert await ledger.check() == []
        await ledger.close()
        return adopted, again

    adopted, again = asyncio.run(after())

    assert [(one.id, one.state) for one in adopted] == [("f" * 32, OperationState.SENT)]
    assert adopted[0].reserved_usd == Decimal("0.04")
    assert [attempt.task_id for attempt in adopted[0].attempts] == ["t"]
    assert again == []


async def test_closed_ledger_leaves_its_operations_to_others(
    ledger: SqlLedger,
) -> None:
    """What is open when a ledger closes is taken over by the next one, at once."""
    first = SqlLedger(Database(ledger.database.address))
    await first.open()
    operation = await _sent(first)
    await first.close()

    adopted = await ledger.adopt()
    await ledger.settle(operation.id, settled())

    assert [one.id for one in adopted] == [operation.id]


async def test_what_a_process_works_on_is_not_given_to_itself(
    ledger: SqlLedger,
) -> None:
    """An operation that comes back while its own work goes on is simply kept."""
    operation = await _sent(ledger)
    await _give(ledger, operation, "0" * 32)

    adopted = await ledger.adopt()
    await ledger.settle(operation.id, settled())

    assert list(adopted) == []
    assert (await _known(ledger, operation)).state is OperationState.DONE


async def test_equal_keys_in_processes_are_one_operation(
    ledger: SqlLedger, other: SqlLedger
) -> None:
    """However many processes ask under one key, one operation is taken on."""
    asked = [an_operation(key=KEY, result_key="r" * 64) for _ in range(20)]

    accepted = await asyncio.gather(
        *(ledger.accept(operation) for operation in asked[::2]),
        *(other.accept(operation) for operation in asked[1::2]),
    )

    assert len({one.id for one in accepted}) == 1
    assert len(await ledger.listed()) == 1
    assert await ledger.check() == []


# -- keys ---------------------------------------------------------------------------


async def _age(ledger: SqlLedger, hours: int) -> None:
    """Let the keys have been used so many hours ago."""
    await ledger.database.write(
        lambda connection: connection.execute(
            update(key_rows).values(created_at=rows.now() - hours * HOUR)
        )
    )


@pytest.mark.parametrize(
    ("hours", "has_ended", "is_free"),
    [(47, True, False), (49, True, True), (49, False, False)],
    ids=["young", "old", "under-way"],
)
async def test_old_keys_may_stand_for_something_else(
    ledger: SqlLedger, hours: int, *, has_ended: bool, is_free: bool
) -> None:
    """After 48 hours the key of an ended operation may be used for another request."""
    first = await _sent(ledger, key=KEY)
    if has_ended:
        await ledger.settle(first.id, settled())
    await _age(ledger, hours)
    second = an_operation(key=KEY, fingerprint="b" * 64)

    async def is_taken() -> bool:
        try:
            return (await ledger.accept(second)).id == second.id
        except IdempotencyConflictError:
            return False

    assert await is_taken() is is_free


async def test_old_key_still_stands_for_the_same_request(ledger: SqlLedger) -> None:
    """An equal request is not made twice, however old the key."""
    first = await _sent(ledger, key=KEY)
    await ledger.settle(first.id, settled())
    await _age(ledger, 1_000)

    assert (await ledger.accept(an_operation(key=KEY))).id == first.id


async def test_key_of_a_batch_is_no_operation(ledger: SqlLedger) -> None:
    """Looking up the operation of a key that stands for a batch gives none."""
    await ledger.database.write(
        lambda connection: keys.claim(
            connection, KEY, "a" * 64, batch_id="b" * 32, now=rows.now()
        )
    )

    assert await ledger.find(KEY) is None


# -- results ------------------------------------------------------------------------


async def test_results_unused_longest_are_forgotten(ledger: SqlLedger) -> None:
    """Of more results than may be kept, the one unused longest goes first."""
    ledger.max_results = 3
    names = [letter * 64 for letter in "abcd"]
    for name in names[:3]:
        await make(ledger, result_key=name)
    await ledger.find_result(names[0])
    await ledger.database.write(
        lambda connection: results_index.note_uses(connection, {names[0]: rows.now()})
    )

    await make(ledger, result_key=names[3])

    found = [await ledger.find_result(name) is not None for name in names]
    assert found == [True, False, True, True]


async def test_uses_are_written_down_on_closing(address: str) -> None:
    """That a result was used is remembered over a restart."""
    ledger = SqlLedger(Database(address))
    await ledger.open()
    await make(ledger, result_key="r" * 64)

    def used(connection: Connection) -> int:
        return int(connection.scalars(select(results.c.used_at)).one())

    before = await ledger.database.read(used)
    await ledger.find_result("r" * 64)
    await ledger.close()
    await ledger.open()
    after = await ledger.database.read(used)
    await ledger.close()

    assert after > before


async def test_many_uses_are_written_down_at_once(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered in memory does not grow for ever."""
    monkeypatch.setattr("gaia_core.ledger.sql.MAX_USES", 2)
    for name in ("a" * 64, "b" * 64):
        await make(ledger, result_key=name)
        await ledger.find_result(name)

    assert ledger._uses == {}


# -- what is kept -------------------------------------------------------------------


async def test_book_outlives_the_process(address: str) -> None:
    """What was written is there after closing and opening, by another process too."""
    first = SqlLedger(Database(address))
    await first.open()
    await make(first, user_id="bob")
    before = await first.listed()
    await first.close()
    second = SqlLedger(Database(address))
    for _ in range(2):
        await second.open()

    after = await second.listed()
    await second.close()
    await second.close()

    assert after == before


async def test_words_no_database_takes_are_replaced(ledger: SqlLedger) -> None:
    """An error keeps its words, whatever characters a provider put in it."""
    operation = await _sent(ledger)
    broken = attrs.evolve(an_attempt(), error="no\0 \udc80 text")
    await ledger.end_attempt(operation.id, broken)

    await ledger.fail(
        operation.id, attrs.evolve(failed(), error="a\0b\ud800", error_type="E")
    )

    over = await _known(ledger, operation)
    assert over.error == "a?b?"
    assert over.attempts[0].error == "no? ? text"


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "a\0"},
        {"campaign_id": "\ud800"},
        {"principal": "a\0"},
        {"key": IdempotencyKey(key="a\0")},
    ],
    ids=["user", "campaign", "principal", "key"],
)
async def test_names_no_database_takes_are_refused(
    ledger: SqlLedger, fields: dict[str, Any]
) -> None:
    """A name that cannot be kept as it is could be taken for another."""
    with pytest.raises(InvalidRequestError, match="no text"):
        await ledger.accept(an_operation(**fields))


@pytest.mark.parametrize(
    ("amount", "kept"),
    [
        ("0.0000001", "0.000001"),
        ("0.0000015", "0.000002"),
        ("1E+30", "1000000000"),
        ("123456789.123456", "123456789.123456"),
    ],
    ids=["fraction", "fractions", "endless", "exact"],
)
async def test_amounts_are_whole_microdollars(
    ledger: SqlLedger, amount: str, kept: str
) -> None:
    """Amounts are exact to a millionth of a dollar, never less than they were."""
    operation = await _sent(ledger)

    await ledger.settle(operation.id, settled(cost_usd=Decimal(amount)))

    assert (await _known(ledger, operation)).cost_usd == Decimal(kept)


async def test_attempt_that_served_may_name_another_model(ledger: SqlLedger) -> None:
    """A settlement's attempt takes the place of the latest one, in all it says."""
    operation = await _sent(ledger)
    refused = an_attempt(outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0))
    await ledger.end_attempt(operation.id, refused)
    await ledger.send(operation.id, an_attempt(provider="q", task_id="u"))

    last = ended(an_attempt(provider="q", task_id="u", model="m-2"))
    await ledger.settle(operation.id, settled(attempt=last))

    assert (await _known(ledger, operation)).attempts == (refused, last)


async def test_cancelled_caller_has_written(ledger: SqlLedger) -> None:
    """A caller that is cancelled while it settles has settled."""
    operation = await _sent(ledger)

    settling = asyncio.create_task(ledger.settle(operation.id, settled()))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling

    assert (await _known(ledger, operation)).state is OperationState.DONE


async def test_failed_opening_can_be_repeated(sqlite_address: str) -> None:
    """A ledger that could not be opened opens when the reason is gone."""
    file = Path(sqlite_address.removeprefix("sqlite:///"))
    file.parent.write_bytes(b"")
    ledger = SqlLedger(Database(sqlite_address))
    with pytest.raises(LedgerError):
        await ledger.open()

    file.parent.unlink()
    await ledger.open()

    assert await ledger.listed() == []
    await ledger.close()


def test_importing_the_ledger_loads_no_database() -> None:
    """SQLAlchemy is loaded when a ledger in a database is made, and not before."""
    program = (
        "import sys, gaia_core, gaia_core.ledger as l\n"
        "before = 'sqlalchemy' in sys.modules\n"
        "l.SqlLedger\n"
        "print(before, 'sqlalchemy' in sys.modules, 'alembic' in sys.modules)"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert said.stdout.split() == ["False", "True", "False"]
