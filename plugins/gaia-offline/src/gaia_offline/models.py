"""The cards of the models that ship inside this distribution."""

from functools import partial
from pathlib import Path

from gaia_core import FREE, Capability, ModelInfo, Quality, Speed
from gaia_offline.prompts import wants_map

NAME = "offline"
TILES = "offline:tiles"
MAPS = "offline:maps"
UPSCALE_FAST = "offline:upscale-fast"
UPSCALE_DRAWN = "offline:upscale-drawn"
UPSCALE_PHOTO = "offline:upscale-photo"
CUTOUT = "offline:cutout"

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the weights that ship with this distribution."""

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

_card = partial(ModelInfo, provider=NAME, price=FREE, quality=Quality.DRAFT)
_draws = partial(
    _card, capabilities={Capability.TEXT_TO_IMAGE}, max_images=8, speed=Speed.FAST
)
_works_over = partial(_card, max_width=_MAX_OUTPUT, max_height=_MAX_OUTPUT)
_enlarges = partial(
    _works_over, capabilities={Capability.UPSCALING}, creator="Xintao Wang et al."
)

MODELS = (
    _draws(
        id=TILES,
        name="Gaia tiles",
        max_width=2_048,
        max_height=2_048,
        supported_fields={
            "seed",
            "negative_prompt",
            "guidance_scale",
            "num_inference_steps",
        },
        creator="Gaia images",
    ),
    _draws(
        id=MAPS,
        name="Maps",
        max_width=4_096,
        max_height=4_096,
        supported_fields={"seed"},
        suits=wants_map,
        creator="mapwright",
    ),
    _enlarges(
        id=UPSCALE_FAST,
        name="Real-ESRGAN animevideo v3",
        quality=Quality.STANDARD,
        speed=Speed.MEDIUM,
    ),
    _enlarges(
        id=UPSCALE_DRAWN,
        name="Real-ESRGAN x4plus anime",
        quality=Quality.HIGH,
        speed=Speed.SLOW,
    ),
    _works_over(
        id=CUTOUT,
        name="U-2-Net portable",
        capabilities={Capability.BACKGROUND_REMOVAL},
        quality=Quality.STANDARD,
        speed=Speed.FAST,
        creator="Xuebin Qin et al.",
    ),
)
"""Every model, the preferred one of each capability first."""

PHOTO = _enlarges(
    id=UPSCALE_PHOTO,
    name="Real-ESRGAN x4plus",
    quality=Quality.HIGH,
    speed=Speed.SLOW,
)
"""Listed only where the settings name its weights; see the README."""

NETWORK_OF = {UPSCALE_FAST: "fast", UPSCALE_DRAWN: "anime", UPSCALE_PHOTO: "photo"}
"""Upscaling model to the network that does it."""
