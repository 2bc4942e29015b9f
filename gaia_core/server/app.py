"""The whole server as one FastAPI app, and the router a host includes in its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope

from gaia_core.engine import Gaia
from gaia_core.server.access import Auth, principal_of
from gaia_core.server.description import add_description
from gaia_core.server.dialects import GaiaRoute
from gaia_core.server.gate import Gate
from gaia_core.server.guards import is_private, same_site
from gaia_core.server.intakes import MOST_PARTS
from gaia_core.server.keys import bearer, bearer_or_owner
from gaia_core.server.problems import Problem, problem_of
from gaia_core.server.routes import OPEN, PROTECTED, PUBLIC, automatic1111, openai
from gaia_core.server.routes.linked import linked
from gaia_core.server.site import Site
from gaia_core.settings import ServerSettings

_DOORS = {
    "/v1/": openai.routes,
    "/sdapi/": automatic1111.routes,
    "/rembg": automatic1111.routes,
}
"""Where errors are written in another way than under ``/api``."""
_METHODS = ("DELETE", "GET", "HEAD", "POST")
_SENT = ("Authorization", "Idempotency-Key", "Last-Event-ID")
_READ = ("ETag", "Idempotency-Replayed", "Retry-After", "X-Request-Id")


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
    return _router(Site(gaia=gaia), auth)


def create_app(gaia: Gaia, *, auth: Auth | None = None) -> FastAPI:
    """
    Make the app that ``gaia serve`` runs: the routes, the page, the guards.

    Args:
        gaia: What serves the requests.
        auth: As for `router`; None: as the settings say.
    """
    site = Site(gaia=gaia)
    asked = auth or _auth_for(site.settings)
    app = FastAPI(
        title="Gaia images",
        version="1",
        openapi_url=None,
        redirect_slashes=False,
        middleware=_middleware(site, asked),
        exception_handlers={
            HTTPException: _answer_outside,
            RequestValidationError: _answer_outside,
        },
    )
    app.state.gaia_site = site
    app.include_router(_router(site, asked))
    add_description(app)
    return app


def _router(site: Site, auth: Auth) -> APIRouter:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with site:
            yield

    async def enter(request: Request) -> None:
        request.state.gaia_site = site

    async def name_caller(
        request: Request, who: Annotated[Any, Depends(auth)]
    ) -> AsyncIterator[None]:
        principal = request.state.gaia_principal = principal_of(who)
        if principal is None:
            # The route itself refuses them; nobody has a place to take.
            yield
            return
        with site.traffic.slot(principal.name, site.settings.max_concurrent):
            yield

    whole = APIRouter(
        lifespan=lifespan,
        dependencies=[Depends(enter)],
        redirect_slashes=False,
        form_limits={"max_fields": MOST_PARTS, "max_files": MOST_PARTS},
    )
    # A route is looked for in this order, which takes time: what is busy comes first.
    whole.include_router(linked(site))
    for routes in PROTECTED:
        whole.include_router(
            routes, dependencies=[Depends(same_site), Depends(name_caller)]
        )
    for routes in OPEN:
        whole.include_router(routes, dependencies=[Depends(name_caller)])
    for routes in PUBLIC:
        whole.include_router(routes)
    return whole


def _auth_for(settings: ServerSettings) -> Auth:
    """Ask for a key wherever others than whoever has this machine may call."""
    is_open = is_private(settings) and not settings.require_auth
    return bearer_or_owner if is_open else bearer


def _middleware(site: Site, auth: Auth) -> list[Middleware]:
    # A host's own may need what FastAPI gives to dependencies alone.
    is_ours = auth is bearer or auth is bearer_or_owner
    first_asked = auth if is_ours else None
    gate = Middleware(Gate, site=site, respond=_respond, first_asked=first_asked)
    found = [gate]
    if origins := site.settings.allowed_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_READ,
            allow_private_network=True,
        )
        found.append(cors)
    return found


async def _answer_outside(request: Request, error: Exception) -> Response:
    """Answer what went wrong before any route was found."""
    return _respond(request.scope, problem_of(error))


def _respond(scope: Scope, problem: Problem) -> Response:
    """Answer as the front door does; only the words depend on the path."""
    for prefix, routes in _DOORS.items():
        kind = routes.route_class
        if scope["path"].startswith(prefix) and issubclass(kind, GaiaRoute):
            return kind.respond(problem)
    return GaiaRoute.respond(problem)
