"""Turn a request into the jobs the networks of this room understand."""

import secrets
from collections.abc import Mapping
from typing import Any

import attrs

from gaia_core import GenerateRequest, ProviderRequestError
from gaia_core.requests import MAX_SEED
from gaia_offline import pixels
from gaia_offline.models import MAPS, NAME

CRISP = "pixels"
FINISHES = (CRISP, "painted")
BACKDROPS = (*pixels.BACKDROPS, pixels.NO_BACKDROP)

_SEED_BITS = 32


@attrs.frozen(kw_only=True)
class Drawing:
    """
    One picture to draw.

    Attributes:
        prompt: What to draw.
        seed: Chooses among the pictures that fit.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        is_map: Whether it is a map, or a picture of a thing.
        negative_prompt: What to steer away from.
        num_inference_steps: Steps of the tile model; None: its default.
        guidance_scale: Guidance of the tile model; None: its default.
        finish: ``pixels`` keeps the grid, ``painted`` goes through the upscaler.
        backdrop: What lies behind the thing.
        unused_options: Options that a map has no use for.
    """

    prompt: str
    seed: int
    width: int
    height: int
    is_map: bool
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    finish: str = FINISHES[0]
    backdrop: str = BACKDROPS[0]
    unused_options: tuple[str, ...] = ()


def drawings(request: GenerateRequest) -> tuple[Drawing, ...]:
    """
    Give one drawing per picture asked for; the seed counts up from the first.

    After the largest seed comes 0, so that every picture can be asked for by its own.

    Raises:
        ProviderRequestError: If an option is unknown or has no such value.
    """
    options = _options(request.options_for(NAME))
    is_map = request.model == MAPS
    first = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
    return tuple(
        Drawing(
            prompt=request.prompt,
            seed=(first + place) % (MAX_SEED + 1),
            width=request.width,
            height=request.height,
            is_map=is_map,
            unused_options=tuple(options) if is_map else (),
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            **options,
        )
        for place in range(request.num_images)
    )


def _options(given: Mapping[str, Any]) -> dict[str, str]:
    """Check the options of this provider."""
    known = {"finish": FINISHES, "backdrop": BACKDROPS}
    for name, value in given.items():
        if name not in known:
            message = f"{NAME} has no option {name!r}: choose among {', '.join(known)}."
            raise ProviderRequestError(message)
        if value not in known[name]:
            message = (
                f"The {NAME} option {name} cannot be {value!r}: "
                f"choose {', '.join(known[name])}."
            )
            raise ProviderRequestError(message)
    return dict(given)
