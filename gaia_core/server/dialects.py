"""How errors are written: one way for each front door."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from gaia_core.errors import GaiaError
from gaia_core.observability import get_logger
from gaia_core.server.problems import Problem, problem_of
from gaia_core.server.waiting import ClientGoneError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_GONE = 499
"""What nginx notes where a client hung up; nobody reads it."""


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


class GaiaRoute(APIRoute):
    """A route under ``/api``: errors as design.md has them."""

    write: ClassVar[Callable[[Problem], Any]] = Problem.as_body

    def get_route_handler(self) -> Handler:
        """Wrap the route's handler: whatever it raises becomes an answer."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientGoneError:
                return Response(status_code=_GONE)
            except (GaiaError, HTTPException, RequestValidationError) as error:
                problem = problem_of(error)
            except Exception as error:  # noqa: BLE001  a client must be answered
                get_logger().exception(
                    "gaia.server_failed", route=self.path, error=type(error).__name__
                )
                problem = problem_of(error)
            body = type(self).write(problem)
            return write_json(body, problem.status, problem.all_headers)

        return handled
