"""
Requests as plain data: for the ledger, for batch files, for comparing.

A record is JSON. Pictures are in it by their digest, so that a record is small and
two requests are equal exactly if their fingerprints are.
"""

import base64
import difflib
import hashlib
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import attrs

from gaia_core.errors import InvalidImageError, InvalidRequestError
from gaia_core.images import Image
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Lora,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)

OPERATIONS: Mapping[str, type[Request]] = {
    "generate": GenerateRequest,
    "upscale": UpscaleRequest,
    "remove_background": RemoveBackgroundRequest,
    "enhance_prompt": EnhancePromptRequest,
    "describe_image": DescribeImageRequest,
}
"""The word each kind of request goes by, here and as the route of a key."""

MAX_DEPTH = 32
"""How deep ``provider_options`` may be nested."""

_WORDS = {kind: word for word, kind in OPERATIONS.items()}
_DEFAULTS: Mapping[type, Mapping[str, Any]] = {
    kind: {
        name: {} if name == "provider_options" else field.default
        for name, field in attrs.fields_dict(kind).items()
    }
    for kind in (*OPERATIONS.values(), Lora, Outpaint)
}
_RESULT = "gaia.result"
_VERSION = 1
_NO_TEXT = re.compile("[\ud800-\udfff]")
_PAYERS = ("campaign_id", "user_id")
_WISHES = ("model", "provider")
_PICTURES = frozenset({"image", "mask_image"})
_PLAIN_NAME = re.compile(r"[\w.:-]{1,64}")

T = TypeVar("T")
ReadPicture = Callable[[str, Any], Image]
"""Takes the name of a field and what stands in it; gives the picture."""


# -- a request as a record ----------------------------------------------------------


def operation_of(request: Request) -> str:
    """
    Give the word a request goes by, such as ``generate``.

    Raises:
        InvalidRequestError: If it is none of the kinds Gaia knows.
    """
    word = _WORDS.get(type(request))
    if word is None:
        message = f"{type(request).__name__} is no request that can be written down."
        raise InvalidRequestError(message)
    return word


def to_record(request: Request) -> dict[str, Any]:
    """
    Write a request down: ``operation``, and every field that is not its default.

    ::

        to_record(GenerateRequest(prompt="a keep", seed=7))
        {"operation": "generate", "prompt": "a keep", "seed": 7}

    Raises:
        InvalidRequestError: If ``provider_options`` hold something that is not JSON.
    """
    return {"operation": operation_of(request), **_fields_of(request)}


def from_record(record: Mapping[str, Any], pictures: Callable[[str], Image]) -> Request:
    """
    Read a request that `to_record` wrote.

    Args:
        record: What it wrote.
        pictures: Gives the picture of a digest.

    Raises:
        InvalidRequestError: If it is no such record.
    """

    def picture(name: str, value: Any) -> Image:
        if not isinstance(value, Mapping) or not isinstance(value.get("sha256"), str):
            _refuse(f"{name} must be a picture's digest, not {_shown(value)}.")
        return pictures(value["sha256"])

    return _to_request(record, picture)


def pictures_of(request: Request) -> Iterator[Image]:
    """Go through the pictures a request brings along."""
    for field in attrs.fields(type(request)):
        value = getattr(request, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Image):
                yield item


def _fields_of(value: Any, where: str = "") -> dict[str, Any]:
    """Write the fields of a value that are not their defaults."""
    fields = _DEFAULTS[type(value)].items()
    found = ((name, default, getattr(value, name)) for name, default in fields)
    return {
        name: _written(own, where + name)
        for name, default, own in found
        if not (own is default or own == default)
    }


def _written(value: Any, where: str) -> Any:
    """Write the value of a field."""
    if isinstance(value, Image):
        return {
            "sha256": value.sha256,
            "media_type": value.media_type,
            "width": value.width,
            "height": value.height,
        }
    if isinstance(value, Lora | Outpaint):
        return _fields_of(value, f"{where}.")
    if isinstance(value, tuple):
        return [_written(item, where) for item in value]
    return _plain(value, where)


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Copy what is JSON, and refuse anything else by its place."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, where)
    if isinstance(value, int | float):
        return _plain_number(value, where)
    if depth > MAX_DEPTH:
        _refuse(f"{where} is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, Mapping):
        return {
            _plain_key(key, where): _plain(item, f"{where}.{_short(key)}", depth + 1)
            for key, item in value.items()
        }
    if not isinstance(value, list | tuple):
        _refuse(f"{where} must be something JSON can say, not {type(value).__name__}.")
    return [_plain(item, f"{where}[]", depth + 1) for item in value]


def _plain_key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        _refuse(f"{where} has the key {_shown(key)}: keys must be text.")
    return _plain_text(key, where)


def _plain_text(value: str, where: str) -> str:
    # Halves of pairs do not survive JSON: two of them come back as one letter.
    if _NO_TEXT.search(value):
        _refuse(f"{where} holds characters that are no text.")
    # Not str(value): an enum's is its name.
    return str.__str__(value)


def _plain_number(value: float, where: str) -> float:
    """Accept what every reader of JSON can read."""
    if isinstance(value, int):
        number: float = int(value)
        is_fitting = -(2**1023) < number < 2**1023
    else:
        number = float(value)
        is_fitting = math.isfinite(number)
    if not is_fitting:
        _refuse(f"{where} is a number JSON cannot say.")
    return number


# -- comparing ----------------------------------------------------------------------


def fingerprint(request: Request | Mapping[str, Any]) -> str:
    """
    Digest a request, or the record of one.

    Equal requests have equal fingerprints, whether they say 1 or 1.0; a picture
    counts by its bytes. In ``provider_options``, JSON decides: a tuple is a list
    there, and ``True`` is not 1.

    Returns:
        64 hexadecimal digits.

    Raises:
        InvalidRequestError: If ``provider_options`` hold something that is not JSON.
    """
    return _digest(_record_of(request))


def result_key(
    request: Request | Mapping[str, Any],
    *,
    provider: str,
    model: str,
    revision: str,
    tenant: str,
) -> str:
    """
    Digest what decides about a result: equal keys may have the same answer.

    It names who serves the request and not how the request named them, so that an
    alias and the identifier behind it are equal. Nobody's answer is given to another:
    who asks, the campaign and the user are in it.

    Args:
        request: What is asked for, or the record of it.
        provider: Who serves it.
        model: The identifier of the model that serves it.
        revision: The model's revision.
        tenant: Who asks; the request's campaign and user come on top.

    Returns:
        64 hexadecimal digits.

    Raises:
        InvalidRequestError: If ``provider_options`` hold something that is not JSON.
    """
    record = _record_of(request)
    owner = [tenant, *(record.get(name) for name in _PAYERS)]
    asked = {
        name: value
        for name, value in record.items()
        if name not in (*_PAYERS, *_WISHES)
    }
    return _digest([_RESULT, _VERSION, owner, provider, model, revision, asked])


def _record_of(request: Request | Mapping[str, Any]) -> Mapping[str, Any]:
    return to_record(request) if isinstance(request, Request) else request


def _digest(value: Any) -> str:
    text = json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    # What a host calls a tenant may hold anything; nothing is merged or lost.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    """Write numbers that are equal alike."""
    if isinstance(value, float):
        # Also -0.0, which equals 0.
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


# -- a line of a batch file ---------------------------------------------------------


def read_line(text: str, *, folder: Path | None) -> Request:
    """
    Read one line of a batch file: a request in JSON.

    ::

        {"prompt": "a red dragon", "width": 512}
        {"operation": "upscale", "image": "pictures/hero.png", "upscale_factor": 2}

    The fields are those of the request; ``operation`` is ``generate`` where none is
    named. A picture is a path or a ``data:`` URI.

    Args:
        text: The line.
        folder: What paths are relative to; None: no path is read.

    Raises:
        InvalidRequestError: If it is no request; the message names the field.
    """
    record = {"operation": "generate", **_parsed(text)}
    return _to_request(record, lambda name, value: _picture(name, value, folder))


def _parsed(text: str) -> dict[str, Any]:
    """Parse a line into an object, in which each key stands once."""
    try:
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_each_once,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        message = f"The line is no JSON: {error.msg} at column {error.colno}."
        raise InvalidRequestError(message) from error
    except InvalidRequestError:
        raise
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits; thousands of brackets.
        message = "The line is no JSON that can be read: it holds too much."
        raise InvalidRequestError(message) from error
    if not isinstance(value, dict):
        _refuse('The line is no request: write one as {"prompt": "a red dragon"}.')
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f"{_short(twice)} is named twice.")
    return found


def _no_number(word: str) -> NoReturn:
    _refuse(f"The line is no JSON: {word} is no number there.")


def _picture(name: str, value: Any, folder: Path | None) -> Image:
    """Read a picture from where a line says it is."""
    if not isinstance(value, str):
        kind = type(value).__name__
        message = f"{name} must be a path or a data: URI, not {kind}."
    elif value[:5].lower() == "data:":
        return _of_field(name, lambda: Image.from_bytes(_decoded(value)))
    elif "://" in value:
        message = f"{name} is an address: download it, or send a data: URI."
    elif folder is None:
        message = f"{name} is a path, and none is read here: send a data: URI."
    else:
        path = folder / value
        return _of_field(name, lambda: _opened(path))
    raise InvalidImageError(message)


def _opened(path: Path) -> Image:
    """Open a file, and nothing that only looks like one: a pipe would never end."""
    is_odd = False
    with suppress(OSError):  # which the opening below puts into words
        is_odd = path.exists() and not path.is_file()
    if is_odd:
        message = f"{path} is no file."
        raise InvalidImageError(message)
    return Image.open(path)


def _decoded(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        message = "A data: URI must be written as data:image/png;base64,…."
        raise InvalidImageError(message)
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        message = "The data: URI is no base64."
        raise InvalidImageError(message) from error


# -- from plain data to a request ---------------------------------------------------


def _to_request(record: Mapping[str, Any], picture: ReadPicture) -> Request:
    values = dict(record)
    kind = _kind_of(values.pop("operation", None))
    return _made(kind, values, picture)


def _kind_of(word: Any) -> type[Request]:
    if not isinstance(word, str) or word not in OPERATIONS:
        _refuse(f"operation {_shown(word)} is unknown{_hint(word, OPERATIONS)}")
    return OPERATIONS[word]


def _made(kind: type[T], values: Mapping[str, Any], picture: ReadPicture) -> T:
    """Make a value of some kind from its fields."""
    fields = attrs.fields_dict(cast("type[attrs.AttrsInstance]", kind))
    for name in values:
        if name not in fields:
            _refuse(f"{_short(name)} is unknown{_hint(name, fields)}")
    for name, field in fields.items():
        if name not in values and field.default is attrs.NOTHING:
            _refuse(f"{name} is missing.")
    return kind(**{name: _read(name, values[name], picture) for name in values})


def _read(name: str, value: Any, picture: ReadPicture) -> Any:
    """Turn what stands in a field into what a request takes there."""
    if value is None:
        return None
    if name in _PICTURES:
        return picture(name, value)
    if name == "reference_images":
        return [picture(name, item) for item in _list(name, value)]
    if name == "loras":
        return [_nested(Lora, name, item) for item in _list(name, value)]
    if name == "outpaint":
        return _nested(Outpaint, name, value)
    return _plain(value, name)


def _nested(kind: type[T], name: str, value: Any) -> T:
    if not isinstance(value, Mapping):
        _refuse(f"{name} must be made of objects, not of {type(value).__name__}.")
    return _of_field(name, lambda: _made(kind, value, _no_picture))


def _no_picture(name: str, _: Any) -> NoReturn:
    _refuse(f"{name} takes no picture.")


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"{name} must be a list, not {type(value).__name__}.")
    return value


def _of_field(name: str, make: Callable[[], T]) -> T:
    """Name the field in what is wrong with a part of it."""
    try:
        return make()
    except InvalidRequestError as error:
        message = f"{name}: {error}"
        raise type(error)(message) from error


def _hint(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name)[:64], known, n=1)
    return f": did you mean {near[0]}?" if near else f"; known are {', '.join(known)}."


def _short(name: str) -> str:
    """Show a key as it is, unless it is long or odd."""
    return name if _PLAIN_NAME.fullmatch(name) else _shown(name)


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _refuse(message: str) -> NoReturn:
    raise InvalidRequestError(message)
