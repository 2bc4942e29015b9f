"""Pictures in another file format, for clients that ask for one."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gaia_core.capabilities import Capability
from gaia_core.images import Image
from gaia_core.metadata import xmp
from gaia_core.png import XMP_KEYWORD, read_text
from gaia_core.results import DigitalSource

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MEDIA_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
"""The formats there are, by the word that clients use."""
_BEST = 100
_MADE_FROM_WORDS = Capability.TEXT_TO_IMAGE


def format_of(media_type: str) -> str:
    """
    Name a format by the word that clients use.

    >>> format_of("image/jpeg")
    'jpeg'
    """
    return media_type.removeprefix("image/")


def converted(
    data: bytes,
    kind: str,
    *,
    capability: Capability,
    quality: int | None = None,
    is_opaque: bool = False,
) -> bytes:
    """
    Encode a picture anew; call it in a thread.

    How the picture came to be goes along: the XMP packet it has, or one with the
    IPTC digital source type. Its colour profile stays as well.

    Args:
        data: The picture.
        kind: The format, a key of `MEDIA_TYPES`.
        capability: What it was made by.
        quality: From 0 to 100, for JPEG and WebP.
        is_opaque: Whether what is transparent becomes white.
    """
    picture = Image.from_bytes(data).decode()
    packet = _packet(data, picture, capability)
    options: dict[str, Any] = {"icc_profile": picture.info.get("icc_profile")}
    shown = _opaque(picture) if is_opaque or kind == "jpeg" else _plain(picture)
    if kind == "png":
        options["pnginfo"] = _chunks(packet)
    else:
        options |= {"quality": _BEST if quality is None else quality, "xmp": packet}
    buffer = io.BytesIO()
    shown.save(buffer, kind, **options)
    return buffer.getvalue()


def is_opaque(data: bytes, kind: str) -> bool:
    """Tell from its header whether a picture has a format, and no transparency."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - 25 ms

    formats = tuple(name.upper() for name in MEDIA_TYPES)
    with pillow.open(io.BytesIO(data), formats=formats) as picture:
        return picture.format == kind.upper() and not picture.has_transparency_data


def _packet(data: bytes, picture: "PillowImage", capability: Capability) -> bytes:
    is_png = picture.format == "PNG"
    found = picture.info.get("xmp") or (is_png and read_text(data).get(XMP_KEYWORD))
    is_new = capability is _MADE_FROM_WORDS
    packet = found or xmp(DigitalSource.TRAINED if is_new else DigitalSource.COMPOSITE)
    return packet if isinstance(packet, bytes) else packet.encode()


def _chunks(packet: bytes) -> Any:
    from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415 - 25 ms

    chunks = PngInfo()
    chunks.add_itxt(XMP_KEYWORD, packet.decode(errors="replace"))
    return chunks


def _plain(picture: "PillowImage") -> "PillowImage":
    """Give it as colours, with what is transparent."""
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _opaque(picture: "PillowImage") -> "PillowImage":
    """Put it on white where it is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    from PIL import Image as pillow  # noqa: N813, PLC0415 - 25 ms

    shown = picture.convert("RGBA")
    white = pillow.new("RGBA", shown.size, "white")
    return pillow.alpha_composite(white, shown).convert("RGB")
