"""
What providers ask to remember about their attempts, on its way to the ledger.

A vendor's batch of 50,000 requests has one name, which 50,000 attempts have to
remember: what is asked at the same time is written in one transaction.
"""

import asyncio
from collections.abc import Mapping

import attrs

from gaia_core.calls import words_of
from gaia_core.errors import LeaseLostError, LedgerError, ProviderError
from gaia_core.ledger import Ledger


@attrs.define(eq=False)
class _Group:
    """What is written together."""

    references: dict[str, str] = attrs.field(factory=dict)
    failures: dict[str, Exception] = attrs.field(factory=dict)
    is_written: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.define(eq=False)
class References:
    """
    Collects references, and writes them down together.

    Attributes:
        ledger: Where they are written.
    """

    ledger: Ledger
    _open: _Group | None = attrs.field(default=None, init=False)
    _writing: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    async def remember(self, task_id: str, reference: str) -> None:
        """
        Write down what an attempt can be looked up by.

        Raises:
            LedgerError: If it cannot be written.
            ProviderError: If it is no text.
        """
        if not isinstance(reference, str) or not reference:
            message = f"A reference is a text, not {type(reference).__name__}."
            raise ProviderError(message)
        group = self._group()
        group.references[task_id] = reference
        await group.is_written.wait()
        failure = group.failures.get(task_id)
        if failure is not None:
            # One object for many would gather everybody's traceback.
            kind = LeaseLostError if _is_lost(failure) else LedgerError
            raise kind(words_of(failure)) from failure

    def _group(self) -> _Group:
        """Find the group that is open, or open one."""
        if self._open is None:
            self._open = _Group()
            task = asyncio.create_task(self._write(self._open))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return self._open

    async def _write(self, group: _Group) -> None:
        # Whoever is about to ask in this turn of the loop joins.
        await asyncio.sleep(0)
        self._open = None
        try:
            await self._note(group.references, group.failures)
        except BaseException:
            stop = LedgerError("The program stopped before it was written down.")
            group.failures.update(dict.fromkeys(group.references, stop))
            raise
        finally:
            group.is_written.set()

    async def _note(
        self, references: Mapping[str, str], failures: dict[str, Exception]
    ) -> None:
        """Write some down; where one of them is not ours, find out which."""
        try:
            await self.ledger.refer(references)
        except Exception as error:  # noqa: BLE001  a host's ledger may raise anything
            if not _is_lost(error) or len(references) == 1:
                failures.update(dict.fromkeys(references, error))
                return
            items = list(references.items())
            middle = len(items) // 2
            for half in (items[:middle], items[middle:]):
                await self._note(dict(half), failures)


def _is_lost(error: Exception) -> bool:
    return isinstance(error, LeaseLostError)
