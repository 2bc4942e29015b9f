"""
A job as the call of its diffusers pipeline: decided here, done in `drawing`.

Keywords only: the pipelines of Kontext and FLUX.2 take the image first.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
from PIL import Image

from gaia_core import Capability
from gaia_flux import inputs
from gaia_flux.inputs import Canvas
from gaia_flux.jobs import Job
from gaia_flux.prompts import Words

_T = TypeVar("_T")

_STRENGTHS: Final[Mapping[Capability, float]] = {
    Capability.IMAGE_TO_IMAGE: 0.6,
    Capability.INPAINTING: 0.9,
    Capability.OUTPAINTING: 1.0,
}
_HAS_IMAGE_PROMPT: Final = ("FluxKontextPipeline", "Flux2Pipeline", "Flux2Klein")
_ALWAYS_WHOLE: Final = "FluxFillPipeline"


@attrs.frozen(kw_only=True)
class Call:
    """What a pipeline is called with, and what makes its picture the result."""

    arguments: Mapping[str, Any] = attrs.field(repr=False)
    words: Words
    canvas: Canvas
    steps: int
    """How many are taken: fewer than asked for where a picture is the start."""
    finish: Callable[[Image.Image], Image.Image] = attrs.field(repr=False)
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class _Inputs:
    """Pictures at the size that is drawn."""

    image: Any = None
    mask_image: Image.Image | None = None
    finish: Callable[[Image.Image], Image.Image]


def call_of(pipeline: Any, job: Job, resident: Any) -> Call:
    """
    Work out how a pipeline draws a job; nothing is computed but input pictures.

    Raises:
        PictureError: A picture of the job cannot be read or does not fit.

    """
    accepted = inspect.signature(pipeline.__call__).parameters
    canvas = Canvas(
        width=job.width, height=job.height, multiple=resident.family.multiple
    )
    given = _inputs(job, canvas, type(pipeline).__name__)
    references, left_out = _references(job, type(pipeline).__name__, accepted)
    guidance = _guidance(job, resident, accepted)
    strength = _strength(job, accepted, type(pipeline).__name__)
    wanted = {
        "image": given.image,
        "mask_image": given.mask_image,
        "image_reference": references,
        "width": canvas.drawn_width,
        "height": canvas.drawn_height,
        "num_inference_steps": job.num_inference_steps,
        "guidance_scale": guidance,
        "true_cfg_scale": job.true_cfg_scale,
        "strength": strength,
        "max_sequence_length": _max_sequence_length(job, resident),
        # Kontext would otherwise scale the picture to a size of its own list, and
        # the result to about a megapixel.
        "_auto_resize": False,
        "max_area": canvas.drawn_width * canvas.drawn_height,
        "output_type": "pil",
    }
    arguments = {
        name: value
        for name, value in wanted.items()
        if value is not None and name in accepted
    }
    return Call(
        arguments=arguments,
        words=_words(pipeline, job, resident, guidance, accepted),
        canvas=canvas,
        steps=_steps(job, strength),
        finish=given.finish,
        warnings=_warnings(job, accepted) + left_out,
    )


def _guidance(
    job: Job, resident: Any, accepted: Mapping[str, inspect.Parameter]
) -> float | None:
    for value in (
        job.guidance_scale,
        resident.spec.default_guidance,
        resident.family.default_guidance,
    ):
        if value is not None:
            return float(value)
    parameter = accepted.get("guidance_scale")
    return None if parameter is None else float(parameter.default)


def _strength(
    job: Job, accepted: Mapping[str, inspect.Parameter], pipeline: str
) -> float | None:
    """Give the strength of a call, which is never so small that no step is taken."""
    if "strength" not in accepted:
        return None
    default = 1.0 if pipeline == _ALWAYS_WHOLE else _STRENGTHS.get(job.capability)
    strength = default if job.strength is None else job.strength
    if strength is None or int(strength * job.num_inference_steps) > 0:
        return strength
    # A little more than one step: 49 * (1 / 49) is less than one.
    return min(1.0, 1.0001 / job.num_inference_steps)


def _steps(job: Job, strength: float | None) -> int:
    if strength is None:
        return job.num_inference_steps
    return max(1, round(job.num_inference_steps * strength))


def _max_sequence_length(job: Job, resident: Any) -> int | None:
    length = job.max_sequence_length or resident.family.max_sequence_length
    return None if length is None else int(length)


def _words(
    pipeline: Any,
    job: Job,
    resident: Any,
    guidance: float | None,
    accepted: Mapping[str, inspect.Parameter],
) -> Words:
    return Words(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        max_sequence_length=(
            _max_sequence_length(job, resident)
            if "max_sequence_length" in accepted
            else None
        ),
        is_guided=_is_guided(pipeline, job, guidance, accepted),
    )


def _is_guided(
    pipeline: Any,
    job: Job,
    guidance: float | None,
    accepted: Mapping[str, inspect.Parameter],
) -> bool:
    """Say whether a pipeline makes a second pass without the prompt."""
    name = type(pipeline).__name__
    if "true_cfg_scale" in accepted:
        return (job.true_cfg_scale or 1.0) > 1
    if name.startswith("Flux2Klein"):
        return (guidance or 1.0) > 1 and not pipeline.config.is_distilled
    return not name.startswith("Flux") and (guidance or 1.0) > 1


def _warnings(job: Job, accepted: Mapping[str, inspect.Parameter]) -> tuple[str, ...]:
    if not job.negative_prompt or "true_cfg_scale" not in accepted:
        return ()
    if (job.true_cfg_scale or 1.0) > 1:
        return ()
    return ("negative_prompt has no effect without true_cfg_scale above 1",)


def _inputs(job: Job, canvas: Canvas, pipeline: str) -> _Inputs:
    if job.capability is Capability.OUTPAINTING:
        return _outpainting(job, canvas)
    if job.capability is Capability.INPAINTING:
        return _inpainting(job, canvas)
    if pipeline.startswith(_HAS_IMAGE_PROMPT):
        return _prompting(job, canvas, pipeline)
    image = None
    if job.image is not None:
        image = canvas.padded(_fitted(job.image, canvas))
    return _Inputs(image=image, finish=canvas.cropped)


def _outpainting(job: Job, canvas: Canvas) -> _Inputs:
    wider = inputs.extended(
        _required(job.image, "an image"),
        _required(job.outpaint, "margins"),
        canvas.width,
        canvas.height,
    )

    def finish(drawn: Image.Image) -> Image.Image:
        return inputs.repainted(canvas.cropped(drawn), wider.picture, wider.kept)

    return _Inputs(
        image=canvas.padded(wider.picture),
        mask_image=canvas.padded(wider.painted),
        finish=finish,
    )


def _inpainting(job: Job, canvas: Canvas) -> _Inputs:
    original = _fitted(_required(job.image, "an image"), canvas)
    mask = inputs.fitted(
        inputs.decoded_mask(_required(job.mask_image, "a mask")),
        canvas.width,
        canvas.height,
    )

    def finish(drawn: Image.Image) -> Image.Image:
        return inputs.repainted(canvas.cropped(drawn), original, mask)

    return _Inputs(
        image=canvas.padded(original), mask_image=canvas.padded(mask), finish=finish
    )


def _prompting(job: Job, canvas: Canvas, pipeline: str) -> _Inputs:
    """Give pictures that are looked at: the one to edit fitted, the others as such."""
    pictures = []
    if job.image is not None:
        pictures.append(canvas.padded(_fitted(job.image, canvas)))
    pictures.extend(_shown(job))
    if not pictures:
        return _Inputs(finish=canvas.cropped)
    if pipeline.startswith("FluxKontext"):
        return _Inputs(image=pictures[0], finish=canvas.cropped)
    return _Inputs(image=pictures, finish=canvas.cropped)


def _references(
    job: Job, pipeline: str, accepted: Mapping[str, inspect.Parameter]
) -> tuple[Image.Image | None, tuple[str, ...]]:
    """Give a picture for a call that takes it apart, and say what is left out."""
    count = len(job.reference_images)
    seen = _seen(job, pipeline, accepted)
    warning = f"reference_images: {count - seen} left out, {seen} can be looked at here"
    is_apart = seen > 0 and "image_reference" in accepted
    return (
        _shown(job)[0] if is_apart else None,
        (warning,) if seen < count else (),
    )


def _seen(job: Job, pipeline: str, accepted: Mapping[str, inspect.Parameter]) -> int:
    """Count the reference images a pipeline takes; Kontext takes one picture in all."""
    count = len(job.reference_images)
    if "image_reference" in accepted:
        return min(count, 1)
    if pipeline.startswith("FluxKontext"):
        return min(count, 1) if job.image is None else 0
    return count if pipeline.startswith(_HAS_IMAGE_PROMPT) else 0


def _shown(job: Job) -> list[Image.Image]:
    return [inputs.decoded(each, "a reference image") for each in job.reference_images]


def _fitted(content: bytes, canvas: Canvas) -> Image.Image:
    return inputs.fitted(inputs.decoded(content), canvas.width, canvas.height)


def _required(value: _T | None, what: str) -> _T:
    if value is None:
        message = f"this needs {what}, and none was given"
        raise inputs.PictureError(message)
    return value
