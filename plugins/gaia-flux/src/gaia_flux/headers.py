"""
Whether a file is a sound safetensors file, told by its header alone.

The header says where in the file each tensor lies; all of it is reckoned up before
any library reads one.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

MAX_HEADER: Final = 100_000_000
"""Longest header, in bytes; longer ones are refused."""

_PREFIX: Final = 8  # bytes that say how long the header is
_MAGIC: Final = (b"\x80", b"PK\x03\x04")  # of a pickle, and of an archive of them
_METADATA: Final = "__metadata__"
_DISGUISED: Final = "is a pickle under another name"
_CUT_OFF: Final = "is cut off, or no safetensors file"
_UNREADABLE: Final = "cannot be read"
_DAMAGED: Final = "has a damaged header"
_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class HeaderError(ValueError):
    """A file has no sound header; the words go after its name."""


def fault_of(file: Path) -> str | None:
    """Say what is wrong with a file, after its name; None: it is sound."""
    try:
        header, room = _read(file)
    except HeaderError as error:
        return str(error)
    return _fault_in(header, room)


def parameters_in(file: Path) -> Iterator[tuple[str, int]]:
    """
    Tell how many numbers each tensor of a file has, by its name.

    Raises:
        HeaderError: If the file is not sound.
    """
    header, room = _read(file)
    if words := _fault_in(header, room):
        raise HeaderError(words)
    for name, one in header.items():
        if name != _METADATA:
            yield name, math.prod(one["shape"])


def _read(file: Path) -> tuple[Any, int]:
    """Read a header, and how many bytes follow it."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = _length(stream.read(_PREFIX), size)
            text = stream.read(length)
    except OSError as error:
        raise HeaderError(_UNREADABLE) from error
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise HeaderError(_DAMAGED) from error
    return header, size - _PREFIX - length


def _length(start: bytes, size: int) -> int:
    length = int.from_bytes(start, "little")
    if len(start) == _PREFIX and length <= min(MAX_HEADER, size - _PREFIX):
        return length  # it may well begin as a pickle does: one in 32 does
    raise HeaderError(_DISGUISED if start.startswith(_MAGIC) else _CUT_OFF)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Make a table of pairs; a name that comes twice hides one of two values."""
    listed = list(pairs)
    table = dict(listed)
    if len(table) != len(listed):
        message = "a name comes twice"
        raise ValueError(message)
    return table


def _fault_in(header: object, room: int) -> str | None:
    if not isinstance(header, dict):
        return _DAMAGED
    for name, one in header.items():
        if name != _METADATA and not _fits(one, room):
            return f"has a tensor that does not fit into it: {name[:80]}"
    return None


def _fits(tensor: Any, room: int) -> bool:
    try:
        begin, end = tensor["data_offsets"]
        wanted = _BITS[tensor["dtype"]] * math.prod(tensor["shape"])
        return bool(0 <= begin <= end <= room and (end - begin) * 8 == wanted)
    except (KeyError, TypeError, ValueError):
        return False


def stamp(path: Path) -> tuple[int, int]:
    """Tell one state of a file from another; zeros: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
