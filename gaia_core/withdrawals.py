"""
Telling vendors that nobody wants any more what they are at work on.

It changes nothing in the book: what a vendor made all the same comes as it would have
come, and what it says was never made is free.
"""

import asyncio
import time
from collections.abc import Sequence

import attrs

from gaia_core.calls import answer_of, words_of
from gaia_core.context import CallContext
from gaia_core.ledger import SentItem
from gaia_core.observability import get_logger
from gaia_core.plugins import Provider
from gaia_core.services import Services

HOOK = "gaia_cancel"
PATIENCE = 60.0
"""Longest wait for a provider, in seconds."""


@attrs.frozen(kw_only=True)
class Withdrawals:
    """
    Tells vendors.

    Attributes:
        services: What it works with.
        patience: Longest wait for each provider, in seconds.
    """

    services: Services
    patience: float = PATIENCE

    async def withdraw(self, batch_id: str) -> None:
        """
        Have vendors stop what they can of a batch that was called off.

        Providers without the hook are not asked. What one of them raises is logged.

        Raises:
            LedgerError: If the ledger cannot be read.
        """
        able = {
            name: provider
            for name, provider in self.services.plugins.providers.items()
            if provider.implements(HOOK)
        }
        book = self.services.ledger.batches
        if not able or book is None:
            return
        found: dict[str, list[SentItem]] = {}
        async for item in book.sent(batch_id):
            if item.provider in able:
                found.setdefault(item.provider, []).append(item)
        await asyncio.gather(
            *(self._tell(able[name], items, batch_id) for name, items in found.items())
        )

    async def _tell(
        self, provider: Provider, items: Sequence[SentItem], batch_id: str
    ) -> None:
        log = get_logger(batch_id=batch_id, provider=provider.name)
        contexts = self._contexts(provider, items, log)
        log.info("gaia.vendor_called_off", items=len(items))
        try:
            await answer_of(provider, HOOK, patience=self.patience, contexts=contexts)
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            log.warning("gaia.cancel_failed", error=words_of(error))

    def _contexts(
        self, provider: Provider, items: Sequence[SentItem], log: object
    ) -> tuple[CallContext, ...]:
        deadline = time.monotonic() + self.patience
        fetch = self.services.fetch_for(provider)
        return tuple(
            CallContext(
                operation_id=item.operation_id,
                task_id=item.task_id,
                deadline=deadline,
                logger=log,
                fetch=fetch,
                reference=item.reference,
            )
            for item in items
        )
