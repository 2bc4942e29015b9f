"""What surrounds a hook call, for tests: its context and its log."""

import time
import uuid
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self

import attrs

from gaia_core.context import CallContext
from gaia_core.errors import ProviderConnectionError
from gaia_core.observability import get_logger

if TYPE_CHECKING:
    from gaia_core.images import Image

_PATIENCE = 60.0


def context(**changes: Any) -> CallContext:
    """
    Make the context of an attempt, to call a provider's hook with.

    ::

        result = await provider.gaia_generate(request, context())

    Args:
        **changes: Fields of `CallContext` that matter to the test, such as
            ``progress=seen.append`` or ``fetch=my_fetch``. Without the latter
            nothing can be fetched.
    """
    return CallContext(**_facts() | changes)


@attrs.frozen(kw_only=True)
class WatchedContext(CallContext):
    """
    A context that keeps what a provider reports, just as it reports it.

    Attributes:
        fractions: The fractions so far.
    """

    fractions: list[float] = attrs.field(factory=list)

    def progress(self, fraction: float, preview: "Image | None" = None) -> None:  # noqa: ARG002  the interface
        """Keep a fraction, in or out of its range."""
        self.fractions.append(fraction)

    @classmethod
    def ready(cls, **changes: Any) -> Self:
        """Make one as `context` does."""
        return cls(**_facts() | changes)


@contextmanager
def capture_events() -> Iterator[list[MutableMapping[str, Any]]]:
    """
    Catch log events instead of writing them.

    >>> with capture_events() as events:
    ...     get_logger().warning("gaia.example_made", provider="fake")
    >>> events
    [{'provider': 'fake', 'event': 'gaia.example_made', 'log_level': 'warning'}]

    Yields:
        The events so far, each with its fields, its name as ``event`` and its
        ``log_level``.
    """
    import structlog  # noqa: PLC0415 - 100 ms
    from structlog.testing import capture_logs  # noqa: PLC0415 - 40 ms

    was_configured = structlog.is_configured()
    try:
        with capture_logs() as events:
            yield events
    finally:
        if not was_configured:
            # It leaves a configuration behind, and that would write to stdout.
            structlog.reset_defaults()


def _facts() -> dict[str, Any]:
    return {
        "operation_id": uuid.uuid4().hex,
        "task_id": str(uuid.uuid4()),
        "deadline": time.monotonic() + _PATIENCE,
        "logger": get_logger(),
        "fetch": _fetch_nothing,
    }


async def _fetch_nothing(url: str) -> NoReturn:
    message = f"{url} is out of reach of this test: pass fetch= to context()."
    raise ProviderConnectionError(message)
