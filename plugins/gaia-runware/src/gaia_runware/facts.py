"""
What the vendor's models take, read from ``models.json``.

Where each kind of fact comes from stands at the top of that file.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import attrs

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

PICTURES = "imageInference"
"""The task of models that make pictures."""
VIDEOS = "videoInference"
"""The task of models that make videos."""

COMMUNITY = "community"
"""The architecture of a checkpoint about which nothing else is known."""

_FILE = Path(__file__).parent / "models.json"
_COMMON = ("sd-1-5", "sdxl", "flux-1-dev")
"""What all of these take, a checkpoint of an unknown kind is believed to take."""
_BY_REFERENCE = frozenset({"flux-1-kontext-dev", "krea-2-raw-oss", "krea-2-turbo-oss"})
"""Architectures that take pictures as references only."""
_SEEDED = frozenset({"seedImage", "maskImage"})
_SMALL = "sd-1-5"
_SMALL_SIDE = 1_024


def _sizes(values: Iterable[Iterable[int]]) -> tuple[Size, ...]:
    return tuple((width, height) for width, height in values)


@attrs.frozen(kw_only=True)
class Sizes:
    """
    The sizes a model makes, in pixels.

    Attributes:
        fixed: The only ones, if they are a list.
        smallest: Shortest side.
        largest: Longest side.
        multiple: What both sides are multiples of.
        min_pixels: Fewest pixels of a picture.
        max_pixels: Most pixels of a picture.
    """

    fixed: tuple[Size, ...] = attrs.field(default=(), converter=_sizes)
    smallest: int = 128
    largest: int = 2_048
    multiple: int = 64
    min_pixels: int = 0
    max_pixels: int = 67_108_864

    @property
    def bounds(self) -> Size:
        """The widest and the highest it makes."""
        if not self.fixed:
            return self.largest, self.largest
        widths, heights = zip(*self.fixed, strict=True)
        return max(widths), max(heights)

    def fit(self, width: int, height: int) -> Size:
        """
        Give the size the model makes that is nearest to the one asked for.

        The shape counts more than the number of pixels.

        >>> Sizes().fit(1000, 1000)
        (1024, 1024)
        """
        if self.fixed:
            return min(self.fixed, key=lambda size: _distance(size, (width, height)))
        return self._rounded(*self._scaled(width, height))

    def _scaled(self, width: float, height: float) -> tuple[float, float]:
        """Bring sides and pixels between their limits, in the same shape."""
        for limit in (self._pixels, self._longest, self._shortest, self._pixels):
            factor = limit(width, height)
            width, height = width * factor, height * factor
        return width, height

    def _pixels(self, width: float, height: float) -> float:
        pixels = width * height
        return math.sqrt(min(max(pixels, self.min_pixels), self.max_pixels) / pixels)

    def _longest(self, width: float, height: float) -> float:
        return min(1.0, self.largest / max(width, height))

    def _shortest(self, width: float, height: float) -> float:
        return max(1.0, self.smallest / min(width, height))

    def _rounded(self, width: float, height: float) -> Size:
        """Round to the nearest multiple, away from a limit that it would break."""
        for rounded in (round, math.ceil, math.floor):
            size = (self._side(width, rounded), self._side(height, rounded))
            if self.min_pixels <= size[0] * size[1] <= self.max_pixels:
                return size
        return self._widened(*size)

    def _widened(self, width: int, height: int) -> Size:
        """Give up the shape where a longest side leaves too few pixels."""
        longer = max(width, height)
        shorter = self._side(self.min_pixels / longer, math.ceil)
        return (longer, shorter) if width > height else (shorter, longer)

    def _side(self, length: float, rounded: Callable[[float], int]) -> int:
        whole = rounded(length / self.multiple) * self.multiple
        lowest = math.ceil(self.smallest / self.multiple) * self.multiple
        return min(max(whole, lowest), self.largest // self.multiple * self.multiple)


def _distance(size: Size, wanted: Size) -> tuple[float, float]:
    shape = math.log(size[0] * wanted[1] / (size[1] * wanted[0]))
    area = math.log(size[0] * size[1] / (wanted[0] * wanted[1]))
    return round(abs(shape), 1), abs(area) + abs(shape)


def _names(words: str | Iterable[str]) -> frozenset[str]:
    return frozenset(words.split() if isinstance(words, str) else words)


@attrs.frozen(kw_only=True)
class Facts:
    """
    What has to be known of a model to write a task for it.

    Attributes:
        id: The identifier the vendor knows it by (AIR).
        name: What a person calls it.
        task: The vendor's ``taskType``.
        fields: The fields of a task it takes, beside what all tasks of its kind
            take.
        inputs: The pictures it takes, as ``inputs`` spells them.
        needs_inputs: Whether it makes nothing without a picture.
        sizes: The sizes it makes.
        max_references: Most reference pictures; None: not known.
        default_steps: Denoising steps when none are asked for; None: not known.
        max_steps: Most denoising steps; None: not known.
        guidance: Least and most guidance; None: not known.
        max_seed: Largest seed.
        max_prompt: Longest prompt, in characters; None: not known.
        is_slow: Whether it may take longer than the vendor keeps an answer open.
    """

    id: str
    name: str
    task: str = PICTURES
    fields: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    inputs: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    needs_inputs: bool = False
    sizes: Sizes = Sizes()
    max_references: int | None = None
    default_steps: int | None = None
    max_steps: int | None = None
    guidance: tuple[float, float] | None = None
    max_seed: int = 2**63 - 1
    max_prompt: int | None = None
    is_slow: bool = False

    @property
    def has_size(self) -> bool:
        """Whether a task says what size the picture shall have."""
        return "width" in self.fields

    @property
    def delivery(self) -> str:
        """
        The vendor's ``deliveryMethod`` that suits it.

        A synchronous answer comes in one frame, but the vendor keeps it open for
        some 120 seconds only; an asynchronous one is asked for, a second later at
        best.
        """
        return "async" if self.is_slow else "sync"


@cache
def entries() -> Mapping[str, Mapping[str, Any]]:
    """Give what ``models.json`` says of each model, the preferred ones first."""
    return {entry["id"]: entry for entry in _read()["models"]}


def facts_of_entry(entry: Mapping[str, Any]) -> Facts:
    """Read the facts out of one entry of ``models.json``."""
    known = attrs.fields_dict(Facts).keys() - {"guidance"}
    guidance = entry.get("guidance")
    return Facts(
        **{key: value for key, value in entry.items() if key in known},
        sizes=Sizes(**entry.get("size", {})),
        guidance=tuple(guidance) if guidance else None,
        is_slow=entry.get("speed") == "slow",
    )


def architectures() -> tuple[str, ...]:
    """Name the architectures a checkpoint can have."""
    return (COMMUNITY, *_read()["architectures"])


def facts_of_checkpoint(
    model_id: str, name: str = "", architecture: str = COMMUNITY
) -> Facts:
    """
    Give the facts of somebody's checkpoint, by its architecture.

    Raises:
        KeyError: If there is no such architecture.
    """
    inputs = {"referenceImages"} if architecture in _BY_REFERENCE else _SEEDED
    largest = _SMALL_SIDE if architecture == _SMALL else Sizes().largest
    return Facts(
        id=model_id,
        name=name or model_id,
        fields=_fields_of(architecture),
        inputs=inputs,
        sizes=Sizes(largest=largest),
        max_steps=50,
    )


def _fields_of(architecture: str) -> frozenset[str]:
    known: Mapping[str, str] = _read()["architectures"]
    if architecture != COMMUNITY:
        return _names(known[architecture])
    return frozenset.intersection(*(_names(known[name]) for name in _COMMON))


@cache
def _read() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return found
