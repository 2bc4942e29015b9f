"""
Measure how close drawn pictures come to training pictures.

    python copies.py PICTURES [--seeds 16] [--show PAIRS.png]

draws the twenty prompts with many seeds and compares each picture with every
training picture, mirrored ones included. The distance is the mean difference of
the premultiplied colours over the pixels that either picture covers, from 0 to 1.
Needs the distribution `gaia-offline` to be importable.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gaia_offline import tiles

NEAR = 0.06
"""Below this distance a person calls the two pictures the same."""

ALIKE = 0.12
"""Below this one a person sees which tile was the model."""

_ZOOM = 3
_PLAIN = Image.Resampling.NEAREST
Floats = NDArray[np.float32]


@attrs.frozen(kw_only=True)
class Match:
    """A drawn picture and the training picture closest to it."""

    prompt: str
    drawn: NDArray[np.uint8]
    nearest: NDArray[np.uint8]
    distance: float


def flat(pictures: NDArray[np.uint8]) -> Floats:
    """Premultiply, scale to 0..1 and flatten the pixels."""
    values: Floats = pictures.astype(np.float32) / np.float32(255)
    values[..., :3] *= values[..., 3:]
    return values.reshape(len(values), -1, 4)


def nearest(prompt: str, seed: int, known: NDArray[np.uint8], values: Floats) -> Match:
    """Draw one picture and find the training picture closest to it."""
    drawn = tiles.draw(prompt, seed=seed).pixels
    mine = flat(drawn[None])
    covered = np.maximum(values[..., 3], mine[..., 3]) > 0
    difference: NDArray[Any] = np.abs(values - mine).mean(-1)
    distances = (difference * covered).sum(1) / covered.sum(1)
    best = int(distances.argmin())
    return Match(
        prompt=prompt,
        drawn=drawn,
        nearest=known[best],
        distance=float(distances[best]),
    )


def show(matches: list[Match], target: Path) -> None:
    """Put every drawn picture beside its nearest neighbour, closest first."""
    ranked = sorted(matches, key=lambda match: match.distance)
    side, columns = tiles.SIDE * _ZOOM, 8
    rows = -(-len(ranked) // columns)
    sheet = Image.new("RGB", (columns * (2 * side + 8), rows * (side + 4)), "gray")
    for place, match in enumerate(ranked):
        left, top = place % columns * (2 * side + 8), place // columns * (side + 4)
        for offset, pixels in ((0, match.drawn), (side, match.nearest)):
            image = Image.fromarray(pixels).resize((side, side), _PLAIN)
            sheet.paste(image, (left + offset, top), image)
    sheet.save(target)


def say(name: str, matches: list[Match]) -> None:
    """Print how close a set of pictures comes."""
    distances = np.array([match.distance for match in matches])
    near, alike = (distances < NEAR).mean(), (distances < ALIKE).mean()
    middle = np.median(distances)
    line = f"{name:9} median {middle:.3f}, near {near:4.0%}, alike {alike:4.0%}\n"
    sys.stdout.write(line)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--show", type=Path)
    options = parser.parse_args()
    known = np.load(options.pictures)["pictures"]
    known = np.concatenate([known, known[:, :, ::-1]])
    values = flat(known)
    matches: list[Match] = []
    for prompt in sorted(tiles.vocabulary().concepts):
        found = [nearest(prompt, seed, known, values) for seed in range(options.seeds)]
        say(prompt, found)
        matches += found
    say("all", matches)
    if options.show is not None:
        show(matches, options.show)


if __name__ == "__main__":
    main()
