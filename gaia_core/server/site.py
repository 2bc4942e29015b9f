"""What the routes of one server work with."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Annotated, Self

import attrs
from fastapi import Depends, Request

from gaia_core.engine import Gaia
from gaia_core.errors import SettingsError
from gaia_core.ledger.access import AccessBook
from gaia_core.ledger.gallery import Gallery
from gaia_core.server.checks import HealthChecks
from gaia_core.server.inputs import Inputs
from gaia_core.server.keys import KeyRing
from gaia_core.server.links import Links
from gaia_core.server.resending import Resends
from gaia_core.server.runner import BatchRunner
from gaia_core.server.shown import Shown
from gaia_core.server.traffic import Traffic
from gaia_core.server.watched import Watched
from gaia_core.server.webui import WebUi
from gaia_core.settings import ServerSettings

_NO_BOOK = (
    "This ledger knows no pictures or keys, so no server can work with it: open "
    "Gaia without `ledger`, or with SqlLedger."
)


@attrs.define(eq=False, kw_only=True)
class Site:
    """
    One `Gaia` behind HTTP.

    Attributes:
        gaia: What serves the requests.
        inputs: What brings the pictures of requests in.
        links: What signs the addresses of pictures.
        keys: Who the keys stand for that callers present.
        runner: What works on batches.
        watched: What is under way here, and how far it is.
        shown: What pictures were asked for of late.
        traffic: How many requests are being served, and whether more are.
        resends: The keys of requests that clients may send again.
        checks: What asks providers how they are.
        webui: What clients of AUTOMATIC1111 chose, and have under way.
    """

    gaia: Gaia
    inputs: Inputs = attrs.field(init=False)
    links: Links = attrs.field(init=False)
    keys: KeyRing = attrs.field(init=False)
    runner: BatchRunner = attrs.field(init=False)
    watched: Watched = attrs.field(factory=Watched, init=False)
    shown: Shown = attrs.field(factory=Shown, init=False)
    traffic: Traffic = attrs.field(factory=Traffic, init=False)
    resends: Resends = attrs.field(factory=Resends, init=False)
    checks: HealthChecks = attrs.field(init=False)
    webui: WebUi = attrs.field(factory=WebUi, init=False)
    _exits: AsyncExitStack = attrs.field(factory=AsyncExitStack, init=False)

    @inputs.default
    def _own_inputs(self) -> Inputs:
        return Inputs(gaia=self.gaia, settings=self.settings)

    @links.default
    def _own_links(self) -> Links:
        return Links(settings=self.settings)

    @keys.default
    def _own_keys(self) -> KeyRing:
        return KeyRing(token=self.settings.token)

    @runner.default
    def _own_runner(self) -> BatchRunner:
        return BatchRunner(gaia=self.gaia, is_closing=lambda: self.traffic.is_closing)

    @checks.default
    def _own_checks(self) -> HealthChecks:
        return HealthChecks(gaia=self.gaia)

    @property
    def settings(self) -> ServerSettings:
        """The settings of the server."""
        return self.gaia.settings.server

    @property
    def gallery(self) -> Gallery:
        """Whose pictures are whose."""
        if (gallery := self.gaia.ledger.gallery) is None:
            raise SettingsError(_NO_BOOK)
        return gallery

    @property
    def access(self) -> AccessBook:
        """The API keys."""
        if (access := self.gaia.ledger.access) is None:
            raise SettingsError(_NO_BOOK)
        return access

    async def __aenter__(self) -> Self:
        """Open what is not open yet: a host may have opened its `Gaia` itself."""
        async with AsyncExitStack() as opened:
            if not self.gaia.is_open:
                await opened.enter_async_context(self.gaia)
            await self.gaia.ready()
            await self.links.open(self.access)
            await opened.enter_async_context(self.inputs)
            await opened.enter_async_context(self.runner)
            # An error up to here has closed what was opened.
            self._exits = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened here, the latest first."""
        await self._exits.aclose()


async def site_of(request: Request) -> Site:
    """Give the site a request came to."""
    site: Site = request.state.gaia_site
    return site


SiteDep = Annotated[Site, Depends(site_of)]
"""The site, as a parameter of a route."""
