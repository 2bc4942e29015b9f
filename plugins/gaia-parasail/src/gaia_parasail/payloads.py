"""Turn a request into what the service is asked: plain values, nothing is sent."""

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    ProviderRequestError,
)
from gaia_parasail.models import MAX_TOKENS, NAME, ModelSettings
from gaia_parasail.replies import Wanted

Payload: TypeAlias = dict[str, Any]
"""What goes over the wire as JSON, or as the parts of a form."""
Part: TypeAlias = tuple[str, bytes, str]
"""A file of a form: its name, its bytes, its media type."""

_OWN = frozenset(
    {"model", "prompt", "n", "image", "mask", "size", "response_format", "stream"}
)
"""What options may not change: Gaia decides about it."""
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_WHITE = 128

_LOOK = "Say in two or three sentences what this picture shows."
_ENHANCE = (
    "You improve prompts for models that make pictures. Answer with one prompt and "
    "nothing else: say what is seen, in which light, from where and in which style. "
    "Keep everything that is asked for. Use at most {limit} characters."
)


@attrs.frozen(kw_only=True)
class Pictures:
    """
    What a request brings along, as the files of a form.

    Attributes:
        images: The picture to start from, then those to imitate.
        mask: Where to paint: transparent pixels; None: everywhere.
    """

    images: tuple[Part, ...]
    mask: Part | None = None


def generation(request: GenerateRequest, model: ModelSettings) -> Payload:
    """
    Ask for pictures; what a picture is made from goes beside it.

    Raises:
        ProviderRequestError: If an option cannot be sent, or would change what Gaia
            decides about.
    """
    width, height = size_for(request, model)
    payload: Payload = {
        "model": request.model,
        "prompt": _prompt(request, model),
        "size": f"{width}x{height}",
    }
    if request.num_images > 1:
        payload["n"] = request.num_images
    if model.response_format:
        payload["response_format"] = model.response_format
    return {
        **model.extra_body,
        **payload,
        **_fields(request, model),
        **_options(request),
    }


def line(request: GenerateRequest, model: ModelSettings, custom_id: str) -> bytes:
    """
    Write a request as a line of a batch's file.

    Args:
        request: What to make.
        model: Where to ask for it.
        custom_id: What the result is matched by.
    """
    body = generation(request, model)
    images = _images_of(request, model)
    if images:
        body["image"] = [_text(image) for image in images]
    content = {
        "custom_id": custom_id,
        "method": "POST",
        "url": model.endpoint.url,
        "body": body,
    }
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def wanted(request: GenerateRequest, model: ModelSettings) -> Wanted:
    """Say what the answer is to be held against."""
    return Wanted(
        model=request.model or "",
        count=request.num_images,
        size=(request.width, request.height),
        seed=request.seed if "seed" in model.supported_fields else None,
    )


def pictures(request: GenerateRequest, model: ModelSettings) -> Pictures:
    """Take the pictures of a request as files; decodes a mask, which takes a while."""
    images = tuple(
        _part(f"image-{number}", image)
        for number, image in enumerate(_images_of(request, model))
    )
    mask = request.mask_image
    return Pictures(images=images, mask=None if mask is None else _mask(mask))


def description(request: DescribeImageRequest) -> Payload:
    """Ask what a picture shows."""
    image = request.image
    address = f"data:{image.media_type};base64,{_text(image)}"
    content = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": request.question or _LOOK},
    ]
    return _chat(request.model, [{"role": "user", "content": content}])


def enhancement(request: EnhancePromptRequest) -> Payload:
    """Ask for a better prompt."""
    wish = _ENHANCE.format(limit=request.max_length)
    return _chat(
        request.model,
        [
            {"role": "system", "content": wish},
            {"role": "user", "content": request.prompt},
        ],
    )


def size_for(request: GenerateRequest, model: ModelSettings) -> tuple[int, int]:
    """
    Choose the size to ask for: the one wanted, or the nearest that is made.

    The nearest has the most similar shape; of equal shapes, the most similar area.
    """
    wanted = (request.width, request.height)
    if not model.sides or wanted in model.sides:
        return wanted
    return min(model.sides, key=lambda side: _distance(side, wanted))


def _distance(side: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, int]:
    stretch = side[0] * wanted[1] / (side[1] * wanted[0])
    area = abs(side[0] * side[1] - wanted[0] * wanted[1])
    return (round(max(stretch, 1 / stretch), 3), area)


def _prompt(request: GenerateRequest, model: ModelSettings) -> str:
    """Name the pictures in the prompt, for a model that knows them by words only."""
    prompt = request.styled_prompt
    mark = model.image_mark
    count = len(_images_of(request, model))
    if not mark or not count or mark.format(1) in prompt:
        return prompt
    names = " ".join(mark.format(number) for number in range(1, count + 1))
    return f"{names} {prompt}"


def _fields(request: GenerateRequest, model: ModelSettings) -> Payload:
    """Take the optional fields the model knows, under the names it has for them."""
    names = model.supported_fields - {"reference_images"}
    return {
        model.field_names.get(name, name): value
        for name in sorted(names)
        if (value := getattr(request, name)) is not None
    }


def _options(request: GenerateRequest) -> Payload:
    """Take the options meant for this service, as they are."""
    options = dict(request.options_for(NAME))
    if taken := _OWN & options.keys():
        message = f"The {NAME} option {min(taken)} cannot be set: Gaia sets it."
        raise ProviderRequestError(message)
    try:
        json.dumps(options)
    except (TypeError, ValueError) as error:
        message = f"The {NAME} options must be plain JSON values."
        raise ProviderRequestError(message) from error
    return options


def _images_of(request: GenerateRequest, model: ModelSettings) -> tuple[Image, ...]:
    if not model.endpoint.is_edit:
        return ()
    start = () if request.image is None else (request.image,)
    is_imitating = "reference_images" in model.supported_fields
    return (*start, *(request.reference_images if is_imitating else ()))


def _part(name: str, image: Image) -> Part:
    suffix = _SUFFIXES[image.media_type]
    return (f"{name}.{suffix}", image.data, image.media_type)


def _mask(mask: Image) -> Part:
    """Turn Gaia's mask, white where to paint, into OpenAI's, transparent there."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - 25 ms

    white = mask.decode()
    if white.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut them off instead of scaling them.
        white = white.point(lambda value: value / 256)
    white = white.convert("L")
    picture = pillow.new("RGBA", white.size, "black")
    picture.putalpha(white.point(lambda value: 0 if value >= _WHITE else 255))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return ("mask.png", buffer.getvalue(), "image/png")


def _chat(model: str | None, messages: list[Mapping[str, Any]]) -> Payload:
    return {
        "model": model,
        "messages": messages,
        "max_completion_tokens": MAX_TOKENS,
    }


def _text(image: Image) -> str:
    return base64.b64encode(image.data).decode()
