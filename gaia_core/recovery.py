"""
Settling what was left behind: by a crash, a lost answer, a full disk.

::

    nothing was sent           > given back
    its pictures are stored    > done, at what the provider says it billed
    its pictures are spilled   > stored, done
    the provider knows the task > stored, done; or given back: it was never seen
    the provider cannot tell   > unknown, the money held
"""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import attrs

from gaia_core.answers import Result
from gaia_core.calls import words_of
from gaia_core.endings import (
    answer_in,
    failure_of,
    public,
    response_of,
)
from gaia_core.errors import (
    GaiaError,
    LeaseLostError,
    LedgerError,
    OutcomeClass,
    TaskRunningError,
)
from gaia_core.ledger import Failure, Operation, OperationState, Settlement
from gaia_core.ledger.operations import with_ended
from gaia_core.leftovers import (
    GIVEN_UP,
    answered_of,
    candidate_of,
    context_of,
    expected_of,
    request_of,
    served_of,
    to_its_end,
    unknown_of,
)
from gaia_core.lookups import can_look_up, is_definite
from gaia_core.observability import get_logger
from gaia_core.reliability import classify, cost_in_all, cost_of, lost_attempt
from gaia_core.reliability.money import charge_of
from gaia_core.responses import Attempt, StoredImage
from gaia_core.results import ImageResult
from gaia_core.running import Running
from gaia_core.services import Services
from gaia_core.storage import Spill

PAUSE = 60.0
"""How often what others left behind is looked for, in seconds."""
SHORT_PAUSE = 5.0
"""The same while something waits to be stored, written or taken over."""
AT_MOST = 500
"""How many operations are taken over at a time."""
ASKABLE = 1_000
"""Among how many unknown outcomes those are looked for that somebody can tell."""
AT_ONCE = 8
"""How many operations are settled at a time."""
PATIENCE = 10 * 60.0
"""How often the provider is asked again about an unknown outcome, in seconds."""

_WITH_OTHERS = frozenset({OperationState.QUEUED, OperationState.LEASED})


def _gate() -> asyncio.Semaphore:
    return asyncio.Semaphore(AT_ONCE)


@attrs.define(eq=False, kw_only=True)
class Recovery:
    """Settles operations that nobody works on any more."""

    services: Services
    running: Running = attrs.field(factory=Running)
    _asked: dict[str, float] = attrs.field(factory=dict, init=False)
    # What was taken over and has not come to an end: nobody else may do it now.
    _taken: dict[str, Operation] = attrs.field(factory=dict, init=False)
    _has_more: bool = attrs.field(default=False, init=False)
    _gate: asyncio.Semaphore = attrs.field(factory=_gate, init=False)
    # What one run has taken over, another would neither see nor wait for.
    _running: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def watch(self) -> None:
        """Settle what is found, again and again; ends when it is cancelled."""
        while True:
            try:
                await self.run_once()
            except Exception as error:  # noqa: BLE001  it must come again, whatever is
                get_logger().warning("gaia.recovery_failed", error=words_of(error))
            is_soon = self._is_waiting or self.running or self.services.left_open
            await asyncio.sleep(SHORT_PAUSE if is_soon else PAUSE)

    async def run_once(self) -> int:
        """Settle what is found now; say how many operations came to an end."""
        async with self._running:
            ended = await self._settle_found()
            while self._has_more:
                ended += await self._settle_found()
            return ended + await self._settle_running()

    async def _settle_found(self) -> int:
        ledger, left_open = self.services.ledger, self.services.left_open
        await self._write_backlog()
        handed_over = list(itertools.islice(left_open, AT_MOST))
        known = dict.fromkeys((*self._taken, *handed_over))
        left = await self._left([*self._spill.waiting, *known])
        self._taken = {one: left[one] for one in known if one in left}
        left_open.difference_update(handed_over)
        await to_its_end(self._take_over())
        found = {**left, **self._taken}
        states = await self._settle_all(found.values())
        await ledger.expire_holds()
        return sum(state.is_final for state in states)

    async def _settle_running(self) -> int:
        """Ask what became of what vendors were at work on, one of each batch first."""
        ended = 0
        for batch in self.running.due():
            most = 1
            while ids := self.running.of(batch, most):
                left = await self._left(ids)
                self.running.drop(ids)
                self._taken.update(left)
                states = await self._settle_all(left.values())
                ended += sum(state.is_final for state in states)
                if self.running.are_waiting(ids):
                    break
                most = AT_MOST
        return ended

    async def _take_over(self) -> None:
        """Take over what others left, and what a provider may tell by now."""
        ledger = self.services.ledger
        adopted = await ledger.adopt(AT_MOST)
        self._has_more = len(adopted) >= AT_MOST or bool(self.services.left_open)
        self._taken.update({one.id: one for one in adopted})
        for one in await self._askable():
            reopened = await ledger.reopen(one.id)
            if reopened is not None:
                self._taken[one.id] = reopened

    async def _left(self, ids: Iterable[str]) -> dict[str, Operation]:
        """Look up what waits to be stored here, or could not be settled before."""
        found = [await self.services.ledger.get(one) for one in ids]
        return {
            one.id: one
            for one in found
            if one is not None and one.state not in _WITH_OTHERS
        }

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
            self._taken = {one: left[one] for one in self._taken if one in left}
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
        if stored and len(stored) >= expected_of(operation):
            charged = await self._billed(operation)
            return await self._done(operation, stored, "stored", charged=charged)
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
            return await self._not_found(operation, lost, stored, error)
        if found is not None:
            return await self._keep(operation, found, stored, "found")
        if stored:
            # Whatever the provider has forgotten: it was made.
            return await self._done(operation, stored, "stored")
        ended = attrs.evolve(
            lost,
            outcome=OutcomeClass.REJECTED_BUSY,
            cost_usd=cost_of(OutcomeClass.REJECTED_BUSY, None, None),
            error="the provider has never seen it",
        )
        await self.services.ledger.end_attempt(operation.id, ended)
        attempts = with_ended(operation.attempts, ended)
        return await self._give_back(attrs.evolve(operation, attempts=attempts))

    async def _not_found(
        self,
        operation: Operation,
        lost: Attempt,
        stored: Sequence[StoredImage],
        error: Exception,
    ) -> OperationState:
        """Go by what the provider says instead of giving pictures."""
        if isinstance(error, TaskRunningError):
            return self._wait_for(operation, lost)
        if is_definite(error):
            return await self._failed(operation, lost, error)
        self._note_silence(operation, lost, error)
        if stored:
            return await self._done(operation, stored, "stored")
        return await self._unknown(operation, lost)

    async def _fetch_again(
        self, operation: Operation, stored: Sequence[StoredImage]
    ) -> OperationState:
        """Ask for what was answered already, and lost before it was stored."""
        found = None
        if (answered := answered_of(operation)) is not None:
            try:
                found = await self._look_up(operation, answered)
            except TaskRunningError:
                return self._wait_for(operation, answered)
            except Exception as error:  # noqa: BLE001  as above
                self._note_silence(operation, answered, error)
        if found is not None:
            return await self._keep(operation, found, stored, "found")
        if stored:
            return await self._done(operation, stored, "stored")
        return await self._give_back(operation)

    def _wait_for(self, operation: Operation, attempt: Attempt) -> OperationState:
        """Leave it as it is, held by this process, and ask again later."""
        self.running.note(operation, attempt)
        log = get_logger(operation_id=operation.id)
        log.debug("gaia.task_running", provider=attempt.provider)
        return operation.state

    def _note_silence(
        self, operation: Operation, attempt: Attempt, error: Exception
    ) -> None:
        log = get_logger(operation_id=operation.id)
        self.services.lookup.note_silence(log, attempt.provider, error)

    async def _billed(self, operation: Operation) -> Decimal | None:
        """Learn what was charged for what is stored; None: the estimate stands."""
        if (spilled := self._spill.find(operation.id)) is not None:
            return spilled.cost_usd
        lost = lost_attempt(operation.attempts)
        if lost is None or not self._can_tell(operation):
            return None
        provider = self.services.plugins.providers[lost.provider]
        try:
            context = context_of(operation, lost, self.services.fetch_for(provider))
            return await self.services.lookup.billed(provider, context)
        except Exception as error:  # noqa: BLE001  as above
            self._note_silence(operation, lost, error)
            return None

    async def _look_up(self, operation: Operation, lost: Attempt) -> Result | None:
        provider = self.services.plugins.providers.get(lost.provider)
        if provider is None or not can_look_up(provider):
            message = f"{lost.provider} keeps no record of tasks"
            raise LookupError(message)
        return await self.services.lookup.find(
            provider,
            candidate_of(operation, lost),
            context_of(operation, lost, self.services.fetch_for(provider)),
            operation.capability,
            aside=self._aside,
        )

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        """Let others be settled while this one only waits."""
        self._gate.release()
        try:
            yield
        finally:
            await self._gate.acquire()

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
                provider=served_of(operation).provider,
                request=request_of(operation),
                known=stored,
            )
        return await self._done(operation, images, how, result)

    async def _done(
        self,
        operation: Operation,
        images: Sequence[StoredImage],
        how: str,
        result: Result | None = None,
        charged: Decimal | None = None,
    ) -> OperationState:
        served = served_of(operation)
        if result is not None:
            charged = result.cost_usd
        cost = cost_of(OutcomeClass.OK, served.cost_usd, charged)
        attempt = attrs.evolve(served, outcome=OutcomeClass.OK, cost_usd=cost)
        attempts = with_ended(operation.attempts, attempt)
        answer = result or ImageResult(
            images=(), provider=served.provider, model=served.model
        )
        short = expected_of(operation) - len(images)
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
        await self.services.ledger.fail(operation.id, GIVEN_UP)
        return self._note(operation, OperationState.FAILED, "given_up")

    async def _failed(
        self, operation: Operation, lost: Attempt, error: Exception
    ) -> OperationState:
        """Close an operation whose task was refused, or made nothing of use."""
        outcome = classify(error)
        cost = cost_of(outcome, lost.cost_usd, charge_of(error))
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
        await self.services.ledger.fail(operation.id, unknown_of(operation, lost))
        return self._note(operation, OperationState.UNKNOWN, "unknown")

    async def _settle_all(
        self, operations: Iterable[Operation]
    ) -> Sequence[OperationState]:
        async def one(operation: Operation) -> OperationState:
            async with self._gate:
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

    def _note(
        self, operation: Operation, state: OperationState, how: str
    ) -> OperationState:
        self.services.metrics.count("gaia_recovered_total", outcome=how)
        facts: dict[str, Any] = {"state": str(state), "outcome": how}
        log = get_logger(operation_id=operation.id)
        log.info("gaia.operation_recovered", **facts)
        return state


def _warn(operation_id: str, error: Exception) -> None:
    log = get_logger(operation_id=operation_id)
    log.warning("gaia.recovery_failed", error=words_of(error))
