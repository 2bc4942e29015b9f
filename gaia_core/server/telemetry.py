"""What is counted and traced of every request, whichever app its route is in."""

import time
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from fastapi import Request, Response

from gaia_core.metrics import Metrics
from gaia_core.tracing import SCOPE, tracing

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
"""What answers the requests of a route."""

NO_ROUTE = "none"
"""The name of the route where there is none: an address itself may hold anything."""
_COUNTED = "gaia_counted"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SERVER_ERROR = 500


def observed(path: str, handle: Handler) -> Handler:
    """
    Count and trace what a route does.

    Args:
        path: The template of the route.
        handle: Its handler.
    """

    async def handled(request: Request) -> Response:
        start = time.perf_counter()
        with server_span(request.scope) as note_status:
            response = await handle(request)
            note_status(response.status_code)
        site = getattr(request.state, "gaia_site", None)
        if site is not None:
            setattr(request.state, _COUNTED, True)
            count(site.gaia.metrics, request.method, path, response.status_code, start)
        return response

    return handled


def count(metrics: Metrics, method: str, path: str, status: int, start: float) -> None:
    """
    Count one request that was answered.

    Args:
        metrics: What is told.
        method: How it was asked.
        path: The template of the route.
        status: How it was answered.
        start: When it came, on the clock of `time.perf_counter`.
    """
    method = method if method in _METHODS else "other"
    metrics.count(
        "gaia_http_requests_total",
        method=method,
        route=path,
        status=f"{status // 100}xx",
    )
    seconds = time.perf_counter() - start
    metrics.observe("gaia_http_request_seconds", seconds, method=method, route=path)


def is_counted(scope: MutableMapping[str, Any]) -> bool:
    """Tell whether the route of a request has counted it already."""
    return _COUNTED in scope.get("state", {})


@contextmanager
def server_span(scope: MutableMapping[str, Any]) -> Iterator[Callable[[int], None]]:
    """
    Trace one request, as part of the trace its client names in ``traceparent``.

    Nothing is traced twice: where a span is open already, whoever opened it traces
    the requests of this app.

    Args:
        scope: The request.

    Yields:
        What is told the status of the answer.
    """
    trace = tracing()
    if trace is None or trace.get_current_span().get_span_context().is_valid:
        yield _nothing
        return
    from opentelemetry import propagate  # noqa: PLC0415 - only who traces pays

    headers = {
        key.decode("latin-1"): value.decode("latin-1")
        for key, value in scope["headers"]
    }
    opened = trace.get_tracer(SCOPE).start_as_current_span(
        scope["method"],
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        record_exception=False,
        set_status_on_exception=False,
    )

    def note_status(status: int) -> None:
        span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            span.set_attribute("error.type", str(status))
            span.set_status(trace.StatusCode.ERROR)

    with opened as span:
        try:
            yield note_status
        finally:
            route = route_of(scope)
            method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
            span.update_name(method if route == NO_ROUTE else f"{method} {route}")
            span.set_attribute("http.request.method", method)
            span.set_attribute("url.scheme", scope["scheme"])
            if route != NO_ROUTE:
                span.set_attribute("http.route", route)


def route_of(scope: MutableMapping[str, Any]) -> str:
    """Name the template of the route a request came to."""
    return str(getattr(scope.get("route"), "path", NO_ROUTE))


def _nothing(_: int) -> None:
    """Tell nobody."""
