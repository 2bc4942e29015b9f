"""
What clients get, for the OpenAPI document.

Answers are written by orjson and not through these models; tests hold the one to
the other.
"""

from typing import Any, Literal

from pydantic import Field

from gaia_core.server.schemas.base import Given

Usd = float
"""An amount in US dollars."""


class AttemptOut(Given):
    """One try at one provider."""

    provider: str
    model: str
    outcome: str
    duration_ms: float
    cost_usd: Usd | None


class PictureOut(Given):
    """
    One stored picture.

    Attributes:
        url: Opens the picture for whoever has it, for a while.
        path: Where it lies below the store's folder; ``image_path`` takes it.
    """

    id: str
    url: str
    path: str
    media_type: Literal["image/png", "image/jpeg", "image/webp"]
    width: int
    height: int
    sha256: str
    seed: int | None
    prompt: str | None
    provider: str
    model: str
    campaign_id: str | None
    operation_id: str
    created_at: str


class MadePictureOut(PictureOut):
    """One picture of an answer, with its bytes where they were asked for."""

    b64_json: str = Field(default="", description="The bytes in base64, if asked for.")


class _Served(Given):
    """What every answer has."""

    success: Literal[True]
    service: str
    provider: str
    model: str
    generation_time: float
    error: None
    operation_id: str
    cost_usd: Usd | None
    attempts: list[AttemptOut]
    warnings: list[str]
    is_reused: bool


class ImagesOut(_Served):
    """The pictures that were made."""

    image_url: str | None
    image_path: str | None
    images: list[MadePictureOut]


class PromptOut(_Served):
    """A prompt, worked out."""

    prompt: str


class DescriptionOut(_Served):
    """What a picture shows, in words."""

    description: str


class DetailOut(Given):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemOut(Given):
    """
    Why a request was not served.

    Attributes:
        error: The same words for every problem of this code.
        error_type: Its kind.
        error_code: What it is, for programs.
        retry_after: Seconds after which to ask again.
        fallback_available: Whether another provider could have served it.
        suggested_action: What to do next, as a word.
        operation_id: The operation it ended, if there was one.
        billed: Whether it was charged; null: nobody knows yet.
        details: What is wrong with which field.
    """

    success: Literal[False]
    error: str
    error_type: Literal[
        "connection_error",
        "api_error",
        "model_error",
        "quota_error",
        "content_error",
        "request_error",
        "unavailable_error",
        "unknown_outcome",
    ]
    error_code: str
    retry_after: float | None
    fallback_available: bool
    suggested_action: str
    operation_id: str | None
    billed: bool | None
    details: list[DetailOut] = Field(default_factory=list)


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ProblemOut, "description": "It cannot be served as it stands."},
    "5XX": {"model": ProblemOut, "description": "It could not be served."},
}
"""What every route may answer instead."""


EVENTS: dict[str, Any] = {"example": 'event: progress\ndata: {"fraction": 0.5}\n\n'}
"""
What server-sent events look like.

Without a schema: one that says what an event is comes only with OpenAPI 3.2.
"""


class CandidateOut(Given):
    """
    Who can serve a request.

    Attributes:
        service: The provider's name as people read it.
        price_usd: What it would cost; null: unknown.
        is_substitute: Whether it is asked only if the model before it is not there.
        ignored_fields: The fields of the request it would not heed.
    """

    provider: str
    service: str
    model: str
    model_name: str
    priority: int
    price_usd: Usd | None
    quality: str
    speed: str
    is_substitute: bool
    ignored_fields: list[str]


class RejectionOut(Given):
    """Who was passed over, and why."""

    name: str
    reason: str


class PlanOut(Given):
    """
    Who would serve a request, at which price, and why nobody else.

    Attributes:
        capability: What it takes to serve it.
        can_be_served: Whether anybody can.
        estimated_cost_usd: What the first candidate would cost; null: unknown.
        candidates: Who can, in the order they are asked.
        rejections: Everybody else.
    """

    success: Literal[True]
    capability: str
    can_be_served: bool
    estimated_cost_usd: Usd | None
    candidates: list[CandidateOut]
    rejections: list[RejectionOut]


class ModelOut(Given):
    """
    One model.

    Attributes:
        type: Its first capability, or what else it makes.
        estimated_cost: What one picture of 1024x1024 costs, in US dollars.
        unavailable: Why its provider, or the model itself, cannot be asked now, or
            null.
        price: The parts of its price in US dollars that are not zero; null: unknown.
    """

    id: str
    name: str
    provider: str
    service: str
    type: str
    max_resolution: str
    supports_negative_prompt: bool
    estimated_cost: Usd | None
    quality: str
    speed: str
    capabilities: list[str]
    supported_fields: list[str]
    upscale_factors: list[int]
    max_images: int
    creator: str | None
    aliases: list[str]
    price: dict[str, Any] | None
    unavailable: str | None


class ProviderOut(Given):
    """One provider, and why it cannot work, if so."""

    name: str
    service: str
    priority: int
    capabilities: list[str]
    unavailable: str | None


class ModelsOut(Given):
    """
    The models there are, and who offers them.

    Attributes:
        problems: The providers whose vendor could not be asked.
    """

    models: list[ModelOut]
    providers: list[ProviderOut]
    problems: list[str]


class GalleryPictureOut(PictureOut):
    """One picture of the gallery."""

    capability: str
    user_id: str | None


class GalleryOut(Given):
    """
    Some of the caller's pictures, newest first.

    Attributes:
        next_cursor: What to ask for the following ones with; null: there are none.
    """

    images: list[GalleryPictureOut]
    next_cursor: str | None


class CampaignOut(Given):
    """A campaign, and how many pictures are in it."""

    id: str
    images: int
    latest_at: str


class CampaignsOut(Given):
    """The campaigns the caller has something in, the latest first."""

    campaigns: list[CampaignOut]


class FailureOut(Given):
    """Why an operation failed: as the body of a problem has it."""

    error: str
    error_type: str
    error_code: str
    suggested_action: str


class OperationOut(Given):
    """
    What became of a request.

    Attributes:
        state: Where it stands.
        held_usd: What is held for it in budgets while it is open.
        failure: Why it failed, or null.
        prompt: The worked-out prompt, where that was asked for.
        description: The description, where that was asked for.
    """

    operation_id: str
    capability: str
    state: str
    is_final: bool
    provider: str | None
    service: str | None
    model: str | None
    campaign_id: str | None
    user_id: str | None
    batch_id: str | None
    position: int | None
    cost_usd: Usd | None
    held_usd: Usd
    attempts: list[AttemptOut]
    images: list[PictureOut]
    warnings: list[str]
    prompt: str | None
    description: str | None
    failure: FailureOut | None
    created_at: str
    finished_at: str | None


class SpendingOut(Given):
    """What was made and spent in one campaign; null: outside of any."""

    campaign_id: str | None
    operations: int
    done: int
    failed: int
    unknown: int
    images: int
    cost_usd: Usd
    held_usd: Usd


class BudgetOut(Given):
    """
    A budget that holds for the caller.

    Attributes:
        scope: Whose it is: ``total``, ``user`` or ``campaign``.
        period: What it is for: a day, a month, or ``forever``.
        left_usd: What may still be spent.
    """

    scope: str
    period: str
    limit_usd: Usd
    spent_usd: Usd
    held_usd: Usd
    left_usd: Usd


class UsageOut(Given):
    """What the caller has made and spent, and what may still be."""

    images: int
    cost_usd: Usd
    held_usd: Usd
    campaigns: list[SpendingOut]
    budgets: list[BudgetOut]


class OperationsOut(Given):
    """The caller's latest operations, newest first."""

    operations: list[OperationOut]
