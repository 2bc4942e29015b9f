"""How errors are written for clients of AUTOMATIC1111."""

from typing import Any

from fastapi import Response

from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import Problem

_CHALLENGE = "WWW-Authenticate"
_UNAUTHORISED = 401


def complaint(problem: Problem) -> dict[str, Any]:
    """Write a problem as the web UI does, with what else is known of it."""
    fields = "; ".join(f"{field}: {text}" for field, text in problem.details)
    return {
        "error": problem.code,
        "detail": f"{problem.text} {fields}" if fields else problem.text,
        "body": "",
        "errors": fields,
        "gaia": problem.as_body(),
    }


class WebUiRoute(GaiaRoute):
    """A route under ``/sdapi``."""

    @classmethod
    def respond(cls, problem: Problem) -> Response:
        """Answer with a problem; who has no key is asked for name and password."""
        headers = problem.all_headers
        if problem.status == _UNAUTHORISED:
            headers[_CHALLENGE] = 'Basic realm="gaia"'
        return write_json(complaint(problem), problem.status, headers)
