"""The files and the batches of a vendor that speaks OpenAI's form."""

import asyncio
import itertools
import json
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.testing.vendors import openai_forms as forms
from gaia_core.testing.vendors.faults import Fault, Faults

if TYPE_CHECKING:
    from aiohttp import web

    from gaia_core.testing.vendors.openai import OpenAIVendor

_READERS = {
    "/v1/images/generations": forms.generation,
    "/v1/images/edits": forms.edit,
    "/v1/chat/completions": forms.chat,
}
_CHUNK = 1 << 16
_BREATH = 20
_MOST_LINES = 50_000
_PAGE = 20
_FINAL = frozenset({"completed", "failed", "expired", "cancelled"})
_NOT_BEGUN = frozenset({"validating", "in_progress"})


@attrs.define(eq=False, kw_only=True)
class StoredFile:
    """
    A file somebody uploaded, or that a batch made.

    Attributes:
        id: What it is named by.
        path: Where it lies.
        purpose: What it is for.
    """

    id: str
    path: Path
    purpose: str = "batch"

    def shown(self) -> dict[str, Any]:
        """Describe it in JSON."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.path.stat().st_size,
            "created_at": int(time.time()),
            "filename": "batch.jsonl",
            "purpose": self.purpose,
            "status": "processed",
        }


@attrs.define(eq=False, kw_only=True)
class VendorBatch:
    """
    A batch of requests.

    Attributes:
        id: What it is named by.
        input_file_id: The file with the requests.
        endpoint: Where each of them would go.
        status: How far it is, in OpenAI's words.
        looks: How often it was looked at since it got there.
        output_file_id: The file with what was made, once there is one.
        error_file_id: The file with what was not.
        errors: Why it was refused as a whole.
        counts: How many lines there are, were carried out, failed.
        created_at: When it was created, in seconds since 1970.
    """

    id: str
    input_file_id: str
    endpoint: str
    status: str = "validating"
    looks: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[dict[str, Any]] = attrs.field(factory=list)
    counts: dict[str, int] = attrs.field(
        factory=lambda: {"total": 0, "completed": 0, "failed": 0}
    )
    created_at: int = attrs.field(factory=lambda: int(time.time()))

    def shown(self) -> dict[str, Any]:
        """Describe it in JSON."""
        errors = {"object": "list", "data": self.errors} if self.errors else None
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "input_file_id": self.input_file_id,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "errors": errors,
            "request_counts": self.counts,
        }


@attrs.define(eq=False, kw_only=True)
class BatchDesk:
    """
    Where files are handed in and batches are carried out.

    A batch goes on each time it is looked at: validating, in progress, finalizing,
    completed. Its lines are carried out, and charged once each, on the way to
    finalizing.

    Attributes:
        vendor: Who carries the lines out.
        faults: What goes wrong with which lines. Those that cut a connection leave
            the line out of the results; a truncated one breaks off in the middle.
        troubles: What goes wrong with the next calls to the desk, by the name of the
            call: ``upload``, ``create``, ``retrieve``, ``list``, ``cancel``, ``file``,
            ``content``.
        is_holding: Whether batches stay in progress for now.
        expires_after: After how many lines a batch expires; None: it does not.
        cancels_after: How many lines of a batch are carried out when it is called off.
        is_silent: Whether nothing is said of the lines that were called off.
        redirects_to: Where the content of files lies, in place of here; None: here.
        batches: All batches, the oldest first.
        calls: How often each call was made.
    """

    vendor: "OpenAIVendor"
    faults: Faults = attrs.field(factory=Faults)
    troubles: dict[str, deque[Fault | None]] = attrs.field(factory=dict)
    is_holding: bool = False
    expires_after: int | None = None
    cancels_after: int = 0
    is_silent: bool = False
    redirects_to: str | None = None
    batches: dict[str, VendorBatch] = attrs.field(factory=dict, init=False)
    calls: dict[str, int] = attrs.field(factory=dict, init=False)
    _files: dict[str, StoredFile] = attrs.field(factory=dict, init=False)
    _numbers: Iterator[int] = attrs.field(
        factory=lambda: itertools.count(1), init=False
    )
    _drawn: int = attrs.field(default=0, init=False)
    _folder: "tempfile.TemporaryDirectory[str] | None" = attrs.field(
        default=None, init=False
    )

    def open(self) -> None:
        """Make room for files."""
        self._folder = tempfile.TemporaryDirectory(prefix="openai-vendor-")

    def close(self) -> None:
        """Throw all files away."""
        if self._folder is not None:
            self._folder.cleanup()

    def trouble(self, call: str, faults: Iterable[Fault | str | None]) -> None:
        """Let the next calls of a name go wrong, one fault each."""
        given = (None if one is None else Fault(one) for one in faults)
        self.troubles.setdefault(call, deque()).extend(given)

    def lines_of(self, batch_id: str) -> int:
        """Tell how many lines the file of a batch has."""
        return sum(1 for _ in self._lines(self.batches[batch_id]))

    async def finish(self) -> None:
        """Carry all batches out that can be."""
        for batch in self.batches.values():
            while batch.status not in _FINAL and not self.is_holding:
                await self._go_on(batch)

    # -- the door ---------------------------------------------------------------------

    def routes(self) -> "Sequence[web.RouteDef]":
        """Say what is answered at which address."""
        from aiohttp import web  # noqa: PLC0415  slow

        return [
            web.post("/v1/files", self._handler("upload", self._upload)),
            web.get("/v1/files/{id}", self._handler("file", self._show)),
            web.get("/v1/files/{id}/content", self._handler("content", self._content)),
            web.post("/v1/batches", self._handler("create", self._create)),
            web.get("/v1/batches", self._handler("list", self._list)),
            web.get("/v1/batches/{id}", self._handler("retrieve", self._retrieve)),
            web.post("/v1/batches/{id}/cancel", self._handler("cancel", self._cancel)),
            web.get("/stored/{id}", self._stored),
        ]

    def _handler(self, call: str, handler: Any) -> Any:
        """Make a handler that can be told to go wrong."""

        async def handle(request: "web.Request") -> "web.StreamResponse":
            self.calls[call] = self.calls.get(call, 0) + 1
            waiting = self.troubles.get(call)
            fault = waiting.popleft() if waiting else None
            if fault is None:
                answer: web.StreamResponse = await handler(request)
                return answer
            await request.read()
            if fault.is_charged:
                await handler(request)
            if fault.status is None:
                return cut(request)
            return json_answer(self.vendor.refusal(str(fault)), status=fault.status)

        return self.vendor.guarded(handle)

    # -- files ------------------------------------------------------------------------

    async def _upload(self, request: "web.Request") -> "web.StreamResponse":
        """Take a file, piece by piece."""
        stored = self._new_file("input")
        async for part in await request.multipart():
            if part.name != "file":  # type: ignore[union-attr]
                continue
            with stored.path.open("wb") as file:
                while chunk := await part.read_chunk(_CHUNK):  # type: ignore[union-attr]
                    file.write(chunk)
        return json_answer(stored.shown())

    async def _show(self, request: "web.Request") -> "web.StreamResponse":
        """Answer what is known of a file."""
        stored = self._files.get(request.match_info["id"])
        return self._missing() if stored is None else json_answer(stored.shown())

    async def _content(self, request: "web.Request") -> "web.StreamResponse":
        """Answer what is in a file, or where that lies."""
        from aiohttp import web  # noqa: PLC0415  slow

        stored = self._files.get(request.match_info["id"])
        if stored is None:
            return self._missing()
        if self.redirects_to is not None:
            headers = {"Location": f"{self.redirects_to}/stored/{stored.id}?signed=1"}
            return web.Response(status=HTTPStatus.FOUND, headers=headers)
        return web.FileResponse(stored.path)

    async def _stored(self, request: "web.Request") -> "web.StreamResponse":
        """Answer what is in a file to whoever knows where it lies; it takes no key."""
        from aiohttp import web  # noqa: PLC0415  slow

        self.vendor.heads.append(dict(request.headers))
        stored = self._files.get(request.match_info["id"])
        return self._missing() if stored is None else web.FileResponse(stored.path)

    def _new_file(self, kind: str) -> StoredFile:
        name = f"file-{kind}-{next(self._numbers)}"
        folder = Path("" if self._folder is None else self._folder.name)
        path = folder / f"{name}.jsonl"
        path.touch()
        self._files[name] = StoredFile(id=name, path=path)
        return self._files[name]

    # -- batches ----------------------------------------------------------------------

    async def _create(self, request: "web.Request") -> "web.StreamResponse":
        """Take a batch on."""
        wanted = await request.json()
        if wanted["input_file_id"] not in self._files:
            return self._missing()
        name = f"batch-{next(self._numbers)}"
        self.batches[name] = VendorBatch(
            id=name,
            input_file_id=wanted["input_file_id"],
            endpoint=wanted["endpoint"],
        )
        return json_answer(self.batches[name].shown())

    async def _retrieve(self, request: "web.Request") -> "web.StreamResponse":
        """Answer how far a batch is, and let it go on."""
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return self._missing()
        await self._go_on(batch)
        return json_answer(batch.shown())

    async def _list(self, request: "web.Request") -> "web.StreamResponse":
        """Answer a page of the batches, the newest first."""
        newest = list(reversed(self.batches.values()))
        limit = int(request.query.get("limit", _PAGE))
        after = request.query.get("after")
        places = [n for n, one in enumerate(newest, 1) if one.id == after]
        start = places[0] if places else 0
        page = newest[start : start + limit]
        return json_answer(
            {
                "object": "list",
                "data": [one.shown() for one in page],
                "has_more": start + limit < len(newest),
            }
        )

    async def _cancel(self, request: "web.Request") -> "web.StreamResponse":
        """Call a batch off."""
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return self._missing()
        if batch.status in _NOT_BEGUN:
            batch.status = "cancelling"
        return json_answer(batch.shown())

    async def _go_on(self, batch: VendorBatch) -> None:
        """Bring a batch one step on."""
        batch.looks += 1
        match batch.status:
            case "validating":
                batch.errors = self._faulty(batch)
                batch.status = "failed" if batch.errors else "in_progress"
            case "in_progress" if not self.is_holding:
                batch.status = "working"
                is_over = await self._work(batch, self.expires_after, "expired")
                batch.status = "finalizing" if is_over else "expired"
            case "finalizing":
                batch.status = "completed"
            case "cancelling":
                batch.status = "working"
                await self._work(batch, self.cancels_after, "cancelled")
                batch.status = "cancelled"

    def _faulty(self, batch: VendorBatch) -> list[dict[str, Any]]:
        """Find what is wrong with the lines of a batch."""
        seen: dict[str, int] = {}
        for number, text in enumerate(self._lines(batch), 1):
            reason = self._reason(batch, text, number, seen)
            if reason is not None:
                return [{"code": None, "message": reason, "line": number}]
        batch.counts["total"] = len(seen)
        too_many = len(seen) > _MOST_LINES
        return [{"message": "Too many requests"}] if too_many or not seen else []

    def _reason(
        self, batch: VendorBatch, text: str, number: int, seen: dict[str, int]
    ) -> str | None:
        try:
            line = json.loads(text)
        except ValueError:
            return "Invalid JSON"
        name = line["custom_id"]
        if name in seen:
            return f"Duplicate custom_id, first appeared on line {seen[name]}"
        seen[name] = number
        if line["url"] not in _READERS or line["url"] != batch.endpoint:
            return "Unsupported url"
        if line["body"].get("model") not in self.vendor.models:
            return f"Model {line['body'].get('model')} is not available"
        return None

    async def _work(self, batch: VendorBatch, most: int | None, reason: str) -> bool:
        """Carry lines out, and say why no more; tell whether those were all."""
        made, failed, is_over = self._new_file("output"), self._new_file("error"), True
        with (
            made.path.open("w", encoding="utf-8") as outputs,
            failed.path.open("w", encoding="utf-8") as errors,
        ):
            for number, text in enumerate(self._lines(batch)):
                line = json.loads(text)
                if most is not None and number >= most:
                    is_over = False
                    errors.write("" if self.is_silent else _untouched(line, reason))
                    continue
                answer = await self._answer(line)
                is_made = "error" not in answer
                batch.counts["completed" if is_made else "failed"] += 1
                (outputs if is_made else errors).write(_written(answer))
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
        batch.output_file_id = made.id if made.path.stat().st_size else None
        batch.error_file_id = failed.id if failed.path.stat().st_size else None
        return is_over

    async def _answer(self, line: dict[str, Any]) -> dict[str, Any]:
        """Carry one line out, as far as its fault allows."""
        body, name = line["body"], line["custom_id"]
        try:
            job = _READERS[line["url"]](body, name)
        except (KeyError, TypeError, ValueError) as error:
            return _refused(line, self.vendor.refusal(type(error).__name__), 400)
        fault = self.faults.drawn(self._drawn, job.prompt, 0)
        self._drawn += 1
        self.vendor.note(job, fault)
        if fault is None or fault.is_charged:
            made = await self.vendor.carry_out(job, fault)
        if fault is not None and fault.status is not None:
            return _refused(line, self.vendor.refusal(str(fault)), fault.status)
        if fault is not None and (not fault.is_charged or fault in _LOST):
            return {"lost": True, "custom_id": name}
        answer = _answered(line, self.vendor.reply(made))
        return (
            answer | {"is_broken": True} if fault is Fault.TRUNCATED_AFTER else answer
        )

    def _lines(self, batch: VendorBatch) -> Iterator[str]:
        with self._files[batch.input_file_id].path.open(encoding="utf-8") as file:
            yield from (text for text in file if text.strip())

    def _missing(self) -> "web.Response":
        refusal = self.vendor.refusal("not_found")
        return json_answer(refusal, status=HTTPStatus.NOT_FOUND)


_LOST = frozenset({Fault.DROP_AFTER, Fault.HANG_AFTER})


def _answered(line: dict[str, Any], reply: Any) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": line["custom_id"], "body": reply}
    return {"id": "one", "custom_id": line["custom_id"], "response": response}


def _refused(line: dict[str, Any], refusal: Any, status: int) -> dict[str, Any]:
    response = {"status_code": status, "body": refusal}
    return {"custom_id": line["custom_id"], "response": response, "error": None}


def _untouched(line: dict[str, Any], reason: str) -> str:
    """Write the line about a request that was not carried out."""
    error = {"code": f"batch_{reason}", "message": f"The batch {reason}."}
    return _written({"custom_id": line["custom_id"], "response": None, "error": error})


def _written(answer: dict[str, Any]) -> str:
    """Write a line of the results; some are lost, some broken off."""
    if answer.get("lost"):
        return ""
    is_broken = answer.pop("is_broken", False)
    text = json.dumps(answer)
    return f"{text[: len(text) // 2]}\n" if is_broken else f"{text}\n"


def json_answer(content: Any, **facts: Any) -> "web.Response":
    """Answer in JSON."""
    from aiohttp import web  # noqa: PLC0415  slow

    return web.json_response(content, **facts)


def cut(request: "web.Request") -> "web.Response":
    """Cut the connection; what is returned reaches nobody."""
    from aiohttp import web  # noqa: PLC0415  slow

    if request.transport is not None:
        request.transport.abort()
    return web.Response()
