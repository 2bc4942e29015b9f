"""
Draw the contact sheet: the twenty prompts, four seeds each.

    python sheet.py OUTPUT.png [--prompts "red dragon;green slime"] [--seeds 4]

Needs the distribution `gaia-offline` to be importable.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from gaia_offline import tiles

ZOOM = 3
_LABEL = 14
_TALL = 8
"""More rows than this are laid out in two halves."""

_GROUND = (124, 128, 140)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--prompts", help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=tiles.DEFAULT_GUIDANCE)
    parser.add_argument("--steps", type=int, default=tiles.DEFAULT_STEPS)
    options = parser.parse_args()
    concepts = tiles.vocabulary().concepts
    prompts = options.prompts.split(";") if options.prompts else sorted(concepts)
    side = tiles.SIDE * ZOOM + 4
    halves = 2 if len(prompts) > _TALL else 1
    rows = -(-len(prompts) // halves)
    size = (halves * (options.seeds * side + 12), rows * (side + _LABEL))
    sheet = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(sheet)
    for place, prompt in enumerate(prompts):
        left = place // rows * (options.seeds * side + 12)
        top = place % rows * (side + _LABEL)
        pen.text((left + 4, top + 1), prompt, fill="white")
        for seed in range(options.seeds):
            picture = tiles.draw(
                prompt,
                seed=seed,
                guidance_scale=options.guidance,
                num_inference_steps=options.steps,
            )
            shown = Image.fromarray(picture.pixels).resize(
                (tiles.SIDE * ZOOM,) * 2, Image.Resampling.NEAREST
            )
            sheet.paste(shown, (left + seed * side, top + _LABEL), shown)
    sheet.quantize(200).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
