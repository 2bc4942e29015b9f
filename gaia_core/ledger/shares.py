"""
What a batch holds for its items: held and freed in one sum, booked for each item.

The sum is an entry of the batch, as it would be of any operation; further entries
share it out among the items, and add up to nothing. So a budget is asked once, and
the entries of every item still add up to what is held for it.
"""

from collections.abc import Mapping
from typing import Any

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    func,
    insert,
    literal,
    select,
)

from gaia_core.ledger import balances
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.ledger.tables import entries, operations
from gaia_core.settings import BudgetSettings

KIND = "share"
"""The kind of the entries that only move money between a batch and its items."""


@attrs.frozen
class Group:
    """Items that are paid for from the same budgets."""

    user_id: str | None
    campaign_id: str | None
    day: str

    @property
    def order(self) -> tuple[str, str, str]:
        """One order for everybody, so that two batches do not wait for each other."""
        return (self.user_id or "", self.campaign_id or "", self.day)


def hold(
    connection: Connection,
    budgets: BudgetSettings,
    batch_id: str,
    amounts: Mapping[Group, int],
    now: int,
) -> tuple[BudgetAlert, ...]:
    """
    Hold money for the items of a new batch, which are written already.

    Args:
        connection: The transaction.
        budgets: What may be spent.
        batch_id: The batch.
        amounts: What is held for each group of items, in micro-dollars.
        now: The present moment.

    Returns:
        The alerts it gives rise to.

    Raises:
        BudgetExceededError: If it is more than a budget has left.
    """
    groups = sorted(amounts, key=lambda group: group.order)
    alerts = [
        balances.reserve(
            connection,
            budgets,
            operation_id=batch_id,
            amount=amounts[group],
            **attrs.asdict(group),
        )
        for group in groups
    ]
    for group in groups:
        _share(connection, batch_id, group, -amounts[group], now)
    _book(connection, operations.c.batch_id == batch_id, 1, now)
    return tuple(alert for some in alerts for alert in some)


def free(
    connection: Connection, batch_id: str, chosen: ColumnElement[bool], now: int
) -> None:
    """Free what is held for some items of a batch; their rows are left alone."""
    held = _held(connection, chosen)
    for group, amount in held:
        balances.change(
            connection,
            operation_id=batch_id,
            kind="release",
            reserved=-amount,
            spent=0,
            **attrs.asdict(group),
        )
    for group, amount in held:
        _share(connection, batch_id, group, amount, now)
    _book(connection, chosen, -1, now)


def _held(
    connection: Connection, chosen: ColumnElement[bool]
) -> list[tuple[Group, int]]:
    """Add up what is held for each group of items."""
    facts = (operations.c.user_id, operations.c.campaign_id, operations.c.day)
    query = select(*facts, func.sum(operations.c.reserved))
    query = query.where(chosen, operations.c.reserved > 0).group_by(*facts)
    found = [(Group(*row[:3]), int(row[3])) for row in connection.execute(query)]
    return sorted(found, key=lambda pair: pair[0].order)


def _share(
    connection: Connection, batch_id: str, group: Group, amount: int, now: int
) -> None:
    """Book on a batch what its items gave back to it, or took from it."""
    if not amount:
        return
    values: dict[str, Any] = attrs.asdict(group)
    values |= {"operation_id": batch_id, "kind": KIND, "created_at": now}
    connection.execute(insert(entries), {**values, "reserved": amount, "spent": 0})


def _book(
    connection: Connection, chosen: ColumnElement[bool], sign: int, now: int
) -> None:
    """Book on each item what it takes from its batch (1) or gives back (-1)."""
    item = operations.c
    values = {
        "operation_id": item.id,
        "kind": literal(KIND),
        "reserved": item.reserved * sign,
        "spent": literal(0),
        "user_id": item.user_id,
        "campaign_id": item.campaign_id,
        "day": item.day,
        "created_at": literal(now, BigInteger),
    }
    query = select(*values.values()).where(chosen, item.reserved > 0)
    connection.execute(insert(entries).from_select(list(values), query))
