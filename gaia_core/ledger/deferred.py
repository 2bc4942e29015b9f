"""A ledger that is loaded when it is first used."""

from collections.abc import Callable
from typing import Any

import attrs

from gaia_core.ledger.contract import Ledger


@attrs.define(eq=False)
class DeferredLedger:
    """
    Stands for a ledger until somebody asks for it.

    Loading a database's driver takes longer than most commands, and most commands
    need none.

    Attributes:
        make: Makes the ledger.
    """

    make: Callable[[], Ledger]
    _made: Ledger | None = attrs.field(default=None, init=False)

    async def close(self) -> None:
        """Let go of the ledger, if there is one by now."""
        if self._made is not None:
            await self._made.close()

    def __getattr__(self, name: str) -> Any:
        """Give whatever the ledger has under a name."""
        if self._made is None:
            self._made = self.make()
        return getattr(self._made, name)
