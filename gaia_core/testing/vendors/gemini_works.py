"""Gemini's own form: from payloads to jobs, and from what was made to replies."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.images import Image
from gaia_core.requests import UpscaleRequest
from gaia_core.testing import drawing
from gaia_core.testing.pictures import encoded
from gaia_core.testing.vendors.shop import Job
from gaia_core.testing.vendors.works import Payload

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Reply = dict[str, Any]

TEXT_MODEL = "gemini-3.5-flash-lite"
UPSCALER = "imagen-4.0-upscale-preview"
MODELS = (
    *("gemini-3.1-flash-image", "gemini-3.1-flash-lite-image"),
    *("gemini-3-pro-image", "nano-banana-pro-preview"),
    *(TEXT_MODEL, "gemini-embedding-2", UPSCALER),
)
"""Some of what the service has."""

SIZES: Mapping[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "1:4": (512, 2064),
    "1:8": (352, 2928),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:1": (2064, 512),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "8:1": (2928, 352),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
}
"""Aspect ratio to the pixels that the service was seen to make of it at 1K."""
SCALES = {"512": 0.5, "1K": 1, "2K": 2, "4K": 4}
TOKENS = {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}
"""Image size to the tokens it takes (Gemini 3.1 Flash Image)."""
_INPUT_TOKENS = 1120
_MOST_PICTURES = 14
_MOST_UPSCALED = 17_000_000


@attrs.frozen(kw_only=True)
class GeminiJob(Job):
    """
    A job, and what its reply is made from.

    Attributes:
        model: The model that was asked for.
        image_size: The image size that was asked for.
        num_inputs: How many pictures came along.
        words: What is answered in words.
        is_upscaling: Whether it came through ``:predict``.
    """

    model: str = ""
    image_size: str = "1K"
    num_inputs: int = 0
    words: str = ""
    is_upscaling: bool = False


def generation(payload: Payload, *, model: str, task_id: str, number: int) -> GeminiJob:
    """
    Read a call of ``generateContent``.

    Raises:
        ValueError: If the model could not take it.
    """
    payload = _spelt(payload)
    parts = [part for content in payload["contents"] for part in content["parts"]]
    prompt = " ".join(part["text"] for part in parts if "text" in part)
    inputs = [_input(part) for part in parts if "inlineData" in part]
    if not prompt:
        message = "contents is not specified"
        raise ValueError(message)
    config = payload.get("generationConfig", {})
    if "IMAGE" not in config.get("responseModalities", ()):
        return _in_words(payload, prompt, inputs, model, task_id)
    size, pixels = _size(config.get("imageConfig", {}), inputs)
    return GeminiJob(
        task_id=task_id,
        prompt=prompt,
        model=model,
        image_size=size,
        num_inputs=len(inputs),
        make=partial(_drawn, f"{prompt}{number}", pixels, inputs),
    )


def upscaling(payload: Payload, *, model: str, task_id: str, number: int) -> GeminiJob:  # noqa: ARG001  as generation
    """
    Read a call of ``predict`` that enlarges a picture.

    Raises:
        ValueError: If the model could not take it.
    """
    (instance,) = payload["instances"]
    parameters = payload["parameters"]
    image = Image.from_bytes(_bytes(instance["image"]["bytesBase64Encoded"]))
    factor = {"x2": 2, "x4": 4}[parameters["upscaleConfig"]["upscaleFactor"]]
    if image.width * image.height * factor**2 > _MOST_UPSCALED:
        message = "the upscaled image is too large"
        raise ValueError(message)
    request = UpscaleRequest(image=image, upscale_factor=factor)
    return GeminiJob(
        task_id=task_id,
        model=model,
        num_inputs=1,
        is_upscaling=parameters["mode"] == "upscale",
        make=lambda: [drawing.enlarged(request)],
    )


# -- replies --------------------------------------------------------------------------


def content(  # noqa: PLR0913  every one is a keyword
    job: GeminiJob,
    images: Sequence[bytes],
    *,
    thoughts: int,
    drafts: int,
    is_text_only: bool,
    has_usage: bool,
) -> Reply:
    """Put what was made into the reply of ``generateContent``."""
    words = "I would rather talk about it." if is_text_only else job.words
    shown = () if is_text_only else images
    parts: list[Reply] = [{"text": words}] if words else []
    parts += [{"text": "Let me think.", "thought": True} for _ in range(thoughts)]
    parts += [_picture(_scrap()) | {"thought": True} for _ in range(thoughts)]
    parts += [_picture(_scrap()) for _ in range(drafts)]
    parts += [_picture(image) for image in shown]
    answer = {"role": "model", "parts": parts}
    finish = "STOP" if parts else "NO_IMAGE"
    candidate = {"content": answer, "finishReason": finish, "index": 0}
    reply: Reply = {"candidates": [candidate], "modelVersion": job.model}
    if has_usage:
        # A picture that is charged is counted, even where it does not arrive.
        is_drawn = not (is_text_only or job.words)
        reply["usageMetadata"] = _usage(job, max(len(shown), is_drawn), thoughts)
    return reply


def blocked(reason: str) -> Reply:
    """Say that a prompt is blocked."""
    return {"promptFeedback": {"blockReason": reason}, "usageMetadata": {}}


def unfinished(reason: str) -> Reply:
    """Say that the picture is not given away."""
    candidate = {
        "finishReason": reason,
        "finishMessage": "Unable to show the generated image.",
        "index": 0,
    }
    return {"candidates": [candidate]}


def prediction(images: Sequence[bytes]) -> Reply:
    """Put enlarged pictures into the reply of ``predict``."""
    return {
        "predictions": [
            {"bytesBase64Encoded": _text(image), "mimeType": "image/png"}
            for image in images
        ]
    }


def card(name: str, *, is_vertex: bool) -> Reply:
    """Say of a model what the service's list says."""
    if is_vertex:
        return {"name": f"publishers/google/models/{name}", "versionId": "001"}
    makes = "embedContent" if "embedding" in name else "generateContent"
    title = name.replace("-", " ").title()
    return {
        "name": f"models/{name}",
        "displayName": title,
        "supportedGenerationMethods": [makes],
    }


def _usage(job: GeminiJob, num_images: int, thoughts: int) -> Reply:
    """Count tokens as the service does: words roughly, pictures by their size."""
    prompt = len(job.prompt.split())
    inputs = job.num_inputs * _INPUT_TOKENS
    pictures = num_images * TOKENS[job.image_size]
    words = len(job.words.split())
    counts = {"IMAGE": pictures, "TEXT": words}
    usage = {
        "promptTokenCount": prompt + inputs,
        "candidatesTokenCount": pictures + words,
        "candidatesTokensDetails": [
            {"modality": kind, "tokenCount": count}
            for kind, count in counts.items()
            if count
        ],
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts * 100
    return usage


def _picture(data: bytes) -> Reply:
    return {"inlineData": {"mimeType": "image/png", "data": _text(data)}}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- work -----------------------------------------------------------------------------


def _in_words(
    payload: Payload, prompt: str, inputs: Sequence[bytes], model: str, task_id: str
) -> GeminiJob:
    """Answer in words: about a picture, or by making a prompt longer."""
    seen = [f"a picture of {_bounds(data)} pixels" for data in inputs]
    words = f"I see {' and '.join(seen)}." if seen else f"{prompt}, in great detail"
    if not payload.get("systemInstruction") and not inputs:
        words = "You are welcome."
    return GeminiJob(
        task_id=task_id,
        prompt=prompt,
        model=model,
        num_inputs=len(inputs),
        words=words,
        make=lambda: (),
    )


def _spelt(value: Any) -> Any:
    """Spell keys in one way: the service takes camelCase and snake_case alike."""
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    if isinstance(value, dict):
        return {_camel(key): _spelt(item) for key, item in value.items()}
    return value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return "".join([first, *(part.capitalize() for part in others)])


def _input(part: Mapping[str, Any]) -> bytes:
    data = _bytes(part["inlineData"]["data"])
    if Image.from_bytes(data).media_type != part["inlineData"]["mimeType"]:
        message = "the MIME type is not the picture's"
        raise ValueError(message)
    return data


def _bytes(text: str) -> bytes:
    """Decode base64 in either alphabet, as Google's services do."""
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


def _bounds(data: bytes) -> str:
    image = Image.from_bytes(data)
    return f"{image.width}x{image.height}"


def _size(
    config: Mapping[str, str], inputs: Sequence[bytes]
) -> tuple[str, tuple[int, int]]:
    """Tell how large the picture becomes; what the model does not know is refused."""
    if len(inputs) > _MOST_PICTURES:
        message = f"at most {_MOST_PICTURES} images"
        raise ValueError(message)
    size = config.get("imageSize", "1K")
    width, height = SIZES[config.get("aspectRatio", "1:1")]
    scale = SCALES[size]
    return size, (int(width * scale), int(height * scale))


def _drawn(
    words: str, pixels: tuple[int, int], inputs: Sequence[bytes]
) -> Sequence[bytes]:
    """Draw one colour of the words, with all that came along shining through."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    red, green, blue, *_ = hashlib.sha256(words.encode()).digest()
    picture = pillow.new("RGB", pixels, (red, green, blue))
    for data in inputs:
        picture = pillow.blend(picture, _opened(data).resize(pixels), 0.5)
    return [encoded(picture)]


def _opened(data: bytes) -> "PillowImage":
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    return pillow.open(io.BytesIO(data)).convert("RGB")


def _scrap() -> bytes:
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    return encoded(pillow.new("RGB", (32, 32), "black"))
