"""OpenAI's form: from payloads to jobs, and from what was made to replies."""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from gaia_core.images import Image
from gaia_core.requests import GenerateRequest
from gaia_core.testing import drawing
from gaia_core.testing.pictures import encoded
from gaia_core.testing.vendors.shop import Job, Made

Payload = Mapping[str, Any]
Reply = dict[str, Any]

_SQUARE = "1024x1024"
_TRANSPARENT = 128


@attrs.frozen(kw_only=True)
class PictureJob(Job):
    """
    Pictures that somebody asks for.

    Attributes:
        response_format: ``b64_json`` or ``url``.
    """

    response_format: str = "b64_json"


@attrs.frozen(kw_only=True)
class ChatJob(Job):
    """
    Words that somebody asks for; its one picture is the text.

    Attributes:
        model: The model that was named.
    """

    model: str = ""


def generation(payload: Payload, task_id: str) -> Job:
    """Read a request for pictures from words."""
    return _picture_job(payload, task_id, {})


def edit(payload: Payload, task_id: str) -> Job:
    """Read a request for pictures from pictures: bytes, or base64 as in batches."""
    given = payload["image"]
    images = [_picture(one) for one in (given if isinstance(given, list) else [given])]
    pictures: dict[str, Any] = {"image": images[0], "reference_images": images[1:]}
    if payload.get("mask") is not None:
        pictures["mask_image"] = _mask(_picture(payload["mask"]))
    return _picture_job(payload, task_id, pictures)


def chat(payload: Payload, task_id: str) -> Job:
    """Read a request for words, about a picture where there is one."""
    parts = [part for one in payload["messages"] for part in _parts(one["content"])]
    words = "\n".join(part["text"] for part in parts if part["type"] == "text")
    seen = [
        _picture(part["image_url"]["url"].partition(";base64,")[2])
        for part in parts
        if part["type"] == "image_url"
    ]
    return ChatJob(
        task_id=task_id,
        prompt=words,
        make=partial(_said, words, seen),
        model=payload["model"],
    )


def pictures_reply(made: Made, addresses: Sequence[str] = ()) -> Reply:
    """Put pictures into a reply, or where they lie."""
    if addresses:
        data = [{"url": address} for address in addresses]
    else:
        data = [{"b64_json": _text(image)} for image in made.images]
    return {"created": int(time.time()), "data": data}


def chat_reply(made: Made, model: str) -> Reply:
    """Put words into a reply."""
    words = "".join(image.decode(errors="replace") for image in made.images)
    tokens = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {
        "id": f"chatcmpl-{made.job.task_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": words},
            }
        ],
        "usage": tokens,
    }


def digest_of(payload: Payload) -> str:
    """Name a request that comes without a name by what it asks for."""
    text = json.dumps(payload, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _picture_job(payload: Payload, task_id: str, pictures: Mapping[str, Any]) -> Job:
    width, _, height = payload.get("size", _SQUARE).partition("x")
    request = GenerateRequest(
        prompt=payload["prompt"],
        width=int(width),
        height=int(height),
        num_images=int(payload.get("n", 1)),
        seed=None if payload.get("seed") is None else int(payload["seed"]),
        **pictures,
    )
    return PictureJob(
        task_id=task_id,
        prompt=request.prompt,
        seed=request.seed,
        make=partial(_drawn, request),
        response_format=payload.get("response_format", "b64_json"),
    )


def _drawn(request: GenerateRequest) -> list[bytes]:
    seed = request.seed
    first = drawing.seed_of(request.prompt) if seed is None else seed
    return [
        drawing.generated(request, first + number)
        for number in range(request.num_images)
    ]


def _said(words: str, seen: Sequence[Image]) -> list[bytes]:
    """Say something that shows what was asked, and what was to be looked at."""
    sizes = [f"a picture of {one.width}x{one.height}" for one in seen]
    return [", ".join([*sizes, words[-80:]]).encode()]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _picture(given: bytes | str) -> Image:
    if isinstance(given, bytes):
        return Image.from_bytes(given)
    try:
        return Image.from_bytes(base64.b64decode(given, validate=True))
    except binascii.Error as error:
        message = "no base64"
        raise ValueError(message) from error


def _mask(image: Image) -> bytes:
    """Turn OpenAI's mask, transparent where to paint, into Gaia's, white there."""
    alpha = image.decode().convert("RGBA").getchannel("A")
    return encoded(alpha.point(lambda value: 255 if value < _TRANSPARENT else 0))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
