"""
What each family of pipelines is and can do: data alone, no torch.

Parameters are counted on the meta device from the published configurations, as far as
they are known; the comments say which are guesses.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from gaia_core import Capability, Quality, Speed

_COMMON: Final = ("seed", "num_inference_steps", "loras")
_GUIDED: Final = (*_COMMON, "guidance_scale")
_NEGATABLE: Final = (*_GUIDED, "negative_prompt", "strength")

_FLOW: Final = ("FlowMatchEulerDiscreteScheduler",)
_DIFFUSION: Final = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
)

_CLIP_L, _CLIP_G, _T5, _VAE = 0.123, 0.695, 4.762, 0.084


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Family:
    """
    Models that are made and asked alike.

    Attributes:
        name: Its name in settings.
        pipelines: What it can do, and the class of diffusers that does it.
        backbone: The component that takes the steps: ``transformer`` or ``unet``.
        text_encoders: The components that read the prompt.
        multiple: What the sides of a drawn picture are multiples of, in pixels.
        default_steps: Steps where neither request nor model says how many.
        default_guidance: The same for ``guidance_scale``; None: the pipeline's own.
        max_sequence_length: Most tokens of a prompt; None: fixed.
        has_true_cfg: Whether a negative prompt takes ``true_cfg_scale``.
        has_references: Whether it looks at further pictures.
        schedulers: Classes of diffusers a request may choose from.
        max_side: The longest side it draws well, in pixels.
        quality: How good its pictures are.
        speed: How fast it is, among its like.
        billions: Component to its parameters, in billions.
        latent_channels: Channels of its latents.
        has_cache_context: Whether its text-to-image pipeline takes step caches.
        fields: The optional fields of requests it honours.
    """

    name: str
    pipelines: Mapping[Capability, str]
    backbone: str = "transformer"
    text_encoders: tuple[str, ...] = attrs.field(default=(), converter=_names)
    multiple: int = 16
    default_steps: int = 28
    default_guidance: float | None = None
    max_sequence_length: int | None = None
    has_true_cfg: bool = False
    has_references: bool = False
    schedulers: tuple[str, ...] = attrs.field(default=(), converter=_names)
    max_side: int = 2048
    quality: Quality = Quality.HIGH
    speed: Speed = Speed.MEDIUM
    billions: Mapping[str, float] = attrs.field(factory=dict)
    latent_channels: int = 16
    has_cache_context: bool = False
    fields: tuple[str, ...] = attrs.field(default=(), converter=_names)

    @property
    def has_whole_files(self) -> bool:
        """Whether a single file holds all networks of a model, not the backbone's."""
        return self.backbone == "unet"

    @property
    def has_negative_prompt(self) -> bool:
        """Whether it heeds a negative prompt as it is."""
        return "negative_prompt" in self.fields


_FLUX1: Final = Family(
    name="flux1-dev",
    pipelines={
        Capability.TEXT_TO_IMAGE: "FluxPipeline",
        Capability.IMAGE_TO_IMAGE: "FluxImg2ImgPipeline",
        Capability.INPAINTING: "FluxInpaintPipeline",
    },
    text_encoders=("text_encoder", "text_encoder_2"),
    default_guidance=3.5,
    max_sequence_length=512,
    has_true_cfg=True,
    schedulers=_FLOW,
    quality=Quality.VERY_HIGH,
    billions={
        "transformer": 11.902,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _T5,
        "vae": _VAE,
    },
    has_cache_context=True,
    fields=(*_GUIDED, "strength"),
)

_SDXL: Final = Family(
    name="sdxl",
    pipelines={
        Capability.TEXT_TO_IMAGE: "StableDiffusionXLPipeline",
        Capability.IMAGE_TO_IMAGE: "StableDiffusionXLImg2ImgPipeline",
        Capability.INPAINTING: "StableDiffusionXLInpaintPipeline",
        Capability.OUTPAINTING: "StableDiffusionXLInpaintPipeline",
    },
    backbone="unet",
    text_encoders=("text_encoder", "text_encoder_2"),
    multiple=8,
    default_steps=30,
    default_guidance=5.0,
    schedulers=_DIFFUSION,
    max_side=1536,
    billions={
        "unet": 2.567,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
        "vae": _VAE,
    },
    latent_channels=4,
    fields=_NEGATABLE,
)

_ALL: Final = (
    attrs.evolve(
        _FLUX1,
        name="flux1-schnell",
        default_steps=4,
        default_guidance=0.0,  # it was distilled without
        max_sequence_length=256,
        has_true_cfg=False,
        quality=Quality.HIGH,
        speed=Speed.FAST,
        fields=(*_COMMON, "strength"),
    ),
    _FLUX1,
    attrs.evolve(
        _FLUX1,
        name="flux1-fill",
        pipelines={
            Capability.INPAINTING: "FluxFillPipeline",
            Capability.OUTPAINTING: "FluxFillPipeline",
        },
        default_steps=50,
        default_guidance=30.0,
        has_true_cfg=False,
        has_cache_context=False,
    ),
    attrs.evolve(
        _FLUX1,
        name="flux1-kontext",
        pipelines={Capability.IMAGE_TO_IMAGE: "FluxKontextPipeline"},
        default_guidance=2.5,
        has_cache_context=False,
        fields=_GUIDED,
    ),
    Family(
        name="flux2-klein",
        pipelines={
            Capability.TEXT_TO_IMAGE: "Flux2KleinPipeline",
            Capability.IMAGE_TO_IMAGE: "Flux2KleinPipeline",
            Capability.INPAINTING: "Flux2KleinInpaintPipeline",
        },
        text_encoders=("text_encoder",),
        default_steps=4,
        default_guidance=1.0,
        max_sequence_length=512,
        has_references=True,
        schedulers=_FLOW,
        speed=Speed.FAST,
        billions={"transformer": 3.88, "text_encoder": 4.02, "vae": _VAE},
        latent_channels=32,
        has_cache_context=True,
        fields=(*_COMMON, "reference_images"),
    ),
    Family(
        name="flux2-dev",
        pipelines={
            Capability.TEXT_TO_IMAGE: "Flux2Pipeline",
            Capability.IMAGE_TO_IMAGE: "Flux2Pipeline",
        },
        text_encoders=("text_encoder",),
        default_guidance=4.0,
        max_sequence_length=512,
        has_references=True,
        schedulers=_FLOW,
        quality=Quality.VERY_HIGH,
        speed=Speed.SLOW,
        billions={"transformer": 32.2, "text_encoder": 24.0, "vae": _VAE},
        latent_channels=32,
        fields=(*_GUIDED, "reference_images"),
    ),
    _SDXL,
    attrs.evolve(
        _SDXL,
        name="sdxl-lightning",
        default_steps=4,
        default_guidance=0.0,  # it was distilled without
        schedulers=("EulerDiscreteScheduler",),
        speed=Speed.FAST,
        fields=(*_COMMON, "strength"),
    ),
    Family(
        name="sd15",
        pipelines={
            Capability.TEXT_TO_IMAGE: "StableDiffusionPipeline",
            Capability.IMAGE_TO_IMAGE: "StableDiffusionImg2ImgPipeline",
            Capability.INPAINTING: "StableDiffusionInpaintPipeline",
            Capability.OUTPAINTING: "StableDiffusionInpaintPipeline",
        },
        backbone="unet",
        text_encoders=("text_encoder",),
        multiple=8,
        default_steps=30,
        default_guidance=7.5,
        schedulers=_DIFFUSION,
        max_side=1024,
        quality=Quality.STANDARD,
        speed=Speed.FAST,
        billions={"unet": 0.860, "text_encoder": _CLIP_L, "vae": _VAE},
        latent_channels=4,
        fields=_NEGATABLE,
    ),
    Family(
        name="latent-upscaler",
        pipelines={Capability.UPSCALING: "StableDiffusionLatentUpscalePipeline"},
        backbone="unet",
        text_encoders=("text_encoder",),
        multiple=64,
        default_steps=20,
        default_guidance=0.0,
        max_side=4096,
        quality=Quality.STANDARD,
        # The network's size is a guess.
        billions={"unet": 0.9, "text_encoder": _CLIP_L, "vae": _VAE},
        latent_channels=4,
    ),
    Family(
        name="esrgan",
        pipelines={Capability.UPSCALING: ""},  # no pipeline: spandrel's network
        backbone="upscaler",
        multiple=1,
        default_steps=1,
        max_side=8192,
        speed=Speed.FAST,
        billions={"upscaler": 0.0167},
    ),
)

FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _ALL}
"""Every family by its name."""
