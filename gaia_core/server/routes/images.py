"""Making and editing: what ``POST /api/images/…`` does."""

from typing import Any

from fastapi import APIRouter, Request, Response

from gaia_core.context import Progress, ignore_progress
from gaia_core.fitting import ignored_fields
from gaia_core.selection import Candidate, Plan
from gaia_core.server import live
from gaia_core.server.access import Maker, Principal
from gaia_core.server.answers import Writer, headers_of, number, reason
from gaia_core.server.asking import (
    KEY_HEADER,
    Order,
    key_of,
    order_of,
    serve,
)
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.schemas.answers import (
    EVENTS,
    PROBLEMS,
    DescriptionOut,
    ImagesOut,
    PlanOut,
    PromptOut,
)
from gaia_core.server.schemas.base import Given
from gaia_core.server.schemas.images import (
    AnyWork,
    Choosing,
    DescribeIn,
    EnhancePromptIn,
    GenerateIn,
    InpaintIn,
    OutpaintRequestIn,
    RemoveBackgroundIn,
    UpscaleIn,
)
from gaia_core.server.site import Site, SiteDep
from gaia_core.server.waiting import while_connected

routes = APIRouter(route_class=GaiaRoute, tags=["images"])

_KEY: dict[str, Any] = {
    "parameters": [
        {
            "name": KEY_HEADER,
            "in": "header",
            "required": False,
            "description": (
                "Names the request: sent again under the same key, it is answered as "
                "it was the first time, and nothing is made or paid."
            ),
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ]
}


def _answers(model: type[Given]) -> dict[int | str, dict[str, Any]]:
    """Say what a making route answers."""
    events = {live.MEDIA_TYPE: EVENTS}
    done = {"model": model, "description": "It is made.", "content": events}
    return {200: done, **PROBLEMS}


@routes.post("/api/images/generate", responses=_answers(ImagesOut), openapi_extra=_KEY)
async def generate(
    request: Request, site: SiteDep, principal: Maker, body: GenerateIn
) -> Response:
    """Make pictures from words, or from a picture and words."""
    return await _made(request, site, principal, body)


@routes.post("/api/images/inpaint", responses=_answers(ImagesOut), openapi_extra=_KEY)
async def inpaint(
    request: Request, site: SiteDep, principal: Maker, body: InpaintIn
) -> Response:
    """Repaint the white region of a mask in a picture."""
    return await _made(request, site, principal, body)


@routes.post("/api/images/outpaint", responses=_answers(ImagesOut), openapi_extra=_KEY)
async def outpaint(
    request: Request, site: SiteDep, principal: Maker, body: OutpaintRequestIn
) -> Response:
    """Extend a picture beyond its borders."""
    return await _made(request, site, principal, body)


@routes.post("/api/images/upscale", responses=_answers(ImagesOut), openapi_extra=_KEY)
async def upscale(
    request: Request, site: SiteDep, principal: Maker, body: UpscaleIn
) -> Response:
    """Enlarge a picture."""
    return await _made(request, site, principal, body)


@routes.post(
    "/api/images/remove-background", responses=_answers(ImagesOut), openapi_extra=_KEY
)
async def remove_background(
    request: Request, site: SiteDep, principal: Maker, body: RemoveBackgroundIn
) -> Response:
    """Cut out the subject of a picture."""
    return await _made(request, site, principal, body)


@routes.post(
    "/api/images/enhance-prompt", responses=_answers(PromptOut), openapi_extra=_KEY
)
async def enhance_prompt(
    request: Request, site: SiteDep, principal: Maker, body: EnhancePromptIn
) -> Response:
    """Turn a few words into a prompt that pictures come out well from."""
    return await _made(request, site, principal, body)


@routes.post(
    "/api/images/describe", responses=_answers(DescriptionOut), openapi_extra=_KEY
)
async def describe(
    request: Request, site: SiteDep, principal: Maker, body: DescribeIn
) -> Response:
    """Say in words what a picture shows, or answer a question about it."""
    return await _made(request, site, principal, body)


@routes.post(
    "/api/images/plan",
    responses={
        200: {"model": PlanOut, "description": "Who would serve it."},
        **PROBLEMS,
    },
)
async def plan(
    request: Request, site: SiteDep, principal: Maker, body: AnyWork
) -> Response:
    """Say who would serve a request and what it would cost; nothing is made."""
    order = await while_connected(
        request, order_of(body, site=site, principal=principal)
    )
    found = site.gaia.plan(order.request, **order.plan_choices)
    return write_json(_planned(found, Writer.to(request, site, principal)))


# -- one way for all of them ------------------------------------------------------


async def _made(
    request: Request, site: Site, principal: Principal, body: Choosing
) -> Response:
    """Serve a request while its client waits, as one answer or as events."""
    writer = Writer.to(request, site, principal)
    with_bytes = body.response_format == "b64_json"
    taking = order_of(body, site=site, principal=principal, key=key_of(request))
    if live.is_wanted(request):
        # What is refused at the door is told by its status, not by an event.
        order = await while_connected(request, taking)
        return _watched(request, writer, order, with_bytes=with_bytes)

    async def work() -> tuple[dict[str, Any], dict[str, str]]:
        return await _served(request, writer, await taking, with_bytes=with_bytes)

    content, headers = await while_connected(request, work())
    return write_json(content, headers=headers)


async def _served(
    request: Request,
    writer: Writer,
    order: Order,
    *,
    with_bytes: bool,
    progress: Progress = ignore_progress,
) -> tuple[dict[str, Any], dict[str, str]]:
    response = await serve(order, writer.site, progress=progress)
    request.state.gaia_operation = response.operation_id
    content = await writer.answer(response, with_bytes=with_bytes)
    return content, headers_of(response)


def _watched(
    request: Request, writer: Writer, order: Order, *, with_bytes: bool
) -> Response:
    async def work(progress: Progress) -> bytes:
        content, _ = await _served(
            request, writer, order, with_bytes=with_bytes, progress=progress
        )
        return live.event("result", content)

    return live.LiveAnswer(work, route=request.scope["route"].path)


def _planned(plan: Plan, writer: Writer) -> dict[str, Any]:
    best = plan.best
    return {
        "success": True,
        "capability": str(plan.request.capability),
        "can_be_served": best is not None,
        "estimated_cost_usd": None if best is None else number(best.price_usd),
        "candidates": [_candidate(one, plan, writer) for one in plan.candidates],
        "rejections": [
            {"name": one.name, "reason": reason(one.reason)} for one in plan.rejections
        ],
    }


def _candidate(one: Candidate, plan: Plan, writer: Writer) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "service": writer.service(one.provider),
        "model": one.model.id,
        "model_name": one.model.name,
        "priority": one.priority,
        "price_usd": number(one.price_usd),
        "quality": str(one.model.quality),
        "speed": str(one.model.speed),
        "is_substitute": one.is_substitute,
        "ignored_fields": list(ignored_fields(plan.request, one.model)),
    }
