"""
What a worker and its process say to each other.

A frame is a length, a JSON header, and blobs of bytes that the header points into.
Nothing in it is ever executed: values become the classes that the reader names, and
errors only such as a list holds.
"""

import builtins
import importlib
import json
import struct
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs

T = TypeVar("T")

MAX_HEADER = 4 * 2**20
"""Bytes of a header: prompts, and the sizes of the blobs."""
MAX_BLOBS = 1024
MAX_BYTES = 2**30
"""Bytes of all blobs of a frame: five pictures of 8192x8192, for instance."""
_MAX_TRACE = 8_192
_PREFIX = struct.Struct("!4sI")
_MAGIC = b"gfx1"
_BLOB = "$blob"
_LIGHT = ("gaia_core.errors", "gaia_flux.jobs", "gaia_flux.weights", "gaia_flux.errors")
"""Modules whose errors cross by class; none of them imports torch."""
_OWN_NAMES: Mapping[str, type[Exception]] = {"torch.OutOfMemoryError": MemoryError}


class FrameError(ValueError):
    """What came is no frame, or one beyond all bounds."""


@attrs.frozen(kw_only=True)
class Frame:
    """
    One thing said.

    Attributes:
        kind: What it is: ``draw``, ``stop``, ``progress``, ``done``…
        number: The piece of work it is about; 0: none.
        value: What goes with it: what JSON knows, and bytes.
    """

    kind: str
    number: int = 0
    value: Any = None


def encoded(frame: Frame) -> tuple[bytes, ...]:
    """
    Encode a frame.

    Returns:
        Pieces to send one after the other; pictures are not copied for it.

    Raises:
        FrameError: If it is larger than the reader would take.
    """
    blobs: list[bytes] = []
    value = _packed(frame.value, blobs)
    sizes = [len(blob) for blob in blobs]
    record = {"kind": frame.kind, "number": frame.number, "value": value}
    header = json.dumps({**record, "blobs": sizes}).encode()
    if len(header) > MAX_HEADER:
        message = f"A header of {len(header)} bytes is longer than {MAX_HEADER}."
        raise FrameError(message)
    _check_sizes(sizes)
    return (_PREFIX.pack(_MAGIC, len(header)), header, *blobs)


@attrs.define(eq=False)
class Decoder:
    """Puts frames together from whatever pieces they arrive in."""

    _buffer: bytearray = attrs.field(factory=bytearray, init=False)
    _header: dict[str, Any] | None = attrs.field(default=None, init=False)
    _wanted: int = attrs.field(default=_PREFIX.size, init=False)
    _is_prefix: bool = attrs.field(default=True, init=False)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        Take what arrived.

        Yields:
            The frames that are complete with it.

        Raises:
            FrameError: If it is no frame; nothing after it can be read.
        """
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            piece = bytes(memoryview(self._buffer)[: self._wanted])
            del self._buffer[: self._wanted]
            frame = self._take(piece)
            if frame is not None:
                yield frame

    def _take(self, piece: bytes) -> Frame | None:
        if self._is_prefix:
            self._is_prefix = False
            self._wanted = _header_length(piece)
        elif self._header is None:
            self._header = _header(piece)
            self._wanted = sum(self._header["blobs"])
        else:
            frame, self._header = _frame(self._header, piece), None
            self._is_prefix, self._wanted = True, _PREFIX.size
            return frame
        return None


def _header_length(prefix: bytes) -> int:
    magic, length = _PREFIX.unpack(prefix)
    if magic != _MAGIC or not 0 < length <= MAX_HEADER:
        message = f"These bytes begin no frame: {prefix.hex()}."
        raise FrameError(message)
    return int(length)


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except ValueError as error:
        message = "A frame's header is no JSON."
        raise FrameError(message) from error
    types = {"kind": str, "number": int, "value": object, "blobs": list}
    if not isinstance(header, dict) or header.keys() != types.keys():
        message = "A frame's header lacks its fields."
        raise FrameError(message)
    for name, wanted in types.items():
        if not isinstance(header[name], wanted):
            message = f"A frame's {name} is no {wanted.__name__}."
            raise FrameError(message)
    _check_sizes(header["blobs"])
    return header


def _check_sizes(sizes: list[Any]) -> None:
    are_sizes = all(type(size) is int and size >= 0 for size in sizes)
    if not are_sizes or len(sizes) > MAX_BLOBS or sum(sizes) > MAX_BYTES:
        message = (
            f"A frame takes at most {MAX_BLOBS} blobs of {MAX_BYTES} bytes together: "
            "ask for fewer or smaller pictures."
        )
        raise FrameError(message)


def _frame(header: Mapping[str, Any], data: bytes) -> Frame:
    blobs, start = [], 0
    for size in header["blobs"]:
        blobs.append(data[start : start + size])
        start += size
    value = _unpacked(header["value"], blobs)
    return Frame(kind=header["kind"], number=header["number"], value=value)


def _packed(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, bytes):
        blobs.append(value)
        return {_BLOB: len(blobs) - 1}
    if isinstance(value, Mapping):
        return {key: _packed(one, blobs) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one, blobs) for one in value]
    return value


def _unpacked(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_unpacked(one, blobs) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {_BLOB}:
        return {key: _unpacked(one, blobs) for key, one in value.items()}
    try:
        return blobs[value[_BLOB]]
    except (IndexError, TypeError) as error:
        message = "A frame's header points at no blob."
        raise FrameError(message) from error


# -- values ---------------------------------------------------------------------


def record_of(value: Any) -> Any:
    """Make what a frame can carry from a job, a result or a preview."""
    return _CONVERTER.unstructure(value)


def value_of(kind: type[T], record: Any) -> T:
    """
    Make a job, a result or a preview again.

    Raises:
        FrameError: If the record is none of that kind.
    """
    try:
        return _CONVERTER.structure(record, kind)
    except Exception as error:  # cattrs lets out whatever a class or value raises
        message = f"A frame holds no {kind.__name__}."
        raise FrameError(message) from error


def _bytes(value: Any, _: object) -> bytes:
    if not isinstance(value, bytes):
        message = f"{type(value).__name__} stands where bytes should."
        raise TypeError(message)
    return value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_structure_hook(bytes, _bytes)
    return converter


_CONVERTER = _converter()


# -- errors ---------------------------------------------------------------------


def record_of_error(error: BaseException) -> dict[str, Any]:
    """Describe an error to the other side: its classes, its words, its lines."""
    trace = "".join(traceback.format_exception(error))
    classes = [f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__]
    return {
        "classes": classes,
        "message": _words_of(error),
        "trace": trace[-_MAX_TRACE:],
    }


def _words_of(error: BaseException) -> str:
    """Give what an error was made with; a `KeyError` shows it in quotes."""
    is_key = isinstance(error, KeyError) and len(error.args) == 1
    return str(error.args[0] if is_key else error)


def error_of(record: Mapping[str, Any]) -> Exception:
    """
    Make an error from its description.

    It is of the nearest class known here, so that it is understood as if it had been
    raised here; where that is not its own class, its words begin with the name.
    """
    own, message = record["classes"][0], record["message"]
    kind, name = _nearest(record["classes"])
    if name != own:
        message = f"{own.rpartition('.')[2]}: {message}"
    try:
        error = kind(message)
    except TypeError:  # a class that wants more than words
        error = RuntimeError(message)
    error.add_note(f"In the worker's process:\n{record['trace']}")
    return error


def _nearest(names: list[str]) -> tuple[type[Exception], str]:
    for name in names:
        kind = _OWN_NAMES.get(name) or _known(name)
        if kind is not None and kind is not Exception:
            return kind, name
    return RuntimeError, ""


def _known(name: str) -> type[Exception] | None:
    module, _, word = name.rpartition(".")
    if module == "builtins":
        found = getattr(builtins, word, None)
    elif module in _LIGHT:
        found = getattr(importlib.import_module(module), word, None)
    else:
        return None
    is_error = isinstance(found, type) and issubclass(found, Exception)
    return found if is_error else None
