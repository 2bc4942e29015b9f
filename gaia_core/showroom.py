"""What a look at the providers needs of a `Gaia`, and no more."""

from types import TracebackType
from typing import Self

import attrs

from gaia_core.assortment import Assortment
from gaia_core.plugins import load_plugins
from gaia_core.settings import Settings
from gaia_core.upkeep import Upkeep


@attrs.frozen(eq=False, kw_only=True)
class Showroom:
    """
    Providers to look at: started, and asked what they offer; nothing can be ordered.

    ::

        async with Showroom.open(load_settings()) as room:
            print(room.assortment.models())

    It opens in half the time of a `Gaia`, because the ledger, the image store and
    all that looks after requests stay away.

    Attributes:
        settings: What it goes by.
        assortment: What there is.
    """

    settings: Settings
    assortment: Assortment
    _upkeep: Upkeep

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Load the plugins; it is ready inside ``async with``."""
        plugins = load_plugins(settings)
        patience = settings.plugins.load_timeout
        return cls(
            settings=settings,
            assortment=Assortment(plugins=plugins),
            upkeep=Upkeep(plugins=plugins, patience=patience),
        )

    async def __aenter__(self) -> Self:
        """Start the providers and ask what they offer."""
        try:
            await self.assortment.open(await self._upkeep.start())
        except BaseException:
            # Nobody else does: Python calls no `__aexit__` then.
            await self._upkeep.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the providers."""
        await self._upkeep.stop()
