"""What is known of an operation that was left behind."""

import asyncio
import math
import uuid
from collections.abc import Coroutine
from typing import Any

from gaia_core.catalog import ModelInfo
from gaia_core.context import CallContext, Fetch
from gaia_core.endings import look_up
from gaia_core.errors import GaiaError, LedgerError, OutcomeClass
from gaia_core.images import Image
from gaia_core.ledger import Failure, Operation, OperationState
from gaia_core.lookups import reference_of
from gaia_core.observability import get_logger
from gaia_core.records import from_record
from gaia_core.reliability import lost_attempt
from gaia_core.requests import Request
from gaia_core.responses import Attempt
from gaia_core.selection import Candidate

GIVEN_UP = Failure(
    state=OperationState.FAILED,
    error_type="StorageError",
    error=(
        "It was made and charged, and the process ended before anything "
        "of it was stored. Asking again, under a new key, costs again."
    ),
)
"""The end of what was answered and charged, and of which nothing is left."""


def expected_of(operation: Operation) -> int:
    """Tell how many pictures an operation was to make."""
    number = (operation.request or {}).get("num_images", 1)
    return number if isinstance(number, int) else 1


def request_of(operation: Operation) -> Request | None:
    """Read what was asked for, where no picture is needed for it."""

    def none(_sha256: str) -> Image:
        raise LedgerError

    try:
        return from_record(operation.request or {}, none)
    except GaiaError:
        return None


def answered_of(operation: Operation) -> Attempt | None:
    """Find the attempt that was answered, of an operation that kept no picture."""
    found = (one for one in operation.attempts if one.outcome is OutcomeClass.OK)
    return next(found, None)


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do what must not be left halfway: who is cancelled is told when it is done."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def served_of(operation: Operation) -> Attempt:
    """Find the attempt that made it: others may have been turned away since."""
    return lost_attempt(operation.attempts) or operation.attempts[-1]


def candidate_of(operation: Operation, lost: Attempt) -> Candidate:
    """Name what was asked, as far as it is on record."""
    model = ModelInfo(
        id=lost.model,
        name=lost.model,
        provider=lost.provider,
        capabilities={operation.capability},
    )
    return Candidate(
        provider=lost.provider, model=model, priority=0, price_usd=lost.cost_usd
    )


def context_of(operation: Operation, lost: Attempt, fetch: Fetch) -> CallContext:
    """Put together what a provider is asked about an attempt with."""
    return CallContext(
        operation_id=operation.id,
        task_id=str(uuid.UUID(lost.task_id)),
        deadline=math.inf,
        logger=get_logger(operation_id=operation.id, provider=lost.provider),
        fetch=fetch,
        reference=reference_of(operation.attempts, lost.task_id),
    )


def unknown_of(operation: Operation, lost: Attempt) -> Failure:
    """Say that nobody can tell what became of an attempt."""
    return Failure(
        state=OperationState.UNKNOWN,
        error_type="OutcomeUnknownError",
        error=(
            f"The answer of {lost.provider} was lost when the process ended; "
            "the picture may have been made and charged. "
            f"{look_up(operation.id)}"
        ),
    )
