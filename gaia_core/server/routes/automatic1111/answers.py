"""What clients of AUTOMATIC1111 are answered with."""

import asyncio
import time
from collections.abc import Mapping
from html import escape
from typing import Any, cast

import attrs
import orjson

from gaia_core.images import Image
from gaia_core.metadata import Description, parameters, software_version
from gaia_core.requests import GenerateRequest
from gaia_core.responses import ImageResponse, Response, StoredImage
from gaia_core.server import masks
from gaia_core.server.answers import Writer, ours_of, quoted_base64
from gaia_core.server.routes.automatic1111.work import Task
from gaia_core.server.schemas.automatic1111 import DrawingIn
from gaia_core.server.watched import Job

_UNECHOED = {"init_images", "mask", "image", "input_image"}
_IDLE: Mapping[str, Any] = {
    "skipped": False,
    "interrupted": False,
    "stopping_generation": False,
    "job": "",
    "job_count": 0,
    "job_timestamp": "0",
    "job_no": 0,
    "sampling_step": 0,
    "sampling_steps": 0,
}
_PERCENT = 100


async def drawn(
    response: ImageResponse, task: Task, body: DrawingIn, writer: Writer
) -> dict[str, Any]:
    """Write what was drawn."""
    images = response.images if body.send_images else ()
    return {
        "images": [await writer.encoded(image) for image in images],
        "parameters": _echo(body),
        "info": orjson.dumps(_info(response, task)).decode(),
    }


async def finished(
    response: ImageResponse, task: Task, writer: Writer, *, is_shown: bool
) -> dict[str, Any]:
    """Write what was enlarged or cut out."""
    ours = gaia(response, task)
    notes = [f"{response.provider}, {response.model}", *ours["warnings"]]
    shown = await writer.encoded(response.images[0]) if is_shown else None
    return {
        "html_info": "".join(f"<p>{escape(note)}</p>" for note in notes),
        "image": shown,
        "gaia": ours,
    }


async def subject(
    response: ImageResponse, task: Task, writer: Writer, *, is_mask: bool
) -> dict[str, Any]:
    """Write what was cut out, or where it was."""
    cut_out = response.images[0]
    if not is_mask:
        return {"image": await writer.encoded(cut_out), "gaia": gaia(response, task)}
    data = await writer.site.gaia.storage.read(cut_out.id)
    encoded = await asyncio.to_thread(_subject_mask, data)
    return {"image": encoded, "gaia": gaia(response, task)}


def gaia(response: Response, task: Task) -> dict[str, Any]:
    """Write what the web UI has no fields for."""
    return ours_of(response, (f"{name} ignored" for name in task.ignored))


def progress(job: Job | None, count: int, *, is_shown: bool) -> dict[str, Any]:
    """Write how far somebody's latest request is."""
    if job is None:
        return {
            "progress": 0.0,
            "eta_relative": 0.0,
            "state": {**_IDLE, "job_count": count},
            "current_image": None,
            "textinfo": None,
        }
    since = time.monotonic() - job.started
    left = since / job.fraction - since if job.fraction else 0.0
    state = {
        "job": "gaia",
        "job_count": count,
        "sampling_step": round(job.fraction * _PERCENT),
        "sampling_steps": _PERCENT,
    }
    preview = job.preview if is_shown else None
    return {
        # Nought means that nothing is under way.
        "progress": max(0.01, job.fraction),
        "eta_relative": round(left, 3),
        "state": {**_IDLE, **state},
        "current_image": preview and quoted_base64(preview.data),
        "textinfo": None,
    }


def _subject_mask(data: bytes) -> orjson.Fragment:
    return quoted_base64(masks.of_subject(Image.from_bytes(data)).data)


def _echo(body: DrawingIn) -> dict[str, Any]:
    """Give back what was heeded; what was not may hold a password."""
    names = set(type(body).model_fields) - _UNECHOED
    return body.model_dump(include=names)


def _info(response: ImageResponse, task: Task) -> dict[str, Any]:
    request = cast("GenerateRequest", task.order.request)
    count = len(response.images)
    seeds = [-1 if one.seed is None else one.seed for one in response.images]
    first = response.images[0]
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt or "",
        "all_negative_prompts": [request.negative_prompt or ""] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * count,
        "subseed_strength": 0,
        "width": first.width,
        "height": first.height,
        "sampler_name": "Automatic",
        "cfg_scale": request.guidance_scale,
        "steps": request.num_inference_steps,
        "batch_size": count,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": response.model,
        "sd_model_hash": "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": 0,
        "seed_resize_from_h": 0,
        "denoising_strength": request.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [_infotext(one, request) for one in response.images],
        "styles": [],
        "job_timestamp": first.created_at.strftime("%Y%m%d%H%M%S"),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"Gaia {software_version()}",
        "gaia": gaia(response, task) | {"images": [one.id for one in response.images]},
    }


def _infotext(image: StoredImage, request: GenerateRequest) -> str:
    return parameters(
        Description(
            provider=image.provider,
            model=image.model,
            width=image.width,
            height=image.height,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=image.seed,
            steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            strength=request.strength,
            version=software_version(),
        )
    )


@attrs.frozen(kw_only=True)
class Listed:
    """
    What a list of models holds.

    Attributes:
        name: What a client names it by.
        label: What a person calls it.
    """

    name: str
    label: str

    def checkpoint(self) -> dict[str, Any]:
        """Write it as a checkpoint."""
        return {
            "title": self.name,
            "model_name": self.label,
            "hash": None,
            "sha256": None,
            "filename": self.name,
            "config": None,
        }

    def upscaler(self) -> dict[str, Any]:
        """Write it as an upscaler."""
        return {
            "name": self.name,
            "model_name": self.label,
            "model_path": None,
            "model_url": None,
            "scale": 4.0,
        }
