import asyncio
import io
import random
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image as pillow  # noqa: N813  modules are not written so here
from PIL import ImageChops, ImageCms, ImageOps

from gaia_core.images import Image
from gaia_core.png import chunk
from gaia_core.server.decoding import MAX_INPUT_BYTES, Decoders
from gaia_core.server.problems import RefusedError
from gaia_core.testing import png

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = b"canary-51.4779,0.0015-<?php system('id'); ?>"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION, MAKE = 0x0112, 0x010F


@pytest_asyncio.fixture(name="decoders", scope="module", loop_scope="module")
async def _decoders() -> AsyncIterator[Decoders]:
    decoders = Decoders()
    yield decoders
    await decoders.close()


# -- pictures to send --------------------------------------------------------------


def photo(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> pillow.Image:
    """Draw something that shows which way is up, and that JPEG has work with."""
    noise = random.Random(7).randbytes(48 * 32 * 3)  # noqa: S311  no secret
    picture = pillow.frombytes("RGB", (48, 32), noise).resize((12, 8)).resize(size)
    picture.paste("red", (0, 0, size[0] // 4, size[1] // 4))
    if mode == "P":
        return picture.quantize(16)
    if mode == "I;16":
        return picture.convert("I").point([0, *range(65_535)], "I;16").convert(mode)
    return picture.convert(mode)


def encoded(picture: pillow.Image, kind: str, **options: Any) -> bytes:
    """Encode a picture as Pillow does."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def notes(orientation: int = 1) -> pillow.Exif:
    """Write notes as a camera does."""
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    exif[MAKE] = CANARY.decode()
    return exif


def with_chunks(*chunks: bytes) -> bytes:
    """Put chunks behind the header of a PNG file."""
    plain = png()
    return plain[:33] + b"".join(chunks) + plain[33:]


def raw_png(width: int, height: int, pixels: bytes, *, behind: bytes = b"") -> bytes:
    """Write a grey PNG file with whatever stream of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")
    return SIGNATURE + b"".join(chunk(*part) for part in parts) + behind


def zeros(megabytes: int) -> bytes:
    """Pack zeros, a thousandth of their size."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(1_048_576)) for _ in range(megabytes)]
    return b"".join((*pieces, packer.flush()))


def jpeg_of_size(width: int, height: int) -> bytes:
    """Write a JPEG file whose header says another size."""
    data = bytearray(encoded(photo(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_with(*segments: bytes) -> bytes:
    """Put segments behind the start of a JPEG file."""
    plain = encoded(photo(), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def segment(kind: int, body: bytes) -> bytes:
    """Write one segment of a JPEG file."""
    return bytes((0xFF, kind)) + (len(body) + 2).to_bytes(2) + body


def profile() -> bytes:
    """Give a colour profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def half(data: bytes) -> bytes:
    """Cut a file short."""
    return data[: len(data) // 2]


def moving(kind: str) -> bytes:
    """Write two frames."""
    other = ImageOps.invert(photo())
    return encoded(photo(), kind, save_all=True, append_images=[other])


REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello",
    "html": lambda: b"<html><script>alert(1)</script>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "gif": lambda: encoded(photo(), "GIF"),
    "bmp": lambda: encoded(photo(), "BMP"),
    "tiff": lambda: encoded(photo(), "TIFF"),
    "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": lambda: b"%PDF-1.7\n" + png(),
    "zip": lambda: b"PK\x03\x04" + png(),
    "avif": lambda: b"\0\0\0\x20ftypavif" + bytes(64),
    "blank-before": lambda: b"\n" + png(),
    "png-signature": lambda: SIGNATURE,
    "png-half": lambda: half(encoded(photo(), "PNG")),
    "png-broken-checksum": lambda: png().replace(b"IDAT", b"IDAT\1", 1),
    "png-no-pixels": lambda: raw_png(64, 64, b""),
    "png-too-few-pixels": lambda: raw_png(64, 64, zlib.compress(bytes(65))),
    "png-unknown-critical": lambda: with_chunks(chunk(b"EVIL", CANARY)),
    "png-zero-wide": lambda: raw_png(0, 8, zlib.compress(b"")),
    "png-bomb-header": lambda: raw_png(2**31 - 1, 2**31 - 1, zeros(1)),
    "png-bomb-pixels": lambda: raw_png(13_000, 13_000, zeros(161)),
    "png-just-too-many": lambda: raw_png(4_097, 4_096, zeros(17)),
    "png-too-wide": lambda: raw_png(8_193, 1, zlib.compress(bytes(8_194))),
    "png-moving": lambda: moving("PNG"),
    "png-many-chunks": lambda: with_chunks(chunk(b"tEXt", b"a\0b") * 70_000),
    "png-profile-bomb": lambda: with_chunks(chunk(b"iCCP", b"x\0\0" + zeros(64))),
    "jpeg-start": lambda: b"\xff\xd8\xff",
    "jpeg-half": lambda: half(encoded(photo(size=(480, 320)), "JPEG")),
    "jpeg-too-many": lambda: jpeg_of_size(65_000, 65_000),
    "jpeg-too-high": lambda: jpeg_of_size(8, 8_193),
    "jpeg-zero-high": lambda: jpeg_of_size(8, 0),
    "jpeg-many-segments": lambda: jpeg_with(segment(0xFE, b"") * 70_000),
    "jpeg-reserved": lambda: jpeg_with(segment(0x02, CANARY)),
    "jpeg-between": lambda: jpeg_with(segment(0xFE, CANARY), b"\0\0"),
    "jpeg-no-end": lambda: encoded(photo(), "JPEG")[:-2],
    "jpeg-all-fill": lambda: b"\xff\xd8" + b"\xff" * 1_000_000,
    "webp-half": lambda: half(encoded(photo(), "WEBP")),
    "webp-empty": lambda: b"RIFF\x04\0\0\0WEBP",
    "webp-too-many": lambda: encoded(
        pillow.new("L", (8_192, 2_049)), "WEBP", lossless=True, method=0
    ),
    "webp-moving": lambda: moving("WEBP"),
    "too-many-bytes": lambda: png() + bytes(MAX_INPUT_BYTES),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(decoders: Decoders, make: Callable[[], bytes]) -> None:
    """It is refused, in fixed words, and the processes are there for the next one."""
    before = set(decoders._all)

    with pytest.raises(RefusedError) as caught:
        await decoders.clean(make())

    assert (caught.value.status_code, caught.value.code) == (422, "invalid_image")
    assert before <= decoders._all


UNTOUCHED: dict[str, Callable[[], bytes]] = {
    "png": png,
    "png-tiny": lambda: png(1, 1),
    "png-widest": lambda: png(8_192, 1),
    "png-grey": lambda: encoded(photo("L"), "PNG"),
    "png-two-colours": lambda: encoded(photo("1"), "PNG"),
    "png-alpha": lambda: encoded(photo("RGBA"), "PNG"),
    "png-grey-alpha": lambda: encoded(photo("LA"), "PNG"),
    "png-palette": lambda: encoded(photo("P"), "PNG"),
    "png-palette-clear": lambda: encoded(photo("P"), "PNG", transparency=b"\0\x80"),
    "png-16-bit": lambda: encoded(pillow.new("I;16", (9, 9), 40_000), "PNG"),
    "png-16-bit-colour": lambda: (
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(3 * (1 + 5 * 3 * 2))))
        + chunk(b"IEND", b"")
    ),
    "png-profile": lambda: encoded(photo(), "PNG", icc_profile=profile()),
    "jpeg": lambda: encoded(photo(), "JPEG"),
    "jpeg-grey": lambda: encoded(photo("L"), "JPEG"),
    "jpeg-cmyk": lambda: encoded(photo("CMYK"), "JPEG"),
    "jpeg-progressive": lambda: encoded(photo(), "JPEG", progressive=True),
    "jpeg-restarts": lambda: encoded(photo(), "JPEG", restart_marker_rows=1),
    "jpeg-profile": lambda: encoded(photo(), "JPEG", icc_profile=profile()),
    "webp": lambda: encoded(photo(), "WEBP"),
    "webp-lossless": lambda: encoded(photo(), "WEBP", lossless=True),
    "webp-alpha": lambda: encoded(photo("RGBA"), "WEBP"),
    "webp-profile": lambda: encoded(photo(), "WEBP", icc_profile=profile()),
}


@pytest.mark.parametrize("make", UNTOUCHED.values(), ids=UNTOUCHED)
async def test_what_stays_as_it_is(
    decoders: Decoders, make: Callable[[], bytes]
) -> None:
    """A picture without anything else in its file is not touched."""
    data = make()

    image = await decoders.clean(data)

    with pillow.open(io.BytesIO(data)) as picture:
        assert (image.width, image.height) == picture.size
        assert image.media_type == picture.get_format_mimetype()
    assert image.data == data


CLEANED: dict[str, Callable[[], bytes]] = {
    "png-behind-the-end": lambda: png() + CANARY,
    "png-text": lambda: with_chunks(chunk(b"tEXt", b"Comment\0" + CANARY)),
    "png-packed-text": lambda: with_chunks(
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(CANARY))
    ),
    "png-much-text": lambda: with_chunks(
        chunk(b"iTXt", b"workflow\0\0\0\0\0" + CANARY * 300_000)
    ),
    "png-text-bomb": lambda: with_chunks(chunk(b"zTXt", b"a\0\0" + zeros(64))),
    "png-xmp": lambda: with_chunks(
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + CANARY)
    ),
    "png-notes": lambda: encoded(photo(), "PNG", exif=notes()),
    "png-unknown": lambda: with_chunks(chunk(b"exPl", CANARY)),
    "png-in-the-pixels": lambda: raw_png(8, 8, zlib.compress(bytes(72)) + CANARY),
    "png-behind-the-pixels": lambda: raw_png(8, 8, zlib.compress(bytes(72) + CANARY)),
    "png-much-behind": lambda: raw_png(8, 8, zeros(64)),
    "jpeg-behind-the-end": lambda: encoded(photo(), "JPEG") + CANARY,
    "jpeg-zip": lambda: encoded(photo(), "JPEG") + b"PK\x03\x04" + CANARY,
    "jpeg-notes": lambda: encoded(photo(), "JPEG", exif=notes()),
    "jpeg-damaged-notes": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + CANARY)),
    "jpeg-xmp": lambda: jpeg_with(segment(0xE1, b"http://ns.adobe.com/" + CANARY)),
    "jpeg-iptc": lambda: jpeg_with(segment(0xED, b"Photoshop 3.0\0" + CANARY)),
    "jpeg-comment": lambda: encoded(photo(), "JPEG", comment=CANARY),
    "jpeg-thumbnail": lambda: jpeg_with(segment(0xE0, b"JFXX\0\x10" + CANARY)),
    "jpeg-phone": lambda: encoded(
        photo(), "MPO", save_all=True, append_images=[photo()], exif=notes()
    ),
    "jpeg-filling": lambda: jpeg_with(segment(0xFE, CANARY), b"\xff\xff\xff"),
    "webp-behind-the-end": lambda: encoded(photo(), "WEBP") + CANARY,
    "webp-notes": lambda: encoded(photo(), "WEBP", exif=notes()),
    "webp-xmp": lambda: encoded(photo(), "WEBP", xmp=CANARY),
}


@pytest.mark.parametrize("make", CLEANED.values(), ids=CLEANED)
async def test_what_is_left_out(decoders: Decoders, make: Callable[[], bytes]) -> None:
    """The picture comes out as it looked, and nothing else that was in the file."""
    data = make()

    image = await decoders.clean(data)

    assert CANARY not in image.data
    assert len(image.data) < len(data)
    with pillow.open(io.BytesIO(image.data)) as picture:
        picture.load()
        assert not picture.getexif()
        assert picture.size == (image.width, image.height)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_leaving_out_keeps_the_pixels(decoders: Decoders, kind: str) -> None:
    """Nothing is encoded twice: not even JPEG loses anything."""
    data = encoded(photo(), kind, exif=notes(), icc_profile=profile())

    image = await decoders.clean(data)

    before = pillow.open(io.BytesIO(data))
    after = pillow.open(io.BytesIO(image.data))
    assert after.tobytes() == before.tobytes()
    assert after.info["icc_profile"] == profile()


TURNED = [
    pytest.param(kind, orientation, tolerance, id=f"{kind.lower()}-{orientation}")
    for kind, tolerance in (("PNG", 0), ("WEBP", 0), ("JPEG", 24))
    for orientation in range(1, 9)
]


@pytest.mark.parametrize(("kind", "orientation", "tolerance"), TURNED)
async def test_pictures_are_put_upright(
    decoders: Decoders, kind: str, orientation: int, tolerance: int
) -> None:
    """What a note says about up and down is done, and the note is gone."""
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photo(), kind, exif=notes(orientation), **options)
    with pillow.open(io.BytesIO(data)) as picture:
        expected = ImageOps.exif_transpose(picture).convert("RGB")

    image = await decoders.clean(data)

    with pillow.open(io.BytesIO(image.data)) as picture:
        difference = ImageChops.difference(picture.convert("RGB"), expected)
    assert (image.width, image.height) == expected.size
    assert max(difference.tobytes()) <= tolerance
    assert CANARY not in image.data


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "I;16"])
async def test_odd_pixels_are_put_upright(decoders: Decoders, mode: str) -> None:
    """Whatever kind of pixel a PNG file has, it has it afterwards."""
    plain = pillow.new(mode, (3, 5), 0) if mode == "I;16" else photo(mode, (3, 5))
    transparency = {"transparency": 2} if mode == "P" else {}
    data = encoded(plain, "PNG", exif=notes(6), **transparency)

    image = await decoders.clean(data)

    with pillow.open(io.BytesIO(image.data)) as picture:
        assert (picture.size, picture.mode) == ((5, 3), mode)
        assert picture.info.get("transparency") == transparency.get("transparency")


async def test_interlaced_pictures_stay_as_they_are(decoders: Decoders) -> None:
    """Seven passes have as many bytes as they should."""
    # Pillow writes none: 5 x 3 grey pixels, in their passes.
    header = struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1)
    rows = (1, 1, 1, 3, 2, 2, 5)
    pixels = b"".join(b"\0" + bytes(width) for width in rows)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")
    data = SIGNATURE + b"".join(chunk(*part) for part in parts)

    image = await decoders.clean(data)

    assert image.data == data


def damaged(data: bytes, luck: random.Random) -> bytes:
    """Change, take out or put in a few bytes somewhere."""
    at, length = luck.randrange(len(data)), luck.randrange(1, 9)
    inside = luck.choice((b"", b"\0\0\0\0", b"\xff" * 4, luck.randbytes(length)))
    return data[:at] + inside + data[at + luck.choice((0, len(inside), length)) :]


@pytest.mark.parametrize("seed", range(3))
async def test_damaged_files(decoders: Decoders, seed: int) -> None:
    """They are refused, or come out as pictures that need no more cleaning."""
    luck = random.Random(seed)  # noqa: S311  no secret
    whole = [make() for make in UNTOUCHED.values()]
    before = set(decoders._all)

    answers = await asyncio.gather(
        *(decoders.clean(damaged(luck.choice(whole), luck)) for _ in range(60)),
        return_exceptions=True,
    )
    images = [one for one in answers if isinstance(one, Image)]
    again = await asyncio.gather(*(decoders.clean(one.data) for one in images))

    assert {type(one) for one in answers} <= {Image, RefusedError}
    assert again == images
    assert before <= decoders._all


async def test_fifty_pictures_at_once(decoders: Decoders) -> None:
    """They wait for each other, good ones and bad ones, and all get their answer."""
    good = [png(width, 8) for width in range(1, 26)]
    bad = [half(data) for data in good]

    answers = await asyncio.gather(
        *map(decoders.clean, good + bad), return_exceptions=True
    )

    assert [
        one.width for one in answers[:25] if not isinstance(one, BaseException)
    ] == [*range(1, 26)]
    assert all(isinstance(one, RefusedError) for one in answers[25:])
    assert len(decoders._all) <= decoders.count
