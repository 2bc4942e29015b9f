"""PNG files: pixels and text."""

import io
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow  # noqa: N813
from PIL import ImageChops, ImageDraw, ImageFilter, PngImagePlugin
from PIL.Image import Image as PillowImage

from gaia_core.errors import InvalidImageError
from gaia_core.png import MAX_TEXT_BYTES, read_text, with_metadata, write_png
from gaia_core.testing import jpeg, png
from gaia_core.testing.pictures import encoded

SIDE = 384
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - pictures, not secrets


def _noise(sigma: float, *, seed: int = 1) -> PillowImage:
    """Draw noise that is the same in every run, unlike Pillow's."""
    data = _dice(seed).randbytes(SIDE * SIDE * 3)
    grey = pillow.new("RGB", (SIDE, SIDE), (128, 128, 128))
    return pillow.blend(
        grey, pillow.frombytes("RGB", (SIDE, SIDE), data), min(1.0, sigma / 74)
    )


def _photo() -> PillowImage:
    coarse = _noise(60, seed=2).crop((0, 0, SIDE // 16, SIDE // 16))
    texture = coarse.resize((SIDE, SIDE), pillow.Resampling.BICUBIC)
    return ImageChops.add(texture, _noise(6), scale=1, offset=-128)


def _painting() -> PillowImage:
    dice = _dice(3)
    picture = pillow.new("RGB", (SIDE, SIDE), (60, 90, 120))
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        x, y, size = dice.randrange(SIDE), dice.randrange(SIDE), dice.randrange(8, 80)
        colour = (dice.randrange(256), dice.randrange(256), dice.randrange(256))
        draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(1))


def _page() -> PillowImage:
    dice = _dice(4)
    picture = pillow.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for line in range(8, SIDE, 14):
        words = dice.choices(("dragon", "keep", "tower", "gold", "river"), k=12)
        draw.text((8, line), " ".join(words), fill="black")
    return picture


def _sprite() -> PillowImage:
    mask = pillow.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).ellipse((90, 50, 300, 340), fill=255)
    sprite = pillow.new("RGBA", (SIDE, SIDE))
    sprite.paste(_photo(), mask=mask.filter(ImageFilter.GaussianBlur(2)))
    return sprite


def _mixture() -> PillowImage:
    """Put a page above a photo, in a picture of many bands."""
    tall = pillow.new("RGB", (SIDE, SIDE * 6))
    for index in range(6):
        tall.paste(_page() if index < 3 else _photo(), (0, SIDE * index))
    return tall


def _spread() -> PillowImage:
    """Put a page beside a photo."""
    wide = pillow.new("RGB", (SIDE * 2, SIDE))
    wide.paste(_page(), (0, 0))
    wide.paste(_photo(), (SIDE, 0))
    return wide


PICTURES = {
    "photo": _photo(),
    "painting": _painting(),
    "page": _page(),
    "sprite": _sprite(),
    "mixture": _mixture(),
    "spread": _spread(),
    "grey": _photo().convert("L"),
    "grey sprite": _sprite().convert("LA"),
    "blank": pillow.new("RGB", (SIDE, SIDE), "white"),
    "one column": _photo().resize((1, 70_000)),
    "one row": _photo().resize((70_000, 1)),
    "one pixel": pillow.new("RGB", (1, 1), "red"),
    "palette": _painting().quantize(32),
    "black and white": _page().convert("1"),
    "16 bits": pillow.new("I;16", (300, 300), 40_000),
}
every_picture = pytest.mark.parametrize(
    "picture", PICTURES.values(), ids=PICTURES.keys()
)


def _read(data: bytes) -> PillowImage:
    picture = pillow.open(io.BytesIO(data), formats=("PNG",))
    picture.load()
    return picture


def _same(data: bytes, picture: PillowImage) -> bool:
    again = _read(data)
    return (again.mode, again.size, again.tobytes()) == (
        picture.mode,
        picture.size,
        picture.tobytes(),
    )


@every_picture
def test_pictures_are_written_without_loss(picture: PillowImage) -> None:
    """What is read back is what was written, to the bit."""
    assert _same(write_png(picture), picture)


@every_picture
def test_the_same_picture_gives_the_same_bytes(picture: PillowImage) -> None:
    """Content addressing and caches rely on it."""
    assert write_png(picture) == write_png(picture.copy())


@pytest.mark.parametrize(
    "kind", ["photo", "painting", "page", "sprite", "mixture", "spread"]
)
def test_files_are_not_larger_than_usual(kind: str) -> None:
    """Speed is not bought with bytes."""
    picture = PICTURES[kind]

    assert len(write_png(picture)) <= 1.05 * len(encoded(picture, "PNG"))


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA"]),
    width=st.integers(1, 200),
    tile=st.binary(min_size=1, max_size=600),
    rows=st.integers(1, 1_200),
)
def test_any_pixels_come_through(mode: str, width: int, tile: bytes, rows: int) -> None:
    """Periods, edges and odd sizes survive every way of compressing."""
    size = width * rows * len(mode)
    picture = pillow.frombytes(
        mode, (width, rows), (tile * (size // len(tile) + 1))[:size]
    )

    assert _same(write_png(picture), picture)


@pytest.mark.parametrize("width", [400, 8], ids=["ours", "pillow"])
def test_a_colour_profile_is_kept(width: int) -> None:
    """Colours stay what they were."""
    picture = pillow.new("RGB", (width, 400), "teal")
    picture.info["icc_profile"] = b"a profile" * 20

    assert _read(write_png(picture)).info["icc_profile"] == b"a profile" * 20


def test_a_transparent_colour_is_kept() -> None:
    """A picture that names its transparent colour keeps it."""
    picture = pillow.new("RGB", (400, 400), "teal")
    picture.info["transparency"] = (0, 128, 128)

    assert _read(write_png(picture)).info["transparency"] == (0, 128, 128)


@pytest.mark.parametrize("width", [400, 8], ids=["ours", "pillow"])
def test_text_is_written_along(width: int) -> None:
    """A picture and its text are written in one go."""
    data = write_png(pillow.new("RGB", (width, 400)), text={"gaia": "{}"})

    assert read_text(data) == {"gaia": "{}"}


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (pillow.new("RGB", (0, 5)), "without pixels"),
        (pillow.new("CMYK", (8, 8)), "no CMYK pixels: convert the picture to RGB"),
    ],
    ids=["empty", "cmyk"],
)
def test_what_png_cannot_hold_is_refused(picture: PillowImage, words: str) -> None:
    """The error says what to do instead."""
    with pytest.raises(InvalidImageError, match=words):
        write_png(picture)


@given(text=st.dictionaries(st.sampled_from(["parameters", "gaia", "Title"]), TEXT))
def test_text_comes_back_as_it_went_in(text: dict[str, str]) -> None:
    """Any language fits into a picture."""
    assert read_text(with_metadata(png(), text)) == text


@given(value=TEXT)
def test_other_programs_read_the_text(value: str) -> None:
    """Pillow finds what was written where it expects it."""
    assert _read(with_metadata(png(), {"parameters": value})).info == {
        "parameters": value
    }


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a keep", b"tEXt"), ("déjà vu", b"tEXt"), ("砦", b"iTXt"), ("🐉", b"iTXt")],
    ids=["ascii", "latin-1", "japanese", "emoji"],
)
def test_only_latin_text_is_written_plainly(value: str, kind: bytes) -> None:
    """Text beyond Latin-1 goes where PNG allows UTF-8."""
    assert kind in with_metadata(png(), {"parameters": value})


def test_an_xmp_packet_is_always_utf8() -> None:
    """The XMP specification asks for an iTXt chunk."""
    data = with_metadata(png(), {"XML:com.adobe.xmp": "<x/>"})

    assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0<x/>" in data


@pytest.mark.parametrize("value", ["a\0b", "\ud800"], ids=["null", "half a pair"])
def test_characters_no_chunk_can_hold_are_replaced(value: str) -> None:
    """Odd characters in a prompt do not break the file."""
    data = with_metadata(png(), {"parameters": value})

    assert set(read_text(data)["parameters"]) & set("\0\ud800") == set()


def test_text_stands_right_behind_the_header() -> None:
    """Readers that stop at the pixels find it."""
    data = with_metadata(png(), {"gaia": "{}"})

    assert data[:33] == png()[:33]
    assert data[37:41] == b"tEXt"


def test_pixels_are_not_touched() -> None:
    """Nothing but text is added."""
    data = png()

    noted = with_metadata(data, {"gaia": "{}"})

    assert noted.endswith(data[33:])
    assert len(noted) == len(data) + 12 + len(b"gaia\0{}")


def test_text_under_the_same_keyword_is_replaced() -> None:
    """Writing twice leaves one chunk; other text stays."""
    data = with_metadata(png(), {"parameters": "old", "Title": "Keep"})

    renewed = with_metadata(data, {"parameters": "new"})

    assert read_text(renewed) == {"parameters": "new", "Title": "Keep"}
    assert b"old" not in renewed


def test_other_text_can_be_left_out() -> None:
    """Whoever must not give the prompt away drops all text but their own."""
    data = with_metadata(png(), {"prompt": "a secret"})

    cleared = with_metadata(data, {"gaia": "{}"}, keep_others=False)

    assert read_text(cleared) == {"gaia": "{}"}


def test_what_follows_the_picture_is_left_out() -> None:
    """A file that is also something else is only a picture afterwards."""
    assert with_metadata(png() + b"PK\x03\x04", {}) == png()


@pytest.mark.parametrize(
    "keyword",
    ["", "x" * 80, "a\0b", " lead", "trail ", "two  spaces", "砦", "tab\t"],
    ids=repr,
)
def test_a_keyword_png_forbids_is_refused(keyword: str) -> None:
    """A wrong keyword is the caller's mistake, and named."""
    with pytest.raises(ValueError, match="is no keyword of a text chunk"):
        with_metadata(png(), {keyword: "x"})


def test_packed_text_is_read() -> None:
    """Both kinds of compressed text are unpacked."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a keep " * 50, zip=True)
    info.add_itxt("parameters", "砦 " * 50, zip=True)
    buffer = io.BytesIO()
    pillow.new("L", (8, 8)).save(buffer, format="PNG", pnginfo=info)

    assert read_text(buffer.getvalue()) == {
        "Title": "a keep " * 50,
        "parameters": "砦 " * 50,
    }


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _with_chunk(kind: bytes, body: bytes) -> bytes:
    return png()[:33] + _chunk(kind, body) + png()[33:]


BOMB = zlib.compress(bytes(50_000_000), 9)


@pytest.mark.parametrize(
    "data",
    [
        _with_chunk(b"zTXt", b"bomb\0\0" + BOMB),
        _with_chunk(b"iTXt", b"bomb\0\1\0\0\0" + BOMB),
        _with_chunk(b"tEXt", b"long\0" + bytes(MAX_TEXT_BYTES + 1)),
        png()[:33]
        + 5 * _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MAX_TEXT_BYTES // 4)))
        + png()[33:],
    ],
    ids=["zTXt", "iTXt", "tEXt", "many small ones"],
)
def test_text_that_unpacks_without_end_is_refused(data: bytes) -> None:
    """A text bomb costs no more than its limit."""
    tracemalloc.start()

    try:
        with pytest.raises(InvalidImageError, match=f"{MAX_TEXT_BYTES} bytes"):
            read_text(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "data",
    [
        _with_chunk(b"tEXt", b"no mark"),
        _with_chunk(b"iTXt", b"half\0\0\0"),
        _with_chunk(b"zTXt", b"bad\0\0no zlib"),
        b"\x89PNG\r\n\x1a\n" + png()[33:],
        png()[:33] + png()[8:],
        png()[:8] + b"\xff\xff\xff\xff" + png()[12:],
    ],
    ids=["no mark", "half a header", "no zlib", "no IHDR", "two IHDR", "wild length"],
)
def test_a_broken_chunk_is_refused(data: bytes) -> None:
    """Nothing is guessed about a damaged file."""
    with pytest.raises(InvalidImageError, match="cut short or damaged"):
        read_text(data)


@pytest.mark.parametrize("size", range(8, len(png())))
def test_a_cut_file_is_refused(size: int) -> None:
    """A file cut anywhere is no sound PNG file."""
    with pytest.raises(InvalidImageError, match="cut short or damaged"):
        with_metadata(png()[:size], {"gaia": "{}"})


@pytest.mark.parametrize("place", range(8, len(png())))
def test_a_flipped_byte_is_noticed(place: int) -> None:
    """Checksums are checked, not copied."""
    data = bytearray(png())
    data[place] ^= 1

    with pytest.raises(InvalidImageError):
        with_metadata(bytes(data), {"gaia": "{}"})


@pytest.mark.parametrize("data", [b"", jpeg(), b"GIF89a"], ids=["none", "jpeg", "gif"])
def test_only_png_files_hold_text(data: bytes) -> None:
    """Other files are refused by name."""
    with pytest.raises(InvalidImageError, match="no PNG file"):
        with_metadata(data, {"gaia": "{}"})
