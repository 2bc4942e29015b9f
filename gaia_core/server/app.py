"""The whole server as one FastAPI app, and the router a host includes in its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request

from gaia_core.engine import Gaia
from gaia_core.server.access import Auth, principal_of
from gaia_core.server.guards import same_site
from gaia_core.server.keys import bearer
from gaia_core.server.routes import PROTECTED, PUBLIC
from gaia_core.server.site import Site


def router(gaia: Gaia, *, auth: Auth = bearer) -> APIRouter:
    """
    Make the routes, for a host's own FastAPI app.

    ::

        app = FastAPI()
        app.include_router(router(Gaia.open(), auth=current_user))

    The app's lifespan opens the `Gaia`, unless the host has opened it.

    Args:
        gaia: What serves the requests.
        auth: A FastAPI dependency that names the caller: see
            `gaia_core.server.access.Auth`. By default callers present an API key.
    """
    site = Site(gaia=gaia)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with site:
            yield

    async def enter(request: Request) -> None:
        request.state.gaia_site = site

    async def name_caller(request: Request, who: Annotated[Any, Depends(auth)]) -> None:
        request.state.gaia_principal = principal_of(who)

    whole = APIRouter(lifespan=lifespan, dependencies=[Depends(enter)])
    for routes in PUBLIC:
        whole.include_router(routes)
    for routes in PROTECTED:
        whole.include_router(
            routes, dependencies=[Depends(same_site), Depends(name_caller)]
        )
    return whole


def create_app(gaia: Gaia, *, auth: Auth | None = None) -> FastAPI:
    """
    Make the app that ``gaia serve`` runs: the routes, the page, the guards.

    Args:
        gaia: What serves the requests.
        auth: As for `router`; None: as the settings say.
    """
    app = FastAPI(title="Gaia images", version="1", redoc_url=None, docs_url=None)
    app.include_router(router(gaia, auth=auth or bearer))
    return app
