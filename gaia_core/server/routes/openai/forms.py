"""Forms with pictures, as OpenAI's clients send them to have something edited."""

from collections.abc import Iterator
from typing import Any

import attrs
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from gaia_core.images import Image
from gaia_core.requests import MAX_REFERENCE_IMAGES
from gaia_core.server.asking import naming
from gaia_core.server.decoding import MAX_INPUT_BYTES
from gaia_core.server.inputs import Inputs
from gaia_core.server.intakes import MOST_PARTS
from gaia_core.server.problems import TEXTS, RefusedError
from gaia_core.server.schemas.openai import EditsIn

MOST_FILES = MAX_REFERENCE_IMAGES + 2
"""The picture, those to imitate, and the mask."""
_MAX_FIELD_BYTES = 65_536
_IMAGES = ("image", "image[]")
_MASK = "mask"
_FORM = "multipart/form-data"


@attrs.frozen(kw_only=True)
class EditForm:
    """
    What a form holds.

    Attributes:
        body: Its fields.
        pictures: The pictures to work on.
        mask: Where to work, transparent; None: everywhere.
    """

    body: EditsIn
    pictures: tuple[Image, ...]
    mask: Image | None


async def read_edit(request: Request, inputs: Inputs) -> EditForm:
    """
    Read a form.

    Raises:
        RefusedError: If it is no form, or a file of it no picture.
        RequestValidationError: If its fields are wrong.
    """
    if not request.headers.get("content-type", "").lower().startswith(_FORM):
        raise RefusedError(415, "not_form")
    async with request.form(
        max_files=MOST_FILES,
        max_fields=MOST_PARTS,
        max_part_size=_MAX_FIELD_BYTES,
    ) as form:
        files = _files(form)
        body = _fields(form)
        pictures = [
            await _picture(file, f"image.{place}", inputs)
            for place, file in enumerate(files["image"])
        ]
        masks = [await _picture(file, _MASK, inputs) for file in files[_MASK]]
    if not pictures and not _says_where(body):
        raise _missing()
    return EditForm(
        body=body, pictures=tuple(pictures), mask=masks[0] if masks else None
    )


def described_form() -> dict[str, Any]:
    """Say in the OpenAPI document what a form holds."""
    binary = {"type": "string", "format": "binary"}
    fields = EditsIn.model_json_schema()["properties"]
    simple = {name: one.get("anyOf", [one])[0] for name, one in fields.items()}
    # What is no text or number cannot be in a form; a picture goes as a file.
    simple = {
        name: one
        for name, one in simple.items()
        if one.get("type") not in (None, "array", "object") and name != "image_base64"
    }
    pictures = {"type": "array", "items": binary, "maxItems": MAX_REFERENCE_IMAGES + 1}
    schema = {
        "type": "object",
        "required": ["prompt"],
        "properties": {**simple, "image": pictures, "image[]": pictures, _MASK: binary},
    }
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


def _files(form: FormData) -> dict[str, list[UploadFile]]:
    """Sort the files by what they are for."""
    found: dict[str, list[UploadFile]] = {"image": [], _MASK: []}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            continue
        if name not in (*_IMAGES, _MASK):
            raise _refused(name[:64], "is no file that is taken here")
        found["image" if name in _IMAGES else _MASK].append(value)
    if len(found[_MASK]) > 1:
        raise _refused(_MASK, "is there twice")
    return found


def _fields(form: FormData) -> EditsIn:
    """Check what is no file, as if it were JSON."""
    fields: dict[str, Any] = {}
    for name, value in _texts(form):
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        elif name in fields:
            raise _refused(name[:64], "is there twice")
        elif value != "":
            fields[name] = value
    for name in ("image", _MASK):
        if name in fields:
            raise _refused(name, "must be a file")
    try:
        return EditsIn.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(
            [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        ) from None


def _texts(form: FormData) -> Iterator[tuple[str, str]]:
    for name, value in form.multi_items():
        if isinstance(value, str):
            yield name, value


async def _picture(file: UploadFile, field: str, inputs: Inputs) -> Image:
    if (file.size or 0) > MAX_INPUT_BYTES:
        raise RefusedError(413, "too_large", details=[(field, TEXTS["too_large"])])
    with naming(field):
        return await inputs.uploaded(await file.read())


def _says_where(body: EditsIn) -> bool:
    return any((body.image_id, body.image_url, body.image_path, body.image_base64))


def _missing() -> RefusedError:
    return _refused("image", "is missing: send the picture as a file")


def _refused(field: str, text: str) -> RefusedError:
    return RefusedError(422, "invalid_request", details=[(field, text)])
