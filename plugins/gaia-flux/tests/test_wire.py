"""What a worker and its process say to each other arrives as it was said."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from gaia_core import ContentFilteredError
from gaia_flux import wire
from gaia_flux.jobs import Drawn, LoraFile, Picture, Preview, StoppedError
from gaia_flux.weights import WeightsError
from gaia_flux.wire import (
    Decoder,
    Frame,
    FrameError,
    encoded,
    error_of,
    record_of,
    record_of_error,
    value_of,
)

from .squares import LostError, job

PICTURE = Picture(pixels=b"\x00\x01\xff" * 4, width=2, height=2, mode="RGB", seed=None)
VALUES = (
    job(),
    job(
        "ein Fuchs 🦊 \x00",
        seeds=(0, 2**63 - 1),
        negative_prompt="",
        strength=0.1,
        image=b"\x89PNG",
        mask_image=b"",
        reference_images=(b"one", b"two"),
        outpaint=(1, 2, 3, 4),
        loras=(LoraFile(path=Path("/x/y.safetensors"), weight=-0.5),),
        has_previews=False,
    ),
    Preview(pixels=b"abc", width=1, height=1),
    Drawn(pictures=(PICTURE, PICTURE), warnings=("one", "two"), seconds=1.25),
    Drawn(pictures=()),
)


def _through(frame: Frame) -> Frame:
    (arrived,) = Decoder().feed(b"".join(encoded(frame)))
    return arrived


@pytest.mark.parametrize("value", VALUES, ids=["plain", "full", "preview", "two", "no"])
def test_values_arrive_equal(value: Any) -> None:
    """A job, a preview and a result are equal on the other side."""
    frame = _through(Frame(kind="draw", number=3, value=[record_of(value)]))

    assert (frame.kind, frame.number) == ("draw", 3)
    assert value_of(type(value), frame.value[0]) == value


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_frames_are_put_together_from_any_pieces(size: int) -> None:
    """Where the pieces are cut does not matter, not even in the middle of a number."""
    frames = [Frame(kind="k", number=n, value=[b"x" * n, None, n]) for n in range(20)]
    data = b"".join(piece for frame in frames for piece in encoded(frame))
    decoder = Decoder()

    arrived = [
        frame
        for start in range(0, len(data), size)
        for frame in decoder.feed(data[start : start + size])
    ]

    assert arrived == frames


def test_pictures_are_not_copied_into_the_header() -> None:
    """Pixels go as they are, behind the header."""
    pixels = bytes(1_000_000)

    pieces = encoded(Frame(kind="done", value={"pixels": pixels}))

    assert pieces[-1] is pixels
    assert len(pieces[1]) < 200


def _bytes(header: Any, blobs: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("!4sI", b"gfx1", len(data)) + data + blobs


_HEADER = {"kind": "done", "number": 1, "value": None, "blobs": []}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"Loading pipeline components...", id="words"),
        pytest.param(struct.pack("!4sI", b"gfx1", 2**32 - 1), id="endless-header"),
        pytest.param(struct.pack("!4sI", b"gfx1", 0), id="empty-header"),
        pytest.param(_bytes(b"\x80\x04\x95pickle"), id="pickle"),
        pytest.param(_bytes(b"{"), id="half-a-header"),
        pytest.param(_bytes([]), id="list"),
        pytest.param(_bytes(_HEADER | {"more": 1}), id="unknown-field"),
        pytest.param(_bytes(_HEADER | {"kind": 1}), id="kind-no-text"),
        pytest.param(_bytes(_HEADER | {"blobs": [-1]}), id="negative-blob"),
        pytest.param(_bytes(_HEADER | {"blobs": [True]}), id="blob-no-size"),
        pytest.param(_bytes(_HEADER | {"blobs": [2**30, 1]}), id="endless-blobs"),
        pytest.param(_bytes(_HEADER | {"blobs": [0] * 1025}), id="too-many-blobs"),
        pytest.param(_bytes(_HEADER | {"value": {"$blob": 0}}), id="no-such-blob"),
        pytest.param(_bytes(_HEADER | {"value": {"$blob": "x"}}), id="blob-by-name"),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    """What is no frame is noticed at once, and without room made for it."""
    with pytest.raises(FrameError):
        list(Decoder().feed(data))


def test_too_large_a_frame_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for too much hears so before anything is sent."""
    monkeypatch.setattr(wire, "MAX_BYTES", 10)

    with pytest.raises(FrameError, match="ask for fewer or smaller pictures"):
        encoded(Frame(kind="done", value=[bytes(6), bytes(6)]))


def test_too_long_a_header_is_not_sent() -> None:
    """A prompt beyond all bounds is refused too."""
    with pytest.raises(FrameError, match="longer than"):
        encoded(Frame(kind="draw", value="x" * (wire.MAX_HEADER + 1)))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(None, id="nothing"),
        pytest.param({"pixels": "abc", "width": 1, "height": 1}, id="text-for-bytes"),
        pytest.param({"pixels": b"", "width": 1}, id="field-missing"),
        pytest.param(
            {"pixels": b"", "width": 1, "height": 1, "x": 1}, id="field-unknown"
        ),
        pytest.param({"pixels": b"", "width": "one", "height": 1}, id="no-number"),
    ],
)
def test_record_of_something_else_is_refused(record: Any) -> None:
    """A value is made only from a record of its kind."""
    with pytest.raises(FrameError, match="no Preview"):
        value_of(Preview, record)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        pytest.param(ValueError("a"), ValueError, "a", id="built-in"),
        pytest.param(FileNotFoundError("b"), FileNotFoundError, "b", id="os"),
        pytest.param(WeightsError("c"), WeightsError, "c", id="weights"),
        pytest.param(StoppedError("d"), StoppedError, "d", id="stopped"),
        pytest.param(
            ContentFilteredError("e"), ContentFilteredError, "e", id="of-the-core"
        ),
        pytest.param(LostError("f"), RuntimeError, "LostError: f", id="unknown"),
        pytest.param(
            UnicodeDecodeError("utf-8", b"x", 0, 1, "g"),
            RuntimeError,
            "'utf-8' codec can't decode byte 0x78 in position 0: g",
            id="of-many-arguments",
        ),
        pytest.param(KeyError("h"), KeyError, "'h'", id="key"),
    ],
)
def test_errors_arrive_as_what_they_were(
    error: Exception, kind: type[Exception], words: str
) -> None:
    """An error has its class and its words on the other side, and brings its lines."""
    with pytest.raises(type(error)) as caught:
        raise error
    record = record_of_error(caught.value)
    frame = _through(Frame(kind="failed", value=record))

    arrived = error_of(frame.value)

    assert type(arrived) is kind
    assert str(arrived) == words
    assert "raise error" in arrived.__notes__[0]


def test_torchs_lack_of_memory_is_understood() -> None:
    """The side without torch knows its error for what it is."""
    classes = ["torch.OutOfMemoryError", "builtins.RuntimeError", "builtins.object"]

    error = error_of({"classes": classes, "message": "no room", "trace": ""})

    assert type(error) is MemoryError
    assert str(error) == "no room"


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "builtins.SystemExit",
        "os.system",
        "gaia_flux.jobs.Job",
        "gaia_flux.wire.FrameError",
        "subprocess.CalledProcessError",
    ],
)
def test_no_other_classes_are_made(name: str) -> None:
    """A name decides about nothing but errors from a short list of modules."""
    error = error_of({"classes": [name], "message": "x", "trace": ""})

    assert type(error) is RuntimeError
