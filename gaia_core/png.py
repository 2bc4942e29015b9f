"""
PNG files: writing pixels fast, and reading and writing the text inside.

Pillow spends most of its time on choosing a filter for every row. Here one
filter and one way of compressing serve a whole band of rows, chosen from a small
sample of it, and Pillow's own arithmetic does the filtering.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gaia_core.errors import InvalidImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_TEXT_BYTES = 1_048_576
"""Most text Gaia unpacks from one picture, in bytes."""
XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the text chunk that holds an XMP packet."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_MAX_KEYWORD = 79
_COLOUR_TYPES = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_SMALL_BYTES, _BAND_BYTES = 65_536, 2_097_152
_SAMPLE_STRIPS, _SAMPLE_ROWS, _SAMPLE_COLUMNS = 3, 8, 512
_NONE, _SUB, _UP, _AVERAGE = range(4)


class _Way(NamedTuple):
    """One way to compress a band: the filter, zlib's level and its strategy."""

    filter: int
    level: int
    strategy: int


_HUFFMAN = _Way(_AVERAGE, 1, zlib.Z_HUFFMAN_ONLY)
_RUNS = _Way(_AVERAGE, 1, zlib.Z_RLE)
_MATCHES = (
    _Way(_NONE, 6, zlib.Z_DEFAULT_STRATEGY),
    *(_Way(kind, 6, zlib.Z_FILTERED) for kind in (_SUB, _UP, _AVERAGE)),
)
_QUICK_MATCHES = tuple(
    _Way(kind, 1, zlib.Z_DEFAULT_STRATEGY) for kind in (_NONE, _AVERAGE)
)
_LITTLE = 0.2
"""Share of its raw size below which a band may hold matches in any filter."""


def write_png(
    picture: "PillowImage", *, text: Mapping[str, str] | None = None
) -> bytes:
    """
    Encode a picture as PNG, without loss.

    The same pixels and the same text give the same bytes. A colour profile in
    ``picture.info`` is kept.

    Args:
        picture: The picture. 8-bit grey and colour, with or without alpha, are
            encoded here; other modes are left to Pillow.
        text: Text chunks by keyword, as in `with_metadata`.

    Raises:
        InvalidImageError: If it has no pixels, or such as PNG cannot hold.
    """
    if 0 in picture.size:
        message = "A picture without pixels cannot be written."
        raise InvalidImageError(message)
    if _suits_pillow(picture):
        return with_metadata(_by_pillow(picture), text or {})
    head = (*picture.size, 8, _COLOUR_TYPES[picture.mode], 0, 0, 0)
    chunks = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", *head)),
        *_text_chunks(text or {}),
        *_profile(picture),
        *(chunk(b"IDAT", data) for data in _compressed(picture)),
        chunk(b"IEND", b""),
    ]
    return b"".join([_SIGNATURE, *chunks])


def with_metadata(
    data: bytes, text: Mapping[str, str], *, keep_others: bool = True
) -> bytes:
    """
    Put text chunks into a PNG file, right behind its header.

    Not a pixel is touched. Chunks already there under the same keyword are
    replaced, and whatever follows the end of the picture is left out.

    Args:
        data: An encoded PNG picture.
        text: Text by keyword (1 to 79 printable ASCII characters).
        keep_others: Whether text under other keywords stays.

    Raises:
        InvalidImageError: If the bytes are no sound PNG file.
        ValueError: If a keyword cannot be written.
    """
    header, *rest = chunks(data)
    kept = (
        chunk(kind, body)
        for kind, body in rest
        if kind not in _TEXT_CHUNKS or (keep_others and _keyword(body) not in text)
    )
    return b"".join([_SIGNATURE, chunk(*header), *_text_chunks(text), *kept])


def read_text(data: bytes) -> dict[str, str]:
    """
    Read the text chunks of a PNG file.

    Returns:
        Text by keyword, in the order of the file; the first of a keyword counts.

    Raises:
        InvalidImageError: If the bytes are no sound PNG file, or hold more than
            `MAX_TEXT_BYTES` of text.
    """
    text: dict[str, str] = {}
    room = MAX_TEXT_BYTES
    for kind, body in chunks(data):
        if kind in _TEXT_CHUNKS:
            value = _unpack(kind, body, room)
            room -= len(value)
            text.setdefault(_keyword(body), _decode(kind, value))
    return text


# Chunks ---------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    """Write one chunk of a PNG file."""
    return b"".join([len(body).to_bytes(4), kind, body, _checksum(kind, body)])


def _checksum(kind: bytes, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """
    Split a PNG file into its chunks, up to its end, and check each of them.

    Raises:
        InvalidImageError: If it is none, cut short or damaged.
    """
    if not data.startswith(_SIGNATURE):
        message = "The picture is no PNG file."
        raise InvalidImageError(message)
    kind, offset = b"", len(_SIGNATURE)
    while kind != b"IEND":
        head = data[offset : offset + 8]
        size = int.from_bytes(head[:4])
        body = data[offset + 8 : offset + 8 + size]
        checksum = data[offset + 8 + size : offset + 12 + size]
        is_first = not kind
        kind = head[4:]
        if checksum != _checksum(kind, body) or is_first != (kind == b"IHDR"):
            raise _damaged()
        yield kind, body
        offset += 12 + size


def _damaged() -> InvalidImageError:
    return InvalidImageError("The PNG file is cut short or damaged.")


# Text -----------------------------------------------------------------------


def _text_chunks(text: Mapping[str, str]) -> Iterator[bytes]:
    for keyword, value in text.items():
        yield _text_chunk(_encoded_keyword(keyword), value)


def _encoded_keyword(keyword: str) -> bytes:
    is_sound = (
        0 < len(keyword) <= _MAX_KEYWORD
        and keyword.isprintable()
        and keyword.isascii()
        and keyword == " ".join(keyword.split())
    )
    if not is_sound:
        message = (
            f"{keyword!r} is no keyword of a text chunk: "
            f"use 1 to {_MAX_KEYWORD} printable ASCII characters."
        )
        raise ValueError(message)
    return keyword.encode("ascii")


def _text_chunk(keyword: bytes, value: str) -> bytes:
    """Write Latin-1 text plainly, as the field does, and the rest as UTF-8."""
    clean = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if keyword != XMP_KEYWORD.encode():
        try:
            return chunk(b"tEXt", keyword + b"\0" + clean.encode("latin-1"))
        except UnicodeEncodeError:
            pass
    # Flag, method, language and translated keyword are empty.
    body = keyword + b"\0\0\0\0\0" + clean.encode("utf-8", "replace")
    return chunk(b"iTXt", body)


def _keyword(body: bytes) -> str:
    return body.partition(b"\0")[0].decode("latin-1")


def _unpack(kind: bytes, body: bytes, room: int) -> bytes:
    """Take the value out of a text chunk, unpacked, if there is room for it."""
    _, mark, value = body.partition(b"\0")
    is_packed = kind == b"zTXt"
    if kind == b"iTXt":
        is_packed = value[:1] == b"\1"
        _language, mark, value = value[2:].partition(b"\0")
        _translated, mark, value = value.partition(b"\0")
    elif is_packed:
        value = value[1:]
    if not mark:
        raise _damaged()
    if is_packed:
        value = _inflate(value, room)
    if len(value) > room:
        message = f"The picture holds more than {MAX_TEXT_BYTES} bytes of text."
        raise InvalidImageError(message)
    return value


def _inflate(value: bytes, room: int) -> bytes:
    """Unpack until the end or one byte past the room, whichever comes first."""
    try:
        return zlib.decompressobj().decompress(value, room + 1)
    except zlib.error as error:
        raise _damaged() from error


def _decode(kind: bytes, value: bytes) -> str:
    return value.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")


# Pixels ---------------------------------------------------------------------


def _suits_pillow(picture: "PillowImage") -> bool:
    """Tell whether Pillow writes this better: odd pixels, or next to none."""
    if picture.mode not in _COLOUR_TYPES or "transparency" in picture.info:
        return True
    return picture.width * picture.height * len(picture.getbands()) < _SMALL_BYTES


def _by_pillow(picture: "PillowImage") -> bytes:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format="PNG")
    except OSError as error:
        message = f"PNG holds no {picture.mode} pixels: convert the picture to RGB."
        raise InvalidImageError(message) from error
    return buffer.getvalue()


def _profile(picture: "PillowImage") -> Iterable[bytes]:
    profile = picture.info.get("icc_profile")
    if not profile:
        return ()
    return (chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)),)


def _compressed(picture: "PillowImage") -> Iterator[bytes]:
    """
    Compress a picture band by band into one zlib stream.

    zlib cannot change its strategy within a stream from Python, so every band is
    a deflate stream of its own that ends on a byte boundary; laid end to end they
    are one stream.
    """
    width, height = picture.size
    rows = max(_SAMPLE_ROWS, _BAND_BYTES // (width * len(picture.getbands())))
    checksum = zlib.adler32(b"")
    yield b"\x78\x01"
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = picture.crop((0, max(0, top - 1), width, bottom))
        way = _best_way(band)
        lines = _scanlines(band, way.filter, skip=min(top, 1))
        checksum = zlib.adler32(lines, checksum)
        yield _deflate(lines, way, is_last=bottom == height)
    yield checksum.to_bytes(4)


def _deflate(lines: bytes, way: _Way, *, is_last: bool = True) -> bytes:
    deflater = zlib.compressobj(
        way.level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, way.strategy
    )
    data = deflater.compress(lines)
    return data + deflater.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)


def _best_way(band: "PillowImage") -> _Way:
    """
    Find the way that makes a sample of the band smallest.

    Photo-like pixels hold no matches, and looking for some costs most of the
    time; drawings are nothing but matches. A quick look at each part of the sample
    tells whether the search is worth it.
    """
    strips = tuple(_strips(band))
    ways = [_HUFFMAN, _RUNS]
    if _has_matches(strips):
        ways += _MATCHES
    return min(ways, key=lambda way: _sample_size(way, *strips))


def _has_matches(strips: "tuple[PillowImage, ...]") -> bool:
    runs = [_sample_size(_RUNS, strip) for strip in strips]
    raw = sum(len(strip.tobytes()) for strip in strips)
    return sum(runs) < _LITTLE * raw or any(
        _sample_size(way, strip) < size
        for strip, size in zip(strips, runs, strict=True)
        for way in _QUICK_MATCHES
    )


def _sample_size(way: _Way, *strips: "PillowImage") -> int:
    lines = (_scanlines(strip, way.filter, skip=1) for strip in strips)
    return len(_deflate(b"".join(lines), way))


def _strips(band: "PillowImage") -> Iterator["PillowImage"]:
    """Cut a few strips out of a band: top left, middle, bottom right."""
    width = min(band.width, _SAMPLE_COLUMNS)
    height = min(band.height, _SAMPLE_ROWS + 1)
    for index in range(_SAMPLE_STRIPS):
        left = (band.width - width) * index // (_SAMPLE_STRIPS - 1)
        top = (band.height - height) * index // (_SAMPLE_STRIPS - 1)
        yield band.crop((left, top, left + width, top + height))


def _scanlines(rows: "PillowImage", kind: int, *, skip: int) -> bytes:
    """Filter rows, mark each with its filter, and leave out the first ``skip``."""
    raw = _filtered(rows, kind).tobytes()
    size = rows.width * len(rows.getbands())
    mark = bytes([kind])
    starts = itertools.count(skip * size, size)
    return b"".join(
        mark + raw[start : start + size]
        for start in itertools.islice(starts, rows.height - skip)
    )


def _filtered(rows: "PillowImage", kind: int) -> "PillowImage":
    """Subtract from every pixel what the filter predicts, in Pillow's C code."""
    from PIL import Image, ImageChops  # noqa: PLC0415 - slow to import

    if kind == _NONE:
        return rows
    left, up = _moved(rows, 1, 0), _moved(rows, 0, 1)
    if kind == _AVERAGE:
        # Halfway between two bytes, rounded down: just what the filter asks for.
        return ImageChops.subtract_modulo(rows, Image.blend(left, up, 0.5))
    return ImageChops.subtract_modulo(rows, left if kind == _SUB else up)


def _moved(rows: "PillowImage", columns: int, lines: int) -> "PillowImage":
    from PIL import Image  # noqa: PLC0415 - slow to import

    moved = Image.new(rows.mode, rows.size)
    moved.paste(rows, (columns, lines))
    return moved
