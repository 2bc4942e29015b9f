"""Tiny models held the way a studio holds them, for tests of what draws on them."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import attrs
from PIL import Image

from gaia_core import Capability
from gaia_flux.jobs import Job, Preview

_WORDS = Capability.TEXT_TO_IMAGE
_IMAGE = Capability.IMAGE_TO_IMAGE
_REGION = Capability.INPAINTING
_BEYOND = Capability.OUTPAINTING
_LARGER = Capability.UPSCALING

_FLUX = {
    _WORDS: "FluxPipeline",
    _IMAGE: "FluxImg2ImgPipeline",
    _REGION: "FluxInpaintPipeline",
    _BEYOND: "FluxInpaintPipeline",
}
_SDXL = {
    _WORDS: "StableDiffusionXLPipeline",
    _IMAGE: "StableDiffusionXLImg2ImgPipeline",
    _REGION: "StableDiffusionXLInpaintPipeline",
    _BEYOND: "StableDiffusionXLInpaintPipeline",
}
PIPELINES: Final[Mapping[str, Mapping[Capability, str]]] = {
    "flux1-schnell": _FLUX,
    "flux1-dev": _FLUX,
    "flux1-fill": {_REGION: "FluxFillPipeline", _BEYOND: "FluxFillPipeline"},
    "flux1-kontext": {_WORDS: "FluxKontextPipeline", _IMAGE: "FluxKontextPipeline"},
    "flux2-klein": {
        _WORDS: "Flux2KleinPipeline",
        _IMAGE: "Flux2KleinPipeline",
        _REGION: "Flux2KleinInpaintPipeline",
        _BEYOND: "Flux2KleinInpaintPipeline",
    },
    "flux2-dev": {_WORDS: "Flux2Pipeline", _IMAGE: "Flux2Pipeline"},
    "sdxl": _SDXL,
    "sd15": {
        key: name.replace("DiffusionXL", "Diffusion") for key, name in _SDXL.items()
    },
    "latent-upscaler": {_LARGER: "StableDiffusionLatentUpscalePipeline"},
}
CASES: Final = [
    (family, capability)
    for family, pipelines in PIPELINES.items()
    for capability in pipelines
]


def name_of(value: object) -> str:
    """Name a case of a table by its family or its capability."""
    return str(value)


@attrs.define(eq=False, kw_only=True)
class TinyResident:
    """One family's components, and fresh pipelines over them."""

    spec: Any
    family: Any
    components: dict[str, Any]
    plan: Any
    device: str = "cpu"
    dtype: str = "float32"

    def pipeline(self, capability: Capability) -> Any:
        """Make a pipeline with a scheduler of its own."""
        import diffusers

        kind = getattr(diffusers, PIPELINES[self.family.name][capability])
        scheduler = self.components["scheduler"]
        own = {"scheduler": type(scheduler).from_config(scheduler.config)}
        accepted = kind._get_signature_keys(kind)[0]
        given = {key: self.components.get(key) for key in accepted} | own
        extra = {"is_distilled": True} if "Klein" in kind.__name__ else {}
        if family_has_no_checker(kind.__name__):
            extra = {"requires_safety_checker": False}
        return kind(**given, **extra)

    def hook(self, pipeline: Any) -> None:
        """Leave a pipeline alone: all of it is in memory."""


def family_has_no_checker(name: str) -> bool:
    """Say whether a pipeline asks for a safety checker, which tiny models lack."""
    return name.startswith("StableDiffusion") and not name.startswith(
        ("StableDiffusionXL", "StableDiffusionLatent")
    )


def resident_of(family: str, folder: Path) -> TinyResident:
    """Load a tiny model."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        folder, local_files_only=True
    )
    is_flux = family.startswith("flux")
    return TinyResident(
        spec=SimpleNamespace(id=f"tiny-{family}", default_guidance=None),
        family=SimpleNamespace(
            name=family,
            backbone="transformer" if is_flux else "unet",
            multiple=16 if is_flux else 8,
            default_guidance=None,
            max_sequence_length=64 if is_flux else None,
        ),
        components=dict(pipeline.components),
        plan=SimpleNamespace(mode="FULL", quantisation=None, budget=2**40, needed=0),
    )


def png(width: int = 64, height: int = 64, *, mode: str = "RGB") -> bytes:
    """Encode a picture whose pixels all differ a little."""
    picture = Image.radial_gradient("L").resize((width, height))
    bands = (picture, picture.rotate(90), Image.new("L", picture.size, 90))
    return encoded(Image.merge("RGB", bands).convert(mode))


def mask(width: int = 64, height: int = 64) -> bytes:
    """Encode a mask whose right half is repainted."""
    picture = Image.new("L", (width, height))
    picture.paste(255, (width // 2, 0, width, height))
    return encoded(picture)


def encoded(picture: Image.Image) -> bytes:
    """Encode as PNG."""
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def job(family: str, capability: Capability = _WORDS, **changes: Any) -> Job:
    """Make a small job with all that its capability needs."""
    given: dict[str, Any] = {
        "id": "task-1",
        "model": f"tiny-{family}",
        "capability": capability,
        "prompt": "a red fox",
        "width": 64,
        "height": 64,
        "seeds": (7,),
        "num_inference_steps": 3,
        "has_previews": False,
    }
    if capability is not _WORDS:
        given["image"] = png()
    if capability is _REGION:
        given["mask_image"] = mask()
    if capability is _BEYOND:
        given |= {"image": png(48, 64), "outpaint": (0, 16, 0, 0)}
    if capability is _LARGER:
        given |= {"width": 128, "height": 128, "upscale_factor": 2}
    return Job(**given | changes)


def ignore(_fraction: float, _preview: Preview | None) -> None:
    """Report to nobody."""
