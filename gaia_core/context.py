"""What a provider gets beside the request."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from gaia_core.images import Image

Progress = Callable[[float, "Image | None"], None]
"""Takes a fraction from 0 to 1 and, where there is one, a preview."""
Fetch = Callable[[str], Awaitable[bytes]]
"""Takes an address and gives back what lies there, within the guard's limits."""
Remember = Callable[[str], Awaitable[None]]
"""Takes what an attempt can be looked up by, and puts it on record."""


def ignore_progress(_fraction: float, _preview: "Image | None") -> None:
    """Do nothing: nobody watches."""


async def remember_nothing(_reference: str) -> None:
    """Do nothing: nobody keeps a book."""


@attrs.frozen(kw_only=True)
class CallContext:
    """
    One attempt, as the provider sees it.

    Attributes:
        operation_id: The logical request; the same over all its attempts.
        task_id: The identifier of this attempt (a UUID of version 4), minted and
            kept by Gaia before anything is sent. Send it as the vendor's idempotency
            key where there is one.
        deadline: When nobody waits any more, on `time.monotonic`'s clock.
        logger: A structlog logger bound to operation, task and provider.
        reference: What the provider asked to `remember` about this attempt, when it
            is looked up; None: nothing. Empty: it was on its way to
            ``gaia_generate_many``, which remembered nothing.
    """

    operation_id: str
    task_id: str
    deadline: float
    logger: Any
    reference: str | None = None
    _fetch: Fetch = attrs.field(alias="fetch")
    _remember: Remember = attrs.field(default=remember_nothing, alias="remember")
    _progress: Progress = attrs.field(default=ignore_progress, alias="progress")

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - time.monotonic())

    def progress(self, fraction: float, preview: "Image | None" = None) -> None:
        """
        Report how far the work is.

        Safe to call from a worker thread.

        Args:
            fraction: From 0 to 1.
            preview: What the picture looks like so far, if known.
        """
        self._progress(min(1.0, max(0.0, fraction)), preview)

    async def fetch(self, url: str) -> bytes:
        """
        Fetch a result a provider points at, through the guarded fetcher.

        It has a time limit of its own and heeds no deadline: what is paid for is
        kept, even when nobody waits for it any more.

        Raises:
            ProviderTimeoutError: If it did not arrive; it is paid for already, so
                it is never made again.
            UnusableResultError: If the guard refuses the address or what lies
                there.
        """
        return await self._fetch(url)

    async def remember(self, reference: str) -> None:
        """
        Put on record what this attempt can be looked up by, beside its task id.

        Call it before anything is paid: the name of an uploaded file, of a vendor's
        batch. After an interruption ``gaia_recover`` finds it in `reference`. The
        latest counts. Calls at the same time are written together: a hook that has
        many contexts gathers them.

        Raises:
            LedgerError: If it cannot be written: send nothing then.
        """
        await self._remember(reference)
