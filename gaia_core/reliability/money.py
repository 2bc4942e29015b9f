"""What attempts cost, and whether a charge is in doubt."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from gaia_core.errors import OutcomeClass, UnusableResultError
from gaia_core.responses import Attempt

_NOTHING = Decimal(0)
_ANSWERED = frozenset({OutcomeClass.OK, OutcomeClass.UNUSABLE})
_DUE = _ANSWERED | {OutcomeClass.AMBIGUOUS}


def cost_of(
    outcome: OutcomeClass, price: Decimal | None, charged: Decimal | None
) -> Decimal | None:
    """
    Tell what an attempt cost, as far as known, or may have cost.

    Args:
        outcome: How it ended.
        price: What the catalogue says; None: unknown.
        charged: What the provider says; it counts if it is an amount at all.
    """
    if outcome in _ANSWERED and charged is not None and _is_amount(charged):
        return charged
    return price if outcome in _DUE else _NOTHING


def charge_of(error: Exception | None) -> Decimal | None:
    """Give what a provider says it charged for nothing of use; None: it does not."""
    return error.cost_usd if isinstance(error, UnusableResultError) else None


def cost_in_all(attempts: Iterable[Attempt]) -> Decimal | None:
    """Add up what each task cost, however often it was sent; None: unknown."""
    costs = {one.task_id: one.cost_usd for one in attempts if one.cost_usd != 0}
    known = [cost for cost in costs.values() if cost is not None]
    return sum(known, _NOTHING) if len(known) == len(costs) else None


def lost_attempt(attempts: Sequence[Attempt]) -> Attempt | None:
    """
    Find an attempt that may have been charged and was never answered.

    While there is one, nobody else may be asked: a refusal that comes later, even
    of the same task, does not prove that the first try was not charged.
    """
    answered = {one.task_id for one in attempts if one.outcome in _ANSWERED}
    lost = (
        one
        for one in attempts
        if one.outcome is OutcomeClass.AMBIGUOUS
        and one.cost_usd != 0
        and one.task_id not in answered
    )
    return next(lost, None)


def _is_amount(value: Decimal) -> bool:
    return value.is_finite() and value >= 0
