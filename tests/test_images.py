"""Pictures as values."""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pillow  # noqa: N813

from gaia_core.errors import InvalidImageError, InvalidRequestError
from gaia_core.images import MAX_BYTES, MAX_PIXELS, Image, to_image
from gaia_core.testing import jpeg, png
from gaia_core.testing.pictures import encoded

PILLOW_WORDS = ("PIL", " at 0x", "BytesIO", "identify", "bomb", "decoder", "chunk")


def _animated(kind: str) -> bytes:
    buffer = io.BytesIO()
    first, second = (pillow.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(buffer, format=kind, save_all=True, append_images=[second])
    return buffer.getvalue()


def _header(width: int, height: int) -> bytes:
    """Write a PNG file that promises more pixels than it holds."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in chunks
    )


HOSTILE = {
    "nothing": b"",
    "zeros": bytes(4096),
    "signature only": b"\x89PNG\r\n\x1a\n",
    "cut in the header": png()[:20],
    "cut webp": encoded(pillow.effect_noise((64, 64), 60), "WEBP")[:300],
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "html before a picture": b"<html><script>1</script></html>" + png(),
    "gif": encoded(pillow.new("P", (8, 8)), "GIF"),
    "gif before a picture": encoded(pillow.new("P", (8, 8)), "GIF") + png(),
    "bmp": encoded(pillow.new("RGB", (8, 8)), "BMP"),
    "tiff": encoded(pillow.new("RGB", (8, 8)), "TIFF"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    "pdf": b"%PDF-1.7\n",
    "zip": b"PK\x03\x04" + bytes(64),
    "bomb of 13000 squared": _header(13_000, 13_000),
    "bomb of 60000 squared": _header(60_000, 60_000),
    "giant": _header(2**31 - 1, 2**31 - 1),
    "a pixel too high": _header(1, MAX_PIXELS + 1),
    "no width": _header(0, 8),
    "animated png": _animated("PNG"),
    "animated webp": _animated("WEBP"),
    "too many bytes": png() + bytes(MAX_BYTES),
}
DAMAGED = {
    "cut png": png(256, 256)[:-40],
    "cut jpeg": encoded(pillow.effect_noise((256, 256), 60), "JPEG")[:9000],
    "promised pixels": _header(64, 64),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_safe_picture_is_refused(data: bytes) -> None:
    """Hostile bytes are refused by their header, in words of ours."""
    with pytest.raises(InvalidImageError) as caught:
        Image.from_bytes(data)

    assert not any(word in str(caught.value) for word in PILLOW_WORDS)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_pixels_are_refused_when_decoded(data: bytes) -> None:
    """A sound header does not save damaged pixels."""
    image = Image.from_bytes(data)

    with pytest.raises(InvalidImageError, match="no readable PNG, JPEG or WebP"):
        image.decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@given(data=st.data())
def test_whatever_is_wrong_with_a_picture_is_one_error(
    kind: str, data: st.DataObject
) -> None:
    """Flipped bytes give a picture or an `InvalidImageError`, and nothing else."""
    damaged = bytearray(encoded(pillow.new("RGB", (24, 24), "teal"), kind))
    places = st.integers(0, len(damaged) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))

    try:
        size = Image.from_bytes(bytes(damaged)).decode().size
    except InvalidImageError:
        return

    assert size[0] * size[1] <= MAX_PIXELS


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (png(30, 20), "image/png"),
        (jpeg(30, 20), "image/jpeg"),
        (encoded(pillow.new("RGB", (30, 20)), "WEBP"), "image/webp"),
        (encoded(pillow.new("RGB", (30, 20)), "MPO"), "image/jpeg"),
    ],
    ids=["png", "jpeg", "webp", "phone jpeg"],
)
def test_type_and_size_come_from_the_header(data: bytes, media_type: str) -> None:
    """Every accepted format says what it is and how large."""
    image = Image.from_bytes(data)

    assert (image.media_type, image.width, image.height) == (media_type, 30, 20)


def test_a_jpeg_with_a_second_picture_counts_as_jpeg() -> None:
    """What some phones write, two pictures in one file, is a JPEG file."""
    buffer = io.BytesIO()
    picture = pillow.new("RGB", (30, 20))
    picture.save(buffer, format="MPO", save_all=True, append_images=[picture])

    image = Image.from_bytes(buffer.getvalue())

    assert (image.media_type, image.decode().size) == ("image/jpeg", (30, 20))


def test_the_smallest_picture_is_a_picture() -> None:
    """One pixel is enough for a value; requests ask for more."""
    image = Image.from_bytes(png(1, 1))

    assert (image.width, image.height) == (1, 1)


def test_what_follows_a_picture_is_not_decoded() -> None:
    """A file that is also something else gives its pixels and no more."""
    polyglot = png(8, 8, "red") + b"PK\x03\x04 and so on"

    picture = Image.from_bytes(polyglot).decode()

    assert (picture.size, picture.getpixel((0, 0))) == ((8, 8), (255, 0, 0))


def test_bytes_stay_as_they_came() -> None:
    """A picture keeps the very bytes it was made from."""
    data = jpeg()

    assert Image.from_bytes(data).data is data


def test_a_picture_shows_its_length_and_not_its_bytes() -> None:
    """Logs and errors do not fill with pixels."""
    shown = repr(Image.from_bytes(png()))

    assert "bytes>" in shown
    assert "IHDR" not in shown


@pytest.mark.parametrize("source", [png(), Image.from_bytes(png())], ids=type)
def test_bytes_and_pictures_are_pictures(source: bytes | Image) -> None:
    """Whoever has bytes or a picture need not convert anything."""
    assert to_image(source).data == png()


def test_a_path_is_read(tmp_path: Path) -> None:
    """A path object names a file to read."""
    path = tmp_path / "keep.png"
    path.write_bytes(png(40, 30))

    image = to_image(path)

    assert (image.width, image.height) == (40, 30)


@pytest.mark.parametrize(
    "source", ["/etc/passwd", "https://example.org/a.png", 7, None], ids=repr
)
def test_a_string_is_never_opened(source: object) -> None:
    """A word from outside is no file, whatever it says."""
    with pytest.raises(InvalidImageError, match="must be an Image, bytes or a"):
        to_image(source)  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    path = tmp_path / "gone.png"

    with pytest.raises(InvalidImageError, match=r"gone\.png cannot be read: No such"):
        Image.open(path)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    """A path that cannot be read is an invalid picture."""
    with pytest.raises(InvalidImageError, match="cannot be read"):
        Image.open(tmp_path)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    """Reading stops a byte past the limit."""
    with pytest.raises(InvalidImageError, match=f"the limit is {MAX_BYTES}"):
        Image.open(Path("/dev/zero"))


def test_an_invalid_picture_is_an_invalid_request() -> None:
    """Whoever handles bad requests handles bad pictures too."""
    assert issubclass(InvalidImageError, InvalidRequestError)
    assert issubclass(InvalidImageError, ValueError)


def test_threads_leave_the_warning_filters_alone() -> None:
    """Pictures opened side by side do not spoil the filters of the process."""
    filters = list(warnings.filters)
    bomb, sound = _header(13_000, 13_000), png()

    def work() -> None:
        for _ in range(20):
            Image.from_bytes(sound).decode()
            with pytest.raises(InvalidImageError, match="13000x13000"):
                Image.from_bytes(bomb)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(warnings.filters) == filters
