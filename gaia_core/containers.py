"""
Picture files taken apart: what shows the picture stays, everything else goes.

A file holds more than its picture: where and by whom it was taken, words, smaller
and further pictures, and whatever somebody hung on behind its end. Here the file is
put together again without all that; the pixels are not touched. Only what is known
to be needed is kept, so nothing has to be known about the rest.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import attrs

from gaia_core.errors import InvalidImageError
from gaia_core.png import chunk, chunks

T = TypeVar("T")

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    {
        *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"),
        *(b"cHRM", b"cICP", b"gAMA", b"iCCP", b"mDCV", b"cLLI", b"sBIT", b"sRGB"),
        *(b"bKGD", b"pHYs"),
    }
)
_PNG_MOVING = frozenset({b"acTL", b"fcTL", b"fdAT"})
_ANCILLARY = 0x20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Where each pass of an interlaced picture begins, and how far apart its pixels are.
_ADAM7 = (
    *((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)),
    *((0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)),
)
_PIECE = 1_048_576
_MAX_PARTS = 65_536

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_EXIF, _JFIF, _ICC, _ADOBE = b"Exif\0\0", b"JFIF\0", b"ICC_PROFILE\0", b"Adobe"
_JFIF_LENGTH = 12
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
# Frames, tables, scans and restarts: what a decoder reads.
_JPEG_KEPT = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xDE)} - {0xC8})
_JPEG_LEFT_OUT = frozenset({*range(0xE0, 0xF0), 0xFE})
# Inside a scan, a marker is FF and neither a stuffed zero, nor a restart, nor FF.
_MARKER = re.compile(rb"\xff(?=[^\x00\xff\xd0-\xd7])")

_WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"})
_WEBP_MOVING = frozenset({b"ANIM", b"ANMF"})
_MOVES, _HAS_EXIF, _HAS_XMP = 0x02, 0x08, 0x04


@attrs.frozen(kw_only=True)
class Stripped:
    """
    A picture file without what is no picture.

    Attributes:
        data: The file.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        exif: The EXIF block it had, or nothing; it may say which way is up.
    """

    data: bytes = attrs.field(repr=False)
    media_type: str
    exif: bytes = attrs.field(default=b"", repr=False)


def media_type_of(data: bytes) -> str | None:
    r"""
    Tell by its first bytes what a file claims to be; None: no picture Gaia takes.

    >>> media_type_of(b"\xff\xd8\xff\xe0"), media_type_of(b"<svg/>")
    ('image/jpeg', None)
    """
    if data.startswith(_PNG_START):
        return "image/png"
    if data.startswith(_JPEG_START):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def strip(data: bytes) -> Stripped:
    """
    Leave out of a picture file what is no picture.

    Raises:
        InvalidImageError: If it is none, is animated, or is not built by the book;
            whether its pixels can be decoded is not looked at.
    """
    match media_type_of(data):
        case "image/png":
            return _strip_png(data)
        case "image/jpeg":
            return _strip_jpeg(data)
        case "image/webp":
            return _strip_webp(data)
        case _:
            message = "The bytes are no PNG, JPEG or WebP file."
            raise InvalidImageError(message)


# PNG ------------------------------------------------------------------------


def _strip_png(data: bytes) -> Stripped:
    kept, exif = [_PNG_START], b""
    for kind, body in _limited(chunks(data)):
        if kind in _PNG_MOVING:
            raise _animated()
        if kind in _PNG_KEPT:
            kept.append(chunk(kind, body))
        elif kind == b"eXIf":
            exif = body
        elif not kind[0] & _ANCILLARY:
            message = "The PNG file cannot be read without parts unknown here."
            raise InvalidImageError(message)
    return Stripped(data=b"".join(kept), media_type="image/png", exif=exif)


def has_slack(data: bytes) -> bool:
    """
    Tell whether a PNG file's stream of pixels holds more than pixels.

    Call it for a file whose pixels have been decoded: until then, nobody knows that
    they are not too many.

    Raises:
        InvalidImageError: If it holds less.
    """
    unpacker = zlib.decompressobj()
    parts = dict[bytes, list[bytes]]()
    for kind, body in chunks(data):
        parts.setdefault(kind, []).append(body)
    room = _size_of_pixels(parts[b"IHDR"][0])
    for body in parts[b"IDAT"]:
        packed = body
        while packed and room >= 0 and not unpacker.eof:
            room -= len(unpacker.decompress(packed, _PIECE))
            packed = unpacker.unconsumed_tail
        if packed and unpacker.eof and not unpacker.unused_data:
            return True
    if room > 0:
        message = "The PNG file ends before its pixels do."
        raise InvalidImageError(message)
    return room < 0 or not unpacker.eof or bool(unpacker.unused_data)


def _size_of_pixels(header: bytes) -> int:
    """Add up how many bytes a PNG picture's rows have, with the filter of each."""
    width, height, depth, colour, _, _, is_interlaced = struct.unpack(
        ">IIBBBBB", header
    )
    passes = _ADAM7 if is_interlaced else ((0, 1, 0, 1),)
    total = 0
    for left, across, top, down in passes:
        columns = -(-(width - left) // across)
        rows = -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth * _CHANNELS[colour] // 8))
    return total


# JPEG -----------------------------------------------------------------------


def _strip_jpeg(data: bytes) -> Stripped:
    """Copy up to the end of the first picture: phones hang further ones on."""
    kept, exif = [_JPEG_START], b""
    for kind, body, scan in _limited(_segments(data)):
        if kind in _JPEG_KEPT or _shows_colour(kind, body):
            kept.append(_segment(kind, body) + scan)
        elif kind == _APP0 and body.startswith(_JFIF):
            # Two zeros: no thumbnail.
            kept.append(_segment(kind, body[:_JFIF_LENGTH] + bytes(2)))
        elif kind == _APP1 and body.startswith(_EXIF):
            exif = body
    kept.append(_JPEG_END)
    return Stripped(data=b"".join(kept), media_type="image/jpeg", exif=exif)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Split a JPEG file into marker, body, and the scan behind it, up to its end."""
    at = len(_JPEG_START)
    while True:
        kind, at = _marker(data, at)
        if kind == _END_OF_IMAGE:
            return
        size = int.from_bytes(data[at : at + 2])
        body = data[at + 2 : at + size]
        if kind not in _JPEG_KEPT | _JPEG_LEFT_OUT or len(body) != size - 2:
            raise _odd()
        at += size
        end = _end_of_scan(data, at) if kind == _START_OF_SCAN else at
        yield kind, body, data[at:end]
        at = end


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Read a marker, and the filling before it; give where its segment begins."""
    start = at
    while data[at : at + 1] == b"\xff":
        at += 1
    if at == start or at >= len(data):
        raise _odd()
    return data[at], at + 1


def _end_of_scan(data: bytes, at: int) -> int:
    found = _MARKER.search(data, at)
    if found is None:
        raise _odd()
    return found.start()


def _shows_colour(kind: int, body: bytes) -> bool:
    """Tell whether a segment says what the numbers mean as colours."""
    is_profile = kind == _APP2 and body.startswith(_ICC)
    return is_profile or (kind == _APP14 and body.startswith(_ADOBE))


def _segment(kind: int, body: bytes) -> bytes:
    return bytes((0xFF, kind)) + (len(body) + 2).to_bytes(2) + body


# WebP -----------------------------------------------------------------------


def _strip_webp(data: bytes) -> Stripped:
    kept: dict[bytes, bytes] = {}
    exif = b""
    for kind, body in _limited(_riff(data)):
        if kind in _WEBP_MOVING:
            raise _animated()
        if kind in _WEBP_KEPT:
            kept.setdefault(kind, body)
        elif kind == b"EXIF":
            exif = body
    if flags := kept.get(b"VP8X"):
        if flags[0] & _MOVES:
            raise _animated()
        plain = flags[0] & ~(_HAS_EXIF | _HAS_XMP)
        kept[b"VP8X"] = bytes((plain,)) + flags[1:]
    inside = b"WEBP" + b"".join(_riff_chunk(*one) for one in kept.items())
    whole = b"RIFF" + len(inside).to_bytes(4, "little") + inside
    return Stripped(data=whole, media_type="image/webp", exif=exif)


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split a WebP file into its chunks, up to the end it names."""
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    while at < min(end, len(data)):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if len(body) != size:
            raise _odd()
        yield data[at : at + 4], body
        at += 8 + size + size % 2


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def _animated() -> InvalidImageError:
    return InvalidImageError("The picture is animated: send one frame of it.")


def _odd() -> InvalidImageError:
    return InvalidImageError("The file is cut short, or not built by the book.")


def _limited(parts: Iterable[T]) -> Iterator[T]:
    """Go through the parts of a file, unless they are far too many."""
    for number, part in enumerate(parts):
        if number == _MAX_PARTS:
            message = f"The file has more than {_MAX_PARTS} parts."
            raise InvalidImageError(message)
        yield part
