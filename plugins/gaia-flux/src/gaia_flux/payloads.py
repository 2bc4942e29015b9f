"""Turn a request into the job a worker understands; decided here, done elsewhere."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from gaia_core import (
    GenerateRequest,
    Lora,
    Outpaint,
    ProviderRequestError,
    UpscaleRequest,
)
from gaia_core.requests import MAX_SEED
from gaia_flux.families import Family
from gaia_flux.jobs import Job, LoraFile
from gaia_flux.models import ModelSpec
from gaia_flux.options import checked, nearest, shown

NAME = "flux"
MAX_STEPS = 150
"""Most denoising steps: no model gains by more, and each costs the device's time."""
_SEED_BITS = 32


@attrs.frozen(kw_only=True)
class Loras:
    """
    The LoRAs that requests may name.

    Attributes:
        files: Name to file, as the settings say.
        folder: A folder whose safetensors files go by their names.
    """

    files: Mapping[str, Path] = attrs.field(factory=dict)
    folder: Path | None = None

    def __bool__(self) -> bool:
        """Tell whether there may be any."""
        return bool(self.files) or self.folder is not None

    def found(self) -> dict[str, Path]:
        """Name every LoRA there is: those of the settings, then the folder's."""
        named = {path.stem: path for path in self._in_folder()}
        return named | dict(self.files)

    def path_of(self, name: str) -> Path:
        """
        Find a LoRA by its name.

        A name is compared, never made part of a path: no request can name a file
        that the settings do not.

        Raises:
            ProviderRequestError: If there is none of that name.
        """
        found = self.found()
        whole = {path.name: path for path in found.values()}
        path = found.get(name) or whole.get(name)
        if path is None:
            raise ProviderRequestError(_no_lora(name, found))
        return path

    def _in_folder(self) -> Iterable[Path]:
        if self.folder is None or not self.folder.is_dir():
            return ()
        return sorted(self.folder.glob("*.safetensors"))


def _no_lora(name: str, found: Iterable[str]) -> str:
    names = sorted(found)
    if not names:
        return (
            f"There is no LoRA {shown(name)}: name its file in "
            f"[providers.{NAME}.loras] or put it into loras_folder."
        )
    return f"There is no LoRA {shown(name)}: {nearest(name, names)}"


def generation(  # noqa: PLR0913  every one is a keyword
    request: GenerateRequest,
    *,
    task_id: str,
    spec: ModelSpec,
    family: Family,
    loras: Loras | None = None,
    step_cache: str | None = None,
    has_previews: bool = True,
) -> Job:
    """
    Make a job of a request for pictures.

    Each picture has a seed of its own, which counts up from the first and starts
    again at 0 after the largest, so that every one can be asked for by itself.

    Args:
        request: What was asked for.
        task_id: The attempt.
        spec: The model.
        family: What it can do.
        loras: Those that may be named.
        step_cache: That of the settings.
        has_previews: Whether the settings want previews.

    Raises:
        ProviderRequestError: If an option is unknown or has no such value.
    """
    options = checked(request.options_for(NAME), family)
    return Job(
        id=task_id,
        model=spec.id,
        capability=request.capability,
        prompt=request.styled_prompt,
        negative_prompt=_negative_prompt(request, family),
        width=request.width,
        height=request.height,
        seeds=seeds_of(request.seed, request.num_images),
        num_inference_steps=_steps(request, spec, family),
        guidance_scale=_if_known("guidance_scale", request, family),
        strength=_if_known("strength", request, family),
        image=None if request.image is None else request.image.data,
        mask_image=None if request.mask_image is None else request.mask_image.data,
        reference_images=_references(request, family),
        outpaint=_margins(request.outpaint),
        loras=_loras(request.loras, loras or Loras(), family),
        **{"step_cache": step_cache, "has_previews": has_previews} | options,
    )


def upscaling(
    request: UpscaleRequest, *, task_id: str, spec: ModelSpec, family: Family
) -> Job:
    """
    Make a job of a request to enlarge a picture.

    The seed is always the same: who enlarges a picture twice expects the same.

    Raises:
        ProviderRequestError: If an option is unknown or has no such value.
    """
    options = checked(request.options_for(NAME), family)
    factor = request.upscale_factor
    return Job(
        id=task_id,
        model=spec.id,
        capability=request.capability,
        width=request.image.width * factor,
        height=request.image.height * factor,
        seeds=(0,),
        num_inference_steps=spec.default_steps or family.default_steps,
        image=request.image.data,
        upscale_factor=factor,
        **{"has_previews": False} | options,
    )


def seeds_of(seed: int | None, count: int) -> tuple[int, ...]:
    """
    Give each picture its seed.

    >>> seeds_of(7, 3)
    (7, 8, 9)
    """
    first = secrets.randbits(_SEED_BITS) if seed is None else seed
    return tuple((first + place) % (MAX_SEED + 1) for place in range(count))


def _steps(request: GenerateRequest, spec: ModelSpec, family: Family) -> int:
    usual = spec.default_steps or family.default_steps
    asked = _if_known("num_inference_steps", request, family)
    steps = usual if asked is None else int(asked)
    most = max(MAX_STEPS, usual)
    if steps > most:
        message = (
            f"num_inference_steps is {steps}; {spec.id} takes at most {most}, and "
            f"{usual} are usual."
        )
        raise ProviderRequestError(message)
    return steps


def _if_known(name: str, request: GenerateRequest, family: Family) -> float | None:
    """Pass over what the model does not know: Gaia warns that it is ignored."""
    value: float | None = getattr(request, name) if name in family.fields else None
    return value


def _negative_prompt(request: GenerateRequest, family: Family) -> str | None:
    # Where it needs true_cfg_scale as well and there is none, the worker says so.
    is_known = family.has_negative_prompt or family.has_true_cfg
    return request.negative_prompt if is_known else None


def _margins(outpaint: Outpaint | None) -> tuple[int, int, int, int] | None:
    if outpaint is None:
        return None
    return (outpaint.left, outpaint.right, outpaint.top, outpaint.bottom)


def _references(request: GenerateRequest, family: Family) -> tuple[bytes, ...]:
    if not family.has_references:
        return ()
    return tuple(image.data for image in request.reference_images)


def _loras(
    wanted: Iterable[Lora], loras: Loras, family: Family
) -> tuple[LoraFile, ...]:
    if "loras" not in family.fields:
        return ()
    return tuple(
        LoraFile(path=loras.path_of(lora.model), weight=lora.weight) for lora in wanted
    )
