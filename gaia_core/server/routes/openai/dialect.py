"""How errors are written for OpenAI's clients, so that each raises the right class."""

import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import Problem
from gaia_core.server.telemetry import Handler

REQUEST_ID = "x-request-id"
"""The header that OpenAI's clients show as the number of a request."""

_STATUSES: Mapping[int, int] = {402: 429, 422: 400}
"""What they know no class for, and what OpenAI answers instead."""
_TYPES: Mapping[str, str] = {
    "content_filtered": "image_generation_user_error",
    "budget_exceeded": "insufficient_quota",
    "quota_exceeded": "insufficient_quota",
    "request_limit": "rate_limit_error",
    "rate_limit": "rate_limit_error",
    "forbidden": "permission_error",
}
_CODES: Mapping[str, str] = {
    "unauthorised": "invalid_api_key",
    "model": "model_not_found",
    "content_filtered": "content_policy_violation",
    "budget_exceeded": "insufficient_quota",
    "quota_exceeded": "insufficient_quota",
    "request_limit": "rate_limit_exceeded",
    "rate_limit": "rate_limit_exceeded",
}
_SERVER_ERROR = 500
_SENT_AGAIN = (408, 409, 429)


def envelope(problem: Problem) -> dict[str, Any]:
    """Write a problem as OpenAI does, with what else is known of it."""
    field = problem.details[0][0] if problem.details else ""
    is_ours = status_of(problem) >= _SERVER_ERROR
    kind = "server_error" if is_ours else "invalid_request_error"
    return {
        "error": {
            "message": _message(problem),
            "type": _TYPES.get(problem.code, kind),
            "param": field or None,
            "code": _CODES.get(problem.code, problem.code),
            "error_type": problem.error_type,
            "suggested_action": problem.suggested_action,
            "retry_after": problem.retry_after,
            "fallback_available": problem.fallback_available,
            "operation_id": problem.operation_id,
            "billed": problem.billed,
        }
    }


def status_of(problem: Problem) -> int:
    """Give the status that the client has a fitting class for."""
    return _STATUSES.get(problem.status, problem.status)


def headers_of(problem: Problem) -> dict[str, str]:
    """
    Give the headers of a problem, and whether to send the request again.

    The clients do so by themselves after most failures. What may have been charged,
    and what no waiting helps against, must not be.
    """
    found = problem.all_headers
    status = status_of(problem)
    if status in _SENT_AGAIN or status >= _SERVER_ERROR:
        is_useful = problem.retry_after is not None or _is_passing(problem)
        found["x-should-retry"] = "true" if is_useful else "false"
    return found | {REQUEST_ID: problem.operation_id or uuid.uuid4().hex}


def _is_passing(problem: Problem) -> bool:
    return problem.billed is False and problem.suggested_action == "retry"


def _message(problem: Problem) -> str:
    fields = "; ".join(f"{field}: {text}" for field, text in problem.details)
    return f"{problem.text} {fields}" if fields else problem.text


class OpenAIRoute(GaiaRoute):
    """A route under ``/v1``."""

    @classmethod
    def respond(cls, problem: Problem) -> Response:
        """Answer with a problem."""
        return write_json(envelope(problem), status_of(problem), headers_of(problem))

    def get_route_handler(self) -> Handler:
        """Give every answer a number."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            response = await handle(request)
            response.headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
            return response

        return handled
