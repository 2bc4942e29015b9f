"""Budgets hold to the cent, whoever asks and however many at once."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gaia_core.errors import BudgetExceededError
from gaia_core.ledger import BudgetAlert, OperationState, SqlLedger, rows
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import balances as balance_rows
from gaia_core.ledger.tables import entries
from gaia_core.settings import BudgetSettings, Period

from .stories import a_picture, an_attempt, an_operation, failed, make, settled

DOLLAR = Decimal(1)
Open = Callable[..., Any]


@pytest.fixture(name="opened")
async def _opened(address: str) -> AsyncIterator[Open]:
    """Give a function that opens a ledger under budgets."""
    ledgers: list[SqlLedger] = []

    async def opened(**budgets: Any) -> SqlLedger:
        ledger = SqlLedger(Database(address), budgets=BudgetSettings(**budgets))
        await ledger.open()
        ledgers.append(ledger)
        return ledger

    yield opened
    for ledger in ledgers:
        await ledger.close()


async def _used(ledger: SqlLedger, scope: str, period: str = "forever") -> Decimal:
    """Say what a balance holds and has spent."""

    def read(connection: Connection) -> Decimal:
        query = select(balance_rows).where(
            balance_rows.c.scope == scope, balance_rows.c.period == period
        )
        row = connection.execute(query).one()
        return rows.dollars(int(row.reserved + row.spent))

    return await ledger.database.read(read)


# -- one at a time ------------------------------------------------------------------


async def test_exactly_the_budget_may_be_spent(opened: Open) -> None:
    """The last cent may be spent, and not one more."""
    ledger = await opened(campaign_usd=Decimal("0.12"))
    for _ in range(3):
        await make(ledger, campaign_id="spring")

    with pytest.raises(BudgetExceededError) as caught:
        await make(ledger, "0.000001", campaign_id="spring")

    assert caught.value.scope == "campaign:spring"
    assert await _used(ledger, "campaign:spring") == Decimal("0.12")


async def test_refusal_says_whose_how_much_and_until_when(opened: Open) -> None:
    """A refusal names the budget, what is left, what it would cost and the way out."""
    ledger = await opened(user_usd=Decimal("0.05"), per=Period.MONTH)
    await make(ledger, user_id="bob")

    with pytest.raises(BudgetExceededError) as caught:
        await make(ledger, user_id="bob")

    assert str(caught.value) == (
        "The budget of user 'bob' has $0.01 of $0.05 left, and this may cost $0.04. "
        "Raise budgets.user_usd, or wait until 2026-12-01 (UTC)."
    )
    assert caught.value.retry_after is not None


async def test_refused_operation_leaves_nothing(opened: Open) -> None:
    """What is refused is not on the book, and its key is free."""
    ledger = await opened(total_usd=Decimal("0.03"))
    operation = an_operation(result_key="r" * 64)

    with pytest.raises(BudgetExceededError):
        await ledger.accept(operation)

    assert await ledger.get(operation.id) is None
    assert await ledger.check() == []
    assert (await ledger.accept(an_operation(reserved_usd=Decimal("0.03")))) is not None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("total", {}),
        ("user:bob", {"user_id": "bob"}),
        ("campaign:spring", {"campaign_id": "spring"}),
    ],
    ids=["total", "user", "campaign"],
)
async def test_every_kind_of_budget_holds(
    opened: Open, name: str, fields: dict[str, str]
) -> None:
    """A budget of everybody, of a user and of a campaign each stop what is too much."""
    ledger = await opened(**{f"{name.partition(':')[0]}_usd": Decimal("0.04")})
    await make(ledger, user_id="ann", campaign_id="autumn", cost="0.01")
    await make(ledger, cost="0.03", **fields)

    with pytest.raises(BudgetExceededError) as caught:
        await make(ledger, cost="0.02", **fields)

    assert caught.value.scope == name


async def test_the_narrowest_budget_decides(opened: Open) -> None:
    """What fits one budget and not another is refused, and holds nothing in either."""
    ledger = await opened(
        total_usd=DOLLAR, user_usd=DOLLAR, campaign_usd=Decimal("0.03")
    )

    with pytest.raises(BudgetExceededError):
        await make(ledger, user_id="bob", campaign_id="spring")

    await make(ledger, "1", user_id="bob")
    assert await _used(ledger, "total") == DOLLAR


async def test_dearer_attempt_is_held_to_the_budget(opened: Open) -> None:
    """An attempt that would cost more than is left is not sent."""
    ledger = await opened(total_usd=Decimal("0.10"))
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.send(operation.id, an_attempt())

    with pytest.raises(BudgetExceededError):
        await ledger.send(
            operation.id, an_attempt(task_id="u", cost_usd=Decimal("0.07"))
        )

    kept = await ledger.get(operation.id)
    assert kept is not None
    assert (len(kept.attempts), kept.reserved_usd) == (1, Decimal("0.04"))
    assert await _used(ledger, "total") == Decimal("0.04")


async def test_what_is_not_needed_is_free_again(opened: Open) -> None:
    """What settles for less, fails or is cancelled leaves room for others."""
    ledger = await opened(total_usd=Decimal("0.04"))
    for state in (OperationState.FAILED, OperationState.CANCELLED):
        operation = an_operation()
        await ledger.accept(operation)
        await ledger.fail(operation.id, failed(state))
    cheap = an_operation()
    await ledger.accept(cheap)
    await ledger.send(cheap.id, an_attempt())
    await ledger.settle(cheap.id, settled(cost_usd=Decimal("0.01")))

    await make(ledger, "0.03")

    assert await _used(ledger, "total") == Decimal("0.04")


async def test_unknown_outcome_stays_held(opened: Open) -> None:
    """Money that may have been spent is not given to others."""
    ledger = await opened(total_usd=Decimal("0.04"))
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.send(operation.id, an_attempt())
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))

    with pytest.raises(BudgetExceededError):
        await make(ledger, "0.01")


async def test_dearer_bill_is_booked_over_the_budget(opened: Open) -> None:
    """What a provider charged is spent, even beyond the budget; then nothing more."""
    ledger = await opened(total_usd=Decimal("0.05"))
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.send(operation.id, an_attempt())
    await ledger.settle(operation.id, settled(cost_usd=Decimal("0.09")))

    with pytest.raises(BudgetExceededError, match=r"\$0\.00 of \$0\.05 left"):
        await make(ledger, "0.01")

    assert await _used(ledger, "total") == Decimal("0.09")


async def test_unknown_cost_spends_what_is_held(opened: Open) -> None:
    """Where nobody knows what it cost, what was held is spent."""
    ledger = await opened(total_usd=DOLLAR)
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.settle(operation.id, settled(cost_usd=None))

    done = await ledger.get(operation.id)

    assert done is not None
    assert (done.cost_usd, done.reserved_usd) == (Decimal("0.04"), Decimal(0))
    assert await _used(ledger, "total") == Decimal("0.04")


async def test_settling_twice_pays_once(opened: Open) -> None:
    """A settlement or a failure that comes after the end changes nothing."""
    ledger = await opened(total_usd=DOLLAR)
    operation = an_operation()
    await ledger.accept(operation)
    await ledger.send(operation.id, an_attempt())
    for _ in range(2):
        await ledger.settle(
            operation.id, settled(images=(a_picture(operation),), cost_usd=DOLLAR / 10)
        )
    await ledger.fail(operation.id, failed())

    done = await ledger.get(operation.id)

    assert done is not None
    assert (done.state, len(done.image_ids)) == (OperationState.DONE, 1)
    assert await _used(ledger, "total") == Decimal("0.1")
    assert await ledger.check() == []


async def test_free_operations_write_no_entries(opened: Open) -> None:
    """What costs nothing is not booked, and needs no budget."""
    ledger = await opened(total_usd=Decimal(0))

    await make(ledger, "0")

    def read(connection: Connection) -> int:
        return len(connection.execute(select(entries)).all())

    assert await ledger.database.read(read) == 0


@pytest.mark.parametrize("per", Period, ids=str)
async def test_budgets_start_again(opened: Open, per: Period) -> None:
    """A budget is whole again with its next period, and only then."""
    ledger = await opened(total_usd=Decimal("0.04"), per=per)
    await make(ledger)
    tomorrow = datetime(2026, 11, 23, tzinfo=UTC)
    next_month = datetime(2026, 12, 1, tzinfo=UTC)

    async def fits(moment: datetime) -> bool:
        try:
            await make(ledger, created_at=moment)
        except BudgetExceededError:
            return False
        return True

    results = [await fits(tomorrow), await fits(next_month)]

    assert results == [per is Period.DAY, per is not Period.FOREVER]


async def test_late_settlement_counts_on_its_own_day(opened: Open) -> None:
    """Money counts in the period an operation was taken on, whenever it is settled."""
    ledger = await opened(total_usd=DOLLAR, per=Period.DAY)
    operation = an_operation(created_at=datetime(2026, 11, 21, 23, 59, tzinfo=UTC))
    await ledger.accept(operation)
    await make(ledger)

    await ledger.settle(operation.id, settled(cost_usd=Decimal("0.01")))

    assert await _used(ledger, "total", "2026-11-21") == Decimal("0.01")
    assert await _used(ledger, "total", "2026-11-22") == Decimal("0.04")


async def test_budgets_may_be_set_later(opened: Open) -> None:
    """A budget that is set later, or per another period, counts what went before."""
    before = await opened()
    for fields in ({"user_id": "bob"}, {"campaign_id": "spring"}, {}):
        await make(before, **fields)
    await before.close()

    for per in Period:
        ledger = await opened(
            total_usd=Decimal("0.12"), user_usd=Decimal("0.04"), per=per
        )
        with pytest.raises(BudgetExceededError) as everybody:
            await make(ledger, "0.01")
        with pytest.raises(BudgetExceededError) as one:
            await ledger.accept(
                an_operation(reserved_usd=Decimal("0.01"), user_id="bob")
            )
        assert everybody.value.scope == one.value.scope == "total"
        await ledger.close()
    roomy = await opened(user_usd=Decimal("0.04"), per=Period.FOREVER)
    with pytest.raises(BudgetExceededError, match="'bob'"):
        await make(roomy, "0.01", user_id="bob")
    await make(roomy, user_id="ann")
    assert await roomy.check() == []


# -- alerts -------------------------------------------------------------------------


async def test_alerts_come_once(opened: Open) -> None:
    """Each share of a budget is told when it is first reached, and never again."""
    ledger = await opened(user_usd=Decimal("0.10"), alert_at=(Decimal("0.5"), DOLLAR))
    told: list[BudgetAlert] = []
    ledger.on_alert = told.append
    await make(ledger, user_id="bob")
    assert told == []

    await make(ledger, user_id="bob")
    again = await opened(user_usd=Decimal("0.10"), alert_at=(Decimal("0.5"), DOLLAR))
    again.on_alert = told.append
    await make(again, "0.02", user_id="bob")
    await make(again, user_id="ann")

    assert [(one.scope, one.share, one.used_usd) for one in told] == [
        ("user:bob", Decimal("0.5"), Decimal("0.08")),
        ("user:bob", DOLLAR, Decimal("0.10")),
    ]
    assert told[0].limit_usd == Decimal("0.10")
    assert told[0].period == "forever"


async def test_alert_comes_with_a_dearer_bill(opened: Open) -> None:
    """A share that is reached only by the bill is told as well."""
    ledger = await opened(total_usd=Decimal("0.10"), alert_at=(Decimal("0.8"),))
    told: list[BudgetAlert] = []
    ledger.on_alert = told.append
    operation = an_operation()
    await ledger.accept(operation)

    await ledger.settle(operation.id, settled(cost_usd=Decimal("0.09")))

    assert [(one.share, one.used_usd) for one in told] == [
        (Decimal("0.8"), Decimal("0.09"))
    ]


async def test_refused_operation_alerts_nobody(opened: Open) -> None:
    """What is undone is not told, and is told when it happens."""
    ledger = await opened(
        total_usd=Decimal("0.05"),
        campaign_usd=Decimal("0.03"),
        alert_at=(Decimal("0.8"),),
    )
    told: list[BudgetAlert] = []
    ledger.on_alert = told.append
    with pytest.raises(BudgetExceededError):
        await make(ledger, campaign_id="spring")
    assert told == []

    await make(ledger)

    assert len(told) == 1


async def test_host_that_fails_ends_no_work(opened: Open) -> None:
    """Whatever the host does with an alert, the operation goes on."""
    ledger = await opened(total_usd=Decimal("0.04"))

    def fail(_: BudgetAlert) -> None:
        raise KeyError

    ledger.on_alert = fail

    await make(ledger)

    assert await _used(ledger, "total") == Decimal("0.04")
