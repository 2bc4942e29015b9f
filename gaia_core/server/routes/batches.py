"""Many requests at once, and what happens to them."""

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from gaia_core import errors
from gaia_core.calls import words_of
from gaia_core.errors import GaiaError
from gaia_core.ledger import (
    Batch,
    BatchEvent,
    BatchState,
    IdempotencyKey,
    Operation,
)
from gaia_core.observability import get_logger
from gaia_core.requests import Request as CoreRequest
from gaia_core.server import live
from gaia_core.server.access import Maker, Principal, Reader
from gaia_core.server.answers import Writer, number
from gaia_core.server.asking import KEY_HEADER, check_options, key_of, request_of
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import TEXTS, RefusedError, code_of
from gaia_core.server.runner import ROUTE
from gaia_core.server.schemas.answers import EVENTS, PROBLEMS
from gaia_core.server.schemas.base import ID
from gaia_core.server.schemas.batches import (
    BatchesOut,
    BatchIn,
    BatchOut,
    BatchWithItemsOut,
)
from gaia_core.server.schemas.images import Choosing
from gaia_core.server.site import Site, SiteDep
from gaia_core.server.waiting import ClientGoneError

routes = APIRouter(route_class=GaiaRoute, tags=["batches"])

MOST_OPEN = 50
"""How many batches of one caller may be open at a time."""
BRINGING_IN = 300.0
"""How long the pictures of a batch may take to come in, in seconds."""
RETRY_MS = 1_000
"""When a reader of events that was cut off comes back, in milliseconds."""

_TAKEN = status.HTTP_202_ACCEPTED
_UNFIT = status.HTTP_422_UNPROCESSABLE_CONTENT
_NOT_FOR_BATCHES = (
    "response_format",
    "policy",
    "max_cost_usd",
    "allowed_providers",
    "timeout",
    "reuse",
    "delivery",
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_NO_FAULT = {"CancelledError": "cancelled", "PoisonError": "poison"}
_WORDS = {
    "cancelled": "The batch was called off before this item was begun.",
    "poison": "The server ended three times while it prepared this item.",
}
_KEY: dict[str, Any] = {
    "parameters": [
        {
            "name": KEY_HEADER,
            "in": "header",
            "required": True,
            "description": (
                "Names the batch: sent again under the same key, it is the same "
                "batch, and nothing is made or paid twice."
            ),
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ]
}
_LAST_ID: dict[str, Any] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The number of the last event the reader has.",
            "schema": {"type": "string"},
        }
    ]
}


def _answers(
    model: type, code: int = status.HTTP_200_OK, words: str = "As it stands."
) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": model, "description": words}, **PROBLEMS}


@routes.post(
    ROUTE,
    status_code=_TAKEN,
    responses=_answers(BatchOut, _TAKEN, "It is taken on, and nothing of it is lost."),
    openapi_extra=_KEY,
)
async def open_batch(
    request: Request, site: SiteDep, principal: Maker, body: BatchIn
) -> Response:
    """Take many requests on; they are worked on from here on, whoever waits."""
    words = key_of(request)
    if words is None:
        raise RefusedError(status.HTTP_400_BAD_REQUEST, "idempotency_key_missing")
    for place, item in enumerate(body.requests):
        _check(item, f"requests.{place}.", site)
    key = IdempotencyKey(key=words, principal=principal.name, route=ROUTE)
    standing = await site.gaia.batches.find(key)
    if standing is None:
        await _check_room(site, principal)
    batch = await site.gaia.batches.open(
        _brought_in(request, body, site, principal),
        name=body.name,
        key=key,
        principal=principal.name,
    )
    _work_on(batch, site, body.max_concurrent)
    is_replayed = standing is not None and standing.id == batch.id
    written = _written(batch, Writer.to(request, site, principal))
    headers = {"Location": written["links"]["self"]}
    if is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return write_json(written, _TAKEN, headers)


@routes.get(ROUTE, responses=_answers(BatchesOut, words="The caller's latest."))
async def batches(
    request: Request,
    site: SiteDep,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """List the caller's latest batches, newest first."""
    found = await site.gaia.batches.latest(limit, principal=principal.name)
    writer = Writer.to(request, site, principal)
    return write_json({"batches": [_written(one, writer) for one in found]})


@routes.get(f"{ROUTE}/{{batch_id}}", responses=_answers(BatchWithItemsOut))
async def batch(  # noqa: PLR0913, PLR0917  what a page is; FastAPI names them
    request: Request,
    site: SiteDep,
    principal: Reader,
    batch_id: str,
    after: Annotated[int, Query(ge=-1, le=2**31)] = -1,
    limit: Annotated[int, Query(ge=0, le=500)] = 100,
) -> Response:
    """Say how a batch stands, and what became of its items, a page at a time."""
    found = await _own(batch_id, site, principal)
    writer = Writer.to(request, site, principal)
    page = await _page(batch_id, site, after, limit)
    items = [await _item(one, writer) for one in page]
    last = items[-1]["position"] if items else after
    is_last = last + 1 >= found.total
    written = {"items": items, "next_after": None if is_last else last}
    return write_json({**_written(found, writer), **written})


@routes.delete(f"{ROUTE}/{{batch_id}}", responses=_answers(BatchOut))
async def cancel(
    request: Request, site: SiteDep, principal: Maker, batch_id: str
) -> Response:
    """Call a batch off: nothing new is begun; what was sent comes to its end."""
    found = await _own(batch_id, site, principal)
    if (book := site.gaia.ledger.batches) is not None:
        # Who works on it tells the vendors: that may take a minute.
        found = await book.cancel(batch_id) or found
    _work_on(found, site)
    return write_json(_written(found, Writer.to(request, site, principal)))


@routes.get(
    f"{ROUTE}/{{batch_id}}/events",
    responses={
        200: {
            "description": "What happens, as server-sent events.",
            "content": {live.MEDIA_TYPE: EVENTS},
        },
        204: {"description": "The reader has everything: it need not come back."},
        **PROBLEMS,
    },
    openapi_extra=_LAST_ID,
)
async def events(
    request: Request, site: SiteDep, principal: Reader, batch_id: str
) -> Response:
    """Tell what happens in a batch as it happens, from the last event known."""
    found = await _own(batch_id, site, principal)
    after = _last_known(request, found)
    if found.state is BatchState.FINISHED and after >= found.last_event:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    writer = Writer.to(request, site, principal)
    return StreamingResponse(
        _told(batch_id, after, writer),
        headers=live.HEADERS,
        media_type=live.MEDIA_TYPE,
    )


# -- taking on ----------------------------------------------------------------------


def _check(item: Choosing, place: str, site: Site) -> None:
    """Refuse what no item of a batch can have: it would be dropped in silence."""
    details = [
        (place + name, "is not to be had for an item of a batch: leave it out")
        for name in _NOT_FOR_BATCHES
        if getattr(item, name) != type(item).model_fields[name].default
    ]
    if details:
        raise RefusedError(_UNFIT, "invalid_request", details=details)
    try:
        check_options(item.provider_options, site)
    except RefusedError as error:
        raise _at(place, error) from None


async def _check_room(site: Site, principal: Principal) -> None:
    """Refuse a caller who has more open than anybody can be waiting for."""
    open_ones = await site.gaia.batches.latest(
        MOST_OPEN, principal=principal.name, is_open=True
    )
    if len(open_ones) >= MOST_OPEN:
        raise RefusedError(
            status.HTTP_429_TOO_MANY_REQUESTS, "request_limit", retry_after=60
        )


async def _brought_in(
    request: Request, body: BatchIn, site: Site, principal: Principal
) -> AsyncGenerator[CoreRequest, None]:
    """Give the requests one at a time, so that no two have their pictures here."""
    until = time.monotonic() + BRINGING_IN
    for count, item in enumerate(body.requests):
        place = f"requests.{count}."
        if time.monotonic() > until:
            raise RefusedError(_UNFIT, "batch_pictures")
        if await request.is_disconnected():
            raise ClientGoneError
        try:
            wanted = await request_of(item, site=site, principal=principal)
        except RefusedError as error:
            raise _at(place, error) from None
        yield wanted


def _at(place: str, error: RefusedError) -> RefusedError:
    """Say in which of the requests a field is wrong."""
    details = [(place + field, words) for field, words in error.details]
    return RefusedError(
        error.status_code,
        error.code,
        details=details or [(place.rstrip("."), TEXTS[error.code])],
        retry_after=error.retry_after,
    )


def _work_on(found: Batch, site: Site, max_concurrent: int | None = None) -> None:
    """Have a batch worked on, unless it has ended."""
    if found.state is BatchState.FINISHED:
        return
    chosen = {} if max_concurrent is None else {"max_concurrent": max_concurrent}
    site.runner.start(
        found.id, principal=found.principal, after=found.last_event, **chosen
    )


# -- looking up ---------------------------------------------------------------------


async def _own(batch_id: str, site: Site, principal: Principal) -> Batch:
    found = None
    if ID.fullmatch(batch_id):
        found = await site.gaia.batches.get(batch_id)
    if found is None or found.principal != principal.name:
        raise RefusedError(status.HTTP_404_NOT_FOUND, "not_found")
    return found


async def _page(batch_id: str, site: Site, after: int, limit: int) -> list[Operation]:
    page: list[Operation] = []
    if not limit:
        return page
    async with aclosing(_items(batch_id, site, after)) as items:
        async for item in items:
            page.append(item)
            if len(page) >= limit:
                break
    return page


async def _items(
    batch_id: str, site: Site, after: int
) -> AsyncGenerator[Operation, None]:
    async for item in site.gaia.batches.items(batch_id, after=after):
        yield item


def _written(found: Batch, writer: Writer) -> dict[str, Any]:
    own = f"{writer.base_url}{ROUTE}/{found.id}"
    return {
        "batch_id": found.id,
        "name": found.name,
        "state": str(found.state),
        "total": found.total,
        "waiting": found.total - found.ended,
        "done": found.done,
        "failed": found.failed,
        "unknown": found.unknown,
        "cancelled": found.cancelled,
        "cost_usd": number(found.cost_usd),
        "last_event": found.last_event,
        "created_at": found.created_at.isoformat(),
        "finished_at": found.finished_at and found.finished_at.isoformat(),
        "links": {"self": own, "events": f"{own}/events"},
    }


async def _item(one: Operation, writer: Writer) -> dict[str, Any]:
    answer = one.answer or {}
    code = _code_of(one.error_type)
    return {
        "position": one.position,
        "operation_id": one.id,
        "capability": str(one.capability),
        "state": str(one.state),
        "provider": one.provider,
        "model": one.model,
        "cost_usd": number(one.cost_usd),
        "images": await writer.all_stored(one.image_ids),
        "text": answer.get("prompt") or answer.get("description"),
        "error_code": code,
        "error": _text_of(code),
    }


def _code_of(error_type: str | None) -> str | None:
    """Name an error that is on record by the name of its class."""
    if error_type is None:
        return None
    if error_type in _NO_FAULT:
        return _NO_FAULT[error_type]
    kind = getattr(errors, error_type, None)
    is_ours = isinstance(kind, type) and issubclass(kind, GaiaError)
    # A plugin's own exception: nobody knows what it means.
    return code_of(kind) if is_ours and kind is not None else "provider"


def _text_of(code: str | None) -> str | None:
    return None if code is None else _WORDS.get(code) or TEXTS[code]


# -- events -------------------------------------------------------------------------


def _last_known(request: Request, found: Batch) -> int:
    """Read which event a reader has; one who has none of these gets all."""
    words = request.headers.get("last-event-id", "")
    known = int(words) if _NUMBER.fullmatch(words) else 0
    return known if known <= found.last_event else 0


async def _told(
    batch_id: str, after: int, writer: Writer
) -> AsyncGenerator[bytes, None]:
    """Write what happens as server-sent events."""
    yield format_sse_event(retry=RETRY_MS)
    feeds = writer.site.runner.feeds
    try:
        async with aclosing(feeds.events(batch_id, after)) as news:
            async for event in news:
                yield KEEPALIVE_COMMENT if event is None else _event(event, writer)
    except GaiaError as error:
        # The headers are out: the reader comes back, and goes on where it was.
        log = get_logger(batch_id=batch_id)
        log.warning("gaia.events_interrupted", error=words_of(error))


def _event(event: BatchEvent, writer: Writer) -> bytes:
    """Write one event; of an error only its code."""
    code = _code_of(event.data.get("error_type"))
    data: dict[str, Any] = {
        "sequence": event.sequence,
        "batch_id": event.batch_id,
        "kind": event.kind,
        "position": event.position,
        "operation_id": event.operation_id,
        "created_at": event.created_at.isoformat(),
        "cost_usd": _dollars(event.data.get("cost_usd")),
        "images": [
            {"id": image["id"], "url": writer.url(image["id"])}
            for image in event.data.get("images", ())
        ],
        "error_code": code,
        "error": _text_of(code),
    }
    return format_sse_event(
        event=event.kind,
        data_str=orjson.dumps(data).decode(),
        id=str(event.sequence),
    )


def _dollars(amount: Any) -> float | None:
    return None if amount is None else float(amount)
