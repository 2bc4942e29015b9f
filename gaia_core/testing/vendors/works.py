"""The vendor's own form: from payloads to jobs, and from what was made to replies."""

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

from gaia_core.images import Image
from gaia_core.requests import (
    GenerateRequest,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.testing import drawing
from gaia_core.testing.vendors.shop import Job, Made

Payload = Mapping[str, Any]
Reply = dict[str, Any]


def generation(payload: Payload) -> Job:
    """Read a request for pictures from words."""
    return Job(
        task_id=payload["task_id"],
        prompt=payload["prompt"],
        seed=payload.get("seed"),
        make=partial(_generated, payload),
    )


def upscaling(payload: Payload) -> Job:
    """Read a request to enlarge a picture."""
    return Job(task_id=payload["task_id"], make=partial(_upscaled, payload))


def cutting_out(payload: Payload) -> Job:
    """Read a request to cut out a subject."""
    return Job(task_id=payload["task_id"], make=partial(_cut_out, payload))


def reply_of(made: Made) -> Reply:
    """Put what was made into a reply."""
    return {
        "task_id": made.job.task_id,
        "images": [base64.b64encode(image).decode() for image in made.images],
        "seed": made.job.seed,
        "cost": str(made.cost_usd),
    }


def _generated(payload: Payload) -> list[bytes]:
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


def _upscaled(payload: Payload) -> list[bytes]:
    factor = payload.get("factor", 4)
    request = UpscaleRequest(image=_picture(payload), upscale_factor=factor)
    return [drawing.enlarged(request)]


def _cut_out(payload: Payload) -> list[bytes]:
    return [drawing.cut_out(RemoveBackgroundRequest(image=_picture(payload)))]


def _picture(payload: Payload) -> Image:
    return Image.from_bytes(base64.b64decode(payload["image"]))
