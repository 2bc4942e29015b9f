"""
What a client sends, as the core takes it.

Every front door goes this way: there is no second one to the engine.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import attrs
from fastapi import Request as HttpRequest
from fastapi import status

from gaia_core.choices import Choices, PlanChoices
from gaia_core.context import Progress, ignore_progress
from gaia_core.engine import Gaia
from gaia_core.errors import (
    BudgetExceededError,
    ContentFilteredError,
    GaiaError,
    InvalidImageError,
    InvalidRequestError,
    NoCapableProviderError,
    ProviderError,
)
from gaia_core.images import Image
from gaia_core.ledger.operations import MAX_KEY_BYTES
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Lora,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.responses import Response
from gaia_core.server.access import Principal, Scope
from gaia_core.server.problems import TEXTS, RefusedError, note_fallback
from gaia_core.server.schemas.images import (
    Choosing,
    DescribeIn,
    Drawing,
    EnhancePromptIn,
    OutpaintIn,
    PictureIn,
    RemoveBackgroundIn,
    UpscaleIn,
)
from gaia_core.server.site import Site

DEFAULT_SIDE = 1_024
"""Width and height where neither the request nor its picture says any."""
KEY_HEADER = "Idempotency-Key"
"""The header that names a request, so that a repetition is recognised."""

_REFUSED = status.HTTP_422_UNPROCESSABLE_CONTENT
_PLACES = ("image_id", "image_url", "image_path", "image_base64")
_FIELDS = {"num_images": "n", "mask_image": "mask", "weight": "loras"}
_KNOWN = frozenset(
    {
        *attrs.fields_dict(GenerateRequest),
        *("max_length", "question", "size", "upscale_factor", "weight"),
        *("left", "right", "top", "bottom"),
    }
)
_PLAN_CHOICES = ("policy", "max_cost_usd", "allowed_providers")
_VERBS: Mapping[type[Request], Callable[..., Awaitable[Response]]] = {
    GenerateRequest: Gaia.generate,
    UpscaleRequest: Gaia.upscale,
    RemoveBackgroundRequest: Gaia.remove_background,
    EnhancePromptRequest: Gaia.enhance_prompt,
    DescribeImageRequest: Gaia.describe_image,
}


@attrs.frozen(kw_only=True)
class Order:
    """
    One request of a client's, ready to be served.

    Attributes:
        request: What is to be made.
        choices: What was chosen for it, and who asks.
    """

    request: Request
    choices: Choices

    @property
    def plan_choices(self) -> PlanChoices:
        """The choices that decide about a plan."""
        chosen = {
            name: value for name, value in self.choices.items() if name in _PLAN_CHOICES
        }
        return cast("PlanChoices", chosen)


async def order_of(
    body: Choosing, *, site: Site, principal: Principal, key: str | None = None
) -> Order:
    """
    Take what a client sent as a request of the core's, its pictures brought in.

    Args:
        body: What it sent.
        site: The server.
        principal: The caller.
        key: The request's idempotency key: see `key_of`.

    Raises:
        RefusedError: If it can never be served; it names the caller's fields.
    """
    check_options(body.provider_options, site)
    request = await request_of(body, site=site, principal=principal)
    return Order(request=request, choices=choices_of(body, principal, key=key))


async def serve(
    order: Order, site: Site, *, progress: Progress = ignore_progress
) -> Response:
    """
    Have an order served; the server knows meanwhile how far it is.

    Args:
        order: What to serve.
        site: The server.
        progress: What is told how far it is, as well.

    Raises:
        GaiaError: As `Gaia.generate`.
    """
    verb = _VERBS[type(order.request)]
    with site.watched.job(order.choices["principal"], progress) as watched:
        try:
            return await verb(
                site.gaia, order.request, **order.choices, progress=watched
            )
        except GaiaError as error:
            note_fallback(error, is_available=_has_fallback(error, order, site))
            raise


def choices_of(
    body: Choosing, principal: Principal, *, key: str | None = None
) -> Choices:
    """Take what a client chose, and say who it is."""
    return Choices(
        principal=principal.name,
        policy=body.policy,
        max_cost_usd=body.max_cost_usd,
        allowed_providers=body.allowed_providers,
        timeout=body.timeout,
        reuse=body.reuse,
        delivery=body.delivery,
        idempotency_key=key,
    )


def key_of(request: HttpRequest) -> str | None:
    """
    Read the idempotency key of a request; None: it has none.

    Raises:
        RefusedError: If it is empty or too long.
    """
    key = request.headers.get(KEY_HEADER)
    # A header is bytes, and each of them is a character here.
    if key is not None and not 1 <= len(key) <= MAX_KEY_BYTES:
        raise RefusedError(status.HTTP_400_BAD_REQUEST, "idempotency_key")
    return key


def user_of(principal: Principal, user_id: str | None) -> str | None:
    """
    Say under whose name it is paid.

    Raises:
        RefusedError: If the caller names somebody and may not.
    """
    if user_id is None or user_id == principal.name:
        return principal.name or None
    if not principal.may(Scope.ON_BEHALF):
        details = [("user_id", f"needs a key with scope {Scope.ON_BEHALF}")]
        raise RefusedError(status.HTTP_403_FORBIDDEN, "forbidden", details=details)
    return user_id


def check_options(options: Mapping[str, Any] | None, site: Site) -> None:
    """
    Refuse knobs for providers that are not there: a slip of the pen is no wish.

    Raises:
        RefusedError: If one names no provider that is loaded.
    """
    if not options:
        return
    known: set[str] = set()
    for provider in site.gaia.plugins.providers.values():
        known |= {provider.name, provider.plugin}
    if set(options) - known:
        names = ", ".join(sorted(known))
        details = [("provider_options", f"names must be among {names}")]
        raise RefusedError(_REFUSED, "invalid_request", details=details)


@contextmanager
def own_fields() -> Iterator[None]:
    """
    Tell a caller what the core refuses of their own fields, in its words.

    Nothing but the making of a core request belongs inside: what is said there is
    about what the caller sent.

    Raises:
        RefusedError: Instead of each `InvalidRequestError`.
    """
    try:
        yield
    except InvalidImageError as error:
        details = [_detail(str(error))]
        raise RefusedError(_REFUSED, "invalid_image", details=details) from None
    except InvalidRequestError as error:
        details = [_detail(str(error))]
        raise RefusedError(_REFUSED, "invalid_request", details=details) from None


def _detail(sentence: str) -> tuple[str, str]:
    """Find the field that a sentence of the core's is about; it comes first."""
    word = sentence.partition(" ")[0].rstrip(":")
    if word[:1].isdigit():
        # "9000x9000 is more than …"
        return "size", sentence
    return (_FIELDS.get(word, word) if word in _KNOWN else "", sentence)


# -- pictures ---------------------------------------------------------------------


async def picture_of(
    given: PictureIn, *, site: Site, principal: Principal, field: str = ""
) -> Image:
    """
    Bring in the one picture that somebody's fields name.

    Args:
        given: The fields.
        site: The server.
        principal: Whose picture it must be, where it is a stored one.
        field: Where the fields are in the body, as ``mask.``.

    Raises:
        RefusedError: If there is not exactly one, or it cannot be had.
    """
    place = _only_place(given, field)
    value, inputs = getattr(given, place), site.inputs
    with naming(field + place):
        match place:
            case "image_id":
                return await inputs.stored(value, principal)
            case "image_url":
                return await inputs.fetched(value)
            case "image_path":
                return await inputs.on_disk(value, principal)
            case _:
                return await inputs.encoded(value)


@contextmanager
def naming(field: str) -> Iterator[None]:
    """
    Say which field a picture is refused in, unless it was said already.

    Args:
        field: The field, as the client wrote it.

    Raises:
        RefusedError: Instead of one without details, and of `InvalidImageError`.
    """
    try:
        yield
    except InvalidImageError:
        raise _picture_refused(_REFUSED, "invalid_image", field) from None
    except RefusedError as error:
        if error.details or error.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
            raise
        raise _picture_refused(error.status_code, error.code, field) from None


def _places_of(given: PictureIn) -> list[str]:
    return [name for name in _PLACES if getattr(given, name) is not None]


def _only_place(given: PictureIn, field: str) -> str:
    places = _places_of(given)
    if len(places) == 1:
        return places[0]
    message = f"give exactly one of {', '.join(_PLACES)}"
    details = [(field + place, message) for place in places or _PLACES[:1]]
    raise RefusedError(_REFUSED, "invalid_request", details=details)


def _picture_refused(status_code: int, code: str, field: str) -> RefusedError:
    return RefusedError(status_code, code, details=[(field, TEXTS[code])])


async def _all(pictures: Iterable[Awaitable[Image]]) -> tuple[Image, ...]:
    """Bring some pictures in at the same time; the first that fails ends all."""

    async def wait(picture: Awaitable[Image]) -> Image:
        return await picture

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(picture)) for picture in pictures]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return tuple(task.result() for task in tasks)


# -- requests ---------------------------------------------------------------------


async def request_of(body: Choosing, *, site: Site, principal: Principal) -> Request:
    """
    Make the core's request of what a client sent.

    Raises:
        RefusedError: As `order_of`.
    """
    whole: dict[str, Any] = {
        "model": body.model,
        "provider": body.provider,
        "provider_options": body.provider_options or {},
        "campaign_id": body.campaign_id,
        "user_id": user_of(principal, body.user_id),
    }
    if isinstance(body, EnhancePromptIn):
        with own_fields():
            return EnhancePromptRequest(
                prompt=body.prompt, max_length=body.max_length, **whole
            )
    if isinstance(body, Drawing):
        return await _drawing(body, whole, site, principal)
    picture = cast("PictureIn", body)
    whole["image"] = await picture_of(picture, site=site, principal=principal)
    with own_fields():
        return _about_a_picture(body, whole)


def _about_a_picture(body: Choosing, whole: Mapping[str, Any]) -> Request:
    if isinstance(body, UpscaleIn):
        return UpscaleRequest(upscale_factor=body.upscale_factor, **whole)
    if isinstance(body, DescribeIn):
        return DescribeImageRequest(question=body.question, **whole)
    if isinstance(body, RemoveBackgroundIn):
        return RemoveBackgroundRequest(**whole)
    message = f"No verb takes a {type(body).__name__}."
    raise TypeError(message)


async def _drawing(
    body: Drawing, whole: Mapping[str, Any], site: Site, principal: Principal
) -> GenerateRequest:
    image, mask, references = await _pictures_of(body, site, principal)
    outpaint: OutpaintIn | None = getattr(body, "outpaint", None)
    with own_fields():
        extension = None if outpaint is None else Outpaint(**outpaint.model_dump())
        width, height = _size_of(body, image, extension)
        return GenerateRequest(
            prompt=body.prompt,
            width=width,
            height=height,
            num_images=body.n,
            negative_prompt=body.negative_prompt or None,
            seed=body.seed,
            guidance_scale=body.guidance_scale,
            num_inference_steps=body.num_inference_steps,
            style=body.style or None,
            image=image,
            strength=body.strength,
            mask_image=mask,
            outpaint=extension,
            reference_images=references,
            loras=[Lora(model=one.model, weight=one.weight) for one in body.loras],
            **whole,
        )


async def _pictures_of(
    body: Drawing, site: Site, principal: Principal
) -> tuple[Image | None, Image | None, tuple[Image, ...]]:
    """Bring in what a drawing starts from: its picture, its mask, its references."""
    wanted: list[tuple[str, PictureIn]] = []
    picture, mask = cast("PictureIn", body), getattr(body, "mask", None)
    has_image = body.needs_image or bool(_places_of(picture))
    if has_image:
        wanted.append(("", picture))
    if mask is not None:
        wanted.append(("mask.", mask))
    for place, reference in enumerate(body.reference_images):
        wanted.append((f"reference_images.{place}.", reference))
    if not wanted:
        return None, None, ()
    found = list(
        await _all(
            picture_of(given, site=site, principal=principal, field=field)
            for field, given in wanted
        )
    )
    image = found.pop(0) if has_image else None
    return image, found.pop(0) if mask is not None else None, tuple(found)


def _size_of(
    body: Drawing, image: Image | None, outpaint: Outpaint | None
) -> tuple[int, int]:
    """Take the size asked for; otherwise the picture's own, with what is added."""
    width, height = _natural_size(image, outpaint)
    asked = (body.width, body.height)
    if body.size is not None:
        sized = tuple(int(side) for side in body.size.split("x"))
        if any(side not in (None, own) for side, own in zip(asked, sized, strict=True)):
            message = "size and width or height say different things: give one of them."
            raise InvalidRequestError(message)
        asked = (sized[0], sized[1])
    return (
        width if asked[0] is None else asked[0],
        height if asked[1] is None else asked[1],
    )


def _natural_size(image: Image | None, outpaint: Outpaint | None) -> tuple[int, int]:
    if image is None:
        return DEFAULT_SIDE, DEFAULT_SIDE
    if outpaint is None:
        return image.width, image.height
    return (
        image.width + outpaint.left + outpaint.right,
        image.height + outpaint.top + outpaint.bottom,
    )


# -- after a failure --------------------------------------------------------------


def _has_fallback(error: GaiaError, order: Order, site: Site) -> bool:
    """Tell whether somebody else could serve what failed, if the caller let them."""
    if not isinstance(
        error, ProviderError | NoCapableProviderError | BudgetExceededError
    ) or isinstance(error, ContentFilteredError):
        return False
    is_possible = getattr(error, "is_fallback_allowed", True)
    if not is_possible:
        return False
    tried = {attempt.provider for attempt in error.attempts}
    free = attrs.evolve(order.request, provider=None, model=None)
    is_free_only = isinstance(error, BudgetExceededError)
    try:
        plan = site.gaia.plan(free, **order.plan_choices)
        return any(
            one.provider not in tried and (one.price_usd == 0 or not is_free_only)
            for one in plan.in_turn()
        )
    except (GaiaError, RuntimeError):
        # It is about a failure already: a second one says nothing.
        return False
