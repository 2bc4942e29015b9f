"""
Our requests as the vendor's task objects: pure functions, nothing is sent here.

A `Task` is the object for the SDK's ``run`` (``model_search`` for a search)
together with the warnings that belong into the result: what the model could not
honour. Every field is one that runware-sdk 1.8.0 declares for the model; the vendor
refuses others. The model is always an AIR and the task type is always there, so that
the SDK has nothing to look up.
"""

from typing import Any, TypeAlias

import attrs

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Outpaint,
    ProviderRequestError,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.requests import Request
from gaia_runware.facts import Facts, Size
from gaia_runware.models import PROMPT_ENHANCER
from gaia_runware.options import EVERYWHERE, OF_PICTURES, checked
from gaia_runware.pictures import data_uri

NAME = "runware"
"""What the options of this provider are found under."""

Payload: TypeAlias = dict[str, Any]
"""One task object of the vendor's."""

_MAX_PNG_PIXELS = 16_777_216
"""Larger results come as WebP: as PNG they could outgrow what Gaia reads."""

_TOKENS = (5, 400)
"""Shortest and longest worked-out prompt, in the vendor's tokens."""
_CHARACTERS_PER_TOKEN = 4


@attrs.frozen(kw_only=True)
class Task:
    """
    What to send, and what of the request is not in it.

    Attributes:
        payload: The task object.
        warnings: What the model does not honour, in plain words.
    """

    payload: Payload = attrs.field(repr=False)
    warnings: tuple[str, ...] = ()


def generation(request: GenerateRequest, *, task_id: str, facts: Facts) -> Task:
    """
    Write the task that makes pictures.

    Raises:
        ProviderRequestError: If the model cannot take the request as it stands, or an
            option is wrong; nothing was sent.
    """
    warnings: list[str] = []
    payload = {
        **_head(facts, task_id),
        "numberResults": request.num_images,
        **_words(request, facts),
        **_inputs(request, facts),
        **_size(request, facts, warnings),
        **_numbers(request, facts, warnings),
        **_output(request, facts, OF_PICTURES, warnings),
    }
    return Task(payload=payload, warnings=tuple(warnings))


def upscaling(request: UpscaleRequest, *, task_id: str, facts: Facts) -> Task:
    """
    Write the task that enlarges a picture.

    Raises:
        ProviderRequestError: If an option is wrong; nothing was sent.
    """
    warnings: list[str] = []
    image, factor = request.image, request.upscale_factor
    pixels = image.width * image.height * factor**2
    payload = {
        **_head(facts, task_id),
        "inputs": {"image": data_uri(image)},
        "upscaleFactor": factor,
        "outputFormat": "PNG" if pixels <= _MAX_PNG_PIXELS else "WEBP",
        **_options(request, facts, EVERYWHERE, warnings),
    }
    return Task(payload=payload, warnings=tuple(warnings))


def background_removal(
    request: RemoveBackgroundRequest, *, task_id: str, facts: Facts
) -> Task:
    """
    Write the task that cuts out the subject of a picture.

    Raises:
        ProviderRequestError: If an option is wrong, or asks for a format without
            transparency; nothing was sent.
    """
    warnings: list[str] = []
    payload = {
        **_head(facts, task_id),
        "inputs": {"image": data_uri(request.image)},
        **_output(request, facts, EVERYWHERE, warnings),
    }
    if payload["outputFormat"] == "JPG":
        message = "outputFormat JPG has no transparency: take PNG or WEBP."
        raise ProviderRequestError(message)
    return Task(payload=payload, warnings=tuple(warnings))


def enhancement(request: EnhancePromptRequest, *, task_id: str) -> Task:
    """
    Write the task that works out a prompt.

    The vendor counts tokens, Gaia counts characters: four of these make one of those,
    roughly, and the answer may still be longer than ``max_length``.
    """
    shortest, longest = _TOKENS
    tokens = request.max_length // _CHARACTERS_PER_TOKEN
    payload = {
        "taskType": "promptEnhance",
        "taskUUID": task_id,
        "deliveryMethod": "sync",
        "includeCost": True,
        "model": PROMPT_ENHANCER,
        "prompt": request.prompt,
        "promptMaxLength": min(max(tokens, shortest), longest),
        "promptVersions": 1,
    }
    return Task(payload=payload, warnings=_no_options(request))


def caption(request: DescribeImageRequest, *, task_id: str, facts: Facts) -> Task:
    """Write the task that says what a picture shows, or answers a question about it."""
    warnings = [*_no_options(request)]
    payload = {
        "taskType": facts.task,
        "taskUUID": task_id,
        "deliveryMethod": facts.delivery,
        "includeCost": True,
        "model": facts.id,
        "inputs": {"image": data_uri(request.image)},
    }
    if request.question is not None and "prompt" in facts.fields:
        payload["prompt"] = request.question
    elif request.question is not None:
        warnings.append(f"question ignored: {facts.name} describes only")
    return Task(payload=payload, warnings=tuple(warnings))


def search(
    words: str | None, *, task_id: str, limit: int = 20, offset: int = 0
) -> Payload:
    """
    Write the search among the vendor's checkpoints.

    Args:
        words: What to look for; None: the vendor's own choice of models.
        task_id: The identifier of the search.
        limit: Most hits, 1 to 100.
        offset: How many hits to skip.
    """
    sought = {"search": words} if words else {"source": "official"}
    return {
        "taskType": "modelSearch",
        "taskUUID": task_id,
        "category": "checkpoint",
        "limit": limit,
        "offset": offset,
        **sought,
    }


# -- parts ---------------------------------------------------------------------------


def _head(facts: Facts, task_id: str) -> Payload:
    return {
        "taskType": facts.task,
        "taskUUID": task_id,
        "model": facts.id,
        "deliveryMethod": facts.delivery,
        "outputType": "URL",
        "includeCost": True,
    }


def _output(
    request: Request, facts: Facts, taken: tuple[str, ...], warnings: list[str]
) -> Payload:
    """Say how the picture shall be written, and what else the options ask for."""
    options = _options(request, facts, taken, warnings)
    return {"outputFormat": "PNG", **options}


def _options(
    request: Request, facts: Facts, taken: tuple[str, ...], warnings: list[str]
) -> Payload:
    return checked(request.options_for(NAME), facts, taken, warnings)


def _no_options(request: Request) -> tuple[str, ...]:
    return tuple(
        f"{str(word)[:64]} ignored: this takes no options"
        for word in request.options_for(NAME)
    )


def _words(request: GenerateRequest, facts: Facts) -> Payload:
    prompt, limit = request.styled_prompt, facts.max_prompt
    for name, text in (
        ("prompt", prompt),
        ("negative_prompt", request.negative_prompt),
    ):
        if text and limit is not None and len(text) > limit:
            message = (
                f"{facts.name} takes at most {limit} characters of {name}, "
                f"not {len(text)}."
            )
            raise ProviderRequestError(message)
    words = {"positivePrompt": prompt, "negativePrompt": request.negative_prompt}
    return {key: text for key, text in words.items() if text and key in facts.fields}


def _inputs(request: GenerateRequest, facts: Facts) -> Payload:
    """Put the pictures where the model wants them."""
    if request.image is None and not request.reference_images:
        return _without_pictures(facts)
    if "referenceImages" in facts.inputs:
        return {"inputs": {"referenceImages": _references(request, facts)}}
    if request.image is None:
        return _without_pictures(facts)
    inputs = {"seedImage": data_uri(request.image)}
    if request.mask_image is not None and "maskImage" in facts.inputs:
        inputs["maskImage"] = data_uri(request.mask_image)
    return {"inputs": inputs}


def _without_pictures(facts: Facts) -> Payload:
    if facts.needs_inputs:
        message = f"{facts.name} makes nothing without a picture: give it an image."
        raise ProviderRequestError(message)
    return {}


def _references(request: GenerateRequest, facts: Facts) -> list[str]:
    """The picture to start from comes first, those to imitate follow."""
    first = () if request.image is None else (request.image,)
    images = (*first, *request.reference_images)
    limit = facts.max_references
    if limit is not None and len(images) > limit:
        message = f"{facts.name} takes at most {limit} pictures, not {len(images)}."
        raise ProviderRequestError(message)
    return [data_uri(image) for image in images]


def _size(request: GenerateRequest, facts: Facts, warnings: list[str]) -> Payload:
    """Say what size to make: the nearest one the model makes."""
    if request.outpaint is not None and request.image is not None:
        return _extended(request, request.outpaint, facts, warnings)
    asked = (request.width, request.height)
    if not facts.has_size:
        _warn_of_size(asked, _natural(request), facts, warnings)
        return {}
    made = facts.sizes.fit(*asked)
    _warn_of_size(asked, made, facts, warnings)
    return {"width": made[0], "height": made[1]}


def _natural(request: GenerateRequest) -> Size:
    """The size a model makes that is not told any: the picture's."""
    image = request.image
    asked = (request.width, request.height)
    return asked if image is None else (image.width, image.height)


def _warn_of_size(asked: Size, made: Size, facts: Facts, warnings: list[str]) -> None:
    if asked != made:
        warnings.append(
            f"size {asked[0]}x{asked[1]} became {made[0]}x{made[1]}, "
            f"which {facts.name} makes"
        )


def _extended(
    request: GenerateRequest, outpaint: Outpaint, facts: Facts, warnings: list[str]
) -> Payload:
    """Extend the picture: its size and the sides decide, not width and height."""
    image = request.image
    if image is None:
        return {}
    step = facts.sizes.multiple if facts.has_size else 1
    sides = {
        side: _up(getattr(outpaint, side), step)
        for side in ("top", "right", "bottom", "left")
    }
    natural = (
        image.width + outpaint.left + outpaint.right,
        image.height + outpaint.top + outpaint.bottom,
    )
    payload: Payload = {"outpaint": {side: px for side, px in sides.items() if px}}
    if not facts.has_size:
        return payload
    made = (
        _nearest(image.width, step) + sides["left"] + sides["right"],
        _nearest(image.height, step) + sides["top"] + sides["bottom"],
    )
    if max(made) > facts.sizes.largest:
        message = (
            f"{facts.name} makes at most {facts.sizes.largest} pixels a side: "
            f"{made[0]}x{made[1]} is too large."
        )
        raise ProviderRequestError(message)
    _warn_of_size(natural, made, facts, warnings)
    return {**payload, "width": made[0], "height": made[1]}


def _up(pixels: int, step: int) -> int:
    return -(-pixels // step) * step


def _nearest(pixels: int, step: int) -> int:
    return max(round(pixels / step), 1) * step


def _numbers(request: GenerateRequest, facts: Facts, warnings: list[str]) -> Payload:
    """Add seed, steps, guidance, strength and layers where the model takes them."""
    values = {
        "seed": _seed(request.seed, facts, warnings),
        "steps": _steps(request.num_inference_steps, facts, warnings),
        "CFGScale": _guidance(request.guidance_scale, facts, warnings),
        "strength": request.strength if "seedImage" in facts.inputs else None,
        "lora": [{"model": lora.model, "weight": lora.weight} for lora in request.loras]
        or None,
    }
    return {
        key: value
        for key, value in values.items()
        if value is not None and key in facts.fields
    }


def _seed(seed: int | None, facts: Facts, warnings: list[str]) -> int | None:
    if seed is None or seed <= facts.max_seed or "seed" not in facts.fields:
        return seed
    used = seed % (facts.max_seed + 1)
    warnings.append(f"seed {seed} became {used}: {facts.name} takes no larger ones")
    return used


def _steps(steps: int | None, facts: Facts, warnings: list[str]) -> int | None:
    limit = facts.max_steps
    if steps is None or limit is None or steps <= limit or "steps" not in facts.fields:
        return steps
    warnings.append(f"num_inference_steps {steps} became {limit}, the most here")
    return limit


def _guidance(
    guidance: float | None, facts: Facts, warnings: list[str]
) -> float | None:
    if guidance is None or facts.guidance is None or "CFGScale" not in facts.fields:
        return guidance
    low, high = facts.guidance
    used = min(max(guidance, low), high)
    if used != guidance:
        warnings.append(f"guidance_scale {guidance} became {used}, the nearest here")
    return used
