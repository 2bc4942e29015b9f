"""The book of one process: what is its own; the rest is every ledger's."""

from decimal import Decimal
from typing import Any

import attrs
import pytest

from gaia_core import Attempt, Capability, InvalidRequestError, OutcomeClass
from gaia_core.ledger import (
    IdempotencyKey,
    Ledger,
    MemoryLedger,
    Operation,
    OperationState,
    Settlement,
    memory,
)

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
SETTLED = Settlement(provider="p", model="m", cost_usd=Decimal("0.04"))


@pytest.fixture(name="ledger")
def _ledger() -> Ledger:
    return MemoryLedger()


async def test_book_can_be_read_after_closing(ledger: Ledger) -> None:
    """Closing forgets nothing."""
    await ledger.accept(OPERATION)

    await ledger.close()

    assert await ledger.get(OPERATION.id) == OPERATION


async def test_oldest_operations_are_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The book of one process does not grow for ever."""
    monkeypatch.setattr(memory, "MAX_OPERATIONS", 3)

    for number in range(5):
        await ledger.accept(attrs.evolve(OPERATION, id=str(number)))
        await ledger.settle(str(number), SETTLED)

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
        await ledger.settle(str(number), SETTLED)
    await ledger.settle(OPERATION.id, SETTLED)

    operation = await ledger.get(OPERATION.id)
    assert operation is not None
    assert operation.state is OperationState.DONE


async def test_forgotten_operations_let_go_of_their_keys(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of an operation that is forgotten stands for nothing any more."""
    monkeypatch.setattr(memory, "MAX_OPERATIONS", 1)
    key = IdempotencyKey(key="k")
    named = attrs.evolve(OPERATION, key=key, result_key="r")
    await ledger.accept(named)
    await ledger.settle(named.id, SETTLED)

    await ledger.accept(attrs.evolve(OPERATION, id="0" * 32))
    await ledger.settle("0" * 32, SETTLED)

    assert await ledger.find(key) is None
    assert await ledger.find_result("r") is None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        pytest.param(7, "a text, not int", id="number"),
        pytest.param(b"key", "a text, not bytes", id="bytes"),
        pytest.param("", "1 to 255 bytes", id="empty"),
        pytest.param("ä" * 128, "1 to 255 bytes", id="too-long"),
    ],
)
def test_wrong_keys_are_refused(key: Any, words: str) -> None:
    """An idempotency key is a text of some length, or the request is invalid."""
    with pytest.raises(InvalidRequestError, match=words):
        IdempotencyKey(key=key)
