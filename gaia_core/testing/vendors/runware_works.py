"""Runware's form: from task objects to jobs, and from what was made to results."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from gaia_core.images import Image
from gaia_core.requests import (
    MAX_SIDE,
    GenerateRequest,
    Outpaint,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.testing import drawing
from gaia_core.testing.pictures import encoded
from gaia_core.testing.vendors.shop import Job, Made

Payload = Mapping[str, Any]
Item = dict[str, Any]
Find = Callable[[str], bytes | None]
"""Takes the address or the UUID of a picture the vendor made, and finds it."""
Address = Callable[[str, bytes], str]
"""Takes the name and the bytes of a picture, keeps it, and says where it lies."""

MODELS: tuple[Item, ...] = (
    {
        "air": "runware:100@1",
        "name": "FLUX.1 [schnell]",
        "version": "1",
        "category": "checkpoint",
        "architecture": "flux1s",
        "tags": ["flux"],
        "private": False,
    },
    {
        "air": "runware:101@1",
        "name": "FLUX.1 [dev]",
        "version": "1",
        "category": "checkpoint",
        "architecture": "flux1d",
        "tags": ["flux"],
        "private": False,
    },
    {
        "air": "civitai:133005@782002",
        "name": "Juggernaut XL",
        "version": "XI",
        "category": "checkpoint",
        "architecture": "sdxl",
        "tags": ["photorealistic"],
        "private": False,
    },
    {
        "air": "civitai:58390@62833",
        "name": "Detail Tweaker",
        "version": "1.0",
        "category": "lora",
        "architecture": "sd1x",
        "tags": ["detail"],
        "private": False,
    },
)
"""What there is to be found in the vendor's catalogue."""

_KINDS = {"JPG": "JPEG", "PNG": "PNG", "WEBP": "WEBP"}
_MEDIA_TYPES = {"JPG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_MOST_RESULTS = 20
_SMALLEST_SIDE = 64
_SEEDS = 2**63
_DEFAULT_FACTOR = 2
_MOST_LETTERS = 8_000


class RefusedError(Exception):
    """
    The vendor refuses a task before any work.

    Attributes:
        code: The vendor's word for it.
        parameter: The field it is about, or None.
    """

    def __init__(self, code: str, parameter: str | None = None) -> None:
        """Keep what the answer says."""
        super().__init__(code)
        self.code = code
        self.parameter = parameter


@attrs.frozen(kw_only=True)
class Order:
    """
    A task as the vendor understands it.

    Attributes:
        payload: The task object as it came.
        job: The work.
        is_words: Whether words come out, and no pictures.
    """

    payload: Payload
    job: Job
    is_words: bool = False

    @property
    def is_async(self) -> bool:
        """Whether the answer is only that it was taken; 1.8.0 always says which."""
        return self.payload.get("deliveryMethod") == "async"


def tasks_in(body: str | bytes) -> list[Item]:
    """
    Read the task objects of a frame or a body.

    Raises:
        ValueError: If it is no list of objects.
    """
    tasks = json.loads(body)
    if not isinstance(tasks, list) or not all(isinstance(one, dict) for one in tasks):
        message = "a list of task objects is expected"
        raise ValueError(message)
    return tasks


def order_of(payload: Payload, find: Find) -> Order:
    """
    Read a task object.

    Raises:
        RefusedError: If it is none that can be carried out.
    """
    task_id = _checked_uuid(payload)
    read = _READ.get(str(payload.get("taskType")))
    if read is None:
        code = "unsupportedTaskType"
        raise RefusedError(code, "taskType")
    if payload.get("outputFormat", "JPG") not in _KINDS:
        code = "invalidOutputFormat"
        raise RefusedError(code, "outputFormat")
    return read(task_id, payload, find)


def items_of(order: Order, made: Made, address: Address) -> list[Item]:
    """
    Put what was made into result items.

    Args:
        order: The task.
        made: What it came to.
        address: Keeps each picture.
    """
    common = {
        "taskType": order.payload["taskType"],
        "taskUUID": made.job.task_id,
        "status": "success",
    }
    count = max(1, len(made.images))
    if order.payload.get("includeCost"):
        common["cost"] = float(made.cost_usd / count)
    if not made.images:
        return [common]
    return [
        common | _result(order, number, data, address)
        for number, data in enumerate(made.images)
    ]


def search(payload: Payload) -> Item:
    """Answer a search in the catalogue."""
    words = str(payload.get("search", "")).lower()
    found = [
        model
        for model in MODELS
        if words in json.dumps(model).lower()
        and payload.get("category") in {None, model["category"]}
    ]
    start, limit = payload.get("offset", 0), payload.get("limit", _MOST_RESULTS)
    return {
        "taskType": "modelSearch",
        "taskUUID": payload.get("taskUUID"),
        "totalResults": len(found),
        "results": found[start : start + limit],
    }


# -- what is asked for -------------------------------------------------------------


def _checked_uuid(payload: Payload) -> str:
    """Take UUIDs of version 4 only, as the vendor does."""
    try:
        task_id = uuid.UUID(str(payload.get("taskUUID")))
    except ValueError:
        task_id = uuid.UUID(int=0)
    if task_id.version != uuid.uuid4().version:
        code = "invalidTaskUUID"
        raise RefusedError(code, "taskUUID")
    return str(task_id)


def _generation(task_id: str, payload: Payload, find: Find) -> Order:
    prompt = payload.get("positivePrompt")
    if not isinstance(prompt, str) or not prompt.strip():
        code = "missingPositivePrompt"
        raise RefusedError(code, "positivePrompt")
    if not isinstance(payload.get("model"), str):
        code = "missingModel"
        raise RefusedError(code, "model")
    request = _request(prompt, payload, find)
    seed = payload.get("seed")
    make = partial(_generated, request, payload)
    job = Job(task_id=task_id, prompt=prompt, seed=seed, make=make)
    return Order(payload=payload, job=job)


def _request(prompt: str, payload: Payload, find: Find) -> GenerateRequest:
    image = _picture(payload, "seedImage", find) or _picture(payload, "image", find)
    mask = _picture(payload, "maskImage", find) or _picture(payload, "mask", find)
    sides = payload.get("outpaint")
    try:
        return GenerateRequest(
            prompt=prompt[:_MOST_LETTERS],
            width=_side(payload, "width"),
            height=_side(payload, "height"),
            num_images=payload.get("numberResults", 1),
            seed=payload.get("seed"),
            image=image,
            strength=payload.get("strength") if image else None,
            mask_image=mask if image else None,
            outpaint=_outpaint(sides) if image and sides else None,
        )
    except (TypeError, ValueError) as error:
        code = "invalidParameter"
        raise RefusedError(code) from error


def _outpaint(sides: Payload) -> Outpaint:
    wanted = ("left", "right", "top", "bottom")
    return Outpaint(**{side: sides.get(side, 0) for side in wanted})


def _side(payload: Payload, name: str) -> int:
    side = payload.get(name, 1024)
    if not isinstance(side, int) or not _SMALLEST_SIDE <= side <= MAX_SIDE:
        code = f"invalid{name.capitalize()}"
        raise RefusedError(code, name)
    return side


def _upscaling(task_id: str, payload: Payload, find: Find) -> Order:
    image = _needed_picture(payload, find)
    factor = int(payload.get("upscaleFactor", _DEFAULT_FACTOR))
    try:
        request = UpscaleRequest(image=image, upscale_factor=factor)
    except ValueError as error:
        code = "invalidUpscaleFactor"
        raise RefusedError(code, "upscaleFactor") from error
    make = partial(_encoded, partial(drawing.enlarged, request), payload)
    return Order(payload=payload, job=Job(task_id=task_id, make=make))


def _cutting_out(task_id: str, payload: Payload, find: Find) -> Order:
    request = RemoveBackgroundRequest(image=_needed_picture(payload, find))
    make = partial(_encoded, partial(drawing.cut_out, request), payload)
    return Order(payload=payload, job=Job(task_id=task_id, make=make))


def _caption(task_id: str, payload: Payload, find: Find) -> Order:
    image = _needed_picture(payload, find)
    words = f"a picture of {image.width} by {image.height} pixels"
    question = payload.get("prompt")
    if isinstance(question, str):
        words = f"{question} It is {words}."
    return _words(task_id, payload, words, str(question or ""))


def _enhancement(task_id: str, payload: Payload, _: Find) -> Order:
    prompt = payload.get("prompt")
    if not isinstance(prompt, str):
        code = "missingPrompt"
        raise RefusedError(code, "prompt")
    words = f"{prompt}, in the warm light of evening, richly detailed"
    return _words(task_id, payload, words, prompt)


def _words(task_id: str, payload: Payload, words: str, prompt: str) -> Order:
    count = int(payload.get("promptVersions", 1))

    def make() -> list[bytes]:
        return [words.encode()] * count

    job = Job(task_id=task_id, prompt=prompt, make=make)
    return Order(payload=payload, job=job, is_words=True)


_READ: Mapping[str, Callable[[str, Payload, Find], Order]] = {
    "imageInference": _generation,
    "upscale": _upscaling,
    "removeBackground": _cutting_out,
    "caption": _caption,
    "promptEnhance": _enhancement,
}

# -- pictures that come in ---------------------------------------------------------


def _needed_picture(payload: Payload, find: Find) -> Image:
    image = _picture(payload, "image", find)
    if image is None:
        code = "missingImage"
        raise RefusedError(code, "inputs.image")
    return image


def _picture(payload: Payload, name: str, find: Find) -> Image | None:
    """Read a picture that comes as a data URI, or as one that was made here."""
    inputs = payload.get("inputs") or {}
    source = payload.get(name) or inputs.get(name)
    if source is None:
        return None
    try:
        data = _bytes_of(str(source), find)
        return Image.from_bytes(data)
    except ValueError as error:
        code = f"invalid{name[0].upper()}{name[1:]}"
        raise RefusedError(code, name) from error


def _bytes_of(source: str, find: Find) -> bytes:
    head, is_data, text = source.partition(";base64,")
    if is_data and head.startswith("data:"):
        return base64.b64decode(text)
    found = find(source)
    if found is None:
        message = "no such picture"
        raise ValueError(message)
    return found


# -- pictures that go out ----------------------------------------------------------


def _generated(request: GenerateRequest, payload: Payload) -> list[bytes]:
    first = request.seed
    if first is None:
        first = drawing.seed_of(request.prompt)
    return [
        picture
        for number in range(request.num_images)
        for picture in _encoded(
            partial(drawing.generated, request, (first + number) % _SEEDS), payload
        )
    ]


def _encoded(draw: Callable[[], bytes], payload: Payload) -> list[bytes]:
    """Draw, in the format asked for; the vendor's own choice is JPEG."""
    kind = _KINDS[payload.get("outputFormat", "JPG")]
    data = draw()
    if kind == "PNG":
        return [data]
    mode = "RGB" if kind == "JPEG" else "RGBA"
    return [encoded(Image.from_bytes(data).decode().convert(mode), kind)]


def _result(order: Order, number: int, data: bytes, address: Address) -> Item:
    if order.is_words:
        return {"text": data.decode(errors="replace")}
    picture_id = str(uuid.uuid4())
    item: Item = {"imageUUID": picture_id}
    item.update(_delivered(order.payload, picture_id, data, address))
    if order.payload["taskType"] == "imageInference":
        seed = order.job.seed
        first = drawing.seed_of(order.job.prompt) if seed is None else seed
        item["seed"] = (first + number) % _SEEDS
        item["NSFWContent"] = "nsfw" in order.job.prompt
    return item


def _delivered(
    payload: Payload, picture_id: str, data: bytes, address: Address
) -> Item:
    text = base64.b64encode(data).decode
    media_type = media_type_of(payload)
    match payload.get("outputType", "URL"):
        case "base64Data":
            return {"imageBase64Data": text()}
        case "dataURI":
            return {"imageDataURI": f"data:{media_type};base64,{text()}"}
        case _:
            suffix = media_type.removeprefix("image/").replace("jpeg", "jpg")
            return {"imageURL": address(f"{picture_id}.{suffix}", data)}


def media_type_of(payload: Payload) -> str:
    """Say what the pictures of a task are."""
    return _MEDIA_TYPES[payload.get("outputFormat", "JPG")]
