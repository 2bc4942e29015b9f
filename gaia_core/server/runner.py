"""What works on the batches that came over HTTP."""

from types import TracebackType
from typing import Self

import attrs

from gaia_core.engine import Gaia


@attrs.define(eq=False, kw_only=True)
class BatchRunner:
    """
    Runs batches in the background, also those a stopped server left behind.

    Attributes:
        gaia: What serves them.
    """

    gaia: Gaia

    async def __aenter__(self) -> Self:
        """Go on with what was left."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put down what can be gone on with later."""

    def start(self, batch_id: str, *, max_concurrent: int) -> None:
        """Begin to work on a batch, unless it is being worked on here."""
        raise NotImplementedError
