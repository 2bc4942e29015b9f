"""What the vendor makes: real pictures, and the replies they travel in."""

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gaia_core.images import Image
from gaia_core.requests import (
    GenerateRequest,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.testing import drawing
from gaia_core.testing.vendors.faults import Fault

Payload = Mapping[str, Any]
Reply = dict[str, Any]

_BROKEN = b"\x89PNG\r\n\x1a\n but that is all there is"


def generated(payload: Payload) -> list[bytes]:
    """Draw what a payload asks for, each picture in one colour."""
    seed = payload.get("seed")
    request = GenerateRequest(
        prompt=payload["prompt"],
        width=payload["width"],
        height=payload["height"],
        num_images=payload.get("n", 1),
        seed=seed,
    )
    first = drawing.seed_of(request.prompt) if seed is None else seed
    return [
        drawing.generated(request, first + number)
        for number in range(request.num_images)
    ]


def upscaled(payload: Payload) -> list[bytes]:
    """Enlarge the picture of a payload."""
    request = UpscaleRequest(
        image=_picture(payload), upscale_factor=payload.get("factor", 4)
    )
    return [drawing.enlarged(request)]


def cut_out(payload: Payload) -> list[bytes]:
    """Cut the subject out of the picture of a payload."""
    return [drawing.cut_out(RemoveBackgroundRequest(image=_picture(payload)))]


def reply_of(
    payload: Payload, images: list[bytes], cost_usd: Decimal, fault: Fault | None
) -> Reply:
    """Put pictures into a reply, spoiled if so it shall be."""
    if fault is Fault.EMPTY_AFTER:
        images = []
    elif fault is Fault.BAD_IMAGE_AFTER:
        images = [_BROKEN for _ in images]
    return {
        "task_id": payload["task_id"],
        "images": [base64.b64encode(image).decode() for image in images],
        "seed": payload.get("seed"),
        "cost": str(cost_usd),
    }


def _picture(payload: Payload) -> Image:
    return Image.from_bytes(base64.b64decode(payload["image"]))
