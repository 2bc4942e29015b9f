"""From Gaia's requests to what the SDK is called with; nothing here asks anybody."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from gaia_core import (
    Capability,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    ProviderRequestError,
    UpscaleRequest,
)
from gaia_core.requests import Request
from gaia_gemini.models import MAX_PICTURES, MAX_UPSCALED, NAME, ImageModel
from gaia_gemini.sizes import Fit

Options = Mapping[str, Any]

TASK_HEADER = "x-gaia-task"
"""
Names an attempt for whoever stands in between, such as a proxy that keeps a log.

The service knows no such header. RFC 9110 asks servers to ignore what they do not know
(section 5.1); the service itself could not be asked whether it does (2026-11).
"""

_THINKING = ("minimal", "low", "medium", "high")
_HOTTEST = 2.0
_LONGEST_NAME = 40
_DESCRIBE = "Describe what this picture shows, in a few sentences."
_ENHANCE = (
    "You turn a few words into one prompt for a model that draws pictures. Keep what "
    "is asked for; add subject, setting, light, composition and style in plain "
    "sentences. Answer with the prompt alone, in at most {limit} characters."
)
_INPAINT = (
    "The first picture is to be changed; the second is a mask of it. Change only what "
    "is white in the mask, leave all else exactly where and as it is, and keep the "
    "framing. In the white region, show: {prompt}"
)
_OUTPAINT = (
    "The first picture has an empty border; the second is a mask of it, in which the "
    "border is white. Continue the picture into the border, seamlessly, leave all else "
    "exactly where and as it is, and keep the framing. The whole shows: {prompt}"
)


@attrs.frozen(kw_only=True)
class Payload:
    """
    One call of ``generate_content``.

    Attributes:
        model: The model to ask.
        contents: What goes in.
        config: How to answer.
        fit: The size that is drawn; None: words are asked for.
        warnings: What is left out of it, in plain words.
    """

    model: str
    contents: list[Any]
    config: Mapping[str, Any]
    fit: Fit | None = None
    warnings: tuple[str, ...] = ()

    def config_for(self, task_id: str) -> Any:
        """Give the configuration of one call, signed with the attempt's name."""
        headers = {TASK_HEADER: task_id}
        return {**self.config, "http_options": {"headers": headers}}


def generation(
    request: GenerateRequest, model: ImageModel, size: str | None
) -> Payload:
    """
    Ask for one picture, from words and from whatever pictures come along.

    Args:
        request: What is asked for; inpainting and outpainting are `repainting`.
        model: The model that draws.
        size: The image size that the settings ask for, if any.

    Raises:
        ProviderRequestError: If there are too many pictures, or an option is wrong.
    """
    inputs = [*filter(None, [request.image]), *request.reference_images]
    options = _options(request)
    taken = model.fit(request.width, request.height, size_for(request, size))
    ratio = options.get("aspect_ratio", taken.ratio)
    taken = attrs.evolve(taken, ratio=_known(ratio, model.ratios, "aspect_ratio"))
    return _payload(request, model, taken, inputs, request.styled_prompt)


def repainting(
    request: GenerateRequest, model: ImageModel, canvas: Image, mask: Image, fit: Fit
) -> Payload:
    """
    Ask for a part of a picture anew.

    Args:
        request: What is asked for.
        model: The model that draws.
        canvas: The picture, in the shape of ``fit``.
        mask: What is to be new in it: white.
        fit: The size that is drawn.

    Raises:
        ProviderRequestError: If there are too many pictures, or an option is wrong.
    """
    words = _OUTPAINT if request.capability is Capability.OUTPAINTING else _INPAINT
    inputs = [canvas, mask, *request.reference_images]
    prompt = words.format(prompt=request.styled_prompt)
    payload = _payload(request, model, fit, inputs, prompt)
    if "aspect_ratio" not in _options(request):
        return payload
    warning = "aspect_ratio ignored: the picture has a shape of its own"
    return attrs.evolve(payload, warnings=(*payload.warnings, warning))


def size_for(request: GenerateRequest, size: str | None) -> Any:
    """
    Say which image size is asked for: by the request, or else by the settings.

    Returns:
        What the request holds, whatever that is; None: neither asks for one.
    """
    return _options(request).get("image_size", size)


def enhancement(request: EnhancePromptRequest, model: str) -> Payload:
    """Ask for a better prompt."""
    rule = _ENHANCE.format(limit=request.max_length)
    config = _plain_config() | {"system_instruction": rule}
    return Payload(
        model=model,
        contents=_contents([], request.prompt),
        config=config,
        warnings=ignored_options(request),
    )


def description(request: DescribeImageRequest, model: str) -> Payload:
    """Ask what a picture shows."""
    contents = _contents([request.image], request.question or _DESCRIBE)
    return Payload(
        model=model,
        contents=contents,
        config=_plain_config(),
        warnings=ignored_options(request),
    )


def upscale_factor(request: UpscaleRequest) -> str:
    """
    Say by how much to enlarge.

    Raises:
        ProviderRequestError: If the result would be larger than the model makes.
    """
    factor, image = request.upscale_factor, request.image
    width, height = image.width * factor, image.height * factor
    if width * height > MAX_UPSCALED:
        message = (
            f"Imagen enlarges to at most {MAX_UPSCALED} pixels, and {width}x{height} "
            "is more: take a smaller factor."
        )
        raise ProviderRequestError(message)
    return f"x{factor}"


def upscaling(task_id: str) -> Any:
    """Say how an enlarged picture is to come."""
    return {
        "output_mime_type": "image/png",
        "include_rai_reason": True,
        "http_options": {"headers": {TASK_HEADER: task_id}},
    }


def ignored_options(request: Request) -> tuple[str, ...]:
    """Say which options are left out of work that takes none."""
    return tuple(
        f"option {str(name)[:_LONGEST_NAME]!r} ignored: {request.capability} takes none"
        for name in request.options_for(NAME)
    )


# -- parts ----------------------------------------------------------------------------


def _payload(
    request: GenerateRequest,
    model: ImageModel,
    taken: Fit,
    inputs: Sequence[Image],
    prompt: str,
) -> Payload:
    if len(inputs) > MAX_PICTURES:
        message = (
            f"{model.id} takes at most {MAX_PICTURES} pictures with a prompt, "
            f"not {len(inputs)}: leave some reference_images out."
        )
        raise ProviderRequestError(message)
    options = _options(request)
    shape = {"aspect_ratio": taken.ratio}
    if model.has_sizes:
        shape["image_size"] = taken.size
    config: dict[str, Any] = {
        **_plain_config(),
        "response_modalities": ["TEXT", "IMAGE"],
        "image_config": shape,
    }
    if "temperature" in options:
        config["temperature"] = _temperature(options["temperature"])
    if "thinking_level" in options:
        level = _known(options["thinking_level"], _THINKING, "thinking_level")
        config["thinking_config"] = {"thinking_level": level.upper()}
    return Payload(
        model=model.id,
        contents=_contents(inputs, prompt),
        config=config,
        fit=taken,
        warnings=tuple(_unknown(options, model)),
    )


def _plain_config() -> dict[str, Any]:
    """
    Say what holds for every call: one request, one answer.

    Left to itself the SDK sends further requests, each of which costs: to go on with
    an answer that was too long, and to report what functions gave.
    """
    return {
        "automatic_continuation": False,
        "automatic_function_calling": {"disable": True},
        # What comes is read by us: new words of the service would make the SDK warn,
        # and damaged ones fail in ways that tell nothing about money.
        "should_return_http_response": True,
    }


def _contents(inputs: Iterable[Image], prompt: str) -> list[Any]:
    parts: list[Mapping[str, Any]] = [
        {"inline_data": {"mime_type": one.media_type, "data": one.data}}
        for one in inputs
    ]
    return [{"role": "user", "parts": [*parts, {"text": prompt}]}]


def _options(request: GenerateRequest) -> Options:
    return request.options_for(NAME)


_KNOWN_OPTIONS = ("aspect_ratio", "image_size", "temperature", "thinking_level")


def _unknown(options: Options, model: ImageModel) -> Iterable[str]:
    """Say which options are left out."""
    known = ", ".join(_KNOWN_OPTIONS)
    for name in options:
        if name not in _KNOWN_OPTIONS:
            yield f"option {str(name)[:_LONGEST_NAME]!r} ignored: {NAME} knows {known}"
    size = options.get("image_size")
    if size is not None and size not in model.sizes:
        sizes = ", ".join(model.sizes)
        yield f"image_size {str(size)[:10]!r} ignored: {model.id} draws {sizes}"


def _known(value: Any, known: Sequence[str], name: str) -> str:
    """Refuse what no model knows."""
    if isinstance(value, str) and value in known:
        return value
    message = f"{name} must be one of {', '.join(known)}."
    raise ProviderRequestError(message)


def _temperature(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= _HOTTEST:
        return float(value)
    message = f"temperature must be a number from 0 to {_HOTTEST:g}."
    raise ProviderRequestError(message)
