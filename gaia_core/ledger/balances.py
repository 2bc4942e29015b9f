"""
The money: what is held and what is spent, and whether there is room for more.

Every change is an entry that is never altered. Balances are sums of entries, kept
for the scopes that a budget looks at; they are made when first asked for and follow
every entry from then on, in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from itertools import product
from typing import Any

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)

from gaia_core.catalog import to_decimal
from gaia_core.errors import BudgetExceededError
from gaia_core.ledger import rows
from gaia_core.ledger.dialects import insert_or_ignore
from gaia_core.ledger.reports import BudgetAlert, BudgetState
from gaia_core.ledger.tables import alerts, balances, entries
from gaia_core.settings import BudgetSettings, Period

FOREVER = "forever"
"""The period that never ends."""

_NO_LIMIT = 2**62
_USED = balances.c.spent + balances.c.reserved
# Statements are built once: building takes longer than SQLite takes to run them.
_PLACES = (
    balances.c.scope.in_([bindparam(f"scope{place}") for place in range(3)]),
    balances.c.period.in_([bindparam(f"period{place}") for place in range(3)]),
)
_LOOK = select(balances).where(*_PLACES)
# One order for everybody, so that two transactions never wait for each other.
_LOCK = _LOOK.order_by(balances.c.scope, balances.c.period).with_for_update()
_ENTER = insert(entries)
_FOLLOW = (
    update(balances)
    .where(
        *_PLACES,
        or_(
            balances.c.period != bindparam("limited"),
            _USED + bindparam("held", type_=BigInteger)
            <= case(
                (balances.c.scope == "total", bindparam("for_total", type_=BigInteger)),
                (
                    balances.c.scope.startswith("user:"),
                    bindparam("for_user", type_=BigInteger),
                ),
                else_=bindparam("for_campaign", type_=BigInteger),
            ),
        ),
    )
    .values(
        reserved=balances.c.reserved + bindparam("held", type_=BigInteger),
        spent=balances.c.spent + bindparam("paid", type_=BigInteger),
    )
)

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
    def scopes(self) -> tuple[str, ...]:
        """Every scope, in a fixed order."""
        named = (("user", self.user_id), ("campaign", self.campaign_id))
        own = (f"{kind}:{name}" for kind, name in named if name is not None)
        return ("total", *own)

    @property
    def periods(self) -> tuple[str, ...]:
        """Every period: each of its scopes may have a balance in each of them."""
        return (self.day, self.day[:7], FOREVER)

    @property
    def places(self) -> tuple[Place, ...]:
        """Every balance its money may count in."""
        return tuple(product(self.scopes, self.periods))


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

    @property
    def kind(self) -> str:
        """What the scope is: ``total``, ``user`` or ``campaign``."""
        return self.scope.partition(":")[0]


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
    entry = {"kind": "reserve", "reserved": amount, "spent": 0}
    standings = _entered(connection, payer, limits, entry)
    for limit in limits:
        if standings[limit.place].used + amount > limit.amount:
            raise _exceeded(limit, amount, standings[limit.place])
    if _follow(connection, payer, limits, entry, standings) < len(standings):
        raise _exceeded(limits[0], amount, standings[limits[0].place])
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
    entry = {"kind": kind, "reserved": reserved, "spent": spent}
    standings = _entered(connection, payer, limits, entry)
    _follow(connection, payer, (), entry, standings)
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


def states(
    connection: Connection, budgets: BudgetSettings, payer: Payer
) -> tuple[BudgetState, ...]:
    """Say how the budgets of a payer stand; nothing is made or changed."""
    limits = limits_of(budgets, payer)
    known = _look(connection, _LOOK, payer) if limits else {}
    # A balance is made when something is first held: nobody may have asked yet.
    found = [
        known.get(limit.place) or _added_up(connection, payer, limit)
        for limit in limits
    ]
    return tuple(
        BudgetState(
            scope=limit.scope,
            period=limit.period,
            limit_usd=rows.dollars(limit.amount),
            spent_usd=rows.dollars(standing.spent),
            held_usd=rows.dollars(standing.reserved),
        )
        for limit, standing in zip(limits, found, strict=True)
    )


# -- balances -----------------------------------------------------------------------


def _entered(
    connection: Connection,
    payer: Payer,
    limits: Sequence[Limit],
    entry: Mapping[str, Any],
) -> dict[Place, _Standing]:
    """
    Write an entry down, and lock the balances it counts in as they were before.

    The order keeps two transactions from waiting for each other: whoever makes a
    balance locks all entries, and whoever waits for that holds no balance yet.
    After the entry nobody makes a balance, so none is missed.
    """
    is_alone = connection.dialect.name == "sqlite"
    standings = _look(connection, _LOOK, payer) if limits or is_alone else {}
    missing = [limit for limit in limits if limit.place not in standings]
    if missing:
        _make(connection, payer, missing)
        standings = _look(connection, _LOOK, payer)
    written = {**attrs.asdict(payer), **entry, "created_at": rows.now()}
    connection.execute(_ENTER, written)
    return standings if is_alone else _look(connection, _LOCK, payer)


def _look(connection: Connection, query: Any, payer: Payer) -> dict[Place, _Standing]:
    return {
        (row.scope, row.period): _Standing(row.reserved, row.spent)
        for row in connection.execute(query, _places(payer))
    }


def _make(connection: Connection, payer: Payer, limits: Iterable[Limit]) -> None:
    """Add balances up from the entries."""
    if connection.dialect.name == "postgresql":
        # Entries that others have written and not committed would be missed.
        connection.execute(text("LOCK TABLE entries IN SHARE ROW EXCLUSIVE MODE"))
    for limit in limits:
        connection.execute(
            insert_or_ignore(connection, balances),
            {
                "scope": limit.scope,
                "period": limit.period,
                **attrs.asdict(_added_up(connection, payer, limit)),
            },
        )


def _added_up(connection: Connection, payer: Payer, limit: Limit) -> _Standing:
    held = func.coalesce(func.sum(entries.c.reserved), 0).label("reserved")
    spent = func.coalesce(func.sum(entries.c.spent), 0).label("spent")
    conditions = (_of(limit, payer), _within(limit.period))
    row = connection.execute(select(held, spent).where(*conditions)).one()
    return _Standing(int(row.reserved), int(row.spent))


def _of(limit: Limit, payer: Payer) -> ColumnElement[bool]:
    if limit.kind == "user":
        return entries.c.user_id == payer.user_id
    if limit.kind == "campaign":
        return entries.c.campaign_id == payer.campaign_id
    return true()


def _within(period: str) -> ColumnElement[bool]:
    """Tell the entries of a period: days sort as text."""
    if period == FOREVER:
        return entries.c.day >= ""
    return entries.c.day.between(period, f"{period}~")


def _follow(
    connection: Connection,
    payer: Payer,
    limits: Sequence[Limit],
    entry: Mapping[str, Any],
    standings: Mapping[Place, _Standing],
) -> int:
    """Let the balances follow an entry, within the limits; give how many did."""
    if not standings:
        return 0
    for standing in standings.values():
        standing.reserved += entry["reserved"]
        standing.spent += entry["spent"]
    amounts = {limit.kind: limit.amount for limit in limits}
    return connection.execute(
        _FOLLOW,
        {
            **_places(payer),
            "held": entry["reserved"],
            "paid": entry["spent"],
            "limited": limits[0].period if limits else "",
            "for_total": amounts.get("total", _NO_LIMIT),
            "for_user": amounts.get("user", _NO_LIMIT),
            "for_campaign": amounts.get("campaign", _NO_LIMIT),
        },
    ).rowcount


def _places(payer: Payer) -> dict[str, Any]:
    # The first again where there are fewer: so the statement is always the same.
    scopes = (payer.scopes + payer.scopes[:1] * 2)[:3]
    return {
        **{f"scope{place}": scope for place, scope in enumerate(scopes)},
        **{f"period{place}": period for place, period in enumerate(payer.periods)},
    }


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
