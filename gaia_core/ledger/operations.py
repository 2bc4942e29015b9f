"""What the ledger keeps, and what every ledger can do."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import attrs

from gaia_core.capabilities import Capability
from gaia_core.responses import Attempt


class OperationState(StrEnum):
    """Where an operation stands."""

    ACCEPTED = "accepted"
    """Taken on; nothing was sent."""
    SENT = "sent"
    """An attempt is under way: it may have been charged."""
    DONE = "done"
    """Made, stored and settled."""
    FAILED = "failed"
    """Ended without a picture and without an open question about money."""
    UNKNOWN = "unknown"
    """The answer was lost: it may have been charged, and the money is held."""


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Operation:
    """
    One logical request: one identifier, one bill.

    Attributes:
        id: 128 random bits in hexadecimal.
        capability: What was asked for.
        state: Where it stands.
        campaign_id: The campaign it is paid under, if any.
        user_id: The user it is paid under, if any.
        reserved_usd: What is held for it.
        cost_usd: What it cost, as far as known.
        attempts: Every try, in order.
        image_ids: The stored pictures it made.
        error: Why it failed, or None.
        created_at: When it was taken on, in UTC.
    """

    id: str
    capability: Capability
    state: OperationState = OperationState.ACCEPTED
    campaign_id: str | None = None
    user_id: str | None = None
    reserved_usd: Decimal = Decimal(0)
    cost_usd: Decimal | None = None
    attempts: tuple[Attempt, ...] = ()
    image_ids: tuple[str, ...] = ()
    error: str | None = None
    created_at: datetime = attrs.field(factory=_now)


class Ledger(Protocol):
    """
    Keeps the book. The engine calls it in the order of the methods.

    Every method returns only once what it was told is as durable as the ledger
    makes it.
    """

    @property
    def keeps_budgets(self) -> bool:
        """Whether `accept` and `send` hold the settings' budgets."""

    async def accept(self, operation: Operation) -> None:
        """
        Take an operation on and hold ``reserved_usd`` for it.

        Raises:
            GaiaError: If it cannot be taken on; nothing was sent then.
        """

    async def send(self, operation_id: str, attempt: Attempt) -> None:
        """
        Note an attempt, task id included, before anything is sent.

        Where it may cost more than is held, a fallback for example, so much is
        held from now on.

        Raises:
            GaiaError: If so much cannot be held; nothing is sent then.
        """

    async def end_attempt(self, operation_id: str, attempt: Attempt) -> None:
        """Note how the latest attempt ended."""

    async def settle(
        self, operation_id: str, cost_usd: Decimal | None, image_ids: tuple[str, ...]
    ) -> None:
        """Close an operation that succeeded: what it made, what it cost."""

    async def fail(self, operation_id: str, state: OperationState, error: str) -> None:
        """
        Close an operation that failed, or whose outcome is unknown.

        A failed one is settled at what its attempts are known to have cost; for
        an unknown outcome the money stays held.
        """

    async def get(self, operation_id: str) -> Operation | None:
        """Look an operation up."""

    async def close(self) -> None:
        """Let go of everything."""
