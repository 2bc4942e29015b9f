"""How errors are written: one way for each front door."""

from collections.abc import Callable
from typing import Any, ClassVar

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gaia_core.calls import words_of
from gaia_core.errors import GaiaError, PluginError, SettingsError
from gaia_core.observability import get_logger
from gaia_core.server.intakes import intake_of
from gaia_core.server.problems import Problem, RefusedError, problem_of
from gaia_core.server.telemetry import Handler, observed
from gaia_core.server.waiting import ClientGoneError

_SERVER_ERROR = 500
_GONE = 499
"""What nginx notes where a client hung up; nobody reads it."""


class JsonRequest(Request):
    """A request whose JSON is read by orjson: several times as fast, and strict."""

    async def json(self) -> Any:
        """Read the body as JSON."""
        return orjson.loads(await self.body())


def write_json(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Answer with JSON, written by orjson."""
    return Response(
        orjson.dumps(content),
        status,
        headers=headers,
        media_type="application/json",
    )


def problem_in(error: Exception, route: str) -> Problem:
    """
    Say what a client is told of an exception; the log is told of what is our fault.

    Args:
        error: The exception.
        route: The template of the route it happened in.
    """
    if isinstance(error, SettingsError | PluginError):
        get_logger().error("gaia.server_failed", route=route, error=words_of(error))
    elif isinstance(error, HTTPException):
        if error.status_code >= _SERVER_ERROR and not isinstance(error, RefusedError):
            # A host's own `auth` failed; its words may be about anything.
            words = f"{type(error).__name__} {error.status_code}"
            get_logger().error("gaia.server_failed", route=route, error=words)
    elif not isinstance(error, GaiaError | RequestValidationError):
        get_logger().exception(
            "gaia.server_failed",
            route=route,
            error=type(error).__name__,
            exc_info=error,
        )
    return problem_of(error)


class GaiaRoute(APIRoute):
    """A route under ``/api``: errors as design.md has them."""

    write: ClassVar[Callable[[Problem], Any]] = Problem.as_body

    @classmethod
    def respond(cls, problem: Problem) -> Response:
        """Answer with a problem."""
        return write_json(cls.write(problem), problem.status, problem.all_headers)

    def get_route_handler(self) -> Handler:
        """Wrap the route's handler: whatever it raises becomes an answer."""
        handle = super().get_route_handler()
        intake = intake_of(self)

        async def handled(request: Request) -> Response:
            try:
                receive = intake.receive(request)
                return await handle(JsonRequest(request.scope, receive))
            except ClientGoneError:
                return Response(status_code=_GONE)
            except Exception as error:  # noqa: BLE001  a client must be answered
                problem = problem_in(error, self.path)
            request.state.gaia_operation = problem.operation_id
            return type(self).respond(problem)

        return observed(self.path, handled)
