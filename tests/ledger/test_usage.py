"""What was made and spent, by group."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gaia_core.errors import InvalidRequestError, OutcomeClass
from gaia_core.ledger import OperationState, SqlLedger

from .stories import DAY, a_picture, an_attempt, an_operation, ended, failed, settled


async def _done(ledger: SqlLedger, cost: str = "0.04", **fields: Any) -> None:
    """Make two pictures with p/m."""
    operation = await ledger.accept(an_operation(**fields))
    await ledger.send(operation.id, an_attempt())
    pictures = (a_picture(operation), a_picture(operation))
    await ledger.settle(operation.id, settled(cost_usd=Decimal(cost), images=pictures))


async def _failed(ledger: SqlLedger, provider: str, **fields: Any) -> None:
    """Pay for something that cannot be used."""
    operation = await ledger.accept(an_operation(**fields))
    attempt = an_attempt(provider=provider)
    await ledger.send(operation.id, attempt)
    await ledger.end_attempt(
        operation.id, ended(attempt, outcome=OutcomeClass.UNUSABLE)
    )
    await ledger.fail(operation.id, failed())


async def _unknown(ledger: SqlLedger, **fields: Any) -> None:
    """Lose the answer of the second of two providers."""
    operation = await ledger.accept(an_operation(**fields))
    first = an_attempt(provider="q", task_id="1", cost_usd=Decimal(0))
    await ledger.send(operation.id, first)
    await ledger.send(operation.id, an_attempt(provider="r", model="n", task_id="2"))
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))


async def test_nothing_was_used(ledger: SqlLedger) -> None:
    """An empty book has no groups, and everything together is nothing."""
    (everything,) = await ledger.usage(())

    assert await ledger.usage(("day",)) == []
    assert (everything.operations, everything.cost_usd) == (0, Decimal(0))


async def test_everything_is_added_up(ledger: SqlLedger) -> None:
    """One row counts what was done, failed and is open, its cost and what is held."""
    await _done(ledger, "0.03")
    await _failed(ledger, "q")
    await _unknown(ledger)
    await ledger.accept(an_operation())

    (row,) = await ledger.usage(())

    assert row.group == {}
    assert (row.operations, row.done, row.failed, row.unknown) == (4, 1, 1, 1)
    assert row.images == 2
    assert row.cost_usd == Decimal("0.07")
    assert row.held_usd == Decimal("0.08")


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        (["provider"], [("p",), ("q",), ("r",), (None,)]),
        (["model"], [("m",), ("n",), (None,)]),
        (["user"], [("anna",), (None,)]),
        (["campaign", "user"], [("c", None), (None, "anna"), (None, None)]),
        (["day"], [("2026-11-22",)]),
        (["day", "day"], [("2026-11-22",)]),
    ],
    ids=["provider", "model", "user", "campaign and user", "day", "twice"],
)
async def test_groups_are_in_order(
    ledger: SqlLedger, by: Sequence[str], groups: list[tuple[str | None, ...]]
) -> None:
    """Groups come in order; what nobody served counts where it was tried last."""
    await _done(ledger, user_id="anna")
    await _failed(ledger, "q", campaign_id="c")
    await _unknown(ledger)
    await ledger.accept(an_operation())

    found = await ledger.usage(by)

    assert [tuple(row.group.values()) for row in found] == groups
    assert {tuple(row.group) for row in found} == {tuple(dict.fromkeys(by))}
    assert sum(row.operations for row in found) == 4


async def test_money_goes_with_its_group(ledger: SqlLedger) -> None:
    """Each group has its own sums."""
    await _done(ledger, "0.03", user_id="anna")
    await _done(ledger, "0.01", user_id="anna")
    await _unknown(ledger, user_id="bert")

    anna, bert = await ledger.usage(["user"])

    assert (anna.cost_usd, anna.held_usd, anna.images) == (
        *(Decimal("0.04"), Decimal(0), 4),
    )
    assert (bert.cost_usd, bert.held_usd) == (Decimal(0), Decimal("0.04"))


async def test_only_a_time_is_added_up(ledger: SqlLedger) -> None:
    """Operations count from one moment up to, and not with, another."""
    for days in range(4):
        await _done(ledger, created_at=DAY + timedelta(days=days))
    since, until = DAY + timedelta(days=1), DAY + timedelta(days=3)

    found = await ledger.usage(["day"], since=since, until=until)

    assert [row.group["day"] for row in found] == ["2026-11-23", "2026-11-24"]


async def test_a_text_is_one_word(ledger: SqlLedger) -> None:
    """``usage("day")`` groups by day, not by the letters of it."""
    await _done(ledger)

    (row,) = await ledger.usage("day")

    assert list(row.group) == ["day"]


async def test_wrong_group_is_named(ledger: SqlLedger) -> None:
    """A word that nothing is grouped by is refused, and the right ones are named."""
    with pytest.raises(InvalidRequestError, match=r"'colour'.*day, provider, model"):
        await ledger.usage(["day", "colour"])
