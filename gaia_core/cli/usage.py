"""``gaia usage``: what was made and spent, what is held, what budgets have left."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import attrs
import click

from gaia_core import Gaia
from gaia_core.cli.operation import Record, show_dollars
from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.shapes import shape_amount
from gaia_core.cli.tables import clean, print_table
from gaia_core.cli.writing import print_json, print_line
from gaia_core.ledger import Operation, OperationState
from gaia_core.ledger.reports import UsageRow
from gaia_core.settings import BudgetSettings, Period

WORDS = ("day", "provider", "model", "campaign", "user")
"""What usage can be grouped by."""
MOST_SHOWN = 20
"""How many operations, and how many budgets, are listed."""
MOST_LOOKED_UP = 1_000
"""How many operations of unknown outcome are looked up."""

_COUNTS = ("operations", "done", "failed", "unknown", "images")
_SUMS = (*_COUNTS, "cancelled")
_NOBODY = "(none)"
_DIGITS = 60
_LAST = date.max - timedelta(days=1)


@attrs.frozen(kw_only=True)
class Balance:
    """
    A budget, and what is left of it.

    Attributes:
        scope: Whose it is: ``total``, ``user:NAME`` or ``campaign:NAME``.
        limit_usd: The budget.
        used_usd: What is spent and held of it.
    """

    scope: str
    limit_usd: Decimal
    used_usd: Decimal

    @property
    def left_usd(self) -> Decimal:
        """What may still be spent; below 0 where more was spent already."""
        with localcontext(prec=_DIGITS):
            return self.limit_usd - self.used_usd


@attrs.frozen(kw_only=True)
class Book:
    """
    What the ledger says.

    Attributes:
        rows: What was made and spent, by group.
        balances: The budgets.
        unknown: Operations of unknown outcome, newest first.
    """

    rows: Sequence[UsageRow]
    balances: Sequence[Balance]
    unknown: Sequence[Operation]


def _day(
    context: click.Context, param: click.Parameter, value: str | None
) -> date | None:
    """Read a day such as ``2026-11-22``."""
    try:
        # Beyond this day there is none that could be its end.
        return None if value is None else min(date.fromisoformat(value), _LAST)
    except ValueError:
        message = f"{value!r} is no date such as 2026-11-22."
        raise click.BadParameter(message, context, param) from None


@click.command()
@click.option(
    "--by",
    "words",
    type=click.Choice(WORDS),
    multiple=True,
    help="Group by this; may be repeated. Otherwise by day.",
)
@click.option(
    "--since", callback=_day, metavar="DATE", help="Only from this day (UTC) on."
)
@click.option(
    "--until",
    callback=_day,
    metavar="DATE",
    help="Only up to the end of this day (UTC).",
)
@click.option(
    "--operation",
    "operation_id",
    metavar="ID",
    help="Show one operation instead: its attempts, its cost, what to do next.",
)
@json_option
@click.pass_obj
def usage(  # noqa: PLR0913  one for each option
    session: Session,
    words: Sequence[str],
    since: date | None,
    until: date | None,
    operation_id: str | None,
    *,
    is_json: bool,
) -> None:
    """
    Show what was made and spent.

    Below the table stand what each budget has left, and every operation of unknown
    outcome with what is held for it.
    """
    session.silence()
    if operation_id is not None:
        if words or since or until:
            message = "--operation shows one operation: --by and dates do not apply."
            raise click.UsageError(message)
        session.run(partial(Record.find, operation_id=operation_id)).show(
            is_json=is_json
        )
        return
    if since and until and until < since:
        message = f"--until {until} lies before --since {since}."
        raise click.UsageError(message)
    by = tuple(dict.fromkeys(words)) or WORDS[:1]
    first = None if since is None else _midnight(since)
    end = None if until is None else _midnight(until + timedelta(days=1))

    async def work(gaia: Gaia) -> Book:
        return Book(
            rows=sorted(await gaia.usage(by, since=first, until=end), key=_place),
            balances=await _balances(gaia, datetime.now(UTC)),
            unknown=await gaia.ledger.listed(
                state=OperationState.UNKNOWN, limit=MOST_LOOKED_UP
            ),
        )

    settings = session.settings()
    book = session.run(work, settings)
    if is_json:
        print_json(_shape(book, by, since, until, settings.budgets.per))
    else:
        _print(book, by, settings.budgets.per)


# -- looking ----------------------------------------------------------------------


async def _balances(gaia: Gaia, now: datetime) -> list[Balance]:
    """Add up what was spent and held under each budget in its present period."""
    budgets, since = gaia.settings.budgets, beginning(gaia.settings.budgets.per, now)
    found: list[Balance] = []
    if budgets.total_usd is not None:
        used = total(await gaia.usage(("day",), since=since))
        found.append(_balance("total", budgets.total_usd, used))
    for word, limit in _named(budgets):
        rows = await gaia.usage((word,), since=since)
        named = [row for row in rows if row.group[word] is not None]
        found += sorted(
            (_balance(f"{word}:{row.group[word]}", limit, row) for row in named),
            key=lambda balance: (balance.left_usd, balance.scope),
        )
    return found


def _named(budgets: BudgetSettings) -> Iterator[tuple[str, Decimal]]:
    """Name the budgets that everybody has one of."""
    limits = {"user": budgets.user_usd, "campaign": budgets.campaign_usd}
    yield from ((word, limit) for word, limit in limits.items() if limit is not None)


def _balance(scope: str, limit: Decimal, row: UsageRow) -> Balance:
    return Balance(scope=scope, limit_usd=limit, used_usd=row.cost_usd + row.held_usd)


def beginning(period: Period, now: datetime) -> datetime | None:
    """
    Give the moment a period began, or None: it never did.

    >>> beginning(Period.MONTH, datetime(2026, 11, 22, 16, tzinfo=UTC)).isoformat()
    '2026-11-01T00:00:00+00:00'
    """
    if period is Period.FOREVER:
        return None
    today = now.date()
    return _midnight(today.replace(day=1) if period is Period.MONTH else today)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _place(row: UsageRow) -> list[tuple[bool, str]]:
    """Sort by what rows are grouped by; those without it come last."""
    return [(value is None, value or "") for value in row.group.values()]


def total(rows: Iterable[UsageRow]) -> UsageRow:
    """Add up rows."""
    rows = list(rows)
    sums: dict[str, Any] = {
        name: sum(getattr(row, name) for row in rows) for name in _SUMS
    }
    return UsageRow(
        group={},
        cost_usd=sum((row.cost_usd for row in rows), Decimal(0)),
        held_usd=sum((row.held_usd for row in rows), Decimal(0)),
        **sums,
    )


# -- showing ----------------------------------------------------------------------


def _print(book: Book, by: Sequence[str], per: Period) -> None:
    if not book.rows:
        print_line("Nothing was made or spent.")
    else:
        headings = [*by, *_COUNTS, "cost", "held"]
        rows = [*map(_cells, book.rows), ["total", *_cells(total(book.rows), by)]]
        print_table([heading.capitalize() for heading in headings], rows)
        for line in _other_lines(total(book.rows)):
            print_line(line)
    for line in (*_budget_lines(book.balances, per), *_unknown_lines(book.unknown)):
        print_line(line)


def _cells(row: UsageRow, by: Sequence[str] = ()) -> list[str]:
    """Make the cells of a row; of a total, all but the first group are empty."""
    groups = [value or _NOBODY for value in row.group.values()] or [""] * len(by[1:])
    counts = [str(getattr(row, name)) for name in _COUNTS]
    return [*groups, *counts, show_dollars(row.cost_usd), show_dollars(row.held_usd)]


def _other_lines(row: UsageRow) -> list[str]:
    """Say what the columns leave out, so that they add up."""
    ended = row.done + row.failed + row.unknown + row.cancelled
    others = {
        "cancelled": row.cancelled,
        "waiting or under way": row.operations - ended,
    }
    named = ", ".join(f"{number} {word}" for word, number in others.items() if number)
    return ["", f"Operations in no other column: {named}."] if named else []


def _budget_lines(balances: Sequence[Balance], per: Period) -> list[str]:
    if not balances:
        return []
    how_long = {Period.DAY: "today", Period.MONTH: "this month"}.get(per, "in all")
    lines = [f"  {_budget_line(one)}" for one in balances[:MOST_SHOWN]]
    return ["", f"Budgets, {how_long}:", *lines, *_more(len(balances))]


def _budget_line(balance: Balance) -> str:
    left = balance.left_usd
    rest = f"{show_dollars(left)} left" if left >= 0 else f"{show_dollars(-left)} over"
    used, limit = show_dollars(balance.used_usd), show_dollars(balance.limit_usd)
    return clean(f"{balance.scope}: {used} of {limit} used, {rest}")


def _unknown_lines(unknown: Sequence[Operation]) -> list[str]:
    """List what may have been charged without an answer, and what to do about it."""
    if not unknown:
        return []
    held = sum((one.reserved_usd for one in unknown), Decimal(0))
    return [
        "",
        f"Outcome unknown: {len(unknown)}; {show_dollars(held)} held for them.",
        *(line for one in unknown[:MOST_SHOWN] for line in _unknown_pair(one)),
        *_more(len(unknown)),
        "They may have been charged; Gaia does not repeat them.",
        "What to do about one: gaia usage --operation ID",
    ]


def _unknown_pair(operation: Operation) -> list[str]:
    """Describe one in two lines that fit into 80 columns."""
    when = operation.created_at.strftime("%Y-%m-%d %H:%M")
    held = f"{show_dollars(operation.reserved_usd)} held"
    if not operation.reserved_usd and operation.cost_usd:
        held = f"{show_dollars(operation.cost_usd)} counted as spent"
    lines = [f"  {operation.id}  {when}  {held}"]
    if operation.attempts:
        latest = operation.attempts[-1]
        lines.append(f"    {latest.provider}/{latest.model}, task {latest.task_id}")
    return [clean(line) for line in lines]


def _more(number: int) -> list[str]:
    rest = number - MOST_SHOWN
    return [f"  and {rest} more: --json lists them"] if rest > 0 else []


def _shape(
    book: Book, by: Sequence[str], since: date | None, until: date | None, per: Period
) -> dict[str, Any]:
    """Shape it as ``--json`` prints it."""
    return {
        "by": list(by),
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "rows": [{**row.group, **_shape_row(row)} for row in book.rows],
        "total": _shape_row(total(book.rows)),
        "budgets": [
            {
                "scope": one.scope,
                "per": per.value,
                "limit_usd": shape_amount(one.limit_usd),
                "used_usd": shape_amount(one.used_usd),
                "left_usd": shape_amount(one.left_usd),
            }
            for one in book.balances
        ],
        "unknown": [_shape_unknown(one) for one in book.unknown],
    }


def _shape_row(row: UsageRow) -> dict[str, Any]:
    counts = {name: getattr(row, name) for name in _SUMS}
    amounts = {"cost_usd": row.cost_usd, "held_usd": row.held_usd}
    return counts | {name: shape_amount(value) for name, value in amounts.items()}


def _shape_unknown(operation: Operation) -> dict[str, Any]:
    latest = operation.attempts[-1] if operation.attempts else None
    return {
        "operation_id": operation.id,
        "created_at": operation.created_at.isoformat(),
        "capability": operation.capability.value,
        "campaign": operation.campaign_id,
        "user": operation.user_id,
        "batch_id": operation.batch_id,
        "provider": latest and latest.provider,
        "model": latest and latest.model,
        "task_id": latest and latest.task_id,
        "held_usd": shape_amount(operation.reserved_usd),
        "cost_usd": shape_amount(operation.cost_usd),
        "error": operation.error,
    }
