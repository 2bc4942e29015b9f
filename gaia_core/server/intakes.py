"""What a route takes as a body: of which kind, how large, how fast."""

import asyncio
import re

import attrs
from fastapi import Request, params
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope

from gaia_core.server.problems import RefusedError

BODY_SECONDS = 30.0
"""How long a body may take to arrive, in seconds."""
SMALL_BODY = 256 * 1024
"""Most bytes of a body that can bring no picture."""
JSON_BODY = 25 * 1024 * 1024
"""Most bytes of a JSON body that may bring pictures, in base64."""
FORM_BODY = 50 * 1024 * 1024
"""Most bytes of a form with uploaded pictures."""
MOST_PARTS = 64
"""Most fields, and most files, of a form."""

_BRING_PICTURES = ("/api/images", "/v1/images", "/sdapi/", "/rembg")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON = re.compile(r"application/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Intake:
    """
    What one route takes as a body.

    Attributes:
        is_json: Whether it takes JSON only.
        most: Most bytes of it.
        most_in_form: Most bytes of a form.
    """

    is_json: bool
    most: int
    most_in_form: int

    def receive(self, request: Request) -> Receive:
        """
        Check the headers of a request; give what its body comes through.

        Bytes are counted as they come, whatever the headers say.

        Raises:
            RefusedError: If the body is of the wrong kind, or said to be too large.
        """
        if request.method in _BODILESS:
            return request.receive
        headers = request.headers
        kind = headers.get("content-type", "")
        length = headers.get("content-length")
        if length != "0" and not self._takes(kind, length, request):
            raise RefusedError(415, "not_json")
        is_form = kind[:10].lower() == "multipart/"
        most = self.most_in_form if is_form else self.most
        if length is not None and not _is_within(length, most):
            raise RefusedError(413, "too_large")
        return _counted(request.receive, most)

    def _takes(self, kind: str, length: str | None, request: Request) -> bool:
        if request.headers.get("content-encoding", "identity") != "identity":
            return False
        is_empty = length is None and "transfer-encoding" not in request.headers
        return not self.is_json or is_empty or _JSON.fullmatch(kind) is not None


def intake_of(route: APIRoute) -> Intake:
    """Say what a route takes as a body."""
    field = route.body_field
    is_form = field is not None and isinstance(field.field_info, params.Form)
    has_pictures = route.path.startswith(_BRING_PICTURES)
    return Intake(
        is_json=field is not None and not is_form,
        most=JSON_BODY if has_pictures else SMALL_BODY,
        most_in_form=FORM_BODY if has_pictures else SMALL_BODY,
    )


def _is_within(length: str, most: int) -> bool:
    return len(length) < len(str(FORM_BODY)) + 1 and int(length) <= most


def _counted(receive: Receive, most: int) -> Receive:
    """Count what is received until the body is whole; then only pass it on."""
    left, is_whole = most, False
    ends = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive_some() -> Message:
        nonlocal left, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError:
            raise RefusedError(408, "too_slow") from None
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if left < 0:
                raise RefusedError(413, "too_large")
        return message

    return receive_some


def size_of_body(scope: Scope) -> int:
    """Say how many bytes the body of a request may come to; 0: hardly any."""
    if scope["method"] in _BODILESS:
        return 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            size = int(value) if len(value) <= len(str(FORM_BODY)) else FORM_BODY
            return size if size > SMALL_BODY else 0
        if name == b"transfer-encoding":
            return JSON_BODY
    return 0
