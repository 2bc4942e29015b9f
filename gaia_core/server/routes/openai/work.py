"""Requests of OpenAI's clients, on their way to the core and back."""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import attrs
from fastapi import Request as HttpRequest

from gaia_core.context import Progress, ignore_progress
from gaia_core.errors import InvalidImageError, OperationInProgressError
from gaia_core.images import Image
from gaia_core.requests import GenerateRequest
from gaia_core.responses import ImageResponse
from gaia_core.server import masks
from gaia_core.server.access import Principal, Scope
from gaia_core.server.asking import (
    Order,
    check_options,
    choices_of,
    key_of,
    own_fields,
    request_of,
    serve,
)
from gaia_core.server.model_names import ModelNames, names_of
from gaia_core.server.problems import RefusedError, problem_of
from gaia_core.server.resending import Try
from gaia_core.server.schemas.openai import EditsIn, ImagesIn
from gaia_core.server.site import Site

PATIENCE = 600.0
"""How long a request that was sent again waits for the first one, in seconds."""

_UNTOUCHED = ("moderation", "complexity", "input_fidelity")
_BEST = ("high", "xhigh", "max", "hd")
_CONVERTING = ("output_format", "output_compression")


@attrs.frozen(kw_only=True)
class Job:
    """
    One request of a client of OpenAI's.

    Attributes:
        body: What it sent.
        order: What the core is asked for.
        names: The names of the models here.
        warnings: What of it is not heeded.
        first_try: What it was sent as before, if its client counts tries.
    """

    body: ImagesIn
    order: Order
    names: ModelNames
    warnings: tuple[str, ...]
    first_try: Try | None = None

    @property
    def request(self) -> GenerateRequest:
        """What the core is asked for."""
        return cast("GenerateRequest", self.order.request)


async def job_of(  # noqa: PLR0913  a form has two kinds of files beside its fields
    body: ImagesIn,
    *,
    http: HttpRequest,
    site: Site,
    principal: Principal,
    pictures: Sequence[Image] = (),
    mask: Image | None = None,
) -> Job:
    """
    Take what a client sent as work for the core.

    Args:
        body: What it sent.
        http: The request as it came.
        site: The server.
        principal: The caller.
        pictures: The pictures to work on, the first of them; the rest to imitate.
        mask: Where to work, transparent.

    Raises:
        RefusedError: If it can never be served; it names the caller's fields.
    """
    _check_output(body)
    names = await names_of(site.gaia)
    plain, warnings = _as_ours(body, names, principal)
    check_options(plain.provider_options, site)
    request = await _request(plain, site, principal, pictures, mask)
    key, first_try = key_of(http), None
    if key is None:
        first_try = await site.resends.known(http, request, principal, site.gaia.ledger)
        key = None if first_try is None else first_try.key
    order = Order(request=request, choices=choices_of(plain, principal, key=key))
    return Job(
        body=body, order=order, names=names, warnings=warnings, first_try=first_try
    )


async def response_to(
    job: Job, site: Site, *, progress: Progress = ignore_progress
) -> ImageResponse:
    """
    Have a job done; one that was sent again waits for the first time's answer.

    Raises:
        GaiaError: As `Gaia.generate`.
    """
    ends = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                response = await serve(job.order, site, progress=progress)
                return cast("ImageResponse", response)
            except OperationInProgressError as error:
                if job.first_try is None or time.monotonic() > ends:
                    raise
                await asyncio.sleep(error.retry_after)
    except Exception as error:
        problem = problem_of(error)
        is_over = not isinstance(error, OperationInProgressError)
        if is_over and problem.billed is False and problem.code != "internal":
            site.resends.forget(job.first_try)
        raise


def _check_output(body: ImagesIn) -> None:
    """Refuse what cannot be had together, or not at all, before it costs."""
    details: list[tuple[str, str]] = []
    if body.background == "transparent":
        text = "nobody here draws that: cut the subject out afterwards"
        details.append(("background", text))
    asked = [name for name in _CONVERTING if getattr(body, name) is not None]
    if asked and body.response_format == "url":
        text = "needs response_format b64_json: a url leads to what was made"
        details.append((asked[0], text))
    if body.output_compression is not None and body.output_format in (None, "png"):
        text = "needs output_format jpeg or webp"
        details.append(("output_compression", text))
    if body.stream and body.response_format == "url":
        details.append(("response_format", "is b64_json in a stream"))
    if body.partial_images and not body.stream:
        details.append(("partial_images", "needs stream"))
    if details:
        raise RefusedError(422, "invalid_request", details=details)


def _as_ours(
    body: ImagesIn, names: ModelNames, principal: Principal
) -> tuple[ImagesIn, tuple[str, ...]]:
    """Say it in the words of Gaia, and what of it has no word there."""
    addressed = names.addressed(body.model)
    changes = {
        "model": addressed.model,
        "provider": addressed.provider or body.provider,
    }
    warnings = [f"{name} ignored" for name in _UNTOUCHED if _is_set(body, name)]
    if body.quality in _BEST and body.policy is None:
        if addressed.model is None:
            changes["policy"] = "best"
        else:
            warnings.append("quality ignored: the model is named")
    if body.person and body.user_id is None:
        if principal.may(Scope.ON_BEHALF):
            changes["user_id"] = body.person
        else:
            warnings.append("user ignored: this key speaks for nobody else")
    return body.model_copy(update=changes), tuple(warnings)


def _is_set(body: ImagesIn, name: str) -> bool:
    return getattr(body, name, None) not in (None, "auto")


async def _request(
    body: ImagesIn,
    site: Site,
    principal: Principal,
    pictures: Sequence[Image],
    mask: Image | None,
) -> GenerateRequest:
    """Make the core's request; what came as files is put in afterwards."""
    if not pictures:
        made = await request_of(body, site=site, principal=principal)
        return await _masked(cast("GenerateRequest", made), mask)
    first, *others = pictures
    # Without a picture there is nothing to be strong about.
    bare = body.model_copy(update={"strength": None})
    made = await request_of(bare, site=site, principal=principal)
    request = cast("GenerateRequest", made)
    if request.image is not None:
        details = [("image", "is there twice: send a file, or say where it is")]
        raise RefusedError(422, "invalid_request", details=details)
    has_size = body.size or body.width or body.height
    width, height = (None, None) if has_size else (first.width, first.height)
    with own_fields():
        request = attrs.evolve(
            request,
            image=first,
            strength=body.strength,
            width=width or request.width,
            height=height or request.height,
            reference_images=(*others, *request.reference_images),
        )
    return await _masked(request, mask)


async def _masked(request: GenerateRequest, mask: Image | None) -> GenerateRequest:
    if mask is None:
        return request
    try:
        white = await asyncio.to_thread(masks.from_transparency, mask)
    except InvalidImageError as error:
        details = [("mask", str(error))]
        raise RefusedError(422, "invalid_image", details=details) from None
    with own_fields():
        return attrs.evolve(request, mask_image=white)


def is_edit(body: ImagesIn) -> bool:
    """Tell whether it works on a picture, not from words alone."""
    return isinstance(body, EditsIn)
