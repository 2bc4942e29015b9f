"""
A campaign host in one page: its own users, its own routes, and pictures by Gaia.

::

    uvicorn --factory app:campaign_host --app-dir docs/examples/campaign_host
"""

import os
import secrets
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.middleware.sessions import SessionMiddleware

from gaia_core import (
    Gaia,
    GaiaError,
    GenerateRequest,
    ImageResponse,
    NoCapableProviderError,
)
from gaia_core.server import router

Name = Annotated[str, Body(embed=True, pattern=r"^[a-z]{1,32}$")]


def current_user(request: Request) -> str:
    """Name whoever is logged in: the host's own dependency, and Gaia's."""
    if not (name := request.session.get("user")):
        raise HTTPException(401, "Log in first.")
    return str(name)


User = Annotated[str, Depends(current_user)]


class Scene(BaseModel):
    """What a game master asks for."""

    words: Annotated[str, Field(min_length=1, max_length=2_000)]


def campaign_host() -> FastAPI:
    """Make the app."""
    gaia = Gaia.open()
    app = FastAPI(title="Campaign host")
    secret = os.environ.get("CAMPAIGN_HOST_SECRET") or secrets.token_hex(32)
    app.add_middleware(SessionMiddleware, secret_key=secret, same_site="strict")
    app.include_router(router(gaia, auth=current_user))

    @app.post("/login")
    def login(request: Request, name: Name) -> dict[str, str]:
        """Log somebody in; a real host asks for more than a name."""
        request.session["user"] = name
        return {"user": name}

    @app.post("/campaigns/{campaign}/scenes")
    async def add_scene(campaign: str, scene: Scene, user: User) -> dict[str, object]:
        """Draw a scene of a campaign, and say who drew it if it was not the best."""
        request = GenerateRequest(
            prompt=f"{scene.words}, fantasy art style",
            width=512,
            height=512,
            campaign_id=campaign,
            user_id=user,
        )
        try:
            response = await gaia.generate(request, principal=user, timeout=60)
        except NoCapableProviderError as error:
            raise HTTPException(503, "Nobody can draw right now.") from error
        except GaiaError as error:
            raise HTTPException(error.http_status, error.suggested_action) from error
        return {
            "picture": f"/api/images/{response.images[0].id}",
            "drawn_by": response.provider,
            "cost_usd": str(response.cost_usd),
            "notice": notice(response, gaia),
            "warnings": response.warnings,
        }

    return app


def notice(response: ImageResponse, gaia: Gaia) -> str | None:
    """Tell a player that somebody else stepped in; None: all went as planned."""
    names = {info.name: info.display_name for info in gaia.providers()}
    best = next(info.name for info in gaia.providers() if not info.unavailable)
    if response.provider == best:
        return None
    was_asked = any(attempt.provider == best for attempt in response.attempts)
    why = "could not draw this" if was_asked else "is resting after too many failures"
    return f"{names[best]} {why}; {names[response.provider]} stepped in."
