"""The book checked against itself, and money that is held no longer."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    Subquery,
    and_,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)

from gaia_core.capabilities import Capability
from gaia_core.ledger import balances as money
from gaia_core.ledger import rows
from gaia_core.ledger.batches import BatchState
from gaia_core.ledger.endings import add_up_cost, was_unknown
from gaia_core.ledger.operations import OperationState
from gaia_core.ledger.reports import Problem
from gaia_core.ledger.tables import (
    attempts,
    balances,
    batches,
    entries,
    events,
    images,
    keys,
    operations,
    results,
)

HELD = timedelta(hours=24)
"""How long money is held for an outcome that stays unknown."""
SHOWN = 3
"""How many examples a problem names."""

_MAKES_NO_PICTURE = (Capability.PROMPT_ENHANCEMENT, Capability.IMAGE_DESCRIPTION)
_CLOSED = (OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED)
_ENDED = (*_CLOSED, OperationState.UNKNOWN)
# Spelt out, not bound: only so SQLite uses the index of just these rows.
_IS_UNKNOWN: Final = operations.c.state == literal_column("'unknown'")
_KEEP = "Keep a copy of the database and report it; what was paid is in the entries."
_RESTORE = "Restore the database from a copy. The pictures lie in the image store."

Check = Callable[[Connection], Iterator[Problem]]


def check(connection: Connection) -> list[Problem]:
    """Check the book against itself; the transaction has to be a new one."""
    if connection.dialect.name == "postgresql":
        # One view of everything, whatever others write meanwhile.
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    else:
        damaged = list(_file(connection))
        if damaged:  # what else would be found says nothing then
            return damaged
    return [problem for one in _CHECKS for problem in one(connection)]


def expire_holds(connection: Connection, now: int) -> int:
    """Count money held for unknown outcomes for 24 h as spent; say of how many."""
    expired = connection.execute(_expired(now)).all()
    for row in expired:
        money.change(
            connection,
            operation_id=row.id,
            user_id=row.user_id,
            campaign_id=row.campaign_id,
            day=row.day,
            kind="expire",
            reserved=-row.reserved,
            spent=row.reserved,
        )
        cost = (row.cost or 0) + row.reserved
        own = update(operations).where(operations.c.id == row.id)
        connection.execute(own.values(reserved=0, cost=cost, updated_at=now))
    for batch_id in sorted({row.batch_id for row in expired if row.batch_id}):
        add_up_cost(connection, batch_id)
    return len(expired)


def _expired(now: int) -> Select[Any]:
    """Select outcomes that have been unknown, counted from the last try, too long."""
    item, start = operations.c, now - HELD // timedelta(microseconds=1)
    was_tried = exists().where(
        attempts.c.operation_id == item.id, attempts.c.sent_at > start
    )
    is_old = and_(_IS_UNKNOWN, item.created_at <= start, item.reserved > 0)
    query = select(operations).where(is_old, ~was_tried)
    return query.order_by(item.created_at).with_for_update(skip_locked=True)


# -- the file -----------------------------------------------------------------------


def _file(connection: Connection) -> Iterator[Problem]:
    """Let SQLite check its file."""
    found = connection.scalars(text(f"PRAGMA integrity_check({SHOWN})"))
    lines = [line for line in found if line != "ok"]
    if lines:
        detail = f"SQLite finds the file damaged: {'; '.join(lines)}."
        yield Problem(name="damaged file", detail=detail, next_step=_RESTORE)


# -- money --------------------------------------------------------------------------


def _balances(connection: Connection) -> Iterator[Problem]:
    """Every balance is the sum of its entries."""
    kept = {
        (row.scope, row.period): (row.reserved, row.spent)
        for row in connection.execute(select(balances))
    }
    sums = _sums_of_entries(connection, kept.keys())
    for place, (reserved, spent) in sorted(kept.items()):
        if (reserved, spent) != sums[place]:
            scope, period = place
            detail = (
                f"The balance of {scope} ({period}) says {_usd(reserved)} held and "
                f"{_usd(spent)} spent; its entries say {_usd(sums[place][0])} and "
                f"{_usd(sums[place][1])}."
            )
            yield Problem(name="wrong balance", detail=detail, next_step=_KEEP)


def _sums_of_entries(
    connection: Connection, places: Any
) -> defaultdict[tuple[str, str], tuple[int, int]]:
    sums: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    payer = (entries.c.user_id, entries.c.campaign_id, entries.c.day)
    query = select(*payer, func.sum(entries.c.reserved), func.sum(entries.c.spent))
    for user, campaign, day, reserved, spent in connection.execute(
        query.group_by(*payer)
    ):
        paid_by = money.Payer(
            operation_id="", user_id=user, campaign_id=campaign, day=day
        )
        for place in product(paid_by.scopes, paid_by.periods):
            if place in places:
                held, gone = sums[place]
                sums[place] = (held + int(reserved), gone + int(spent))
    return sums


def _entries_of_operations(connection: Connection) -> Iterator[Problem]:
    """What an operation holds and has cost is the sum of its entries."""
    item, sums = operations.c, _sums_by_operation()
    differs = or_(
        item.reserved != func.coalesce(sums.c.reserved, 0),
        func.coalesce(item.cost, 0) != func.coalesce(sums.c.spent, 0),
    )
    joined = operations.outerjoin(sums, sums.c.operation_id == item.id)
    query = select(item.id).select_from(joined).where(differs)
    detail = "what {} held or cost is not the sum of the entries"
    yield from _problem(connection, query, "wrong sum", detail)


def _entries_of_nothing(connection: Connection) -> Iterator[Problem]:
    """Entries that belong to no operation add up to nothing: those of a batch do."""
    sums = _sums_by_operation()
    is_known = exists().where(operations.c.id == sums.c.operation_id)
    holds = or_(sums.c.reserved != 0, sums.c.spent != 0)
    query = select(sums.c.operation_id).where(~is_known, holds)
    detail = "the entries of {} add up to money, and there is no such operation"
    yield from _problem(connection, query, "stray money", detail)


def _sums_by_operation() -> Subquery:
    sums = (func.sum(entries.c[name]).label(name) for name in ("reserved", "spent"))
    query = select(entries.c.operation_id, *sums)
    return query.group_by(entries.c.operation_id).subquery("sums")


def _held_for_nothing(connection: Connection) -> Iterator[Problem]:
    """Whatever has ended holds no money, unless its outcome is unknown."""
    item = operations.c
    query = select(item.id).where(item.state.in_(_CLOSED), item.reserved != 0)
    detail = "{} ended and still held money"
    yield from _problem(connection, query, "money held for nothing", detail)


# -- operations ---------------------------------------------------------------------


def _states(connection: Connection) -> Iterator[Problem]:
    """Whatever has ended says when; what has not waits, or is somebody's."""
    item = operations.c
    is_timed = item.state.in_(_ENDED) == item.finished_at.is_not(None)
    waits = item.state.in_((*_ENDED, OperationState.QUEUED))
    is_somebodys = or_(waits, item.owner.is_not(None))
    query = select(item.id).where(~and_(is_timed, is_somebodys))
    detail = "the state of {} does not go with its owner or its end"
    yield from _problem(connection, query, "wrong state", detail)


def _images(connection: Connection) -> Iterator[Problem]:
    """Whatever is done has its pictures on the book."""
    item = operations.c
    on_book = select(func.count()).where(images.c.operation_id == item.id)
    is_short = item.images != on_book.scalar_subquery()
    makes_one = item.capability.not_in(_MAKES_NO_PICTURE)
    is_empty = and_(makes_one, item.images == 0)
    is_done = item.state == OperationState.DONE
    query = select(item.id).where(is_done, or_(is_short, is_empty))
    detail = "not every picture of {} is on the book"
    yield from _problem(connection, query, "missing picture", detail)


def _keys(connection: Connection) -> Iterator[Problem]:
    """Every key stands for something."""
    for_operation = exists().where(operations.c.id == keys.c.operation_id)
    for_batch = exists().where(batches.c.id == keys.c.batch_id)
    query = select(keys.c.key).where(~for_operation, ~for_batch)
    detail = "the idempotency key {} stands for nothing"
    yield from _problem(connection, query, "stray key", detail)


def _results(connection: Connection) -> Iterator[Problem]:
    """Every result key stands for an operation."""
    is_known = exists().where(operations.c.id == results.c.operation_id)
    query = select(results.c.operation_id).where(~is_known)
    detail = "an answer is to be found under {}, and there is no such operation"
    yield from _problem(connection, query, "stray answer", detail)


# -- batches ------------------------------------------------------------------------


def _batches(connection: Connection) -> Iterator[Problem]:
    """What a batch counts is what its items are."""
    batch, items = batches.c, _items()
    names = ("total", *map(str, _ENDED), "cost")
    differs = [batch[name] != func.coalesce(items.c[name], 0) for name in names]
    ended = batch.done + batch.failed + batch.unknown + batch.cancelled
    is_finished = batch.state == BatchState.FINISHED
    joined = batches.outerjoin(items, items.c.batch_id == batch.id)
    query = select(batch.id).select_from(joined)
    query = query.where(or_(*differs, is_finished != (ended == batch.total)))
    detail = "what batch {} counts is not what its items are"
    yield from _problem(connection, query, "wrong count", detail)


def _items() -> Subquery:
    """Count the items of each batch as their batch should."""
    item = operations.c
    is_of = {str(state): item.state == state.value for state in _CLOSED}
    # One whose outcome is looked up once more counts as unknown until it is known.
    is_of["unknown"] = and_(was_unknown(), item.state.not_in(_CLOSED))
    counts = [
        func.sum(case((condition, 1), else_=0)).label(name)
        for name, condition in is_of.items()
    ]
    cost = func.sum(func.coalesce(item.cost, 0)).label("cost")
    query = select(item.batch_id, func.count().label("total"), cost, *counts)
    query = query.where(item.batch_id.is_not(None))
    return query.group_by(item.batch_id).subquery("items")


def _events(connection: Connection) -> Iterator[Problem]:
    """The events of a batch have no gap."""
    batch = batches.c
    number = func.count().label("number")
    last = func.max(events.c.sequence).label("last")
    told = select(events.c.batch_id, number, last)
    told_of = told.group_by(events.c.batch_id).subquery("told")
    joined = batches.outerjoin(told_of, told_of.c.batch_id == batch.id)
    differs = [
        func.coalesce(told_of.c[name], 0) != batch.last_event
        for name in ("number", "last")
    ]
    query = select(batch.id).select_from(joined).where(or_(*differs))
    detail = "the events of batch {} have gaps"
    yield from _problem(connection, query, "missing event", detail)


# -- words --------------------------------------------------------------------------


def _problem(
    connection: Connection, query: Select[Any], name: str, detail: str
) -> Iterator[Problem]:
    """Make a problem of what a query finds."""
    number = connection.scalar(select(func.count()).select_from(query.subquery()))
    if not number:
        return
    found = list(connection.scalars(query.limit(SHOWN)))
    more = f" and {number - len(found)} more" if number > len(found) else ""
    words = detail.format(", ".join(map(str, found)) + more)
    yield Problem(name=name, detail=f"{words[0].upper()}{words[1:]}.", next_step=_KEEP)


def _usd(amount: int) -> str:
    return f"${rows.dollars(amount):,f}"


_CHECKS: tuple[Check, ...] = (
    *(_balances, _entries_of_operations, _entries_of_nothing, _held_for_nothing),
    *(_states, _images, _keys, _results, _batches, _events),
)
