"""The ledger in a database: SQLite on one machine, PostgreSQL on many."""

import asyncio
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import ClassVar, TypeVar

import attrs
from sqlalchemy import Connection

from gaia_core.calls import words_of
from gaia_core.errors import LedgerError
from gaia_core.ledger import (
    balances,
    checks,
    keys,
    leases,
    references,
    results_index,
    rows,
    steps,
)
from gaia_core.ledger import usage as reports
from gaia_core.ledger.access_book import SqlAccessBook
from gaia_core.ledger.batch_book import SqlBatchBook
from gaia_core.ledger.database import Database
from gaia_core.ledger.gallery_book import SqlGallery
from gaia_core.ledger.operations import (
    Failure,
    IdempotencyKey,
    Operation,
    Settlement,
)
from gaia_core.ledger.reports import BudgetAlert, BudgetState, Problem, UsageRow
from gaia_core.ledger.tables import operations
from gaia_core.ledger.workers import Workers
from gaia_core.observability import get_logger
from gaia_core.responses import Attempt
from gaia_core.settings import BudgetSettings

MAX_USES = 1_000
"""How many uses of answers are noted in memory before they are written down."""

A = TypeVar("A")
T = TypeVar("T")


@attrs.define(eq=False)
class SqlLedger:
    """
    Keeps the book in a database; it survives the process.

    Attributes:
        database: Where it is kept.
        budgets: What may be spent; held in the same transaction as the operation.
        max_results: How many answers can be found again.
        on_alert: Told of each share of a budget that is reached for the first time.
    """

    keeps_budgets: ClassVar[bool] = True
    database: Database
    budgets: BudgetSettings = attrs.field(factory=BudgetSettings, kw_only=True)
    max_results: int = attrs.field(default=100_000, kw_only=True)
    on_alert: Callable[[BudgetAlert], None] | None = attrs.field(
        default=None, kw_only=True
    )
    _opening: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False, repr=False)
    _is_open: bool = attrs.field(default=False, init=False)
    # The lease this process has on each operation it works on.
    _fences: dict[str, int] = attrs.field(factory=dict, init=False, repr=False)
    _uses: dict[str, int] = attrs.field(factory=dict, init=False, repr=False)
    _workers: Workers = attrs.field(init=False, repr=False)
    batches: SqlBatchBook = attrs.field(init=False, repr=False)
    gallery: SqlGallery = attrs.field(init=False, repr=False)
    access: SqlAccessBook = attrs.field(init=False, repr=False)

    @_workers.default
    def _one_worker(self) -> Workers:
        return Workers(self.database)

    @batches.default
    def _batch_book(self) -> SqlBatchBook:
        return SqlBatchBook(
            self.database,
            self.budgets,
            on_alert=lambda alert: self._tell((alert,)),
            on_lease=self._forget_fences,
        )

    @gallery.default
    def _own_gallery(self) -> SqlGallery:
        return SqlGallery(self.database)

    @access.default
    def _access_book(self) -> SqlAccessBook:
        return SqlAccessBook(self.database)

    async def open(self) -> None:
        """
        Get ready; harmless when repeated.

        Raises:
            LedgerError: If the database cannot be used, or is of a newer version.
        """
        async with self._opening:
            if self._is_open:
                return
            await self.database.open()
            try:
                await self._workers.start()
            except BaseException:
                await self.database.close()
                raise
            self._is_open = True

    async def close(self) -> None:
        """Let go of the database; others may take over what is left open."""
        async with self._opening:
            if not self._is_open:
                return
            self._is_open = False
            try:
                await self._note_uses()
                await self._workers.stop()
            except LedgerError as error:
                # Others see by the lock that this process is gone.
                get_logger().warning("gaia.ledger_failed", error=words_of(error))
            finally:
                await self.database.close()
                self._fences.clear()
                # What it left open is not its own any more when it comes back.
                self.database.worker = uuid.uuid4().hex

    # -- the life of an operation -------------------------------------------------

    async def accept(self, operation: Operation) -> Operation:
        """
        Take an operation on and hold its money, unless one stands for it already.

        Raises:
            IdempotencyConflictError: If its key stands for another request.
            BudgetExceededError: If a budget has not so much left.
        """
        accepted, alerts = await self.database.write(partial(self._accept, operation))
        if accepted is operation:
            self._fences[operation.id] = 0
        self._tell(alerts)
        return accepted

    async def send(self, operation_id: str, attempt: Attempt) -> None:
        """
        Note an attempt, and hold what it may cost, before anything is sent.

        Raises:
            BudgetExceededError: If so much cannot be held.
            LeaseLostError: If another process has taken the operation over.
        """
        self._tell(await self._step(steps.send, operation_id, attempt))

    async def refer(self, references: Mapping[str, str]) -> None:
        """
        Note what attempts can be looked up by; one that has ended stays as it is.

        Raises:
            LeaseLostError: If another process has taken one of them over.
        """
        await self.database.write(partial(self._refer, dict(references)))

    async def end_attempt(self, operation_id: str, attempt: Attempt) -> None:
        """Note how the latest attempt ended."""
        await self._step(steps.end_attempt, operation_id, attempt)

    async def receive(self, operation_id: str, attempt: Attempt) -> None:
        """Note that it is made and paid, and that its pictures wait to be stored."""
        await self._step(steps.receive, operation_id, attempt)

    async def settle(self, operation_id: str, settlement: Settlement) -> None:
        """Close an operation that succeeded; one that is done stays as it is."""
        self._tell(await self._step(steps.settle, operation_id, settlement))
        self._fences.pop(operation_id, None)

    async def fail(self, operation_id: str, failure: Failure) -> None:
        """Close an operation that failed; one that has closed stays as it is."""
        self._tell(await self._step(steps.fail, operation_id, failure))
        self._fences.pop(operation_id, None)

    # -- looking up ---------------------------------------------------------------

    async def get(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        return await self.database.read(partial(_get, operation_id))

    async def find(self, key: IdempotencyKey) -> Operation | None:
        """Look up the operation a key stands for; None where it may be tried anew."""
        return await self.database.read(partial(_find, key))

    async def find_result(self, result_key: str) -> Operation | None:
        """Look up the operation that is done under a result key, and note its use."""
        found = await self.database.read(
            lambda connection: results_index.find(connection, result_key)
        )
        if found is not None:
            self._uses[result_key] = rows.now()
        if len(self._uses) >= MAX_USES:
            await self._note_uses()
        return found

    async def forget_result(self, result_key: str, operation_id: str) -> None:
        """Let the next equal request be made anew, if this operation stands for it."""
        self._uses.pop(result_key, None)
        await self.database.write(
            lambda connection: results_index.forget(
                connection, result_key, operation_id
            )
        )

    async def listed(
        self,
        *,
        state: str | None = None,
        principal: str | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        """List operations, newest first."""
        conditions = [] if state is None else [operations.c.state == str(state)]
        if principal is not None:
            conditions.append(operations.c.principal == principal)
        newest = operations.c.created_at.desc()
        return await self.database.read(
            lambda connection: rows.read(
                connection, *conditions, order_by=newest, limit=max(0, limit)
            )
        )

    # -- taking over --------------------------------------------------------------

    async def adopt(self, limit: int = 100) -> Sequence[Operation]:
        """
        Take over operations that were left behind, oldest first.

        What this process is still working on itself is its own again, and not given.
        """
        dead = await self._workers.dead()
        adopted = await self.database.write(partial(self._adopt, dead, limit))
        return [
            operation
            for operation, fence in adopted
            if not self._is_at_work(operation.id, fence)
        ]

    async def reopen(self, operation_id: str) -> Operation | None:
        """Take over an operation whose outcome is unknown; None if it is not."""
        reopened = await self.database.write(partial(self._reopen, operation_id))
        if reopened is None:
            return None
        operation, self._fences[operation_id] = reopened
        return operation

    # -- reports ------------------------------------------------------------------

    async def expire_holds(self) -> int:
        """Count money held for unknown outcomes for 24 h as spent; say of how many."""
        return await self.database.write(
            lambda connection: checks.expire_holds(connection, rows.now())
        )

    async def usage(
        self,
        by: Sequence[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str | None = None,
    ) -> Sequence[UsageRow]:
        """Add up what was made and spent."""
        return await self.database.read(
            lambda connection: reports.usage(connection, by, since, until, principal)
        )

    async def budget_states(
        self, *, user_id: str | None = None, campaign_id: str | None = None
    ) -> Sequence[BudgetState]:
        """Say how the budgets stand that such a request would count in now."""
        payer = balances.Payer(
            operation_id="",
            user_id=user_id,
            campaign_id=campaign_id,
            day=rows.day_of(rows.now()),
        )
        return await self.database.read(
            lambda connection: balances.states(connection, self.budgets, payer)
        )

    async def check(self) -> Sequence[Problem]:
        """Check the book against itself; nothing wrong gives nothing."""
        return await self.database.read(checks.check)

    # -- behind the curtain -------------------------------------------------------

    async def _step(
        self, step: Callable[[Connection, steps.Hand, str, A], T], own: str, what: A
    ) -> T:
        hand = self._hand(self._fences.get(own))
        return await self.database.write(
            lambda connection: step(connection, hand, own, what)
        )

    def _hand(self, fence: int | None = None) -> steps.Hand:
        worker = self.database.worker
        return steps.Hand(worker=worker, budgets=self.budgets, fence=fence)

    def _accept(
        self, operation: Operation, connection: Connection
    ) -> tuple[Operation, steps.Alerts]:
        accepted = steps.accept(connection, self._hand(), operation)
        if operation.result_key is not None and self._is_time_to_trim(operation):
            results_index.trim(connection, self.max_results)
        return accepted

    def _is_time_to_trim(self, operation: Operation) -> bool:
        """Tell for one operation in many, by chance: counting answers takes a while."""
        turns = max(1, self.max_results // 100)
        return zlib.crc32(operation.id.encode()) % turns == 0

    def _refer(self, given: Mapping[str, str], connection: Connection) -> None:
        worker, fence_of = self.database.worker, self._fences.get
        references.refer(connection, given, worker=worker, fence_of=fence_of)

    def _adopt(
        self, dead: frozenset[str], limit: int, connection: Connection
    ) -> list[tuple[Operation, int]]:
        worker, now = self.database.worker, rows.now()
        ids = leases.adopt(connection, worker=worker, dead=dead, limit=limit, now=now)
        return steps.held(connection, ids)

    def _reopen(
        self, operation_id: str, connection: Connection
    ) -> tuple[Operation, int] | None:
        is_ours = leases.reopen(
            connection,
            worker=self.database.worker,
            operation_id=operation_id,
            now=rows.now(),
        )
        return steps.held(connection, [operation_id])[0] if is_ours else None

    def _is_at_work(self, operation_id: str, fence: int) -> bool:
        """Note a new lease; tell whether this process had an older one."""
        is_at_work = operation_id in self._fences
        self._fences[operation_id] = fence
        return is_at_work

    def _forget_fences(self, operation_ids: Sequence[str]) -> None:
        """Forget older leases of items that were just taken anew."""
        for operation_id in operation_ids:
            self._fences.pop(operation_id, None)

    async def _note_uses(self) -> None:
        """Write the latest uses down; an answer is good even where that fails."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self.database.write(
                lambda connection: results_index.note_uses(connection, uses)
            )
        except LedgerError as error:
            get_logger().warning("gaia.uses_not_noted", error=str(error))

    def _tell(self, alerts: steps.Alerts) -> None:
        """Tell the host; one that fails ends no work."""
        for alert in alerts:
            if self.on_alert is None:
                return
            try:
                self.on_alert(alert)
            except Exception as error:  # noqa: BLE001  the host's own business
                name = type(error).__name__
                get_logger().warning("gaia.budget_alert_failed", error=name)


def _find(key: IdempotencyKey, connection: Connection) -> Operation | None:
    row = keys.find(connection, key)
    if row is None or row.operation_id is None:
        return None
    return _get(row.operation_id, connection)


def _get(operation_id: str, connection: Connection) -> Operation | None:
    found = rows.read(connection, operations.c.id == operation_id)
    return next(iter(found), None)
