"""What a request asks of one model, and what the model's card allows."""

from gaia_core.catalog import ModelInfo
from gaia_core.requests import GenerateRequest, Request, UpscaleRequest

DECISIVE_FIELDS = ("reference_images", "loras")
"""A model that does not support one of these is passed over when it is set."""
OPTIONAL_FIELDS = (
    "negative_prompt",
    "seed",
    "guidance_scale",
    "num_inference_steps",
    "strength",
)
"""A model that does not support one of these serves anyway, with a warning."""


def ignored_fields(request: Request, model: ModelInfo) -> tuple[str, ...]:
    """
    Name the fields a model leaves unheeded although the request sets them.

    Decisive fields are no matter here: such a model is passed over.
    """
    return tuple(
        name
        for name in OPTIONAL_FIELDS
        if getattr(request, name, None) is not None
        and name not in model.supported_fields
    )


def reject_size(request: Request, model: ModelInfo) -> str | None:
    """Say why a model cannot make pictures so large or so many, or None."""
    width, height = _output_size(request)
    if width > model.max_width or height > model.max_height:
        return (
            f"makes at most {model.max_width}x{model.max_height}, not {width}x{height}"
        )
    if isinstance(request, GenerateRequest) and request.num_images > model.max_images:
        return f"makes at most {model.max_images} per request, not {request.num_images}"
    if (
        isinstance(request, UpscaleRequest)
        and request.upscale_factor not in model.upscale_factors
    ):
        factors = ", ".join(str(factor) for factor in sorted(model.upscale_factors))
        return f"enlarges by {factors}, not by {request.upscale_factor}"
    return None


def reject_fields(request: Request, model: ModelInfo) -> str | None:
    """Name the decisive field that a model does not support, or None."""
    for name in DECISIVE_FIELDS:
        if getattr(request, name, ()) and name not in model.supported_fields:
            return f"does not support {name}"
    return None


def _output_size(request: Request) -> tuple[int, int]:
    if isinstance(request, GenerateRequest):
        return request.width, request.height
    image = getattr(request, "image", None)
    if image is None:
        return 0, 0
    factor = request.upscale_factor if isinstance(request, UpscaleRequest) else 1
    return image.width * factor, image.height * factor
