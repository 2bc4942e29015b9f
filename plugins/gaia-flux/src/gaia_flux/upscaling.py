"""
Pictures made larger: by the latent upscaler of diffusers, or by a Real-ESRGAN.

The latent upscaler doubles, as often as it takes; a network read by spandrel has a
factor of its own. What comes out larger than asked for is scaled down.
"""

import time
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from gaia_core import Capability
from gaia_flux import inputs
from gaia_flux.inputs import Canvas
from gaia_flux.jobs import Drawn, Job, Report
from gaia_flux.prompts import PromptCache, Words
from gaia_flux.schedulers import scheduler_of

TILE: Final = 256
"""Side of a tile, in pixels of the input: what bounds the memory of a network."""

OVERLAP: Final = 16
"""Pixels on each side that tiles share; their seams are blended over twice as many."""

_MULTIPLE: Final = 64
_DOUBLING: Final = 2
_DEFAULT_GUIDANCE: Final = 9.0
_NETWORK: Final = "upscaler"
_DAMAGED: Final = (SafetensorError, RuntimeError, ValueError, KeyError, OSError)


class UpscalerError(RuntimeError):
    """An upscaling network that cannot be used, and what to do about it."""


Upscaled = tuple[Image.Image, tuple[str, ...]]


def upscale(resident: Any, job: Job, report: Report, *, prompts: PromptCache) -> Drawn:
    """
    Enlarge a job's picture by its factor, once per seed.

    Transparency is kept: it is scaled beside the colours.

    Raises:
        StoppedError: Nobody waits any more.
        PictureError: The picture cannot be read.

    """
    started = time.perf_counter()
    if job.image is None:
        message = "upscaling needs an image, and none was given"
        raise inputs.PictureError(message)
    picture = inputs.decoded(job.image)
    factor = job.upscale_factor or max(1, round(job.width / picture.width))
    size = (picture.width * factor, picture.height * factor)
    alpha = inputs.transparency(job.image)
    larger = [
        _with(alpha, _fitted(each, size))
        for each in _enlarged(resident, job, picture, factor, report, prompts)
    ]
    return Drawn(
        pictures=tuple(
            inputs.picture_of(each, seed)
            for each, seed in zip(larger, job.seeds or (None,), strict=False)
        ),
        seconds=time.perf_counter() - started,
    )


def _enlarged(  # noqa: PLR0913, PLR0917 - a step of `upscale`, not for others
    resident: Any,
    job: Job,
    picture: Image.Image,
    factor: int,
    report: Report,
    prompts: PromptCache,
) -> list[Image.Image]:
    network = resident.components.get(_NETWORK)
    if network is not None:
        # A network draws no random numbers: every seed gives the same picture.
        larger = _by_network(network, picture, factor, report)
        return [larger] * max(1, len(job.seeds))
    pipeline = resident.pipeline(Capability.UPSCALING)
    resident.hook(pipeline)
    doubling = _Doubling(
        pipeline=pipeline,
        resident=resident,
        job=job,
        prompts=prompts,
    )
    seeds = job.seeds or (0,)
    return [
        doubling.repeated(picture, factor, seed, _part(report, index, len(seeds)))
        for index, seed in enumerate(seeds)
    ]


def _part(report: Report, index: int, count: int) -> Report:
    def part(fraction: float, _preview: Any) -> None:
        report((index + fraction) / count, None)

    return part


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS)


def _with(alpha: Image.Image | None, picture: Image.Image) -> Image.Image:
    if alpha is None:
        return picture
    picture = picture.copy()
    picture.putalpha(alpha.resize(picture.size, Image.Resampling.LANCZOS))
    return picture


def _passes(factor: int, each: int) -> int:
    """Count how often a fixed factor is applied to reach at least another."""
    passes, reached = 1, each
    while reached < factor and each > 1:
        passes, reached = passes + 1, reached * each
    return passes


@attrs.frozen(kw_only=True)
class _Doubling:
    """The latent upscaler of diffusers, whose result is twice as large."""

    pipeline: Any
    resident: Any
    job: Job
    prompts: PromptCache

    def repeated(
        self, picture: Image.Image, factor: int, seed: int, report: Report
    ) -> Image.Image:
        """Double until the factor is reached."""
        self.pipeline.set_progress_bar_config(disable=True)
        passes = _passes(factor, _DOUBLING)
        for index in range(passes):
            picture = self._doubled(picture, seed, _part(report, index, passes))
        return picture

    def _doubled(self, picture: Image.Image, seed: int, report: Report) -> Image.Image:
        canvas = Canvas(width=picture.width, height=picture.height, multiple=_MULTIPLE)
        try:
            drawn = self._called(canvas.padded(picture), seed, report)
        except BaseException:
            # The pipeline does so at its end, which it never reached.
            self.pipeline.maybe_free_model_hooks()
            raise
        report(1.0, None)
        return _larger(canvas, _DOUBLING).cropped_of(drawn)

    def _called(self, start: Image.Image, seed: int, report: Report) -> Image.Image:
        steps = self.job.num_inference_steps
        guidance = self.job.guidance_scale
        guidance = _DEFAULT_GUIDANCE if guidance is None else guidance

        def after(step: int, _timestep: Any, _latents: Any) -> None:
            report((step + 1) / (steps + 1), None)

        self.pipeline.scheduler = scheduler_of(self.pipeline, self.job.scheduler)
        images = self.pipeline(
            image=start,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback=after,
            **self._embeddings(is_guided=guidance > 1),
        ).images
        picture: Image.Image = images[0]
        return picture

    def _embeddings(self, *, is_guided: bool) -> dict[str, Any]:
        words = Words(
            prompt=self.job.prompt,
            negative_prompt=self.job.negative_prompt,
            is_guided=is_guided,
        )
        return self.prompts.of(
            self.pipeline,
            words,
            identity=f"{self.resident.spec.id}:{self.resident.dtype}",
            device=self.resident.device,
        )


@attrs.frozen(kw_only=True)
class _Larger:
    """Where a result lies in a canvas that was enlarged with its padding."""

    box: tuple[int, int, int, int]

    def cropped_of(self, drawn: Image.Image) -> Image.Image:
        return drawn.crop(self.box)


def _larger(canvas: Canvas, factor: int) -> _Larger:
    left = (canvas.drawn_width - canvas.width) // 2 * factor
    top = (canvas.drawn_height - canvas.height) // 2 * factor
    right, bottom = left + canvas.width * factor, top + canvas.height * factor
    return _Larger(box=(left, top, right, bottom))


def load_network(path: Path, *, device: Any, dtype: Any = None) -> Any:
    """
    Read an upscaling network (Real-ESRGAN and its kin) from a safetensors file.

    Returns:
        A callable with a `scale`: pixels (1, 3, h, w) of 0..1 in, larger ones out.

    Raises:
        UpscalerError: spandrel cannot be used, or the file is no such network.

    """
    if path.suffix != ".safetensors":
        message = f"{path.name} is not a .safetensors file; convert it first"
        raise UpscalerError(message)
    spandrel = _spandrel()
    try:
        network = spandrel.ModelLoader(device="cpu").load_from_file(path)
    except (*_DAMAGED, spandrel.UnsupportedModelError) as error:
        message = f"{path.name} is not an upscaling network that spandrel knows"
        raise UpscalerError(message) from error
    is_half = dtype in {torch.float16, torch.bfloat16}
    can_be_half = network.supports_bfloat16 if is_half else False
    network = network.to(device, torch.bfloat16 if can_be_half else torch.float32)
    return network.eval()


def _spandrel() -> Any:
    """Import late: spandrel needs torchvision, which needs the very build of torch."""
    try:
        import spandrel  # noqa: PLC0415 - late, see above
    except (ImportError, RuntimeError) as error:
        message = (
            f"upscaling networks cannot be used here ({error}): install spandrel, and "
            "the torchvision made for the installed torch; or use the latent upscaler"
        )
        raise UpscalerError(message) from error
    return spandrel


def _by_network(
    network: Any, picture: Image.Image, factor: int, report: Report
) -> Image.Image:
    passes = _passes(factor, int(network.scale))
    for index in range(passes):
        picture = tiled(network, picture, _part(report, index, passes))
    return picture


def tiled(
    network: Any,
    picture: Image.Image,
    report: Report,
    *,
    tile: int = TILE,
    overlap: int = OVERLAP,
) -> Image.Image:
    """
    Enlarge a picture tile by tile, blending the tiles where they overlap.

    Args:
        network: A callable with a `scale`; see `load_network`.
        picture: An RGB picture.
        report: Called after each tile.
        tile: Side of a tile without its overlap.
        overlap: Pixels that are added on each side.

    """
    scale = int(network.scale)
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
    height, width = picture.height, picture.width
    total = torch.zeros(3, height * scale, width * scale)
    weight = torch.zeros(1, height * scale, width * scale)
    spans = [
        (down, across)
        for down in _spans(height, tile, overlap)
        for across in _spans(width, tile, overlap)
    ]
    for index, ((top, bottom), (left, right)) in enumerate(spans):
        larger = _run(network, pixels[:, :, top:bottom, left:right])
        ramp = _ramp(bottom - top, right - left, scale, overlap)
        rows = slice(top * scale, bottom * scale)
        columns = slice(left * scale, right * scale)
        total[:, rows, columns] += larger * ramp
        weight[:, rows, columns] += ramp
        report((index + 1) / len(spans), None)
    levels = (total / weight).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    return [
        (max(0, start - overlap), min(length, start + tile + overlap))
        for start in range(0, length, tile)
    ]


def _run(network: Any, pixels: Any) -> Any:
    """Run a tile where the network is, in its precision; the answer comes back."""
    parameter = next(_module(network).parameters())
    with torch.no_grad():
        larger = network(pixels.to(device=parameter.device, dtype=parameter.dtype))
    return larger[0].float().cpu()


def _module(network: Any) -> Any:
    """Give the torch module inside a descriptor of spandrel."""
    inner = getattr(network, "model", network)
    return inner if isinstance(inner, torch.nn.Module) else network


def _ramp(height: int, width: int, scale: int, overlap: int) -> Any:
    """Give weights that rise from every edge of a tile, and are even within."""
    return _rise(height, scale, overlap)[None, :, None] * _rise(width, scale, overlap)


def _rise(length: int, scale: int, overlap: int) -> Any:
    places = torch.arange(length * scale, dtype=torch.float32) + 1
    edge = max(1, 2 * overlap * scale)
    return torch.minimum(places, places.flip(0)).clamp(max=edge) / edge
