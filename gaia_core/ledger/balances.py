"""
The money: what is held and what is spent, and whether there is room for more.

Every change is an entry that is never altered. Balances are sums of entries, kept
for the scopes that a budget looks at; they are made when first asked for and follow
every entry from then on, in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import attrs
from sqlalchemy import ColumnElement, Connection, func, select, text, tuple_, update

from gaia_core.catalog import to_decimal
from gaia_core.errors import BudgetExceededError
from gaia_core.ledger import rows
from gaia_core.ledger.dialects import insert_or_ignore
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.ledger.tables import alerts, balances, entries
from gaia_core.settings import BudgetSettings, Period

FOREVER = "forever"
"""The period that never ends."""

Place = tuple[str, str]
"""A scope and a period: what one balance is of."""


@attrs.frozen(kw_only=True)
class Payer:
    """
    Who pays for an operation, and when.

    Attributes:
        operation_id: The operation.
        user_id: The user, if any.
        campaign_id: The campaign, if any.
        day: The UTC date it was taken on.
    """

    operation_id: str
    user_id: str | None
    campaign_id: str | None
    day: str

    @property
    def scopes(self) -> Mapping[str, ColumnElement[bool] | None]:
        """Every scope, in a fixed order, to the condition on its entries."""
        scopes: dict[str, ColumnElement[bool] | None] = {"total": None}
        if self.user_id is not None:
            scopes[f"user:{self.user_id}"] = entries.c.user_id == self.user_id
        if self.campaign_id is not None:
            is_campaign = entries.c.campaign_id == self.campaign_id
            scopes[f"campaign:{self.campaign_id}"] = is_campaign
        return scopes

    @property
    def places(self) -> tuple[Place, ...]:
        """Every balance its money may count in."""
        periods = (self.day, self.day[:7], FOREVER)
        return tuple((scope, period) for scope in self.scopes for period in periods)


@attrs.frozen(kw_only=True)
class Limit:
    """
    What one scope may spend in a period.

    Attributes:
        scope: ``total``, ``user:NAME`` or ``campaign:NAME``.
        period: The day, the month, or ``forever``.
        amount: How much, in micro-dollars.
    """

    scope: str
    period: str
    amount: int

    @property
    def place(self) -> Place:
        """The balance it is compared with."""
        return self.scope, self.period


@attrs.define
class _Standing:
    reserved: int
    spent: int

    @property
    def used(self) -> int:
        return self.reserved + self.spent


def reserve(  # noqa: PLR0913  every one is a keyword
    connection: Connection,
    budgets: BudgetSettings,
    *,
    operation_id: str,
    user_id: str | None,
    campaign_id: str | None,
    day: str,
    amount: int,
) -> tuple[BudgetAlert, ...]:
    """
    Hold an amount in micro-dollars, if every budget has so much left.

    Returns:
        The alerts it gives rise to, to be told once the transaction is committed.

    Raises:
        BudgetExceededError: If one has not; the transaction must be undone then.
    """
    if amount <= 0:
        return ()
    payer = Payer(
        operation_id=operation_id, user_id=user_id, campaign_id=campaign_id, day=day
    )
    limits = limits_of(budgets, payer)
    _prepare(connection, payer, limits)
    _enter(connection, payer, kind="reserve", reserved=amount, spent=0)
    standings = _locked(connection, payer.places)
    for limit in limits:
        _hold(connection, limit, amount, standings[limit.place])
    held = {limit.place for limit in limits}
    _follow(connection, standings.keys() - held, reserved=amount, spent=0)
    for standing in standings.values():
        standing.reserved += amount
    return _alerts(connection, budgets, limits, standings)


def change(  # noqa: PLR0913  every one is a keyword
    connection: Connection,
    *,
    operation_id: str,
    user_id: str | None,
    campaign_id: str | None,
    day: str,
    kind: str,
    reserved: int,
    spent: int,
    budgets: BudgetSettings | None = None,
) -> tuple[BudgetAlert, ...]:
    """
    Change what is held and spent by so many micro-dollars, whatever the budgets.

    Args:
        connection: The transaction.
        operation_id: The operation it is about.
        user_id: Its user, if any.
        campaign_id: Its campaign, if any.
        day: The UTC date it was taken on.
        kind: What happens: ``settle``, ``release`` or ``expire``.
        reserved: By how much what is held changes.
        spent: By how much what is spent changes.
        budgets: The budgets whose shares are watched; None: no alerts.

    Returns:
        The alerts it gives rise to, to be told once the transaction is committed.
    """
    if not reserved and not spent:
        return ()
    payer = Payer(
        operation_id=operation_id, user_id=user_id, campaign_id=campaign_id, day=day
    )
    limits = limits_of(budgets, payer) if budgets and reserved + spent > 0 else ()
    _prepare(connection, payer, limits)
    _enter(connection, payer, kind=kind, reserved=reserved, spent=spent)
    standings = _locked(connection, payer.places)
    _follow(connection, standings.keys(), reserved=reserved, spent=spent)
    for standing in standings.values():
        standing.reserved += reserved
        standing.spent += spent
    return _alerts(connection, budgets, limits, standings) if budgets else ()


def limits_of(budgets: BudgetSettings, payer: Payer) -> tuple[Limit, ...]:
    """Give the limits that hold for a payer, in a fixed order."""
    named = {
        "total": budgets.total_usd,
        "user": budgets.user_usd,
        "campaign": budgets.campaign_usd,
    }
    period = {Period.DAY: payer.day, Period.MONTH: payer.day[:7]}.get(
        budgets.per, FOREVER
    )
    return tuple(
        Limit(scope=scope, period=period, amount=_floor(amount))
        for scope in payer.scopes
        if (amount := named[scope.partition(":")[0]]) is not None
    )


# -- balances -----------------------------------------------------------------------


def _prepare(connection: Connection, payer: Payer, limits: Sequence[Limit]) -> None:
    """
    Make the balances that limits need and that do not exist yet.

    It comes before the entry: an entry keeps others from making balances until it
    is committed, so that none is made without it, and none is missed by it.
    """
    if not limits:
        return
    query = select(balances.c.scope, balances.c.period).where(
        _at(limit.place for limit in limits)
    )
    found = {tuple(row) for row in connection.execute(query)}
    missing = [limit for limit in limits if limit.place not in found]
    if missing:
        _make(connection, payer, missing)


def _locked(connection: Connection, places: Iterable[Place]) -> dict[Place, _Standing]:
    # One order for everybody, so that two transactions never wait for each other.
    query = (
        select(balances)
        .where(_at(places))
        .order_by(balances.c.scope, balances.c.period)
        .with_for_update()
    )
    return {
        (row.scope, row.period): _Standing(row.reserved, row.spent)
        for row in connection.execute(query)
    }


def _make(connection: Connection, payer: Payer, limits: Iterable[Limit]) -> None:
    """Add balances up from the entries."""
    if connection.dialect.name == "postgresql":
        # Entries that others have written and not committed would be missed.
        connection.execute(text("LOCK TABLE entries IN SHARE ROW EXCLUSIVE MODE"))
    total = func.coalesce(func.sum(entries.c.reserved), 0).label("reserved")
    spent = func.coalesce(func.sum(entries.c.spent), 0).label("spent")
    for limit in limits:
        conditions = [_within(limit.period)]
        if (is_of := payer.scopes[limit.scope]) is not None:
            conditions.append(is_of)
        row = connection.execute(select(total, spent).where(*conditions)).one()
        connection.execute(
            insert_or_ignore(connection, balances),
            {
                "scope": limit.scope,
                "period": limit.period,
                "reserved": int(row.reserved),
                "spent": int(row.spent),
            },
        )


def _within(period: str) -> ColumnElement[bool]:
    """Tell the entries of a period: days sort as text."""
    if period == FOREVER:
        return entries.c.day >= ""
    return entries.c.day.between(period, f"{period}~")


def _hold(
    connection: Connection, limit: Limit, amount: int, standing: _Standing
) -> None:
    used = balances.c.spent + balances.c.reserved
    statement = (
        update(balances)
        .where(_at([limit.place]), used + amount <= limit.amount)
        .values(reserved=balances.c.reserved + amount)
    )
    if not connection.execute(statement).rowcount:
        raise _exceeded(limit, amount, standing)


def _follow(
    connection: Connection, places: Iterable[Place], *, reserved: int, spent: int
) -> None:
    """Let balances follow an entry."""
    if places := list(places):
        connection.execute(
            update(balances)
            .where(_at(places))
            .values(
                reserved=balances.c.reserved + reserved, spent=balances.c.spent + spent
            )
        )


def _enter(
    connection: Connection, payer: Payer, *, kind: str, reserved: int, spent: int
) -> None:
    connection.execute(
        entries.insert(),
        {
            **attrs.asdict(payer),
            "kind": kind,
            "reserved": reserved,
            "spent": spent,
            "created_at": rows.now(),
        },
    )


def _at(places: Iterable[Place]) -> ColumnElement[bool]:
    return tuple_(balances.c.scope, balances.c.period).in_(sorted(places))


# -- words --------------------------------------------------------------------------


def _exceeded(limit: Limit, amount: int, standing: _Standing) -> BudgetExceededError:
    left = max(0, limit.amount - standing.used)
    start = _next_start(limit.period)
    again = f", or wait until {start:%Y-%m-%d} (UTC)" if start else ""
    kind, _, name = limit.scope.partition(":")
    whose = f"{kind} {name!r}" if name else "everybody together"
    message = (
        f"The budget of {whose} has {_usd(left)} of {_usd(limit.amount)} left, "
        f"and this may cost {_usd(amount)}. Raise budgets.{kind}_usd{again}."
    )
    wait = (start - datetime.now(UTC)).total_seconds() if start else None
    return BudgetExceededError(
        message, scope=limit.scope, retry_after=None if wait is None else max(0.0, wait)
    )


def _next_start(period: str) -> datetime | None:
    """Give the moment the period after this one begins; None: there is none."""
    if period == FOREVER:
        return None
    is_month = len(period) == len("2026-11")
    first = date.fromisoformat(f"{period}-01" if is_month else period)
    following = first + timedelta(days=32 if is_month else 1)
    day = following.replace(day=1) if is_month else following
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _usd(amount: int) -> str:
    return f"${rows.dollars(amount):,f}" if amount % 10_000 else f"${amount / 1e6:,.2f}"


def _floor(amount: Decimal) -> int:
    if amount >= rows.MOST // 1_000_000:
        return rows.MOST
    return int((to_decimal(amount) * 1_000_000).to_integral_value(ROUND_FLOOR))


# -- alerts -------------------------------------------------------------------------


def _alerts(
    connection: Connection,
    budgets: BudgetSettings,
    limits: Sequence[Limit],
    standings: Mapping[Place, _Standing],
) -> tuple[BudgetAlert, ...]:
    """Note the shares that are reached for the first time, by any process."""
    return tuple(
        BudgetAlert(
            scope=limit.scope,
            period=limit.period,
            share=share,
            limit_usd=rows.dollars(limit.amount),
            used_usd=rows.dollars(standings[limit.place].used),
        )
        for limit in limits
        for share in _reached(budgets, limit, standings[limit.place])
        if _is_news(connection, limit, share)
    )


def _reached(
    budgets: BudgetSettings, limit: Limit, standing: _Standing
) -> Iterable[Decimal]:
    return (
        share for share in budgets.alert_at if standing.used >= share * limit.amount
    )


def _is_news(connection: Connection, limit: Limit, share: Decimal) -> bool:
    values: dict[str, Any] = {
        "scope": limit.scope,
        "period": limit.period,
        "share": f"{share.normalize():f}"[:16],
        "created_at": rows.now(),
    }
    return bool(
        connection.execute(insert_or_ignore(connection, alerts), values).rowcount
    )
