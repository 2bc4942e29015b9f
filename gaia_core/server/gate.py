"""What every request goes through: a name is asked, an answer is made safe."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import attrs
from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gaia_core.observability import get_logger
from gaia_core.server.access import Auth, unknown_caller
from gaia_core.server.dialects import problem_in
from gaia_core.server.guards import name_of, names_of
from gaia_core.server.intakes import size_of_body
from gaia_core.server.problems import Problem, RefusedError, problem_of
from gaia_core.server.site import Site
from gaia_core.server.telemetry import count, is_counted, route_of, server_span

Respond = Callable[[Scope, Problem], Response]
"""Answers with a problem, as the front door that a request came to does."""

CLOSING_SECONDS = 5.0
"""When to ask again a server that is about to stop, in seconds."""

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_MOST_HOSTS = 256
_SERVER_ERROR = 500
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""What every answer says, unless it says something of its own."""
_NOT_EMBEDDED = (b"cross-origin-resource-policy", b"same-origin")
"""What all but pictures say: a page of another site cannot load them."""


@attrs.define(eq=False)
class Gate:
    """
    The outermost part of the app.

    It refuses what was meant for another host, takes nothing new once the server is
    about to stop, has every answer say how browsers may use it, and writes one line
    in the log.

    Attributes:
        app: What serves the requests.
        site: The server.
        respond: How a problem is answered.
        first_asked: What names the caller before a large body is read, as the route
            would after it; None: nothing does.
    """

    app: ASGIApp
    site: Site
    respond: Respond
    first_asked: Auth | None = None
    _names: frozenset[str] | None = attrs.field(init=False)
    _known: set[bytes] = attrs.field(factory=set, init=False)

    @_names.default
    def _own_names(self) -> frozenset[str] | None:
        return names_of(self.site.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send=send)
        if (refusal := self._refusal(scope)) is not None:
            response = self.respond(scope, problem_of(refusal))
            await response(scope, receive, answer.send_safely)
        else:
            await self._serve(scope, receive, answer)
        if answer.status and not is_counted(scope):
            metrics, method = self.site.gaia.metrics, scope["method"]
            count(metrics, method, route_of(scope), answer.status, answer.start)
        _log(scope, answer, is_served=refusal is None)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        size = size_of_body(scope)
        try:
            if size:
                await self._know(scope)
            with self.site.traffic.request(size), server_span(scope) as note_status:
                await self.app(scope, receive, answer.send_safely)
                note_status(answer.status)
        except Exception as error:  # noqa: BLE001  a client must be answered
            problem = problem_in(error, route_of(scope))
            # Half an answer cannot be taken back: the connection is cut instead.
            if not answer.status:
                response = self.respond(scope, problem)
                await response(scope, receive, answer.send_safely)

    async def _know(self, scope: Scope) -> None:
        """Refuse a stranger's large body, for which others would have no room."""
        if self.first_asked is None:
            return
        request = Request(scope)
        request.state.gaia_site = self.site
        if await self.first_asked(request) is None:
            raise unknown_caller()

    def _refusal(self, scope: Scope) -> RefusedError | None:
        if self.site.traffic.closing.is_set():
            closing = RefusedError(503, "closing", retry_after=CLOSING_SECONDS)
            # Whoever keeps the connection would ask the same server again.
            closing.headers = {"Connection": "close"}
            return closing
        if not self._is_for_us(scope):
            return RefusedError(421, "wrong_host")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            # No database and no file system takes it.
            return RefusedError(400, "request")
        return None

    def _is_for_us(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        if (host := hosts[0]) in self._known:
            return True
        is_known = _HOST.fullmatch(host) is not None and (
            self._names is None or name_of(host.decode()) in self._names
        )
        if is_known and len(self._known) < _MOST_HOSTS:
            self._known.add(host)
        return is_known


@attrs.define(eq=False, kw_only=True)
class _Answer:
    """
    One answer on its way.

    Attributes:
        send: What sends it.
        status: Its status; 0: it has not begun.
        start: When the request came, on the monotonic clock.
    """

    send: Send
    status: int = 0
    start: float = attrs.field(factory=time.perf_counter)

    async def send_safely(self, message: Message) -> None:
        """Send a part; before the first, say how browsers may use it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": _with_safe(message.get("headers", ()))}
        await self.send(message)


def _with_safe(headers: Any) -> list[tuple[bytes, bytes]]:
    found = list(headers)
    names = dict(found)
    found += [pair for pair in _SAFE if pair[0] not in names]
    if not names.get(b"content-type", b"").startswith(b"image/"):
        found.append(_NOT_EMBEDDED)
    return found


def _log(scope: Scope, answer: _Answer, *, is_served: bool) -> None:
    """Write one line: whose request it was and how it ended, but not what it said."""
    is_failure = is_served and answer.status >= _SERVER_ERROR
    level = logging.WARNING if is_failure else logging.INFO
    if not _is_logged(level):
        return
    state = scope.get("state", {})
    principal = state.get("gaia_principal")
    get_logger().log(
        level,
        "gaia.request_served",
        method=scope["method"],
        route=route_of(scope),
        status=answer.status,
        duration_ms=round((time.perf_counter() - answer.start) * 1_000, 1),
        principal=principal.name if principal else None,
        operation=state.get("gaia_operation"),
    )


def _is_logged(level: int) -> bool:
    """Tell cheaply whether anybody reads it: structlog's loggers know themselves."""
    import structlog  # noqa: PLC0415 - 100 ms

    return structlog.is_configured() or logging.getLogger("gaia").isEnabledFor(level)
