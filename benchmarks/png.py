"""
Measure how fast pictures become PNG files, and how large they are.

Writes each kind of picture in turns with Pillow as it comes, with the setting of
Pillow that is fastest on photographs, and with `gaia_core.png.write_png`; prints
medians and their ratios to the first. Every file is read back and compared::

    python benchmarks/png.py [rounds]
"""

import io
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from PIL.Image import Image as PillowImage

from gaia_core.png import write_png

SIDE = 1024
WORDS = [
    "dragon",
    "keep",
    "ruined",
    "tower",
    "gold",
    "sword",
    "night",
    "river",
    "stone",
    "throne",
]


def _by_pillow(picture: PillowImage, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def _by_pillow_in_runs(picture: PillowImage) -> bytes:
    return _by_pillow(picture, compress_level=1, compress_type=3)


WRITERS: dict[str, Callable[[PillowImage], bytes]] = {
    "Pillow": _by_pillow,
    "Pillow, runs": _by_pillow_in_runs,
    "write_png": write_png,
}


# -- pictures ---------------------------------------------------------------------


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - pictures, not secrets


def _noise(side: int, strength: float, seed: int) -> PillowImage:
    """Draw grey with noise on it, the same in every run."""
    grey = Image.new("RGB", (side, side), (128, 128, 128))
    data = _dice(seed).randbytes(side * side * 3)
    return Image.blend(grey, Image.frombytes("RGB", (side, side), data), strength)


def _texture(side: int, cells: int, strength: float, seed: int) -> PillowImage:
    """Draw soft blots."""
    blots = _noise(cells, strength, seed)
    return blots.resize((side, side), Image.Resampling.BICUBIC)


def _together(*layers: PillowImage) -> PillowImage:
    picture = layers[0]
    for layer in layers[1:]:
        picture = ImageChops.add(picture, layer, scale=1, offset=-128)
    return picture


def _photo(side: int = SIDE) -> PillowImage:
    return _together(
        _texture(side, side // 32, 0.9, 1),
        _texture(side, side // 8, 0.3, 2),
        _texture(side, side // 2, 0.1, 3),
        _noise(side, 0.04, 4),
    )


def _shapes() -> PillowImage:
    dice = _dice(5)
    picture = Image.new("RGB", (SIDE, SIDE), (60, 90, 120))
    draw = ImageDraw.Draw(picture)
    for _ in range(300):
        x, y, size = dice.randrange(SIDE), dice.randrange(SIDE), dice.randrange(20, 160)
        colour = (dice.randrange(256), dice.randrange(256), dice.randrange(256))
        draw.ellipse((x - size, y - size // 2, x + size, y + size // 2), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(1))


def _painting() -> PillowImage:
    """Draw flat shapes as a diffusion model does, never quite flat."""
    return _together(_shapes(), _noise(SIDE, 0.016, 6))


def _page() -> PillowImage:
    dice = _dice(7)
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for line in range(10, SIDE, 14):
        draw.text((10, line), " ".join(dice.choices(WORDS, k=30)), fill="black")
    for _ in range(60):
        points = [dice.randrange(SIDE) for _ in range(4)]
        draw.line(points, fill=(200, 30, 30), width=2)
    return picture


def _sprite() -> PillowImage:
    mask = Image.new("L", (SIDE, SIDE), 0)
    box = (SIDE // 4, SIDE // 8, SIDE * 3 // 4, SIDE * 7 // 8)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    sprite = Image.new("RGBA", (SIDE, SIDE))
    sprite.paste(_photo(), mask=mask.filter(ImageFilter.GaussianBlur(2)))
    return sprite


def _upscaled() -> PillowImage:
    size = (SIDE * 2, SIDE * 2)
    return _photo(SIDE // 2).resize(size, Image.Resampling.LANCZOS)


PICTURES: dict[str, Callable[[], PillowImage]] = {
    "photo": _photo,
    "painting": _painting,
    "sprite": _sprite,
    "upscaled": _upscaled,
    "flat shapes": _shapes,
    "text and lines": _page,
}


# -- measuring --------------------------------------------------------------------


@attrs.define
class Score:
    """
    What one writer made of one picture.

    Attributes:
        seconds: How long it took, round by round.
        size: How many bytes it wrote.
    """

    seconds: list[float] = attrs.field(factory=list)
    size: int = 0

    @property
    def median(self) -> float:
        """The middle of all rounds."""
        return statistics.median(self.seconds)


def main(rounds: int = 5) -> None:
    """Print a line for each kind of picture and writer, and the sums."""
    print(f"{'picture':<16}{'writer':<14}{'ms':>9}{'bytes':>11}{'time':>8}{'size':>8}")
    sums = dict.fromkeys(WRITERS, (0.0, 0))
    for kind, draw in PICTURES.items():
        scores = _measure(draw(), rounds)
        for name, score in scores.items():
            seconds, size = sums[name]
            sums[name] = (seconds + score.median, size + score.size)
        _print(kind, {name: (s.median, s.size) for name, s in scores.items()})
    _print("all", sums)


def _measure(picture: PillowImage, rounds: int) -> dict[str, Score]:
    """Run the writers in turns; the first round only warms up."""
    scores = {name: Score() for name in WRITERS}
    for number in range(rounds + 1):
        for name, write in WRITERS.items():
            start = time.perf_counter()
            data = write(picture)
            seconds = time.perf_counter() - start
            if number:
                scores[name].seconds.append(seconds)
            else:
                scores[name].size = len(data)
                _check(data, picture)
    return scores


def _check(data: bytes, picture: PillowImage) -> None:
    again = Image.open(io.BytesIO(data))
    if (again.mode, again.tobytes()) != (picture.mode, picture.tobytes()):
        message = "The file does not hold the picture."
        raise ValueError(message)


def _print(kind: str, results: dict[str, tuple[float, int]]) -> None:
    base_seconds, base_size = results["Pillow"]
    for name, (seconds, size) in results.items():
        print(
            f"{kind:<16}{name:<14}{seconds * 1_000:>9.1f}{size:>11}"
            f"{seconds / base_seconds:>8.2f}{size / base_size:>8.3f}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
