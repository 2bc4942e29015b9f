"""What the conformance suite puts before a provider."""

from collections.abc import Callable, Mapping
from typing import Any

from gaia_core.testing.pictures import encoded, jpeg, png

HEAVY_MODULES = frozenset(
    {
        "PIL",
        "accelerate",
        "aiohttp",
        "boto3",
        "diffusers",
        "fal_client",
        "google",
        "httpx",
        "httpx2",
        "jax",
        "numpy",
        "onnxruntime",
        "openai",
        "pydantic",
        "replicate",
        "requests",
        "runware",
        "safetensors",
        "tensorflow",
        "torch",
        "transformers",
    }
)
"""What takes long to import."""

OPTIONAL_VALUES: Mapping[str, Any] = {
    "negative_prompt": "fog",
    "seed": 7,
    "guidance_scale": 4.0,
    "num_inference_steps": 8,
    "style": "fantasy art",
}
"""Fields that few providers honour all of."""

OPTION_NAMES = (
    *("image", "images", "inputImage", "input_image", "inputs", "init_image"),
    *("seedImage", "maskImage", "mask", "guideImage", "controlNet", "control_image"),
    *("referenceImages", "reference_images", "ipAdapters", "file", "path", "url"),
    *("lora", "vae", "model", "extra_body", "extra_headers", "config", "settings"),
)
"""Names under which vendors take pictures, files and what may hold them."""

ODD_PROMPTS: Mapping[str, str] = {
    "several lines": "a keep\r\n\tat dusk\n\n",
    "other scripts": "城の上の赤い竜 قلعة 🐉\u202e",
    "very long": "a keep " * 1_200,
    "markup": "<script>alert(1)</script> {prompt} %s ${HOME} <lora:x:1>",
    "a path": "/etc/hostname",
    "an address": "http://127.0.0.1:9/picture.png",
}
"""Prompts people do send."""


def subject(width: int, height: int) -> bytes:
    """Draw a round thing in the middle of a plain background."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - 25 ms

    picture = Image.new("RGB", (width, height), "white")
    box = (width // 4, height // 4, width * 3 // 4, height * 3 // 4)
    ImageDraw.Draw(picture).ellipse(box, fill="firebrick")
    return encoded(picture)


def mask(width: int, height: int) -> bytes:
    """Draw a mask that repaints the middle."""
    from PIL import Image  # noqa: PLC0415 - 25 ms

    picture = Image.new("L", (width, height), "black")
    picture.paste(255, (width // 4, height // 4, width // 2, height // 2))
    return encoded(picture)


def _palette() -> bytes:
    from PIL import Image  # noqa: PLC0415 - 25 ms

    picture = Image.new("P", (64, 64), 1)
    picture.putpalette([0, 0, 0, 200, 30, 30])
    picture.info["transparency"] = 1
    return encoded(picture)


ODD_PICTURES: Mapping[str, Callable[[], bytes]] = {
    "tiny": lambda: png(4, 4),
    "a thin line": lambda: png(256, 4),
    "grey": lambda: png(mode="L", colour="grey"),
    "grey of 16 bits": lambda: png(mode="I;16", colour=(40_000,)),
    "black and white": lambda: png(mode="1", colour="white"),
    "palette": _palette,
    "transparent": lambda: png(mode="RGBA", colour=(0, 0, 0, 0)),
    "CMYK": lambda: jpeg(mode="CMYK", colour=(10, 20, 30, 40)),
}
"""Pictures people do send."""
