"""
The embedded text-to-image model: 32x32 pictures in the manner of game tiles.

A small rectified-flow network (`weights/tiles.onnx`) turns noise into a picture
by the words of a prompt. It knows about a thousand words and twenty things well;
`MODEL_CARD.md` says which. It needs numpy and onnxruntime, no GPU, no network.

    >>> picture = draw("red dragon", seed=7)
    >>> picture.pixels.shape
    (32, 32, 4)
    >>> draw("purple tricycle", seed=7).unknown_words
    ('tricycle',)
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gaia_offline.models import TILES, WEIGHTS
from gaia_offline.sessions import Network, network

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 32
MOST_WORDS = 8
DEFAULT_STEPS = 40
DEFAULT_GUIDANCE = 3.0

_PALETTE = 28
_ROUNDS = 6
_CLEAR, _OPAQUE = 0.25, 0.7
"""Coverage below the first is nothing, above the second fully there."""

Pixels = NDArray[np.uint8]
_Floats = NDArray[np.float32]


@attrs.frozen(kw_only=True)
class TilePicture:
    """A drawn picture and what became of the prompt."""

    pixels: Pixels = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    """Red, green, blue and alpha, shape (32, 32, 4); alpha is not premultiplied."""

    words: tuple[str, ...] = ()
    """The words of the vocabulary that it followed."""

    unknown_words: tuple[str, ...] = ()
    """Words that mean nothing to the model and were passed over."""

    surplus_words: tuple[str, ...] = ()
    """Known words beyond the eight that the model can follow at once."""

    assumed_words: tuple[str, ...] = ()
    """Colours that the seed chose because the prompt named none."""

    unavoided_words: tuple[str, ...] = ()
    """Words of the negative prompt that are unknown, or beyond the eight."""


@attrs.frozen(kw_only=True)
class Reading:
    """A prompt as the model understands it."""

    words: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Vocabulary:
    """The words of the model, and what else people call them."""

    numbers: Mapping[str, int]
    concepts: Mapping[str, tuple[str, ...]]
    """The twenty well-known things with the colours that suit them."""

    colours: frozenset[str]
    synonyms: Mapping[str, str]
    ignored: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read the vocabulary that belongs to the weights."""
        entry = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            numbers={word: place for place, word in enumerate(entry["words"], 1)},
            concepts={word: tuple(usual) for word, usual in entry["concepts"].items()},
            colours=frozenset(entry["colours"]),
            synonyms=entry["synonyms"],
            ignored=frozenset(entry["ignored"]),
        )

    def lookup(self, said: str) -> str | None:
        """Find the word of the vocabulary for what was said, if there is one."""
        for form in (said, said.removesuffix("s"), said.removesuffix("es")):
            word = self.synonyms.get(form, form)
            if word in self.numbers:
                return word
        return None

    def understand(self, prompt: str) -> Reading:
        """
        Sort the words of a prompt into followed, unknown and surplus ones.

        The twenty well-known things come first, so that a long prompt does not
        lose its subject.
        """
        said = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
        found = {word: self.lookup(word) for word in said if word not in self.ignored}
        known = dict.fromkeys(word for word in found.values() if word is not None)
        ranked = sorted(known, key=lambda word: word not in self.concepts)
        return Reading(
            words=tuple(ranked[:MOST_WORDS]),
            unknown=tuple(word for word, match in found.items() if match is None),
            surplus=tuple(ranked[MOST_WORDS:]),
        )

    def complete(self, reading: Reading, seed: int) -> Reading:
        """
        Give a well-known thing that was named without a colour one by the seed.

        Otherwise all the colours it comes in would mix into noise.
        """
        thing = next((word for word in reading.words if word in self.concepts), None)
        usual = self.concepts.get(thing or "", ())
        is_full = len(reading.words) == MOST_WORDS
        if not usual or is_full or self.colours.intersection(reading.words):
            return reading
        colour = usual[abs(seed) % len(usual)]
        return attrs.evolve(reading, words=(*reading.words, colour), assumed=(colour,))

    def encode(self, reading: Reading) -> NDArray[np.int64]:
        """Turn a reading into the eight word numbers that the network takes."""
        numbers = np.zeros(MOST_WORDS, np.int64)
        numbers[: len(reading.words)] = [self.numbers[word] for word in reading.words]
        return numbers


@functools.cache
def vocabulary() -> Vocabulary:
    """The vocabulary of the shipped weights."""
    return Vocabulary.read(WEIGHTS / "tiles-vocabulary.json")


def draw(  # noqa: PLR0913 - the names that every provider uses
    prompt: str,
    *,
    seed: int,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
    negative_prompt: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> TilePicture:
    """
    Draw a 32x32 picture of a prompt.

    The same arguments give the same bytes on the same machine, however many
    cores it has: the network runs on one thread and the noise has a fixed recipe.

    Args:
        prompt: what to draw; see `TilePicture.unknown_words` for what was missed.
        seed: any integer; chooses among the pictures that fit the prompt.
        num_inference_steps: more steps, cleaner pixels; 10 to 60 make sense.
        guidance_scale: how strictly to follow the prompt; 1 leaves it loose.
        negative_prompt: what to steer away from.
        progress: called after every step with the share that is done.

    Raises:
        ValueError: for fewer than one step.
    """
    if num_inference_steps < 1:
        message = (
            f"{TILES} cannot draw in {num_inference_steps} steps: "
            "it needs at least one. Leave num_inference_steps out for the default."
        )
        raise ValueError(message)
    known = vocabulary()
    wanted = known.complete(known.understand(prompt), seed)
    avoided = known.understand(negative_prompt or "")
    words = np.stack([known.encode(wanted), known.encode(avoided)])
    # One thread, so that every core count agrees on the bytes.
    model = network(WEIGHTS / "tiles.onnx", threads=1)
    mixture = _noise(seed)
    levels = np.linspace(1, 0, num_inference_steps + 1, dtype=np.float32)
    for step in range(num_inference_steps):
        flow = _flow(model, mixture, levels[step], words, guidance_scale)
        mixture = mixture + (levels[step + 1] - levels[step]) * flow
        if progress is not None:
            progress((step + 1) / num_inference_steps)
    return TilePicture(
        pixels=_finish(mixture),
        words=wanted.words,
        unknown_words=wanted.unknown,
        surplus_words=wanted.surplus,
        assumed_words=wanted.assumed,
        unavoided_words=avoided.unknown + avoided.surplus,
    )


def _noise(seed: int) -> _Floats:
    """
    Normal noise by Box and Muller from PCG64's raw bits.

    numpy promises the bits for ever, its own normal distribution not.
    """
    count = 4 * SIDE * SIDE
    raw = np.random.PCG64(abs(seed)).random_raw(2 * count)
    even = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    normal = np.sqrt(-2 * np.log(even[:count])) * np.cos(2 * np.pi * even[count:])
    noise: _Floats = normal.astype(np.float32).reshape(4, SIDE, SIDE)
    return noise


def _flow(
    model: Network,
    mixture: _Floats,
    level: np.float32,
    words: NDArray[np.int64],
    guidance: float,
) -> _Floats:
    """The direction to follow: away from the avoided words, towards the wanted."""
    both = np.stack([mixture, mixture])
    wanted, avoided = model(both, np.full(2, level), words)
    flow: _Floats = avoided + np.float32(guidance) * (wanted - avoided)
    return flow


def _finish(mixture: _Floats) -> Pixels:
    """Turn premultiplied values from -1 to 1 into clean pixels."""
    values = np.clip((mixture.transpose(1, 2, 0) + 1) / 2, 0, 1)
    coverage = values[..., 3:]
    alpha = np.clip((coverage - _CLEAR) / (_OPAQUE - _CLEAR), 0, 1)
    colour: _Floats = np.clip(values[..., :3] / np.maximum(coverage, _CLEAR), 0, 1)
    shown = alpha[..., 0] > 0
    colour[~shown] = 0
    if shown.any():
        colour[shown] = _snap(colour[shown])
    return np.round(255 * np.concatenate([colour, alpha], -1)).astype(np.uint8)


def _snap(colours: _Floats) -> _Floats:
    """
    Move colours to the nearest of a small palette, as pixel artists would.

    The palette starts with the colours farthest apart and settles by averaging.
    """
    chosen = [colours.sum(-1).argmin()]
    distance = _distances(colours, colours[chosen])[:, 0]
    while len(chosen) < min(_PALETTE, len(colours)):
        chosen.append(distance.argmax())
        distance = np.minimum(distance, _distances(colours, colours[chosen[-1:]])[:, 0])
    palette = colours[chosen]
    for _ in range(_ROUNDS):
        nearest = _distances(colours, palette).argmin(1)
        for place in np.unique(nearest):
            palette[place] = colours[nearest == place].mean(0)
    snapped: _Floats = palette[_distances(colours, palette).argmin(1)]
    return snapped


def _distances(colours: _Floats, palette: _Floats) -> NDArray[Any]:
    """Squared distances between every colour and every palette entry."""
    distances: NDArray[Any] = ((colours[:, None] - palette[None]) ** 2).sum(-1)
    return distances
