"""What every ledger can do."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gaia_core.ledger.access import AccessBook
from gaia_core.ledger.batches import BatchBook
from gaia_core.ledger.gallery import Gallery
from gaia_core.ledger.operations import (
    Failure,
    IdempotencyKey,
    Operation,
    Settlement,
)
from gaia_core.ledger.reports import BudgetState, Problem, UsageRow
from gaia_core.responses import Attempt


class Ledger(Protocol):
    """
    Keeps the book. The engine calls it in the order of the methods.

    Every method returns only once what it was told is as durable as the ledger
    makes it, and raises `LedgerError` where it cannot be.
    """

    @property
    def keeps_budgets(self) -> bool:
        """Whether `accept` and `send` hold the settings' budgets."""

    @property
    def batches(self) -> BatchBook | None:
        """The book of batches, or None: this ledger keeps none."""

    @property
    def gallery(self) -> Gallery | None:
        """What finds pictures, or None: this ledger cannot."""

    @property
    def access(self) -> AccessBook | None:
        """The book of API keys, or None: this ledger keeps none."""

    async def open(self) -> None:
        """Get ready; called before the first use, and harmless when repeated."""

    async def accept(self, operation: Operation) -> Operation:
        """
        Take an operation on and hold ``reserved_usd`` for it, in one transaction.

        Returns:
            The operation, or the one that stands for it already: an equal
            ``key`` with an equal fingerprint, or an equal ``result_key`` that is
            under way or done. Nothing is held then.

        Raises:
            IdempotencyConflictError: If the key stands for another request.
            BudgetExceededError: If a budget has not so much left.
            GaiaError: If it cannot be taken on; nothing was sent then.
        """

    async def send(self, operation_id: str, attempt: Attempt) -> None:
        """
        Note an attempt, task id included, before anything is sent.

        What the earlier attempts cost and this one may cost is held from now on.

        Raises:
            BudgetExceededError: If so much cannot be held; nothing is sent then.
            LeaseLostError: If another process has taken the operation over.
        """

    async def refer(self, references: Mapping[str, str]) -> None:
        """
        Note what attempts can be looked up by, all in one transaction.

        Args:
            references: Task id to what its provider asked to remember.

        Raises:
            LeaseLostError: If another process has taken one of them over.
        """

    async def end_attempt(self, operation_id: str, attempt: Attempt) -> None:
        """Note how an attempt ended, the latest one of its task."""

    async def settle(self, operation_id: str, settlement: Settlement) -> None:
        """Close an operation that succeeded: what it made, what it cost."""

    async def receive(self, operation_id: str, attempt: Attempt) -> None:
        """Note that it is made and paid, and that its pictures wait to be stored."""

    async def fail(self, operation_id: str, failure: Failure) -> None:
        """
        Close an operation that failed, or whose outcome is unknown.

        A failed one is settled at what its attempts are known to have cost; for
        an unknown outcome the money stays held.
        """

    async def get(self, operation_id: str) -> Operation | None:
        """Look an operation up."""

    async def find(self, key: IdempotencyKey) -> Operation | None:
        """Look up the operation a key stands for; None where it may be tried anew."""

    async def find_result(self, result_key: str) -> Operation | None:
        """Look up the operation that is done under a result key, and note its use."""

    async def forget_result(self, result_key: str, operation_id: str) -> None:
        """Let the next equal request be made anew, if this operation stands for it."""

    async def adopt(self, limit: int = 100) -> Sequence[Operation]:
        """
        Take over operations that were left behind, oldest first.

        Those are operations that have not ended and whose process is gone. Items of
        a batch that were taken and not sent are queued again instead.
        """

    async def reopen(self, operation_id: str) -> Operation | None:
        """Take over an operation whose outcome is unknown; None if it is not."""

    async def listed(
        self,
        *,
        state: str | None = None,
        principal: str | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        """
        List operations, newest first.

        Args:
            state: Only those that stand there.
            principal: Only those of this caller.
            limit: At most so many.
        """

    async def expire_holds(self) -> int:
        """Count money held for unknown outcomes for 24 h as spent; say of how many."""

    async def usage(
        self,
        by: Sequence[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str | None = None,
    ) -> Sequence[UsageRow]:
        """
        Add up what was made and spent.

        Args:
            by: What to group by: any of ``day``, ``provider``, ``model``,
                ``campaign``, ``user``.
            since: Only operations taken on at this moment or later.
            until: Only those taken on before this moment.
            principal: Only those of somebody; None: of everybody.
        """

    async def budget_states(
        self, *, user_id: str | None = None, campaign_id: str | None = None
    ) -> Sequence[BudgetState]:
        """
        Say how the budgets stand that such a request would count in now.

        Only those that the settings set; none where this ledger keeps no budgets.
        """

    async def check(self) -> Sequence[Problem]:
        """Check the book against itself; nothing wrong gives nothing."""

    async def close(self) -> None:
        """Let go of everything."""
