"""
The program that looks at pictures from outside, in a process of its own.

It is started by its path, so that nothing of the server is loaded with it. On
standard input come pictures, each behind its length in four bytes; an `ACCEPTED`
byte answers the length, and an answer the picture. Nothing is unpickled on either
side, for whoever takes this process over must not get into the server as well.

Every picture is decoded in a process that is forked for it: what one picture does
there, the next one never meets. If that process dies, this one ends, too.
"""

import io
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from PIL import Image as pillow  # noqa: N813  modules are not written so here
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gaia_core.containers import Stripped, has_slack, strip
from gaia_core.errors import InvalidImageError
from gaia_core.png import write_png

MAX_PIXELS = 16_777_216
"""Most pixels of a picture from outside (4096 x 4096)."""
MAX_SIDE = 8_192
"""Longest side of a picture from outside, in pixels."""
ACCEPTED = b"A"
"""Says that a picture of that length will be looked at."""
HEAD = struct.Struct(">B2I?I")
"""Media type, width and height, whether the file is as it came, and its length."""
MEDIA_TYPES = ("", "image/png", "image/jpeg", "image/webp")
"""Media types by their number; the first one stands for a refusal."""

_ORIENTATION = 0x0112
_TURNS = {
    2: pillow.Transpose.FLIP_LEFT_RIGHT,
    3: pillow.Transpose.ROTATE_180,
    4: pillow.Transpose.FLIP_TOP_BOTTOM,
    5: pillow.Transpose.TRANSPOSE,
    6: pillow.Transpose.ROTATE_270,
    7: pillow.Transpose.TRANSVERSE,
    8: pillow.Transpose.ROTATE_90,
}
_READERS: dict[str, Callable[[Any], pillow.Image]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
}
_COLOUR = frozenset({"icc_profile", "transparency"})
_MEBIBYTE = 1_048_576
_PIECE = 1_048_576
_DIE_WITH_PARENT, _KILL = 1, 9


def clean(data: bytes) -> tuple[str, int, int, bytes]:
    """
    Decode a picture completely, and give it without what is no picture.

    Its pixels stay as they are, unless a note in it says that they lie on their
    side, or something is hidden among them.

    Returns:
        Media type, width, height, and the file.

    Raises:
        InvalidImageError: If it is none that is taken; Pillow's own errors also say
            that.
    """
    stripped = strip(data)
    picture = _decoded(stripped)
    turn = _TURNS.get(_orientation(stripped.exif))
    if turn is not None:
        # Under one name: two of the largest and a writer would not fit.
        picture = picture.transpose(turn)
    elif not _has_slack(stripped):
        return stripped.media_type, *picture.size, stripped.data
    return _anew(picture, stripped)


def _has_slack(stripped: Stripped) -> bool:
    return stripped.media_type == "image/png" and has_slack(stripped.data)


def _decoded(stripped: Stripped) -> pillow.Image:
    """Decode every pixel, once the header says that there are not too many."""
    picture = _READERS[stripped.media_type](io.BytesIO(stripped.data))
    width, height = picture.size
    is_small = max(width, height) <= MAX_SIDE and 0 < width * height <= MAX_PIXELS
    if not is_small or getattr(picture, "is_animated", False):
        message = "The picture is too large, or animated."
        raise InvalidImageError(message)
    picture.load()
    return picture


def _orientation(exif: bytes) -> int:
    """Read which way is up; a damaged note says nothing."""
    notes = pillow.Exif()
    with suppress(Exception):
        notes.load(exif.removeprefix(b"Exif\0\0"))
        return int(notes.get(_ORIENTATION, 1))
    return 1


def _anew(picture: pillow.Image, stripped: Stripped) -> tuple[str, int, int, bytes]:
    """Write a picture anew: as it was, but for what JPEG loses."""
    buffer, media_type = io.BytesIO(), stripped.media_type
    # Pillow writes comments and the like of its own accord.
    picture.info = {key: picture.info[key] for key in _COLOUR & set(picture.info)}
    profile = picture.info.get("icc_profile")
    if media_type == "image/png":
        return media_type, *picture.size, write_png(picture)
    if media_type == "image/jpeg":
        picture.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=profile)
    else:
        is_exact = b"VP8L" in stripped.data
        picture.save(
            *(buffer, "WEBP"),
            lossless=is_exact,
            exact=is_exact,
            quality=20 if is_exact else 95,
            method=0,
            icc_profile=profile,
        )
    return media_type, *picture.size, buffer.getvalue()


# The process ----------------------------------------------------------------


def _serve(megabytes: int, seconds: int) -> None:
    """Look at one picture after the other, until nobody sends any more."""
    _confine(megabytes)
    own = os.getpid()
    while length := int.from_bytes(_take(4)):
        _give(ACCEPTED)
        if not hasattr(os, "fork"):
            _look(length)
        elif child := os.fork():
            if os.waitpid(child, 0)[1]:
                return
        else:
            _look_alone(length, seconds, own)


def _look_alone(length: int, seconds: int, parent: int) -> None:
    """Look at a picture in the process forked for it, and end."""
    import signal  # noqa: PLC0415 - no `alarm` where there is no fork

    _die_with_parent()
    # Whoever started us counts the seconds as well, but may be gone.
    signal.alarm(seconds + 1)
    try:
        # It may have ended before we asked to end with it.
        if os.getppid() == parent:
            _look(length)
            os._exit(0)
    finally:
        os._exit(1)


def _look(length: int) -> None:
    """Take a picture in, and give its answer."""
    data = _take(length)
    try:
        media_type, width, height, kept = clean(data)
    except Exception:  # noqa: BLE001  whatever it is, it is a refusal
        _give(HEAD.pack(0, 0, 0, False, 0))  # noqa: FBT003 - a field
        return
    is_same = kept == data
    kind = MEDIA_TYPES.index(media_type)
    _give(HEAD.pack(kind, width, height, is_same, 0 if is_same else len(kept)))
    if not is_same:
        _give(kept)


def _confine(megabytes: int) -> None:
    """Set limits that hold for all that comes after, children included."""
    _die_with_parent()
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not everywhere

        memory = megabytes * _MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        # No file is written, not even one that tells what was in memory.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_parent() -> None:
    """Ask Linux for the end of this process when its parent ends."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - for this call alone

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, _KILL)


def _take(length: int) -> bytes:
    """Read so many bytes; none if nobody sends any more."""
    pieces = []
    while length and (piece := os.read(0, min(length, _PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"" if length else b"".join(pieces)


def _give(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:3]))
