"""Asking a provider what became of an attempt whose answer was lost."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from decimal import Decimal
from typing import Any

import attrs

from gaia_core.answers import Result, checked
from gaia_core.calls import answer_of, words_of
from gaia_core.capabilities import HOOK_OF, Capability
from gaia_core.context import CallContext
from gaia_core.errors import OutcomeClass
from gaia_core.plugins import Provider
from gaia_core.reliability import classify
from gaia_core.responses import Attempt
from gaia_core.selection import Candidate
from gaia_core.silences import Silences

HOOK = "gaia_recover"

_DEFINITE = frozenset({OutcomeClass.REJECTED_FINAL, OutcomeClass.UNUSABLE})


@attrs.frozen(kw_only=True)
class Lookup:
    """
    How a provider is asked.

    Attributes:
        spacing: Seconds between two questions: a vendor may learn of a task only a
            moment after it was sent, so one "never seen" proves nothing.
        patience: Longest wait for one answer, in seconds.
    """

    spacing: float = 5.0
    patience: float = 60.0
    _silences: Silences = attrs.field(factory=Silences, init=False, repr=False)

    async def find(
        self,
        provider: Provider,
        candidate: Candidate,
        context: CallContext,
        capability: Capability,
        *,
        aside: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> Result | None:
        """
        Find what an attempt made.

        Args:
            provider: Whom to ask.
            candidate: What was asked for.
            context: The attempt.
            capability: What it was asked to do.
            aside: Lets others go on while nothing is done but waiting.

        Returns:
            What it made, or None: the vendor has certainly never seen it.

        Raises:
            Exception: Whatever the hook raises; nothing is known then.
        """
        found = await self._ask(provider, context)
        if found is None:
            async with aside():
                await asyncio.sleep(self.spacing)
            found = await self._ask(provider, context)
        if found is None:
            return None
        return await checked(found, candidate, HOOK_OF[capability])

    async def billed(self, provider: Provider, context: CallContext) -> Decimal | None:
        """
        Learn what an attempt was billed whose pictures are there already.

        It is asked once: whatever the answer, the pictures exist.

        Returns:
            US dollars; None: the provider does not say.

        Raises:
            Exception: Whatever the hook raises; nothing is known then.
        """
        found = await self._ask(provider, context)
        return found.cost_usd if isinstance(found, Result) else None

    def note_silence(self, logger: Any, provider: str, error: BaseException) -> None:
        """
        Log that nobody can tell what became of an attempt.

        Hundreds may share a batch of the vendor, and one reason: the first of them
        warns, and for a while the others only debug.
        """
        words = words_of(error)
        is_news = self._silences.is_news(provider, words)
        log = logger.warning if is_news else logger.debug
        log("gaia.lookup_failed", provider=provider, error=words)

    async def _ask(self, provider: Provider, context: CallContext) -> object:
        found: object = await answer_of(
            provider,
            HOOK,
            patience=self.patience,
            task_id=context.task_id,
            context=context,
        )
        return found


def is_definite(error: Exception) -> bool:
    """
    Tell whether what a look-up raised is what became of the task.

    A refusal for good, or a result nobody can use, is; that the look-up itself was
    refused or lost says nothing.
    """
    return classify(error) in _DEFINITE


def reference_of(attempts: Sequence[Attempt], task_id: str) -> str | None:
    """Give what a task can be looked up by, the latest if it was sent repeatedly."""
    known = (one.reference for one in reversed(attempts) if one.task_id == task_id)
    return next((one for one in known if one is not None), None)


def can_look_up(provider: Provider) -> bool:
    """Tell whether a provider can say what became of an attempt."""
    return provider.implements(HOOK)
