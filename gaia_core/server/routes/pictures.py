"""Stored pictures: their bytes, the gallery, campaigns, what was spent."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status

from gaia_core.ledger import UsageRow
from gaia_core.ledger.gallery import PictureRow
from gaia_core.ledger.reports import BudgetState
from gaia_core.responses import StoredImage
from gaia_core.server.access import Principal, Reader, Scope
from gaia_core.server.answers import Writer, number
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import RefusedError
from gaia_core.server.schemas.answers import (
    PROBLEMS,
    CampaignsOut,
    GalleryOut,
    UsageOut,
)
from gaia_core.server.schemas.base import ID, Name
from gaia_core.server.serving import (
    headers_of,
    is_known,
    picture_response,
    stored_images,
)
from gaia_core.server.site import Site, SiteDep

routes = APIRouter(route_class=GaiaRoute, tags=["pictures"])

_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in ("image/png", "image/jpeg", "image/webp")
        },
    },
    304: {"description": "The client has it already."},
    **PROBLEMS,
}
_SIGNATURE = {
    "name": "s",
    "in": "query",
    "required": False,
    "description": "What a link ends with: it opens the picture without a key.",
    "schema": {"type": "string", "default": ""},
}


@routes.get(
    "/api/images/{image_id}",
    responses=_PICTURE,
    response_class=Response,
    openapi_extra={"parameters": [_SIGNATURE]},
)
@routes.head("/api/images/{image_id}", include_in_schema=False)
async def picture(
    request: Request,
    site: SiteDep,
    principal: Reader,
    image_id: str,
    *,
    download: bool = False,
) -> Response:
    """Give a picture: the caller's own, or the one whose link they have."""
    return await shown(request, site, principal, image_id, download=download)


async def shown(
    request: Request,
    site: Site,
    viewer: Principal | None,
    image_id: str,
    *,
    download: bool,
) -> Response:
    """
    Show a picture to a caller, or to whoever has its link (None).

    Raises:
        RefusedError: If there is none, or it is not theirs.
    """
    image = await _seen_by(viewer, image_id, site)
    if is_known(image, request.headers.get("if-none-match")):
        headers = headers_of(image, is_download=download)
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return await picture_response(image, site, is_download=download)


async def _seen_by(viewer: Principal | None, image_id: str, site: Site) -> StoredImage:
    """
    Find a picture that somebody may see.

    Raises:
        RefusedError: If there is none, or it is not theirs.
    """
    if ID.fullmatch(image_id):
        name = None if viewer is None else viewer.name
        image = await site.shown.find(
            image_id, name, gaia=site.gaia, gallery=site.gallery
        )
        if image is not None:
            return image
    raise RefusedError(status.HTTP_404_NOT_FOUND, "not_found")


# -- the gallery ------------------------------------------------------------------


@routes.get(
    "/api/images",
    responses={
        200: {"model": GalleryOut, "description": "The caller's pictures."},
        **PROBLEMS,
    },
)
async def gallery(  # noqa: PLR0913  what may be looked for
    request: Request,
    site: SiteDep,
    principal: Reader,
    *,
    campaign_id: Name | None = None,
    search: Name | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """List the caller's pictures, newest first."""
    rows = await site.gallery.listed(
        principal=principal.name,
        campaign_id=campaign_id,
        search=search,
        before=None if cursor is None else _read_cursor(cursor),
        # One more than is asked for tells whether there are more.
        limit=limit + 1,
    )
    shown = rows[:limit]
    images = await stored_images((row.id for row in shown), site)
    writer = Writer.to(request, site, principal)
    return write_json(
        {
            "images": [
                _in_gallery(image, row, writer)
                for image, row in zip(images, shown, strict=True)
                if image is not None
            ],
            "next_cursor": _cursor(shown[-1]) if len(rows) > limit else None,
        }
    )


def _in_gallery(image: StoredImage, row: PictureRow, writer: Writer) -> dict[str, Any]:
    """Write a picture as its latest operation has it, which may be another's."""
    return {
        **writer.stored(image),
        "prompt": row.prompt,
        "campaign_id": row.campaign_id,
        "operation_id": row.operation_id,
        "created_at": row.created_at.isoformat(),
        "capability": row.capability,
        "user_id": row.user_id,
    }


def _cursor(row: PictureRow) -> str:
    place = f"{row.created_at.isoformat()}|{row.id}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    """
    Read where a list went on.

    Raises:
        RefusedError: If it is not what `_cursor` wrote.
    """
    try:
        place = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        moment, _, image_id = place.decode().partition("|")
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is not None and ID.fullmatch(image_id):
            return created_at, image_id
    except (ValueError, binascii.Error):
        pass
    details = [("cursor", "take it from next_cursor as it is")]
    raise RefusedError(
        status.HTTP_422_UNPROCESSABLE_CONTENT, "invalid_request", details=details
    )


@routes.get(
    "/api/campaigns",
    responses={
        200: {"model": CampaignsOut, "description": "The caller's campaigns."},
        **PROBLEMS,
    },
)
async def campaigns(site: SiteDep, principal: Reader) -> Response:
    """List the campaigns the caller has something in, the latest first."""
    rows = await site.gallery.campaigns(principal=principal.name)
    written = [
        {"id": row.id, "images": row.images, "latest_at": row.latest_at.isoformat()}
        for row in rows
    ]
    return write_json({"campaigns": written})


# -- money ------------------------------------------------------------------------


@routes.get(
    "/api/usage",
    responses={
        200: {"model": UsageOut, "description": "What was spent, and what may be."},
        **PROBLEMS,
    },
)
async def usage(
    site: SiteDep, principal: Reader, campaign_id: Name | None = None
) -> Response:
    """Say what the caller has spent, by campaign, and how their budgets stand."""
    rows = await site.gaia.usage(["campaign"], principal=principal.name)
    own = {row.group["campaign"] for row in rows}
    # What others spend under a campaign's name is no business of a stranger to it.
    is_own = campaign_id in own or principal.may(Scope.MONITOR)
    budgets = await site.gaia.budgets(
        user_id=principal.name or None, campaign_id=campaign_id if is_own else None
    )
    shown = [
        row
        for row in rows
        if campaign_id is None or row.group["campaign"] == campaign_id
    ]
    return write_json(
        {
            **_sum(shown),
            "campaigns": [_spending(row) for row in shown],
            "budgets": [_budget(one) for one in _visible(budgets, principal)],
        }
    )


def _visible(
    budgets: Iterable[BudgetState], principal: Principal
) -> Iterable[BudgetState]:
    """Leave out what all callers spend together, unless they may see that."""
    may_see_all = principal.may(Scope.MONITOR)
    return [one for one in budgets if may_see_all or one.scope != "total"]


def _sum(rows: Sequence[UsageRow]) -> dict[str, Any]:
    return {
        "images": sum(row.images for row in rows),
        "cost_usd": float(sum(row.cost_usd for row in rows)),
        "held_usd": float(sum(row.held_usd for row in rows)),
    }


def _spending(row: UsageRow) -> dict[str, Any]:
    return {
        "campaign_id": row.group["campaign"],
        "operations": row.operations,
        "done": row.done,
        "failed": row.failed,
        "unknown": row.unknown,
        "images": row.images,
        "cost_usd": number(row.cost_usd),
        "held_usd": number(row.held_usd),
    }


def _budget(one: BudgetState) -> dict[str, Any]:
    return {
        "scope": one.scope.partition(":")[0],
        "period": one.period,
        "limit_usd": number(one.limit_usd),
        "spent_usd": number(one.spent_usd),
        "held_usd": number(one.held_usd),
        "left_usd": number(one.left_usd),
    }
