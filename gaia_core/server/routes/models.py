"""What there is to choose from."""

from collections.abc import Mapping
from typing import Annotated, Any

import attrs
from fastapi import APIRouter, HTTPException, Request, Response, Security, status

from gaia_core.capabilities import Capability
from gaia_core.catalog import ModelInfo, Price, ProviderInfo, Work
from gaia_core.errors import InvalidRequestError
from gaia_core.server.access import Principal, Scope, authorised
from gaia_core.server.answers import number, reason
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import RefusedError
from gaia_core.server.schemas.answers import PROBLEMS, ModelsOut
from gaia_core.server.schemas.base import Name
from gaia_core.server.site import SiteDep
from gaia_core.server.waiting import while_connected
from gaia_core.states import reason_against

routes = APIRouter(route_class=GaiaRoute, tags=["models"])

Known = Annotated[Principal, Security(authorised)]
"""A caller the server lets in, whatever else they may do."""


@routes.get(
    "/api/images/models",
    responses={
        200: {"model": ModelsOut, "description": "The models there are."},
        **PROBLEMS,
    },
)
async def models(  # noqa: PLR0913  what may be asked
    request: Request,
    site: SiteDep,
    principal: Known,
    *,
    capability: Capability | None = None,
    provider: Name | None = None,
    search: Name | None = None,
    refresh: bool = False,
) -> Response:
    """List the models; ``search`` and ``refresh`` ask the vendors, for makers only."""
    if (search is not None or refresh) and not principal.may(Scope.MAKE):
        raise HTTPException(status.HTTP_403_FORBIDDEN)
    try:
        found = await while_connected(
            request,
            site.gaia.models(refresh=refresh, search=search, provider=provider),
        )
    except InvalidRequestError:
        details = [("provider" if provider else "search", "there is no such thing")]
        raise RefusedError(422, "invalid_request", details=details) from None
    cards = {card.name: card for card in site.gaia.providers()}
    return write_json(
        {
            "models": [
                _model(one, cards)
                for one in found
                if capability is None or capability in one.capabilities
            ],
            "providers": [_provider(card) for card in cards.values()],
            "problems": sorted(found.problems),
        }
    )


def _model(model: ModelInfo, cards: Mapping[str, ProviderInfo]) -> dict[str, Any]:
    card = cards.get(model.provider)
    capabilities = sorted(map(str, model.capabilities))
    return {
        "id": model.id,
        "name": model.name,
        "provider": model.provider,
        "service": (card.display_name if card else "") or model.provider,
        "type": _type(model),
        "max_resolution": f"{model.max_width}x{model.max_height}",
        "supports_negative_prompt": "negative_prompt" in model.supported_fields,
        "estimated_cost": _estimate(model),
        "quality": str(model.quality),
        "speed": str(model.speed),
        "capabilities": capabilities,
        "supported_fields": sorted(model.supported_fields),
        "upscale_factors": sorted(model.upscale_factors),
        "max_images": model.max_images,
        "creator": model.creator,
        "aliases": list(model.aliases),
        "price": _price(model.price),
        "unavailable": _unavailable(model, card),
    }


def _type(model: ModelInfo) -> str:
    """Name what a model is for, in one word: the first thing of ours it can do."""
    if model.kind != "image":
        return model.kind
    able = (str(one) for one in Capability if one in model.capabilities)
    return next(able, model.kind)


def _estimate(model: ModelInfo) -> float | None:
    """Say what one picture of 1024x1024 costs."""
    if model.price is None:
        return None
    return number(model.price.of(Work(num_inference_steps=model.default_steps)))


def _price(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    parts = attrs.asdict(price)
    factors = parts.pop("by_quality")
    written: dict[str, Any] = {key: float(part) for key, part in parts.items() if part}
    if factors:
        written["by_quality"] = {key: float(part) for key, part in factors.items()}
    return written


def _unavailable(model: ModelInfo, card: ProviderInfo | None) -> str | None:
    if card is not None and card.unavailable is not None:
        return reason(card.unavailable)
    if model.kind != "image":
        return f"makes {model.kind}, not pictures"
    if model.is_batch_only:
        return "answers in batches only, within hours"
    why = reason_against(model)
    return None if why is None else reason(why)


def _provider(card: ProviderInfo) -> dict[str, Any]:
    return {
        "name": card.name,
        "service": card.display_name or card.name,
        "priority": card.priority,
        "capabilities": sorted(map(str, card.capabilities)),
        "unavailable": None if card.unavailable is None else reason(card.unavailable),
    }
