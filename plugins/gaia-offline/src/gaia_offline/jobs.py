"""The blocking work of this room: it runs in a thread, beside the event loop."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from gaia_core import (
    DigitalSource,
    GeneratedImage,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_offline import background, maps, pixels, tiles, upscaling
from gaia_offline.arrays import Pixels
from gaia_offline.models import MAPS, NETWORK_OF, TILES, UPSCALE_FAST
from gaia_offline.payloads import CRISP, Drawing
from gaia_offline.replies import picture, pixels_of
from gaia_offline.workers import Report

_TILE_SHARE = 0.3
"""Part of the work on a painted picture that the tile model does."""


@attrs.frozen(kw_only=True)
class Drawn:
    """Finished pictures, and what was not honoured."""

    images: tuple[GeneratedImage, ...]
    warnings: tuple[str, ...] = ()


def draw_all(wanted: Sequence[Drawing], report: Report) -> Drawn:
    """Draw one picture after another; a warning counts once."""
    images: list[GeneratedImage] = []
    warnings: dict[str, None] = {}
    shares = upscaling.portions(report, [1] * len(wanted))
    for drawing, share in zip(wanted, shares, strict=True):
        draw = _draw_map if drawing.is_map else _draw_tile
        image, heard = draw(drawing, share)
        images.append(image)
        warnings.update(dict.fromkeys(heard))
    return Drawn(images=tuple(images), warnings=tuple(warnings))


def enlarge(request: UpscaleRequest, photo_model: Path | None, report: Report) -> Drawn:
    """Enlarge a picture with the network of the model asked for."""
    result = upscaling.upscale(
        pixels_of(request.image),
        request.upscale_factor,
        model=NETWORK_OF[request.model or UPSCALE_FAST],
        photo_model=photo_model,
        progress=report,
    )
    return Drawn(images=(picture(result),))


def cut_out(request: RemoveBackgroundRequest, report: Report) -> Drawn:
    """Cut out the subject of a picture."""
    result = background.remove_background(pixels_of(request.image))
    report(1.0)
    return Drawn(images=(picture(result),))


def _draw_map(drawing: Drawing, report: Report) -> tuple[GeneratedImage, list[str]]:
    """Draw a map of what the prompt names."""
    spec = maps.parse(drawing.prompt)
    drawn = maps.draw_map(spec, drawing.seed, drawing.width, drawing.height)
    report(1.0)
    image = picture(drawn, seed=drawing.seed, source=DigitalSource.ALGORITHMIC)
    unused = [f"{MAPS} has no {name}" for name in drawing.unused_options]
    return image, [*spec.warnings, *unused]


def _draw_tile(drawing: Drawing, report: Report) -> tuple[GeneratedImage, list[str]]:
    """Draw a thing with the tile model and bring it to its size."""
    sketch, finish = upscaling.portions(report, [_TILE_SHARE, 1 - _TILE_SHARE])
    steps, guidance = drawing.num_inference_steps, drawing.guidance_scale
    tile = tiles.draw(
        drawing.prompt,
        seed=drawing.seed,
        num_inference_steps=tiles.DEFAULT_STEPS if steps is None else steps,
        guidance_scale=tiles.DEFAULT_GUIDANCE if guidance is None else guidance,
        negative_prompt=drawing.negative_prompt,
        progress=sketch,
    )
    large = _finish(tile.pixels, drawing, finish)
    finish(1.0)
    return picture(large, seed=drawing.seed), _unheard(tile)


def _finish(tile: Pixels, drawing: Drawing, report: Report) -> Pixels:
    """Bring a tile to the size asked for, in the finish asked for."""
    return pixels.paint(
        tile,
        drawing.width,
        drawing.height,
        is_crisp=drawing.finish == CRISP,
        backdrop=drawing.backdrop,
        seed=drawing.seed,
        progress=report,
    )


def _unheard(tile: tiles.TilePicture) -> list[str]:
    """Name the words that the tile model did not follow."""
    heard = []
    if not tile.words:
        heard.append(f"{TILES} knows no word of the prompt and drew whatever came")
    if tile.unknown_words:
        words = ", ".join(tile.unknown_words)
        heard.append(f"{TILES} does not know these words: {words}")
    if tile.surplus_words:
        words = ", ".join(tile.surplus_words)
        heard.append(f"{TILES} follows {tiles.MOST_WORDS} words; passed over: {words}")
    if tile.unavoided_words:
        words = ", ".join(tile.unavoided_words)
        heard.append(f"{TILES} cannot steer away from these words: {words}")
    return heard
