"""
What a client is told when something goes wrong.

Every text is fixed: an exception's own words may hold a path, a key or somebody
else's prompt. What is said in addition is about the caller's own fields.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from gaia_core import errors
from gaia_core.errors import GaiaError, OutcomeClass
from gaia_core.server.schemas.images import TAG

TEXTS: Mapping[str, str] = {
    "settings": "The server is set up wrongly: its log says where.",
    "plugin": "A plugin breaks its contract: the server's log says which.",
    "invalid_request": "The request can never be served as it stands.",
    "invalid_image": "The bytes are no PNG, JPEG or WebP picture of a fair size.",
    "image_url": "No picture can be fetched from that address.",
    "idempotency_conflict": "The idempotency key stands for another request.",
    "no_capable_provider": "Nobody can serve this here and now.",
    "outcome_unknown": (
        "The answer was lost after the request went out: it may have been charged."
    ),
    "budget_exceeded": "It would cost more than the budget has left.",
    "request_limit": "Too many requests: ask again later.",
    "operation_in_progress": "The same request is under way: ask again in a moment.",
    "storage": "The image store cannot be read or written for now.",
    "ledger": "The book cannot be written for now, so nothing was sent.",
    "lease_lost": "Another process took the operation over: look it up.",
    "provider": "The provider failed.",
    "provider_connection": "The provider cannot be reached; nothing was sent.",
    "provider_timeout": "The provider did not answer in time.",
    "task_running": "The provider is still at work on it: look it up later.",
    "rate_limit": "The provider takes no more requests for now.",
    "quota_exceeded": "The account at the provider is out of credit.",
    "authentication": "The provider refuses the server's key.",
    "model": "That model is not to be had there.",
    "content_filtered": "The provider refuses it on safety grounds.",
    "provider_request": "The provider refuses the request.",
    "provider_unavailable": "The provider cannot work now.",
    "unusable_result": "The provider answered without a picture that can be used.",
    "idempotency_key": "An Idempotency-Key has 1 to 255 bytes.",
    "idempotency_key_missing": "Name the batch by an Idempotency-Key of your own.",
    "batch_pictures": "The pictures of the batch took too long: send fewer at a time.",
    "own_metrics": "The host that runs this server keeps its figures elsewhere.",
    "unauthorised": (
        "Say who you are: log in, or send a key as Authorization: Bearer KEY."
    ),
    "forbidden": "You may not do that: whoever runs the server can allow it.",
    "not_found": "There is no such thing, or it is not yours.",
    "method_not_allowed": "That address takes another method.",
    "too_large": "The body is larger than is taken here.",
    "too_slow": "The body did not arrive in time.",
    "bad_http": "That is no HTTP request, or its headers are too large.",
    "not_json": "The body must be JSON, sent as application/json.",
    "not_form": "The body must be a form, sent as multipart/form-data.",
    "retired": "There is no such work any more: POST /v1/images/edits does it.",
    "interrupted": "It was interrupted; what was sent by then is kept and charged.",
    "cross_site": "Pages of another site may not call this server.",
    "wrong_host": "The server is not known by that name.",
    "busy": "The server has as much to do as it can: ask again later.",
    "closing": "The server is about to stop: ask again in a moment.",
    "request": "The request cannot be taken.",
    "internal": "Something went wrong here: the server's log says what.",
}
"""Error code to what a client reads."""

_FALLBACK = "gaia_server_fallback"
_MOST_DETAILS = 20
_LONGEST_FIELD = 120
_LONGEST_MESSAGE = 300
_SERVER_ERROR = 500
_LATE = (429, 503)
_HTTP_CODES = {
    400: "request",
    401: "unauthorised",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "not_json",
    422: "invalid_request",
    429: "request_limit",
    503: "busy",
}


class RefusedError(HTTPException):
    """
    A refusal by the server itself, with a code of `TEXTS`.

    Attributes:
        code: The error code.
        details: What is wrong with which field of the caller's.
        retry_after: Seconds after which to ask again, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        *,
        details: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        """Keep what the answer says."""
        super().__init__(status)
        self.code = code
        self.details = tuple(details)
        self.retry_after = retry_after


@attrs.frozen(kw_only=True)
class Problem:
    """
    One error as a client sees it; each front door writes it its own way.

    Attributes:
        status: The HTTP status.
        code: A code of `TEXTS`.
        error_type: Its kind, as design.md lists them.
        text: What a person reads.
        suggested_action: What to do next, as a word.
        retry_after: Seconds after which to ask again, or None.
        fallback_available: Whether another provider may serve it.
        operation_id: The operation it ended, if there was one.
        billed: Whether it was charged; None: nobody knows.
        details: Field to what is wrong with it.
        headers: The headers that go with it, beside ``Retry-After``.
    """

    status: int
    code: str
    error_type: str
    text: str
    suggested_action: str = "contact_support"
    retry_after: float | None = None
    fallback_available: bool = False
    operation_id: str | None = None
    billed: bool | None = False
    details: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def as_body(self) -> dict[str, Any]:
        """Write it as the routes under ``/api`` do."""
        body: dict[str, Any] = {
            "success": False,
            "error": self.text,
            "error_type": self.error_type,
            "error_code": self.code,
            "retry_after": self.retry_after,
            "fallback_available": self.fallback_available,
            "suggested_action": self.suggested_action,
            "operation_id": self.operation_id,
            "billed": self.billed,
        }
        if self.details:
            body["details"] = [
                {"field": field, "message": message} for field, message in self.details
            ]
        return body

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers that go with it; whole seconds, never too few."""
        found = dict(self.headers)
        if self.retry_after is not None:
            found["Retry-After"] = str(max(1, -int(-self.retry_after // 1)))
        return found


def problem_of(error: Exception) -> Problem:
    """Say what a client is told of an exception."""
    if isinstance(error, GaiaError):
        return _of_gaia(error)
    if isinstance(error, RequestValidationError):
        return _of_fields(error)
    if isinstance(error, StarletteHTTPException):
        return _of_http(error)
    return Problem(
        status=500, code="internal", error_type="api_error", text=TEXTS["internal"]
    )


def note_fallback(error: GaiaError, *, is_available: bool) -> None:
    """Note whether another provider could have served what an error ended."""
    vars(error)[_FALLBACK] = is_available


def code_of(kind: type[GaiaError]) -> str:
    """
    Name the code of a class of errors.

    >>> code_of(errors.NoCapableProviderError)
    'no_capable_provider'
    """
    for base in kind.__mro__:
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", base.__name__.removesuffix("Error"))
        if words.lower() in TEXTS:
            return words.lower()
    return "internal"


def _of_gaia(error: GaiaError) -> Problem:
    code = code_of(type(error))
    return Problem(
        status=error.http_status,
        code=code,
        error_type=error.error_type,
        text=TEXTS[code],
        suggested_action=error.suggested_action,
        retry_after=getattr(error, "retry_after", None),
        fallback_available=bool(vars(error).get(_FALLBACK, False)),
        operation_id=error.operation_id,
        billed=_billed(error),
    )


def _billed(error: GaiaError) -> bool | None:
    """Tell whether it was charged; None where an answer was lost."""
    if isinstance(error, errors.OutcomeUnknownError):
        return None
    outcomes = {attempt.outcome for attempt in error.attempts}
    if any(attempt.cost_usd or Decimal(0) for attempt in error.attempts):
        return True
    return None if OutcomeClass.AMBIGUOUS in outcomes else False


def _of_fields(error: RequestValidationError) -> Problem:
    """Name the fields that are wrong, without what they hold."""
    details = tuple(
        (_place(one), str(one["msg"])[:_LONGEST_MESSAGE])
        for one in error.errors()[:_MOST_DETAILS]
    )
    return Problem(
        status=422,
        code="invalid_request",
        error_type="request_error",
        text=TEXTS["invalid_request"],
        suggested_action="fix_request",
        details=details,
    )


def _place(error: Mapping[str, Any]) -> str:
    """Name a field as the caller wrote it, without what pydantic puts between."""
    names = [str(part) for part in error["loc"][1:]]
    if error["type"] == "operation":
        names.append("operation")
    return ".".join(name for name in names if not name.startswith(TAG))[:_LONGEST_FIELD]


def _of_http(error: StarletteHTTPException) -> Problem:
    status = error.status_code
    is_fault = status >= _SERVER_ERROR
    unnamed = _HTTP_CODES.get(status, "internal" if is_fault else "request")
    code = getattr(error, "code", None) or unnamed
    kind, action = "request_error", "fix_request"
    if status in _LATE:
        kind, action = "unavailable_error", "retry"
    elif is_fault:
        # A host's own `auth` may be what failed: the request is not to blame.
        kind, action = "api_error", "contact_support"
    return Problem(
        status=status,
        code=code,
        error_type=kind,
        text=TEXTS[code],
        suggested_action=action,
        retry_after=getattr(error, "retry_after", None),
        details=getattr(error, "details", ()),
        headers=dict(error.headers or {}),
    )
