"""What was made and spent, added up by group."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Subquery,
    case,
    func,
    select,
)

from gaia_core.ledger import rows
from gaia_core.ledger.operations import OperationState
from gaia_core.ledger.reports import UsageRow, groups_of
from gaia_core.ledger.tables import attempts, operations

_COUNTED = (
    OperationState.DONE,
    OperationState.FAILED,
    OperationState.UNKNOWN,
    OperationState.CANCELLED,
)


def usage(
    connection: Connection,
    by: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    principal: str | None = None,
) -> list[UsageRow]:
    """
    Add up what was made and spent.

    Args:
        connection: The transaction.
        by: What to group by; nothing gives one row for everything.
        since: Only operations taken on at this moment or later.
        until: Only those taken on before this moment.
        principal: Only those of somebody; None: of everybody.

    Raises:
        InvalidRequestError: If it cannot be grouped by that.
    """
    words = groups_of(by)
    facts = _facts(words, since, until, principal)
    groups = [facts.c[word] for word in words]
    query = select(*groups, *_sums(facts)).group_by(*groups)
    found = [_row(words, row) for row in connection.execute(query)]
    return sorted(found, key=_order)


def _facts(
    words: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    principal: str | None,
) -> Subquery:
    """Select what is added up, one row for each operation."""
    item = operations.c
    groups = _groups()
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(item.created_at >= rows.moment(since))
    if until is not None:
        conditions.append(item.created_at < rows.moment(until))
    if principal is not None:
        conditions.append(item.principal == rows.clean(principal))
    named = [groups[word].label(word) for word in words]
    counted = (item.state, item.images, item.cost, item.reserved)
    return select(*named, *counted).where(*conditions).subquery("facts")


def _groups() -> Mapping[str, ColumnElement[str | None]]:
    item = operations.c
    return {
        "day": item.day,
        "provider": func.coalesce(item.provider, _latest("provider")),
        "model": func.coalesce(item.model, _latest("model")),
        "campaign": item.campaign_id,
        "user": item.user_id,
    }


def _latest(name: str) -> ColumnElement[str | None]:
    """Select what was asked last, for an operation that nobody has served."""
    return (
        select(attempts.c[name])
        .where(attempts.c.operation_id == operations.c.id)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )


def _sums(facts: Subquery) -> tuple[ColumnElement[int], ...]:
    return (
        func.count().label("operations"),
        *(
            func.sum(case((facts.c.state == state.value, 1), else_=0)).label(state)
            for state in _COUNTED
        ),
        func.sum(facts.c.images).label("images"),
        func.sum(func.coalesce(facts.c.cost, 0)).label("cost"),
        func.sum(facts.c.reserved).label("held"),
    )


def _row(words: Sequence[str], row: Row[Any]) -> UsageRow:
    found = row._mapping  # noqa: SLF001  SQLAlchemy's public name for it
    return UsageRow(
        group={word: found[word] for word in words},
        operations=row.operations,
        done=int(row.done or 0),
        failed=int(row.failed or 0),
        unknown=int(row.unknown or 0),
        cancelled=int(row.cancelled or 0),
        images=int(row.images or 0),
        cost_usd=rows.dollars(int(row.cost or 0)),
        held_usd=rows.dollars(int(row.held or 0)),
    )


def _order(row: UsageRow) -> list[tuple[bool, str]]:
    """Put groups in order of their values, those without one at the end."""
    return [(value is None, value or "") for value in row.group.values()]
