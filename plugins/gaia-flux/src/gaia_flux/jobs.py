"""
What a worker is asked for, and what it gives back: plain values without torch.

A job says all there is to say about a picture, in numbers, words and encoded pictures:
it can be sent to another process, and compared.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from gaia_core import Capability


class StoppedError(Exception):
    """Nobody waits for the work any more; the pipeline is left clean."""


def _seeds(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


def _pictures(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(values)


def _loras(values: "Iterable[LoraFile]") -> "tuple[LoraFile, ...]":
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _drawn(values: "Iterable[Picture]") -> "tuple[Picture, ...]":
    return tuple(values)


def _length(value: object) -> str:
    """Show bytes by their length."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)


def _count(values: object) -> str:
    """Show pictures by how many there are."""
    return f"<{len(values)} pictures>" if isinstance(values, tuple) else repr(values)


@attrs.frozen(kw_only=True)
class LoraFile:
    """
    Fine-tune layers to draw with.

    Attributes:
        path: A safetensors file, from the settings and never from a request.
        weight: How strongly they act; 1.0 is what their maker intended.
    """

    path: Path = attrs.field(converter=Path)
    weight: float = 1.0


@attrs.frozen(kw_only=True)
class Job:
    """
    The pictures of one request.

    Attributes:
        id: The task it is done for.
        model: The identifier of its model's specification.
        capability: What is to be done.
        prompt: What to draw.
        negative_prompt: What to avoid.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        seeds: One picture for each.
        num_inference_steps: Denoising steps.
        guidance_scale: How closely to follow the prompt; None: the model's own.
        true_cfg_scale: Real guidance on models that were distilled for none.
        strength: How far to leave ``image``.
        max_sequence_length: Tokens of the prompt that count.
        image: The picture to start from, encoded.
        mask_image: What to repaint of it, encoded.
        reference_images: Pictures to imitate, encoded.
        outpaint: Pixels to extend ``image`` by: left, right, top, bottom.
        upscale_factor: How many times wider and higher the result is.
        loras: Fine-tune layers to draw with.
        scheduler: The name of a diffusers class; None: the model's own.
        step_cache: The name of a step cache; None: every step is computed.
        has_previews: Whether to make small pictures on the way.
    """

    id: str
    model: str
    capability: Capability
    prompt: str = ""
    negative_prompt: str | None = None
    width: int
    height: int
    seeds: tuple[int, ...] = attrs.field(converter=_seeds)
    num_inference_steps: int
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    strength: float | None = None
    max_sequence_length: int | None = None
    image: bytes | None = attrs.field(default=None, repr=_length)
    mask_image: bytes | None = attrs.field(default=None, repr=_length)
    reference_images: tuple[bytes, ...] = attrs.field(
        default=(), converter=_pictures, repr=_count
    )
    outpaint: tuple[int, int, int, int] | None = None
    upscale_factor: int | None = None
    loras: tuple[LoraFile, ...] = attrs.field(default=(), converter=_loras)
    scheduler: str | None = None
    step_cache: str | None = None
    has_previews: bool = True

    @property
    def shape(self) -> tuple[object, ...]:
        """What must be equal for two jobs to share a batch: all but words and seeds."""
        return tuple(getattr(self, name) for name in _SHAPE)


_ITS_OWN = frozenset({"id", "seeds", "prompt", "negative_prompt"})
_SHAPE = tuple(field.name for field in attrs.fields(Job) if field.name not in _ITS_OWN)


@attrs.frozen(kw_only=True)
class Picture:
    """
    A picture as it was drawn.

    Attributes:
        pixels: Rows from top to bottom, 8 bits a channel.
        width: In pixels.
        height: In pixels.
        mode: The channels.
        seed: The seed that made it, if there was one.
    """

    pixels: bytes = attrs.field(repr=_length)
    width: int
    height: int
    mode: Literal["RGB", "RGBA"] = "RGB"
    seed: int | None = None


@attrs.frozen(kw_only=True)
class Preview:
    """
    What a picture looks like so far: small, and roughly.

    Attributes:
        pixels: Rows of RGB, 8 bits a channel.
        width: In pixels.
        height: In pixels.
    """

    pixels: bytes = attrs.field(repr=_length)
    width: int
    height: int


@attrs.frozen(kw_only=True)
class Drawn:
    """
    What became of a job.

    Attributes:
        pictures: In the order of the job's seeds.
        warnings: What was done otherwise than asked, and which opt-ins acted.
        seconds: How long the device was at it.
    """

    pictures: tuple[Picture, ...] = attrs.field(converter=_drawn)
    warnings: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    seconds: float = 0.0


Report: TypeAlias = Callable[[float, Preview | None], None]
"""Takes the fraction done and perhaps a preview; may raise `StoppedError`."""
