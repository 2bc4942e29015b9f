"""How the server and its providers are; asking costs nothing, and needs no key."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response, status

from gaia_core.catalog import Health, HealthLevel, ProviderInfo
from gaia_core.observability import mask
from gaia_core.reliability import StandardReliability
from gaia_core.server.access import Principal, Scope
from gaia_core.server.answers import reason as without_words
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import RefusedError, problem_of
from gaia_core.server.schemas.answers import PROBLEMS
from gaia_core.server.schemas.health import HealthOut, ProviderHealthOut
from gaia_core.server.site import Site, SiteDep
from gaia_core.server.telemetry import Handler

_BEGAN = "gaia_health_began"
_ASKING = frozenset({HealthLevel.REACHABLE, HealthLevel.AUTHORISED})
_BY_SETTINGS = "The settings are at fault: `gaia plugins` says how."
_BY_ITSELF = "It could not be loaded: the server's log says why."
_SHORT = {
    HealthLevel.CONFIGURED: "it could not be reached",
    HealthLevel.REACHABLE: "it does not accept the server's key",
    HealthLevel.AUTHORISED: "it says that it does not work",
}
"""The last level reached, where it is not enough, to what that means."""


class OpenRoute(GaiaRoute):
    """A route that whoever is refused gets as if they had presented nothing."""

    def get_route_handler(self) -> Handler:
        """Wrap the handler: a wrong key takes nothing from anybody."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            response = await handle(request)
            is_own = getattr(request.state, _BEGAN, False)
            is_wrong = response.status_code == status.HTTP_422_UNPROCESSABLE_CONTENT
            level = request.query_params.get("level")
            is_asking = level in {one.value for one in _ASKING}
            if is_own or is_wrong or is_asking:
                return response
            request.state.gaia_principal = None
            return await self._open(request)

        return handled

    async def _open(self, request: Request) -> Response:
        """Answer somebody nobody knows."""
        site: Site = request.state.gaia_site
        name = request.path_params.get("provider")
        try:
            if name is None:
                return await _server(site, None)
            return write_json(await _looked_at(site, name, is_known=False))
        except RefusedError as error:
            return self.respond(problem_of(error))


routes = APIRouter(route_class=OpenRoute, tags=["health"])


@routes.head("/api/health", include_in_schema=False)
@routes.get(
    "/api/health",
    responses={
        200: {"model": HealthOut, "description": "It serves."},
        503: {"model": HealthOut, "description": "It can serve nobody."},
    },
)
async def health(request: Request, site: SiteDep) -> Response:
    """Say how the server is, and to known callers how its providers are."""
    setattr(request.state, _BEGAN, True)
    return await _server(site, getattr(request.state, "gaia_principal", None))


@routes.get(
    "/api/health/{provider}",
    responses={
        200: {"model": ProviderHealthOut, "description": "How it is."},
        **PROBLEMS,
    },
)
async def provider_health(
    request: Request,
    site: SiteDep,
    provider: str,
    level: Annotated[HealthLevel | None, Query()] = None,
) -> Response:
    """
    Say how a provider is.

    Without a level nobody is asked. With ``reachable`` or ``authorised`` the provider
    is, once in ten seconds at most; that needs a key with scope ``monitor``.
    """
    setattr(request.state, _BEGAN, True)
    principal: Principal | None = getattr(request.state, "gaia_principal", None)
    if level in _ASKING:
        _check_may_ask(principal)
    is_known = principal is not None
    info = _info_of(site, provider)
    if level is None or info is None:
        found = await _looked_at(site, provider, is_known=is_known)
        return write_json(found)
    return await _asked(site, info, level, is_known=is_known)


def _check_may_ask(principal: Principal | None) -> None:
    if principal is None:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"}
        )
    if not principal.may(Scope.MONITOR):
        raise RefusedError(status.HTTP_403_FORBIDDEN, "forbidden")


# -- the server ---------------------------------------------------------------------


async def _server(site: Site, principal: Principal | None) -> Response:
    has_ledger = await site.checks.has_ledger()
    found = {
        info.name: await _passive(site, info, is_known=True)
        for info in site.gaia.providers()
    }
    failures = site.gaia.plugins.failures
    is_impaired = (
        bool(failures)
        or any(one["status"] == "unhealthy" for one in found.values())
        or not any(one["status"] == "healthy" for one in found.values())
    )
    word = "degraded" if is_impaired else "healthy"
    written: dict[str, Any] = {
        "status": word if has_ledger else "unavailable",
        "version": version("gaia-core"),
        "timestamp": _now(),
        "ledger": "healthy" if has_ledger else "unavailable",
    }
    if principal is not None:
        written["providers"] = found
        written["failed_plugins"] = [
            {
                "plugin": one.plugin,
                "distribution": one.distribution,
                "reason": _BY_SETTINGS if one.is_by_settings else _BY_ITSELF,
            }
            for one in failures
        ]
    return write_json(written, 200 if has_ledger else 503)


# -- one provider -------------------------------------------------------------------


async def _looked_at(site: Site, name: str, *, is_known: bool) -> dict[str, Any]:
    """Say how a provider is, without asking it."""
    if (info := _info_of(site, name)) is not None:
        return await _passive(site, info, is_known=is_known)
    for failure in site.gaia.plugins.failures:
        if failure.plugin == name:
            why = _BY_SETTINGS if failure.is_by_settings else _BY_ITSELF
            return _written(name, "unavailable", why if is_known else None)
    raise RefusedError(status.HTTP_404_NOT_FOUND, "not_found")


async def _passive(site: Site, info: ProviderInfo, *, is_known: bool) -> dict[str, Any]:
    """Tell what is known of a provider from what it was asked anyway."""
    refusals = [
        refusal
        for capability in sorted(info.capabilities)
        if (refusal := site.gaia.reliability.admit(info.name, capability))
    ]
    word, why = "healthy", None
    if info.unavailable is not None:
        word, why = "unavailable", without_words(info.unavailable)
    elif refusals:
        word, why = "unhealthy", refusals[0]
    return _written(
        info.name,
        word,
        why if is_known else None,
        configured=info.unavailable is None,
        connected=word == "healthy",
        available_models=len(await site.gaia.models(provider=info.name)),
        breakers=_breakers_of(site, info.name) if is_known else {},
    )


async def _asked(
    site: Site, info: ProviderInfo, level: HealthLevel, *, is_known: bool
) -> Response:
    """Ask a provider, unless that was done a short time ago."""
    found, left = await site.checks.provider(info.name, level)
    looked = await _passive(site, info, is_known=is_known)
    written = {**looked, "level": found.level.value, "timestamp": _now()}
    if info.unavailable is None:
        is_reached = found.level is not HealthLevel.CONFIGURED
        written["connected"] = found.is_healthy or is_reached
        # One that answers again is given work only when its pause is over.
        is_healthy = found.is_healthy and looked["status"] == "healthy"
        written["status"] = "healthy" if is_healthy else "unhealthy"
        written["reason"] = _reason_of(found, looked) if is_known else None
    if is_known:
        written["notes"] = [mask(str(note)) for note in found.notes]
    return write_json(
        written, headers={"Cache-Control": f"private, max-age={left:.0f}"}
    )


def _reason_of(found: Health, looked: dict[str, Any]) -> str | None:
    """Say why a provider is not healthy; never in its own words."""
    why: str | None = looked["reason"]
    return why if found.is_healthy else _SHORT[found.level]


def _written(  # noqa: PLR0913  the owner's fields
    name: str,
    word: str,
    why: str | None,
    *,
    configured: bool = False,
    connected: bool = False,
    available_models: int = 0,
    breakers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "provider": name,
        "status": word,
        "level": "passive",
        "reason": why,
        "configured": configured,
        "connected": connected,
        "available_models": available_models,
        "timestamp": _now(),
        "notes": [],
        "breakers": breakers or {},
    }


def _breakers_of(site: Site, name: str) -> dict[str, Any]:
    """Tell where the circuit breakers stand; a host's own rules may have none."""
    rules = site.gaia.reliability
    if not isinstance(rules, StandardReliability):
        return {}
    standing = rules.snapshot(name)
    return {
        capability: {"state": state, "opens_in": standing.opens_in.get(capability)}
        for capability, state in standing.breakers.items()
    }


def _info_of(site: Site, name: str) -> ProviderInfo | None:
    return next((one for one in site.gaia.providers() if one.name == name), None)


def _now() -> str:
    return datetime.now(UTC).isoformat()
