"""The book of one process."""

from decimal import Decimal

import attrs
import pytest

from gaia_core import Attempt, Capability, OutcomeClass
from gaia_core.ledger import Ledger, MemoryLedger, Operation, OperationState, memory

OPERATION = Operation(
    id="f" * 32, capability=Capability.TEXT_TO_IMAGE, reserved_usd=Decimal("0.04")
)
ATTEMPT = Attempt(
    provider="p",
    model="m",
    task_id="t",
    outcome=OutcomeClass.AMBIGUOUS,
    duration_ms=0.0,
    cost_usd=Decimal("0.04"),
)


@pytest.fixture(name="ledger")
def _ledger() -> Ledger:
    return MemoryLedger()


async def _get(ledger: Ledger) -> Operation:
    operation = await ledger.get(OPERATION.id)
    assert operation is not None
    return operation


async def test_unknown_operation_is_none(ledger: Ledger) -> None:
    """Looking up what was never written gives None."""
    assert await ledger.get("0" * 32) is None


async def test_accepted_operation_holds_its_money(ledger: Ledger) -> None:
    """An operation is on the book, its money held, before anything is sent."""
    await ledger.accept(OPERATION)

    operation = await _get(ledger)

    assert operation == OPERATION
    assert operation.state is OperationState.ACCEPTED


async def test_attempts_are_kept_in_order(ledger: Ledger) -> None:
    """Every attempt is noted when it is sent and completed when it ends."""
    again = attrs.evolve(ATTEMPT, provider="q")
    busy = attrs.evolve(ATTEMPT, outcome=OutcomeClass.REJECTED_BUSY)
    await ledger.accept(OPERATION)

    await ledger.send(OPERATION.id, ATTEMPT)
    sent = await _get(ledger)
    await ledger.end_attempt(OPERATION.id, busy)
    await ledger.send(OPERATION.id, again)

    assert sent.state is OperationState.SENT
    assert (await _get(ledger)).attempts == (busy, again)


async def test_dearer_attempts_hold_more(ledger: Ledger) -> None:
    """What is held covers the dearest attempt, not only the first."""
    dear = attrs.evolve(ATTEMPT, provider="q", cost_usd=Decimal("0.20"))
    unknown = attrs.evolve(ATTEMPT, provider="r", cost_usd=None)
    await ledger.accept(OPERATION)

    for attempt in (ATTEMPT, dear, unknown):
        await ledger.send(OPERATION.id, attempt)

    assert (await _get(ledger)).reserved_usd == Decimal("0.20")


async def test_settled_operation_releases_the_rest(ledger: Ledger) -> None:
    """A settled operation knows its cost and its pictures, and holds nothing."""
    await ledger.accept(OPERATION)
    await ledger.send(OPERATION.id, ATTEMPT)

    await ledger.settle(OPERATION.id, Decimal("0.03"), ("a", "b"))

    operation = await _get(ledger)
    assert operation.state is OperationState.DONE
    assert operation.cost_usd == Decimal("0.03")
    assert operation.reserved_usd == 0
    assert operation.image_ids == ("a", "b")


@pytest.mark.parametrize(
    ("state", "held", "cost"),
    [
        (OperationState.FAILED, Decimal(0), Decimal("0.04")),
        (OperationState.UNKNOWN, Decimal("0.04"), None),
    ],
    ids=["failed", "unknown"],
)
async def test_failure_settles_what_is_known(
    ledger: Ledger, state: OperationState, held: Decimal, cost: Decimal | None
) -> None:
    """What failed is settled at its attempts' cost; what is unknown stays held."""
    await ledger.accept(OPERATION)
    await ledger.send(OPERATION.id, ATTEMPT)

    await ledger.fail(OPERATION.id, state, "no picture")

    operation = await _get(ledger)
    assert (operation.state, operation.error) == (state, "no picture")
    assert operation.reserved_usd == held
    assert operation.cost_usd == cost


async def test_book_can_be_read_after_closing(ledger: Ledger) -> None:
    """Closing forgets nothing."""
    await ledger.accept(OPERATION)

    await ledger.close()

    assert await _get(ledger) == OPERATION


async def test_oldest_operations_are_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The book of one process does not grow for ever."""
    monkeypatch.setattr(memory, "MAX_OPERATIONS", 3)

    for number in range(5):
        await ledger.accept(attrs.evolve(OPERATION, id=str(number)))
        await ledger.settle(str(number), None, ())

    assert [await ledger.get(str(number)) is None for number in range(5)] == [
        *[True] * 2,
        *[False] * 3,
    ]


async def test_operations_under_way_are_not_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent can be settled, however many others came and went meanwhile."""
    monkeypatch.setattr(memory, "MAX_OPERATIONS", 1)
    await ledger.accept(OPERATION)
    await ledger.send(OPERATION.id, ATTEMPT)

    for number in range(3):
        await ledger.accept(attrs.evolve(OPERATION, id=str(number)))
        await ledger.settle(str(number), None, ())
    await ledger.settle(OPERATION.id, Decimal("0.04"), ())

    assert (await _get(ledger)).state is OperationState.DONE


async def test_unknown_operation_may_be_settled_later(ledger: Ledger) -> None:
    """When a lost answer turns up after all, the book says so."""
    await ledger.accept(OPERATION)
    await ledger.send(OPERATION.id, ATTEMPT)
    await ledger.fail(OPERATION.id, OperationState.UNKNOWN, "lost")

    await ledger.settle(OPERATION.id, Decimal("0.04"), ("a",))

    assert (await _get(ledger)).state is OperationState.DONE
