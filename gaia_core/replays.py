"""Answering from the book: what a request asked before, or elsewhere, came to."""

import asyncio
from decimal import Decimal
from typing import Any

import attrs

from gaia_core import errors
from gaia_core.cache import rebuilt
from gaia_core.errors import (
    GaiaError,
    OperationInProgressError,
    OutcomeUnknownError,
    StorageError,
)
from gaia_core.ledger import Ledger, Operation, OperationState
from gaia_core.responses import Response
from gaia_core.storage import ImageStorage

_SHORTEST, _LONGEST = 0.02, 1.0
"""How often an operation under way elsewhere is looked at, in seconds."""
_LEFT_OUT: dict[str, Any] = {"retry_after": None, "scope": "", "reasons": {}}


@attrs.frozen(kw_only=True)
class Replays:
    """Answers with what an operation on the book came to."""

    ledger: Ledger
    storage: ImageStorage

    async def repeated(self, operation: Operation) -> Response:
        """
        Answer a request that was asked before under the same idempotency key.

        Raises:
            OperationInProgressError: If it has not ended yet.
            StorageError: If its pictures are gone.
            GaiaError: What it ended with.
        """
        if not operation.state.is_final:
            message = f"Operation {operation.id} is under way: ask again in a moment."
            raise OperationInProgressError(message, operation_id=operation.id)
        return await self._ended(operation)

    async def shared(self, operation: Operation, result_key: str) -> Response | None:
        """
        Wait for an equal request that is under way elsewhere, and answer with it.

        Args:
            operation: The operation that serves it.
            result_key: What both have in common.

        Returns:
            The answer, or None: it was called off before it cost anything, or its
            pictures are gone; it must be made anew.

        Raises:
            GaiaError: What it ended with.
        """
        pause = _SHORTEST
        while not operation.state.is_final:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            operation = await self.ledger.get(operation.id) or operation
        if operation.state is OperationState.CANCELLED:
            # Whoever asked for it has gone; others still wait.
            return None
        if operation.state is not OperationState.DONE:
            raise restored(operation)
        response = await rebuilt(operation, self.storage, is_verified=True)
        if response is None:
            await self.ledger.forget_result(result_key, operation.id)
            return None
        return reused(response)

    async def _ended(self, operation: Operation) -> Response:
        if operation.state is not OperationState.DONE:
            raise restored(operation)
        response = await rebuilt(operation, self.storage, is_verified=False)
        if response is None:
            message = f"The pictures of operation {operation.id} are gone."
            raise StorageError(message)
        return attrs.evolve(response, is_reused=True, is_replayed=True)


def reused(response: Response) -> Response:
    """Answer an equal request with a response: nothing was made or paid for it."""
    return attrs.evolve(response, is_reused=True, cost_usd=Decimal(0), attempts=())


def restored(operation: Operation) -> GaiaError:
    """Make the error an operation ended with, as it was."""
    words = operation.error or f"Operation {operation.id} ended without an answer."
    if operation.state is OperationState.UNKNOWN:
        latest = operation.attempts[-1].provider if operation.attempts else ""
        error: GaiaError = OutcomeUnknownError(
            words, operation_id=operation.id, provider=latest
        )
    else:
        error = _of_class(operation.error_type, words)
        error.operation_id = operation.id
    error.attempts = operation.attempts
    return error


def _of_class(name: str | None, words: str) -> GaiaError:
    """Make an error of a class of Gaia's; its own arguments are not on record."""
    kind = getattr(errors, name or "", GaiaError)
    if not (isinstance(kind, type) and issubclass(kind, GaiaError)):
        kind = GaiaError
    error = kind.__new__(kind, words)
    for field, value in _LEFT_OUT.items():
        setattr(error, field, value)
    return error
