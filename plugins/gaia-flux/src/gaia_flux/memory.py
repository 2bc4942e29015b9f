"""
The memory plan: how a model lies in memory, decided by arithmetic alone.

Weights are counted exactly where their number is known. What a step and a decode take
beside them is estimated: see the constants. An estimate that was too low is noticed by
the studio, which then takes the next lower plan.
"""

import enum
import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

UNLIMITED: Final = 2**62
"""The budget where nothing limits it: on the CPU, unless the settings do."""

GB: Final = 2**30  # as cards are sold, and as `vram_gb` counts

TILE: Final = 512
"""Side of the pictures an autoencoder decodes at a time under tiling, at most."""

_SIZES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}
_QUANTISED_SIZE: Final = 1.05  # a byte per weight, and the scales
_STEP_VALUES: Final = 600
"""
Values per pixel that live at once during a step.

Counted on the meta device, with attention that keeps no scores: 213 to 317 for FLUX.1
at 2048x2048 to 512x512, 159 for a guided SDXL. The rest is for pictures as prompts
(Kontext doubles it) and for FLUX.2, which is wider: a guess.
"""
_DECODE_VALUES: Final = 800
"""The same while the autoencoder decodes: 768 counted, and a little for its kernels."""
_SHARES: Final[Mapping[str, tuple[float, float]]] = {
    "flux1": (0.063, 0.005),
    "flux2-dev": (0.087, 0.011),
    "flux2": (0.177, 0.022),
}
"""
Shares of a backbone on the device while its blocks come and go, or single layers.

Counted on the meta device, by how names of families begin: a block, the next one, which
a stream brings meanwhile, and what belongs to no block; and the largest layer.
"""
_UNET_SHARES: Final = (0.035, 0.035)
"""The same for a UNet, which has no row of blocks: always its largest layer."""
_ENCODER_SHARE: Final = 0.1
"""Largest layer of a text encoder, the embedding of its words: 3 to 10 in 100."""


_LACKS: Final = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What libraries say of a lack of memory that is no error of its own: on Apple's GPUs,
of the workspace of a product, and on the processor."""


class OutOfMemoryError(MemoryError):
    """The device's memory did not suffice, not even one step down."""


def is_lack(error: RuntimeError) -> bool:
    """
    Say whether memory ran out; torch's own class for that is a `RuntimeError`, too.

    >>> is_lack(RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"))
    True
    >>> is_lack(RuntimeError("CUDA error: an illegal memory access was encountered"))
    False

    """
    name = type(error).__name__
    return name == "OutOfMemoryError" or any(words in str(error) for words in _LACKS)


class Mode(enum.Enum):
    """
    How a model's weights lie, the fastest first, which is the largest first.

    Model offload stands before group offload, as it moves each component once a picture
    and not at every step: one step of FLUX.1 is said to take 3.8 times as long with
    groups. It needs room for the largest component, so where it does not fit, or ran
    out of memory, groups are the way down, and never the other way round.
    """

    FULL = "full"
    MODEL_OFFLOAD = "model offload"
    GROUP_OFFLOAD = "group offload"
    SEQUENTIAL = "sequential offload"


_MEANINGS: Final[Mapping[Mode, str]] = {
    Mode.FULL: "everything stays on the device",
    Mode.MODEL_OFFLOAD: "one component at a time is on the device",
    Mode.GROUP_OFFLOAD: "blocks come to the device when their turn comes: slow",
    Mode.SEQUENTIAL: "single layers come to the device: very slow",
}


@attrs.frozen(kw_only=True)
class Need:
    """
    What one job on one model takes, in bytes.

    Attributes:
        backbone: Weights of the module that takes the steps.
        text_encoders: Weights of all text encoders.
        largest_text_encoder: Weights of the largest one.
        blocks: What is there of the backbone while blocks come and go.
        layer: The same while single layers do.
        encoder_layer: The largest layer of a text encoder.
        vae: Weights of the autoencoder.
        activations: What a step takes beside the weights.
        decode: What the autoencoder takes beside its weights.
        tiled_decode: The same under tiling.
    """

    backbone: int
    text_encoders: int = 0
    largest_text_encoder: int = 0
    blocks: int = 0
    layer: int = 0
    encoder_layer: int = 0
    vae: int = 0
    activations: int = 0
    decode: int = 0
    tiled_decode: int = 0

    @property
    def weights(self) -> int:
        """All weights together."""
        return self.backbone + self.text_encoders + self.vae


@attrs.frozen(kw_only=True)
class MemoryPlan:
    """
    How a model is held, and what that takes of the device.

    Attributes:
        mode: Where its weights lie.
        has_vae_slicing: Whether pictures of a batch are decoded one by one: exact.
        has_vae_tiling: Whether large pictures are decoded in tiles: not exact.
        quantisation: The opt-in its weights were loaded with.
        needed: Estimated bytes on the device while drawing.
        budget: Bytes there are.
        need: What the estimate is made of.
    """

    mode: Mode = Mode.FULL
    has_vae_slicing: bool = True
    has_vae_tiling: bool = False
    quantisation: str | None = None
    needed: int
    budget: int
    need: Need

    @property
    def fits(self) -> bool:
        """Whether there is room for it, as far as can be told beforehand."""
        return self.needed <= self.budget

    def step_down(self) -> "MemoryPlan | None":
        """Give the next plan that takes less; None where there is none."""
        lower = (plan for plan in self._lower() if plan.needed < self.needed)
        return next(lower, None)

    def _lower(self) -> "list[MemoryPlan]":
        modes = list(Mode)
        following = modes[modes.index(self.mode) + 1 :]
        plans = [self._changed(mode, self.has_vae_tiling) for mode in following]
        tiled = [self._changed(mode, True) for mode in (self.mode, *following)]  # noqa: FBT003 - a table
        if self.has_vae_tiling:
            return plans
        return [*plans, *reversed(tiled)]

    def _changed(self, mode: Mode, has_vae_tiling: bool) -> "MemoryPlan":  # noqa: FBT001 - a field
        needed = _needed(self.need, mode, has_vae_tiling=has_vae_tiling)
        return attrs.evolve(
            self, mode=mode, has_vae_tiling=has_vae_tiling, needed=needed
        )

    def is_below(self, other: "MemoryPlan") -> bool:
        """Whether less of the weights lies on the device than with another plan."""
        modes = list(Mode)
        return modes.index(self.mode) > modes.index(other.mode)

    def lowered_to(self, mode: Mode) -> "MemoryPlan":
        """Give the same plan in another mode."""
        return self._changed(mode, self.has_vae_tiling)

    def describe(self) -> str:
        """Say it in words: where the weights lie, and how much of what it takes."""
        words = [f"{self.mode.value}: {_MEANINGS[self.mode]}, {self._room()}"]
        if self.quantisation is not None:
            words.append(f"weights in {self.quantisation}")
        if self.has_vae_tiling:
            words.append("large pictures are decoded in tiles")
        return "; ".join(words)

    def _room(self) -> str:
        needed = f"about {self.needed / GB:.1f}"
        if self.budget >= UNLIMITED:
            return f"{needed} GB"
        return f"{needed} of {self.budget / GB:.1f} GB"


def need_of(  # noqa: PLR0913 - all of it decides
    family: Any,
    *,
    dtype: str,
    quantisation: str | None,
    width: int,
    height: int,
    num_images: int = 1,
    parameters: Mapping[str, int] | None = None,
) -> Need:
    """
    Estimate what a job takes.

    Args:
        family: Of `gaia_flux.families.FAMILIES`.
        dtype: The name of the precision.
        quantisation: The opt-in for the backbone's weights.
        width: Of a picture.
        height: Of a picture.
        num_images: How many are drawn together.
        parameters: How many parameters each component has; None: the family's own
            figures, which hold for its usual models.

    """
    if parameters is None:
        parameters = {name: int(each * 1e9) for name, each in family.billions.items()}
    size = _SIZES.get(dtype, 2)
    encoders = [parameters.get(name, 0) * size for name in family.text_encoders]
    area = width * height
    backbone = _backbone(parameters.get(family.backbone, 0), size, quantisation)
    blocks, layer = _shares(family)
    return Need(
        backbone=backbone,
        text_encoders=sum(encoders),
        largest_text_encoder=max(encoders, default=0),
        blocks=math.ceil(backbone * blocks),
        layer=math.ceil(backbone * layer),
        encoder_layer=math.ceil(max(encoders, default=0) * _ENCODER_SHARE),
        vae=parameters.get("vae", 0) * size,
        activations=area * num_images * _STEP_VALUES * size,
        # Pictures are decoded one by one: slicing is exact, and always on.
        decode=area * _DECODE_VALUES * size,
        tiled_decode=min(area, TILE * TILE) * _DECODE_VALUES * size,
    )


def _backbone(parameters: int, size: int, quantisation: str | None) -> int:
    each = size if quantisation is None else _QUANTISED_SIZE
    return math.ceil(parameters * each)


def _shares(family: Any) -> tuple[float, float]:
    if family.backbone != "transformer":
        return _UNET_SHARES
    names = (name for name in _SHARES if family.name.startswith(name))
    return _SHARES[next(names, "flux2")]


def plan_for(
    need: Need,
    budget: int,
    *,
    quantisation: str | None = None,
    at_most: MemoryPlan | None = None,
) -> MemoryPlan:
    """
    Give the fastest plan that fits, and the smallest one where none does.

    Tiling changes large pictures, so it is tried only after every mode without it.

    Args:
        need: What the job takes.
        budget: Bytes there are.
        quantisation: The opt-in that `need` was worked out for.
        at_most: A plan that did not suffice before: nothing faster is chosen.

    """
    plans = [
        MemoryPlan(
            mode=mode,
            has_vae_tiling=has_vae_tiling,
            quantisation=quantisation,
            needed=_needed(need, mode, has_vae_tiling=has_vae_tiling),
            budget=budget,
            need=need,
        )
        for has_vae_tiling in (False, True)
        for mode in Mode
        if at_most is None or _is_at_most(mode, has_vae_tiling, at_most)
    ]
    smallest = min(plans, key=lambda plan: plan.needed)
    return next((plan for plan in plans if plan.fits), smallest)


def _is_at_most(mode: Mode, has_vae_tiling: bool, limit: MemoryPlan) -> bool:  # noqa: FBT001 - a field
    modes = list(Mode)
    is_tiled_enough = has_vae_tiling or not limit.has_vae_tiling
    return modes.index(mode) >= modes.index(limit.mode) and is_tiled_enough


def _needed(need: Need, mode: Mode, *, has_vae_tiling: bool) -> int:
    decode = need.tiled_decode if has_vae_tiling else need.decode
    phases: Mapping[Mode, tuple[int, int]] = {
        Mode.FULL: (0, max(need.activations, decode)),
        Mode.MODEL_OFFLOAD: (
            need.largest_text_encoder,
            max(need.backbone + need.activations, need.vae + decode),
        ),
        Mode.GROUP_OFFLOAD: (
            need.vae + need.encoder_layer,
            need.vae + max(need.blocks + need.activations, decode),
        ),
        Mode.SEQUENTIAL: (
            need.encoder_layer,
            max(need.layer + need.activations, need.vae + decode),
        ),
    }
    encoding, drawing = phases[mode]
    stays = need.weights if mode is Mode.FULL else 0
    return stays + max(encoding, drawing)
