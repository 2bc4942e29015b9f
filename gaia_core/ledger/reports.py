"""What the ledger reports."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import attrs

from gaia_core.errors import InvalidRequestError

GROUPS = ("day", "provider", "model", "campaign", "user")
"""What usage can be grouped by."""


def groups_of(words: Iterable[str]) -> tuple[str, ...]:
    """
    Take what usage is to be grouped by, each word once; one text is one word.

    Raises:
        InvalidRequestError: If it cannot be grouped by one of them.
    """
    groups = tuple(dict.fromkeys([words] if isinstance(words, str) else words))
    wrong = [word for word in groups if word not in GROUPS]
    if wrong:
        message = (
            f"Usage cannot be grouped by {wrong[0]!r}, only by {', '.join(GROUPS)}."
        )
        raise InvalidRequestError(message)
    return groups


@attrs.frozen(kw_only=True)
class UsageRow:
    """
    What was made and spent by one group.

    Attributes:
        group: Name of the grouping (``day``, ``provider``, …) to its value; None
            where there is none.
        operations: How many operations.
        done: How many succeeded.
        failed: How many failed.
        unknown: How many have an unknown outcome.
        cancelled: How many were called off before they cost anything.
        images: How many pictures were made.
        cost_usd: What was spent.
        held_usd: What is held: under way, or for an unknown outcome.
    """

    group: Mapping[str, str | None]
    operations: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0
    images: int = 0
    cost_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)


@attrs.frozen(kw_only=True)
class Problem:
    """
    Something the ledger's check found.

    Attributes:
        name: What kind of problem, in a word or two.
        detail: What was found.
        next_step: What to do about it.
    """

    name: str
    detail: str
    next_step: str


@attrs.frozen(kw_only=True)
class BudgetState:
    """
    How a budget stands.

    Attributes:
        scope: Whose it is: ``total``, ``user:NAME`` or ``campaign:NAME``.
        period: The day, the month, or ``forever``.
        limit_usd: The budget.
        spent_usd: What is spent of it.
        held_usd: What is held: under way, or for an unknown outcome.
    """

    scope: str
    period: str
    limit_usd: Decimal
    spent_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)

    @property
    def left_usd(self) -> Decimal:
        """What may still be spent; 0 where more was spent already."""
        return max(Decimal(0), self.limit_usd - self.spent_usd - self.held_usd)


@attrs.frozen(kw_only=True)
class BudgetAlert:
    """
    A budget of which a share is used up.

    Attributes:
        scope: Whose it is: ``total``, ``user:NAME`` or ``campaign:NAME``.
        period: The day, the month, or ``forever``.
        share: The share (0.8 is 80 %), as the settings name it.
        limit_usd: The budget.
        used_usd: What is spent and held of it.
    """

    scope: str
    period: str
    share: Decimal
    limit_usd: Decimal
    used_usd: Decimal
