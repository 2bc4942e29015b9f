"""
Bring a small sprite to the size that was asked for.

As crisp pixels, or painted: enlarged by the anime network and set before a backdrop.
"""

from collections.abc import Mapping
from types import MappingProxyType

import attrs
import numpy as np
from PIL import Image, ImageFilter

from gaia_offline.arrays import Floats, Pixels, check, mottle, to_bytes, to_unit
from gaia_offline.upscaling import NATIVE, Progress, portions, upscale

Colour = tuple[int, int, int]


@attrs.frozen(kw_only=True)
class Backdrop:
    """
    A simple scene behind a subject.

    Attributes:
        light: Colour around the subject.
        edge: Colour at the rim of the picture.
        grain: How strongly the ground is mottled, in steps of 255.
        shadow: How dark the subject's shadow is, 0-1.
    """

    light: Colour
    edge: Colour
    grain: float = 10.0
    shadow: float = 0.45


BACKDROPS: Mapping[str, Backdrop] = MappingProxyType(
    {
        "parchment": Backdrop(light=(240, 226, 194), edge=(176, 143, 98)),
        "dusk": Backdrop(light=(126, 134, 168), edge=(34, 34, 58), shadow=0.6),
        "meadow": Backdrop(light=(214, 226, 170), edge=(82, 112, 66)),
        "cavern": Backdrop(light=(140, 128, 116), edge=(36, 31, 30), shadow=0.65),
        "ember": Backdrop(light=(244, 190, 120), edge=(92, 32, 26), shadow=0.55),
        "frost": Backdrop(light=(232, 242, 248), edge=(112, 146, 176)),
    }
)
"""What `paint` can set a sprite before, besides "none"."""

NO_BACKDROP = "none"

_SHARE = 0.88
_MOST_ZOOM = 1.6
_ROOM = 1


def paint(  # noqa: PLR0913 - every choice about the picture has a name
    pixels: Pixels,
    width: int,
    height: int,
    *,
    is_crisp: bool = False,
    backdrop: str = "parchment",
    seed: int = 0,
    progress: Progress | None = None,
) -> Pixels:
    """
    Turn a sprite into a picture: set it before a backdrop, enlarged.

    Args:
        pixels: (h, w, 4), such as 32 by 32.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        is_crisp: Whether every pixel stays a square, or the networks paint it.
        backdrop: A name from `BACKDROPS`, or "none" for a transparent one.
        seed: Decides how the backdrop is mottled.
        progress: Called with the finished fraction; raise in it to stop.

    Returns:
        (height, width, 3), or (height, width, 4) without a backdrop. The subject stands
        in the middle and fills four fifths of it.

    Raises:
        ValueError: The array is not a picture, or there is no such backdrop.
    """
    check(pixels)
    scene = _scene(backdrop)
    if is_crisp:
        subject = _crisp_subject(pixels, width, height)
    else:
        subject = _subject(pixels, width, height, progress)
    picture = _centred(subject, width, height)
    if scene is None:
        return picture
    ground = _shaded(_ground(scene, width, height, seed), picture, scene.shadow)
    alpha = to_unit(picture[..., 3:])
    return to_bytes(picture[..., :3] * alpha + ground * (1 - alpha))


def _scene(backdrop: str) -> Backdrop | None:
    if backdrop == NO_BACKDROP:
        return None
    if backdrop not in BACKDROPS:
        known = ", ".join([*BACKDROPS, NO_BACKDROP])
        message = f"There is no backdrop {backdrop!r}: choose {known}."
        raise ValueError(message)
    return BACKDROPS[backdrop]


def _crisp_subject(pixels: Pixels, width: int, height: int) -> Pixels:
    """Enlarge the visible part of a sprite by whole squares."""
    sprite = _visible(pixels)
    columns, rows = _final_size(sprite, pixels, width, height)
    scale = min(columns // sprite.shape[1], rows // sprite.shape[0])
    if scale:
        return sprite.repeat(scale, axis=0).repeat(scale, axis=1)
    small = Image.fromarray(sprite).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(small)


def _subject(
    pixels: Pixels, width: int, height: int, progress: Progress | None
) -> Pixels:
    """Enlarge the visible part of a sprite to its final size."""
    # Room around the outline lets the networks round it off.
    large = np.pad(_visible(pixels), ((_ROOM, _ROOM), (_ROOM, _ROOM), (0, 0)))
    size = _final_size(large, pixels, width, height)
    steps = _steps(size[0] / large.shape[1])
    works = [NATIVE ** (2 * index) for index in range(len(steps))]
    for (factor, model), part in zip(steps, portions(progress, works), strict=True):
        large = upscale(large, factor, model=model, progress=part)
    picture = Image.fromarray(large).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _steps(zoom: float) -> list[tuple[int, str]]:
    """Plan the enlargements: the best network twice, the fast one for what is left."""
    steps = [(NATIVE, "anime")]
    if zoom > NATIVE:
        steps.append((NATIVE, "anime"))
    if zoom > NATIVE**2:
        steps.append((NATIVE, "fast"))
    return steps


def _final_size(
    sprite: Pixels, frame: Pixels, width: int, height: int
) -> tuple[int, int]:
    """Fit the sprite into the picture, but a tiny thing not larger than life."""
    rows, columns = sprite.shape[:2]
    fitting = min(width / columns, height / rows)
    whole = min(width / frame.shape[1], height / frame.shape[0])
    zoom = _SHARE * min(fitting, whole * _MOST_ZOOM)
    return max(1, round(columns * zoom)), max(1, round(rows * zoom))


def _visible(pixels: Pixels) -> Pixels:
    """Cut away wholly transparent borders; an empty picture stays as it is."""
    rows = np.flatnonzero(pixels[..., 3].any(axis=1))
    columns = np.flatnonzero(pixels[..., 3].any(axis=0))
    if not rows.size:
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(pixels: Pixels, width: int, height: int) -> Pixels:
    """Set a picture in the middle of a transparent one that is no smaller."""
    result = np.zeros((height, width, 4), np.uint8)
    top = (height - pixels.shape[0]) // 2
    left = (width - pixels.shape[1]) // 2
    result[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return result


def _ground(scene: Backdrop, width: int, height: int, seed: int) -> Floats:
    """Paint the backdrop: (height, width, 3) of about 0-255, light in the middle."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    grain = mottle(width, height, seed)
    distance = np.sqrt(columns**2 + (rows - 0.1) ** 2) + 0.12 * grain
    share = np.clip((distance - 0.25) / 1.15, 0, 1)[..., None] ** 1.5
    light, edge = (np.array(colour, np.float32) for colour in (scene.light, scene.edge))
    ground: Floats = light * (1 - share) + edge * share
    return ground + scene.grain * grain[..., None]


def _shaded(ground: Floats, picture: Pixels, strength: float) -> Floats:
    """Darken the ground under the subject's feet and softly all around it."""
    height, width = picture.shape[:2]
    alpha = Image.fromarray(picture[..., 3])
    near = alpha.filter(ImageFilter.GaussianBlur(min(width, height) / 40))
    shadow = np.maximum(
        0.5 * to_unit(np.asarray(near)), to_unit(np.asarray(_pool(alpha)))
    )
    shaded: Floats = ground * (1 - strength * shadow[..., None])
    return shaded


def _pool(alpha: Image.Image) -> Image.Image:
    """Squeeze the subject's outline to the ground and blur it."""
    pool = Image.new("L", alpha.size)
    box = alpha.getbbox()
    if box is None:
        return pool
    left, _, right, bottom = box
    depth = max(2, (right - left) // 6)
    flat = alpha.crop(box).resize((right - left, depth), Image.Resampling.BOX)
    pool.paste(flat, (left, bottom - depth // 2))
    return pool.filter(ImageFilter.GaussianBlur(depth / 3))
