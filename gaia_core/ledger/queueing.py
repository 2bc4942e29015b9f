"""
Transactions that wait for the only writer are committed together.

Waiting for the disk takes most of the time of a small transaction. Those that queue
while it is waited for share the next wait: under load one is enough for many.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gaia_core.ledger.connecting import Engines

T = TypeVar("T")

MOST_TOGETHER = 64
"""How many transactions are committed together at most."""


@attrs.frozen(eq=False, kw_only=True)
class _Waiting:
    """One transaction, and what its caller waits for."""

    work: "Callable[[Connection], Any]"
    is_repeatable: bool
    future: "Future[Any]" = attrs.field(factory=Future)


@attrs.frozen(eq=False, kw_only=True)
class WriteQueue:
    """
    Runs the transactions of one SQLite file, in the order they came.

    Attributes:
        engines: What they run on.
        threads: The one thread in which they run.
    """

    engines: "Engines"
    threads: ThreadPoolExecutor
    _waiting: deque[_Waiting] = attrs.field(factory=deque, init=False)

    def submit(
        self, work: "Callable[[Connection], T]", *, is_repeatable: bool
    ) -> "Future[T]":
        """
        Queue a transaction.

        Args:
            work: What to do.
            is_repeatable: Whether it may be called twice; otherwise it runs alone.
        """
        one = _Waiting(work=work, is_repeatable=is_repeatable)
        self._waiting.append(one)
        try:
            self.threads.submit(self._run_next)
        except RuntimeError:
            with suppress(ValueError):
                self._waiting.remove(one)
            raise
        return one.future

    def _run_next(self) -> None:
        """Run what waits, unless it was run with what came before."""
        together = self._taken()
        if len(together) > 1:
            works = [one.work for one in together]
            try:
                outcomes = self.engines.write_together(works)
            except BaseException as error:  # noqa: BLE001  somebody waits
                for one in together:
                    one.future.set_exception(error)
                return
            if outcomes is not None:
                for one, outcome in zip(together, outcomes, strict=True):
                    _tell(one, outcome)
                return
        for one in together:
            _tell(one, partial(self._alone, one))

    def _taken(self) -> list[_Waiting]:
        """Take what may run together from the queue; only its one thread does."""
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < MOST_TOGETHER:
            is_alone = not self._waiting[0].is_repeatable
            if is_alone and taken:
                break
            taken.append(self._waiting.popleft())
            if is_alone:
                break
        return taken

    def _alone(self, one: _Waiting) -> Any:
        return self.engines.write(one.work, is_repeatable=one.is_repeatable)


def _tell(one: _Waiting, outcome: Callable[[], Any]) -> None:
    try:
        result = outcome()
    except BaseException as error:  # noqa: BLE001  whoever waits gets it
        one.future.set_exception(error)
    else:
        one.future.set_result(result)
