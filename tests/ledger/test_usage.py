"""What was made and spent, by group."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gaia_core.errors import InvalidRequestError, OutcomeClass
from gaia_core.ledger import MemoryLedger, OperationState, SqlLedger
from gaia_core.ledger.database import Database
from gaia_core.settings import BudgetSettings

from .stories import (
    DAY,
    PRICE,
    a_picture,
    an_attempt,
    an_operation,
    ended,
    failed,
    settled,
)


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


async def test_only_somebodys_are_added_up(ledger: SqlLedger) -> None:
    """What others made is not counted for one principal; whoever has none is one."""
    await _done(ledger, "0.03", principal="anna")
    await _done(ledger, "0.05", principal="")

    (anna,) = await ledger.usage((), principal="anna")
    (owner,) = await ledger.usage((), principal="")
    (everybody,) = await ledger.usage(())

    assert (anna.cost_usd, owner.cost_usd) == (Decimal("0.03"), Decimal("0.05"))
    assert everybody.cost_usd == Decimal("0.08")


# -- budgets ----------------------------------------------------------------------


@pytest.fixture(name="budgeted")
async def _budgeted(address: str) -> AsyncIterator[SqlLedger]:
    """Give a ledger that holds every kind of budget."""
    budgets = BudgetSettings(
        total_usd=Decimal(10), user_usd=Decimal(1), campaign_usd=Decimal("0.05")
    )
    ledger = SqlLedger(Database(address), budgets=budgets)
    await ledger.open()
    yield ledger
    await ledger.close()


async def test_budgets_say_how_they_stand(budgeted: SqlLedger) -> None:
    """What is spent and what is held shows in each budget a request counts in."""
    await _done(budgeted, "0.03", user_id="anna", campaign_id="c")
    await _unknown(budgeted, user_id="anna")
    await _done(budgeted, "0.06", user_id="bert")

    found = await budgeted.budget_states(user_id="anna", campaign_id="c")

    assert [
        (one.scope, one.period, one.spent_usd, one.held_usd, one.left_usd)
        for one in found
    ] == [
        ("total", "forever", Decimal("0.09"), PRICE, Decimal("9.87")),
        ("user:anna", "forever", Decimal("0.03"), PRICE, Decimal("0.93")),
        ("campaign:c", "forever", Decimal("0.03"), Decimal(0), Decimal("0.02")),
    ]


async def test_budgets_that_nobody_has_used_are_whole(budgeted: SqlLedger) -> None:
    """A budget stands before anything counts in it, and asking makes no balance."""
    total, user = await budgeted.budget_states(user_id="nobody")

    assert (total.left_usd, user.left_usd) == (Decimal(10), Decimal(1))
    assert await budgeted.check() == []


async def test_spending_from_before_the_budget_counts(
    ledger: SqlLedger, address: str
) -> None:
    """A budget that is set later counts what was spent already."""
    await _done(ledger, "0.03", user_id="anna")
    later = SqlLedger(
        Database(address), budgets=BudgetSettings(user_usd=Decimal("0.02"))
    )
    await later.open()

    (state,) = await later.budget_states(user_id="anna")
    await later.close()

    assert (state.spent_usd, state.left_usd) == (Decimal("0.03"), Decimal(0))


async def test_no_budgets_are_told_where_none_is_set(ledger: SqlLedger) -> None:
    """Only budgets that are set are told."""
    assert await ledger.budget_states(user_id="anna") == ()


async def test_a_ledger_in_memory_tells_of_one_principal() -> None:
    """The ledger of one process knows whose is what, and no budgets."""
    ledger = MemoryLedger()
    await ledger.accept(an_operation(principal="anna"))
    await ledger.accept(an_operation())

    (anna,) = await ledger.usage((), principal="anna")

    assert anna.operations == 1
    assert await ledger.budget_states(user_id="anna") == ()
