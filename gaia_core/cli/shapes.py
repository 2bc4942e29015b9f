"""
What ``--json`` prints: plain values, in shapes that stay.

Amounts are numbers in US dollars; None becomes ``null``. Fields may be added;
those that are here keep their name and their meaning.
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

import attrs

from gaia_core.catalog import ModelInfo, ModelState, Price, ProviderInfo
from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.selection import Candidate, Plan


def shape_amount(value: Decimal | None) -> float | None:
    """Shape an amount of US dollars."""
    return None if value is None else float(value)


def shape_attempt(attempt: Attempt) -> dict[str, Any]:
    """Shape one try at one provider."""
    return {
        "provider": attempt.provider,
        "model": attempt.model,
        "task_id": attempt.task_id,
        "outcome": str(attempt.outcome),
        "duration_ms": round(attempt.duration_ms, 1),
        "cost_usd": shape_amount(attempt.cost_usd),
        "error": attempt.error,
        "reference": attempt.reference,
    }


def shape_image(image: StoredImage, output: str | None = None) -> dict[str, Any]:
    """Shape a stored picture, and where ``--output`` put it."""
    return {
        "id": image.id,
        "path": str(image.path),
        "output": output,
        "media_type": image.media_type,
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
        "sha256": image.sha256,
        "created_at": image.created_at.isoformat(),
    }


def shape_response(response: Response, **result: Any) -> dict[str, Any]:
    """Shape what every response has, around the result itself."""
    return {
        "operation_id": response.operation_id,
        "provider": response.provider,
        "model": response.model,
        **result,
        "cost_usd": shape_amount(response.cost_usd),
        "is_reused": response.is_reused,
        "duration_ms": round(response.duration_ms, 1),
        "warnings": list(response.warnings),
        "attempts": [shape_attempt(one) for one in response.attempts],
    }


def shape_result(
    response: Response, outputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """
    Shape a response with its pictures or its words.

    Args:
        response: What came back.
        outputs: Identifier of a picture to the file it was written to.
    """
    outputs = outputs or {}
    if isinstance(response, ImageResponse):
        images = [shape_image(one, outputs.get(one.id)) for one in response.images]
        return shape_response(response, images=images)
    if isinstance(response, PromptResponse):
        return shape_response(response, prompt=response.prompt)
    if isinstance(response, DescriptionResponse):
        return shape_response(response, description=response.description)
    return shape_response(response)


def shape_price(price: Price | None) -> dict[str, Any] | None:
    """Shape a price: the parts that are not zero; None: unknown."""
    if price is None:
        return None
    parts = attrs.asdict(price)
    factors = parts.pop("by_quality")
    shape: dict[str, Any] = {key: float(part) for key, part in parts.items() if part}
    if factors:
        shape["by_quality"] = {key: float(part) for key, part in factors.items()}
    return shape


def shape_model(
    model: ModelInfo, unavailable: str | None, state: ModelState | None = None
) -> dict[str, Any]:
    """Shape a model's card, how it is now, and why it cannot be asked, if so."""
    return {
        "id": model.id,
        "name": model.name,
        "provider": model.provider,
        "kind": model.kind,
        "capabilities": sorted(model.capabilities),
        "max_width": model.max_width,
        "max_height": model.max_height,
        "max_images": model.max_images,
        "supported_fields": sorted(model.supported_fields),
        "upscale_factors": sorted(model.upscale_factors),
        "price": shape_price(model.price),
        "quality": str(model.quality),
        "speed": str(model.speed),
        "creator": model.creator,
        "aliases": list(model.aliases),
        "unavailable": unavailable,
        "state": None if state is None else state.word,
        "details": {} if state is None else plain(state.details),
    }


def plain(value: Any) -> Any:
    """
    Make a plugin's value one that JSON has; what it has not becomes text.

    >>> plain({"needs": Decimal("0.5"), "files": ("a", None)})
    {'needs': '0.5', 'files': ['a', None]}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return str(value)


def shape_provider(info: ProviderInfo, num_models: int) -> dict[str, Any]:
    """Shape a provider's card."""
    return {
        "name": info.name,
        "display_name": info.display_name or info.name,
        "capabilities": sorted(info.capabilities),
        "priority": info.priority,
        "num_models": num_models,
        "unavailable": info.unavailable,
    }


def shape_candidate(candidate: Candidate) -> dict[str, Any]:
    """Shape one who could serve a request."""
    return {
        "provider": candidate.provider,
        "model": candidate.model.id,
        "priority": candidate.priority,
        "price_usd": shape_amount(candidate.price_usd),
        "quality": str(candidate.model.quality),
        "speed": str(candidate.model.speed),
        "is_substitute": candidate.is_substitute,
    }


def shape_plan(plan: Plan, reasons: Mapping[str, str]) -> dict[str, Any]:
    """Shape a plan: who would be asked, what it may cost, and why nobody else."""
    first, highest = price_span(plan)
    return {
        "capability": str(plan.request.capability),
        "policy": str(plan.preferences.policy),
        "max_cost_usd": shape_amount(plan.preferences.max_cost_usd),
        "estimate_usd": shape_amount(first),
        "highest_usd": shape_amount(highest),
        "candidates": [shape_candidate(one) for one in plan.candidates],
        "reasons": dict(reasons),
    }


def price_span(plan: Plan) -> tuple[Decimal | None, Decimal | None]:
    """Give the price of the first candidate and of the dearest; None: unknown."""
    prices = [candidate.price_usd for candidate in plan.candidates]
    known = [price for price in prices if price is not None]
    is_complete = len(known) == len(prices)
    return (
        prices[0] if prices else None,
        max(known, default=None) if is_complete else None,
    )
