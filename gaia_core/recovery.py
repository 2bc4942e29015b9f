"""
Settling what was left behind: by a crash, a lost answer, a full disk.

::

    nothing was sent           > given back
    its pictures are stored    > done
    its pictures are spilled   > stored, done
    the provider knows the task > stored, done; or given back: it was never seen
    the provider cannot tell   > unknown, the money held
"""

import asyncio
import math
import time
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import attrs

from gaia_core.answers import Result
from gaia_core.calls import words_of
from gaia_core.catalog import ModelInfo
from gaia_core.context import CallContext
from gaia_core.endings import (
    answer_in,
    failure_of,
    look_up,
    public,
    response_of,
)
from gaia_core.errors import GaiaError, LeaseLostError, LedgerError, OutcomeClass
from gaia_core.images import Image
from gaia_core.ledger import Failure, Operation, OperationState, Settlement
from gaia_core.ledger.operations import with_ended
from gaia_core.lookups import can_look_up, is_definite, reference_of
from gaia_core.observability import get_logger
from gaia_core.records import from_record
from gaia_core.reliability import classify, cost_in_all, cost_of, lost_attempt
from gaia_core.requests import Request
from gaia_core.responses import Attempt, StoredImage
from gaia_core.results import ImageResult
from gaia_core.selection import Candidate
from gaia_core.services import Services
from gaia_core.storage import Spill

PAUSE = 60.0
"""How often what others left behind is looked for, in seconds."""
SHORT_PAUSE = 5.0
"""The same while something waits to be stored, written or taken over."""
AT_MOST = 100
"""How many operations are taken over at a time."""
ASKABLE = 1_000
"""Among how many unknown outcomes those are looked for that somebody can tell."""
AT_ONCE = 8
"""How many operations are settled at a time."""
PATIENCE = 10 * 60.0
"""How often the provider is asked again about an unknown outcome, in seconds."""

_WITH_OTHERS = frozenset({OperationState.QUEUED, OperationState.LEASED})


@attrs.define(eq=False, kw_only=True)
class Recovery:
    """Settles operations that nobody works on any more."""

    services: Services
    _asked: dict[str, float] = attrs.field(factory=dict, init=False)
    # What was taken over and has not come to an end: nobody else may do it now.
    _taken: dict[str, Operation] = attrs.field(factory=dict, init=False)
    _has_more: bool = attrs.field(default=False, init=False)
    # What one run has taken over, another would neither see nor wait for.
    _running: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def watch(self) -> None:
        """Settle what is found, again and again; ends when it is cancelled."""
        while True:
            try:
                await self.run_once()
            except Exception as error:  # noqa: BLE001  it must come again, whatever is
                get_logger().warning("gaia.recovery_failed", error=words_of(error))
            await asyncio.sleep(SHORT_PAUSE if self._is_waiting else PAUSE)

    async def run_once(self) -> int:
        """Settle what is found now; say how many operations came to an end."""
        async with self._running:
            return await self._settle_found()

    async def _settle_found(self) -> int:
        ledger = self.services.ledger
        await self._write_backlog()
        left = await self._left([*self._spill.waiting, *self._taken])
        self._taken = {one: left[one] for one in self._taken if one in left}
        await _to_its_end(self._take_over())
        found = {**left, **self._taken}
        states = await self._settle_all(found.values())
        await ledger.expire_holds()
        return sum(state.is_final for state in states)

    async def _take_over(self) -> None:
        """Take over what others left, and what a provider may tell by now."""
        ledger = self.services.ledger
        adopted = await ledger.adopt(AT_MOST)
        self._has_more = len(adopted) >= AT_MOST
        self._taken.update({one.id: one for one in adopted})
        for one in await self._askable():
            reopened = await ledger.reopen(one.id)
            if reopened is not None:
                self._taken[one.id] = reopened

    async def _left(self, ids: Iterable[str]) -> dict[str, Operation]:
        """Look up what waits to be stored here, or could not be settled before."""
        found = [await self.services.ledger.get(one) for one in ids]
        left = {
            one.id: one
            for one in found
            if one is not None and one.state not in _WITH_OTHERS
        }
        self._taken = {id_: left[id_] for id_ in self._taken if id_ in left}
        return left

    @property
    def _spill(self) -> Spill:
        return self.services.keeper.spill

    async def flush(self) -> None:
        """Store and write down what could not be before, if it can be now."""
        if not self._is_waiting:
            return
        try:
            await self._write_backlog()
            left = await self._left(tuple(self._spill.waiting))
            await self._settle_all(left.values())
        except GaiaError as error:
            get_logger().warning("gaia.recovery_failed", error=words_of(error))

    async def settle(self, operation: Operation) -> OperationState:
        """Find out what became of an operation, and close it accordingly."""
        if operation.state is OperationState.DONE:
            self._spill.drop(operation.id)
            return operation.state
        if operation.state.is_final and operation.id in self._taken:
            return operation.state
        if not operation.attempts:
            return await self._give_back(operation)
        keeper = self.services.keeper
        stored = sorted(
            await keeper.storage.recover(operation.id), key=lambda one: one.created_at
        )
        if stored and len(stored) >= _expected(operation):
            return await self._done(operation, stored, "stored")
        spilled = keeper.spill.find(operation.id)
        if spilled is not None:
            return await self._keep(operation, spilled, stored, "spilled")
        return await self._ask(operation, stored)

    # -- finding out ----------------------------------------------------------------

    async def _ask(
        self, operation: Operation, stored: Sequence[StoredImage]
    ) -> OperationState:
        """Ask the provider, where a charge is in doubt and it can tell."""
        lost = lost_attempt(operation.attempts)
        if lost is None:
            return await self._fetch_again(operation, stored)
        try:
            found = await self._look_up(operation, lost)
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            if is_definite(error):
                return await self._failed(operation, lost, error)
            self._note_silence(operation, lost, error)
            if stored:
                return await self._done(operation, stored, "stored")
            return await self._unknown(operation, lost)
        if found is not None:
            return await self._keep(operation, found, stored, "found")
        ended = attrs.evolve(
            lost,
            outcome=OutcomeClass.REJECTED_BUSY,
            cost_usd=cost_of(OutcomeClass.REJECTED_BUSY, None, None),
            error="the provider has never seen it",
        )
        await self.services.ledger.end_attempt(operation.id, ended)
        attempts = with_ended(operation.attempts, ended)
        return await self._give_back(attrs.evolve(operation, attempts=attempts))

    async def _fetch_again(
        self, operation: Operation, stored: Sequence[StoredImage]
    ) -> OperationState:
        """Ask for what was answered already, and lost before it was stored."""
        found = None
        if (answered := _answered(operation)) is not None:
            try:
                found = await self._look_up(operation, answered)
            except Exception as error:  # noqa: BLE001  as above
                self._note_silence(operation, answered, error)
        if found is not None:
            return await self._keep(operation, found, stored, "found")
        if stored:
            return await self._done(operation, stored, "stored")
        return await self._give_back(operation)

    def _note_silence(
        self, operation: Operation, attempt: Attempt, error: Exception
    ) -> None:
        get_logger(operation_id=operation.id).warning(
            "gaia.lookup_failed", provider=attempt.provider, error=words_of(error)
        )

    async def _look_up(self, operation: Operation, lost: Attempt) -> Result | None:
        provider = self.services.plugins.providers.get(lost.provider)
        if provider is None or not can_look_up(provider):
            message = f"{lost.provider} keeps no record of tasks"
            raise LookupError(message)
        context = CallContext(
            operation_id=operation.id,
            task_id=str(uuid.UUID(lost.task_id)),
            deadline=math.inf,
            logger=get_logger(operation_id=operation.id, provider=lost.provider),
            fetch=self.services.fetch_for(provider),
            reference=reference_of(operation.attempts, lost.task_id),
        )
        candidate = _candidate(operation, lost)
        return await self.services.lookup.find(provider, candidate, context)

    async def _askable(self) -> Sequence[Operation]:
        """Choose the unknown outcomes a provider may be asked about again."""
        now = time.monotonic()
        unknown = await self.services.ledger.listed(
            state=OperationState.UNKNOWN, limit=ASKABLE
        )
        chosen = [
            one
            for one in unknown
            if self._can_tell(one)
            and now - self._asked.get(one.id, -math.inf) >= PATIENCE
        ]
        self._asked = {one.id: self._asked.get(one.id, -math.inf) for one in unknown}
        self._asked.update({one.id: now for one in chosen})
        return chosen

    def _can_tell(self, operation: Operation) -> bool:
        lost = lost_attempt(operation.attempts)
        provider = lost and self.services.plugins.providers.get(lost.provider)
        return bool(provider and can_look_up(provider))

    # -- closing --------------------------------------------------------------------

    async def _keep(
        self,
        operation: Operation,
        result: Result,
        stored: Sequence[StoredImage],
        how: str,
    ) -> OperationState:
        """Store what was made, then settle it."""
        images: Sequence[StoredImage] = ()
        if isinstance(result, ImageResult):
            images = await self.services.keeper.keep(
                result,
                operation=operation,
                provider=_served(operation).provider,
                request=await self._request(operation),
                known=stored,
            )
        return await self._done(operation, images, how, result)

    async def _done(
        self,
        operation: Operation,
        images: Sequence[StoredImage],
        how: str,
        result: Result | None = None,
    ) -> OperationState:
        served = _served(operation)
        charged = result.cost_usd if result is not None else None
        cost = cost_of(OutcomeClass.OK, served.cost_usd, charged)
        attempt = attrs.evolve(served, outcome=OutcomeClass.OK, cost_usd=cost)
        attempts = with_ended(operation.attempts, attempt)
        answer = result or ImageResult(
            images=(), provider=served.provider, model=served.model
        )
        short = _expected(operation) - len(images)
        missing = [f"{short} of the pictures were lost"] if images and short > 0 else []
        response = response_of(
            answer,
            images,
            operation_id=operation.id,
            provider=served.provider,
            model=answer.model or served.model,
            attempts=attempts,
            cost_usd=cost_in_all(attempts),
            warnings=(
                "recovered after an interruption",
                *missing,
                *map(str, answer.warnings),
            ),
        )
        settlement = Settlement(
            provider=response.provider,
            model=response.model,
            cost_usd=response.cost_usd,
            images=tuple(images),
            answer=answer_in(response),
            attempt=attempt,
        )
        await self.services.ledger.settle(operation.id, settlement)
        self._spill.drop(operation.id)
        return self._note(operation, OperationState.DONE, how)

    async def _give_back(self, operation: Operation) -> OperationState:
        """End what nobody can serve: what cost nothing may be asked for again."""
        cost = cost_in_all(operation.attempts)
        if cost != 0:
            return await self._give_up(operation)
        book = self.services.ledger.batches if operation.batch_id else None
        if book is not None and await book.release(operation.id, was_sent=True):
            return self._note(operation, OperationState.QUEUED, "given_back")
        failure = Failure(
            state=OperationState.FAILED,
            error_type="ProviderUnavailableError",
            error="The process ended before it was served; nothing is owed: ask again.",
            is_final=False,
        )
        await self.services.ledger.fail(operation.id, failure)
        return self._note(operation, OperationState.FAILED, "given_back")

    async def _give_up(self, operation: Operation) -> OperationState:
        """End what was answered and charged, and of which nothing is left."""
        failure = Failure(
            state=OperationState.FAILED,
            error_type="StorageError",
            error=(
                "It was made and charged, and the process ended before anything "
                "of it was stored. Asking again, under a new key, costs again."
            ),
        )
        await self.services.ledger.fail(operation.id, failure)
        return self._note(operation, OperationState.FAILED, "given_up")

    async def _failed(
        self, operation: Operation, lost: Attempt, error: Exception
    ) -> OperationState:
        """Close an operation whose task was refused, or made nothing of use."""
        outcome = classify(error)
        cost = cost_of(outcome, lost.cost_usd, None)
        words = words_of(error)
        ended = attrs.evolve(lost, outcome=outcome, cost_usd=cost, error=words)
        attempts = with_ended(operation.attempts, ended)
        await self.services.ledger.end_attempt(operation.id, ended)
        failure = failure_of(public(error, operation.id, attempts), attempts)
        await self.services.ledger.fail(operation.id, failure)
        return self._note(operation, OperationState.FAILED, "failed")

    async def _unknown(self, operation: Operation, lost: Attempt) -> OperationState:
        if operation.state is OperationState.UNKNOWN:
            return operation.state
        failure = Failure(
            state=OperationState.UNKNOWN,
            error_type="OutcomeUnknownError",
            error=(
                f"The answer of {lost.provider} was lost when the process ended; "
                "the picture may have been made and charged. "
                f"{look_up(operation.id)}"
            ),
        )
        await self.services.ledger.fail(operation.id, failure)
        return self._note(operation, OperationState.UNKNOWN, "unknown")

    async def _settle_all(
        self, operations: Iterable[Operation]
    ) -> Sequence[OperationState]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(operation: Operation) -> OperationState:
            async with gate:
                try:
                    state = await self.settle(operation)
                except LeaseLostError:
                    state = operation.state
                except Exception as error:  # noqa: BLE001  one ends not the others
                    _warn(operation.id, error)
                    return operation.state
            self._taken.pop(operation.id, None)
            return state

        return await asyncio.gather(*map(one, operations))

    async def _write_backlog(self) -> None:
        """Write down what could not be written when it happened."""
        ledger, backlog = self.services.ledger, self.services.backlog
        for operation_id, ending in list(backlog.items()):
            try:
                if isinstance(ending, Settlement):
                    await ledger.settle(operation_id, ending)
                else:
                    await ledger.fail(operation_id, ending)
            except LeaseLostError as error:
                _warn(operation_id, error)
            except LedgerError as error:
                _warn(operation_id, error)
                if await ledger.get(operation_id) is not None:
                    continue  # the others need not wait for it
            backlog.pop(operation_id, None)

    @property
    def _is_waiting(self) -> bool:
        waiting = self.services.backlog or self._spill.waiting or self._taken
        return bool(waiting) or self._has_more

    async def _request(self, operation: Operation) -> Request | None:
        """Read what was asked for, where its pictures are at hand."""

        def none(_sha256: str) -> Image:
            raise LedgerError

        try:
            return from_record(operation.request or {}, none)
        except GaiaError:
            return None

    def _note(
        self, operation: Operation, state: OperationState, how: str
    ) -> OperationState:
        self.services.metrics.count("gaia_recovered_total", outcome=how)
        facts: dict[str, Any] = {"state": str(state), "outcome": how}
        log = get_logger(operation_id=operation.id)
        log.info("gaia.operation_recovered", **facts)
        return state


def _expected(operation: Operation) -> int:
    """Tell how many pictures an operation was to make."""
    number = (operation.request or {}).get("num_images", 1)
    return number if isinstance(number, int) else 1


def _answered(operation: Operation) -> Attempt | None:
    """Find the attempt that was answered, of an operation that kept no picture."""
    answered = (one for one in operation.attempts if one.outcome is OutcomeClass.OK)
    return next(answered, None)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do what must not be left halfway: who is cancelled is told when it is done."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def _warn(operation_id: str, error: Exception) -> None:
    log = get_logger(operation_id=operation_id)
    log.warning("gaia.recovery_failed", error=words_of(error))


def _served(operation: Operation) -> Attempt:
    """Find the attempt that made it: others may have been turned away since."""
    return lost_attempt(operation.attempts) or operation.attempts[-1]


def _candidate(operation: Operation, lost: Attempt) -> Candidate:
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
