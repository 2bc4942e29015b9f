"""The cards of the models that ship inside this distribution."""

from pathlib import Path

from gaia_core import FREE, Capability, ModelInfo, Quality, Speed

NAME = "offline"
TILES = "offline:tiles"
MAPS = "offline:maps"
UPSCALE_FAST = "offline:upscale-fast"
UPSCALE_DRAWN = "offline:upscale-drawn"
UPSCALE_PHOTO = "offline:upscale-photo"
CUTOUT = "offline:cutout"

WEIGHTS = Path(__file__).parent / "weights"
WEIGHT_FILES = (
    "realesr-animevideov3-x4.onnx",
    "realesrgan-x4plus-anime-head.onnx",
    "realesrgan-x4plus-anime.onnx",
    "tiles-vocabulary.json",
    "tiles.onnx",
    "u2netp.onnx",
)
"""What must lie in `WEIGHTS`."""

_MAX_OUTPUT = 8_192

MODELS = (
    ModelInfo(
        id=TILES,
        name="Gaia tiles",
        provider=NAME,
        capabilities={Capability.TEXT_TO_IMAGE},
        max_width=2_048,
        max_height=2_048,
        max_images=8,
        supported_fields={
            "seed",
            "negative_prompt",
            "guidance_scale",
            "num_inference_steps",
        },
        price=FREE,
        quality=Quality.DRAFT,
        speed=Speed.FAST,
        creator="Gaia images",
    ),
    ModelInfo(
        id=MAPS,
        name="Maps",
        provider=NAME,
        capabilities={Capability.TEXT_TO_IMAGE},
        max_width=4_096,
        max_height=4_096,
        max_images=8,
        supported_fields={"seed"},
        preferred_for=("map", "maps", "battlemap", "floor plan", "floorplan"),
        price=FREE,
        quality=Quality.DRAFT,
        speed=Speed.FAST,
        creator="mapwright",
    ),
    ModelInfo(
        id=UPSCALE_FAST,
        name="Real-ESRGAN animevideo v3",
        provider=NAME,
        capabilities={Capability.UPSCALING},
        max_width=_MAX_OUTPUT,
        max_height=_MAX_OUTPUT,
        price=FREE,
        quality=Quality.STANDARD,
        speed=Speed.MEDIUM,
        creator="Xintao Wang et al.",
    ),
    ModelInfo(
        id=UPSCALE_DRAWN,
        name="Real-ESRGAN x4plus anime",
        provider=NAME,
        capabilities={Capability.UPSCALING},
        max_width=_MAX_OUTPUT,
        max_height=_MAX_OUTPUT,
        price=FREE,
        quality=Quality.HIGH,
        speed=Speed.SLOW,
        creator="Xintao Wang et al.",
    ),
    ModelInfo(
        id=CUTOUT,
        name="U-2-Net portable",
        provider=NAME,
        capabilities={Capability.BACKGROUND_REMOVAL},
        max_width=_MAX_OUTPUT,
        max_height=_MAX_OUTPUT,
        price=FREE,
        quality=Quality.STANDARD,
        speed=Speed.FAST,
        creator="Xuebin Qin et al.",
    ),
)
"""Every model, the preferred one of each capability first."""

PHOTO = ModelInfo(
    id=UPSCALE_PHOTO,
    name="Real-ESRGAN x4plus",
    provider=NAME,
    capabilities={Capability.UPSCALING},
    max_width=_MAX_OUTPUT,
    max_height=_MAX_OUTPUT,
    price=FREE,
    quality=Quality.HIGH,
    speed=Speed.SLOW,
    creator="Xintao Wang et al.",
)
"""Listed only where the settings name its weights; see the README."""

NETWORK_OF = {UPSCALE_FAST: "fast", UPSCALE_DRAWN: "anime", UPSCALE_PHOTO: "photo"}
"""Upscaling model to the network that does it."""
