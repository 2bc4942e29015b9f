"""The service's files and batches: each call once, and what its answers mean."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from gaia_core import ModelError, OutcomeClass, ProviderConnectionError, ProviderError
from gaia_parasail import replies
from gaia_parasail.clients import Clients
from gaia_parasail.models import NAME

if TYPE_CHECKING:
    from gaia_parasail.replies import Reply

WINDOW = "24h"
"""How long the service may take; the only value that OpenAI's form knows."""
FINAL = frozenset({"completed", "failed", "expired", "cancelled"})
"""How a batch may end."""

_CALLED_OFF = frozenset({"cancelling", "cancelled"})
_PAGE = 100
_MOST_PAGES = 1_000
# A line that is slower than this would not carry a batch within a day.
_SLOWEST_BYTES_PER_SECOND = 100_000


@attrs.frozen(kw_only=True)
class Reference:
    """
    What an attempt can be looked up by, as the ledger keeps it.

    >>> Reference.read(Reference(model="m", file="f").written())
    Reference(model='m', file='f', batch=None, lines=None)

    Attributes:
        model: The model that was asked.
        file: The file with the request; None: it was asked at once, without one.
        batch: The batch that works on the file, once it is known.
        lines: How many requests are in the file.
    """

    model: str
    file: str | None = None
    batch: str | None = None
    lines: int | None = None

    def written(self) -> str:
        """Write it as a short text."""
        known = attrs.asdict(self, filter=lambda _, value: value is not None)
        return json.dumps(known, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> "Reference | None":
        """Read it; None: it was not written here."""
        try:
            content = json.loads(text)
            return cls(**content)
        except (TypeError, ValueError):
            return None


@attrs.frozen(kw_only=True)
class BatchState:
    """
    How far a batch is.

    Attributes:
        id: What it is named by.
        status: How far it is, in the service's words.
        files: The files with results and with errors, as far as there are any.
        errors: Why it was refused as a whole, if it was.
        is_untouched: Whether the service says that no request was carried out.
        total: How many requests it holds; 0: the service has not counted them.
        carried_out: How many of them were carried out, if the service says so.
    """

    id: str
    status: str
    files: Sequence[str] = ()
    errors: Sequence[Any] = ()
    is_untouched: bool = False
    total: int = 0
    carried_out: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status in FINAL

    @property
    def is_refused(self) -> bool:
        """Whether it was refused before any work: certainly nothing was charged."""
        is_empty = not self.files and self.is_untouched
        return self.status == "failed" and bool(self.errors) and is_empty

    @property
    def can_be_stopped(self) -> bool:
        """Whether it may still make something that nobody has told it not to make."""
        return not self.is_final and self.status != "cancelling"

    def has_told_all(self, told: int) -> bool:
        """
        Tell whether what its files do not mention was never carried out.

        Args:
            told: Of how many requests its files say what became of carrying them out.
        """
        # Numbers that do not agree with the files prove nothing.
        return self.status in {"cancelled", "expired"} and self.carried_out == told


@attrs.frozen(kw_only=True)
class Desk:
    """
    Where files are handed in, and batches are ordered and looked at.

    Attributes:
        clients: Who asks the service.
    """

    clients: Clients

    async def upload(self, path: Path) -> str:
        """
        Hand a file in, which is free.

        Returns:
            What the service names it by.

        Raises:
            ProviderError: If it was not taken; nothing is owed, whatever it is.
        """
        try:
            with path.open("rb") as file:
                seconds = file.seek(0, io.SEEK_END) / _SLOWEST_BYTES_PER_SECOND
                file.seek(0)
                reply = await self._asked(
                    lambda client: client.files.with_raw_response.create(
                        file=(path.name, file, "application/jsonl"), purpose="batch"
                    ),
                    patience=self.clients.timeout + seconds,
                )
            return _text(reply, "id")
        except ProviderError as error:
            if error.outcome in {OutcomeClass.AMBIGUOUS, OutcomeClass.UNUSABLE}:
                failure = _not_sent(error)
            else:
                raise
        raise failure

    async def discard(self, file_id: str) -> None:
        """Have a file thrown away that nothing was ordered for, if that can be."""
        try:
            await self._asked(
                lambda client: client.files.with_raw_response.delete(file_id)
            )
        except ProviderError:
            return

    async def has(self, file_id: str) -> bool:
        """
        Tell whether the service still knows a file.

        Raises:
            ProviderError: If it cannot be asked.
        """
        try:
            await self._asked(
                lambda client: client.files.with_raw_response.retrieve(file_id)
            )
        except ModelError:  # what every 404 is
            return False
        return True

    async def order(self, file_id: str, url: str) -> str:
        """
        Have the requests in a file carried out: from here on it costs money.

        Returns:
            What the service names the batch by.

        Raises:
            ProviderError: If it was refused, or nobody can tell whether it was.
        """
        reply = await self._asked(
            lambda client: client.batches.with_raw_response.create(
                input_file_id=file_id,
                endpoint=cast("Any", url),  # one of the SDK's literals
                completion_window=WINDOW,
            )
        )
        return _text(reply, "id")

    async def state(self, batch_id: str) -> BatchState:
        """
        Look at a batch.

        Raises:
            ProviderError: If it cannot be looked at.
        """
        try:
            reply = await self._asked(
                lambda client: client.batches.with_raw_response.retrieve(batch_id)
            )
        except ModelError as error:  # what every 404 is
            message = (
                f"{NAME} knows no batch {batch_id}: look it up with the key and the "
                "address it was ordered with, or ask the service what became of it."
            )
            raise ModelError(message, retry_after=error.retry_after) from None
        return _state(reply)

    async def stop(self, batch_id: str) -> str:
        """
        Have a batch stopped: what is not made yet need not be.

        Returns:
            How far it is then: ``cancelling``, or ``cancelled``.

        Raises:
            ProviderError: If it was not, or nobody can tell.
        """
        reply = await self._asked(
            lambda client: client.batches.with_raw_response.cancel(batch_id)
        )
        status = _text(reply, "status")
        if status not in _CALLED_OFF:
            message = (
                f"{NAME} was told to stop the batch, and says that it is {status}."
            )
            raise ProviderError(message)
        return status

    async def by_file(self) -> Mapping[str, str]:
        """
        List all batches there are, to the last page.

        Returns:
            The file of each to what the batch is named by.

        Raises:
            ProviderError: If the list cannot be read to its end.
        """
        found: dict[str, str] = {}
        seen: set[str] = set()
        after: str | None = None
        for _ in range(_MOST_PAGES):
            reply = await self._page(after)
            entries = replies.entries(reply)
            fresh = [one for one in entries if one.get("id") not in seen]
            for one in fresh:
                found[str(one.get("input_file_id"))] = str(one.get("id"))
                seen.add(str(one.get("id")))
            if not reply.get("has_more"):
                return found
            if not fresh:
                break
            after = str(fresh[-1].get("id"))
        message = f"The list of {NAME}'s batches cannot be read to its end."
        raise ProviderError(message)

    async def _page(self, after: str | None) -> "Reply":
        from openai import omit  # noqa: PLC0415 - half a second

        reply = await self._asked(
            lambda client: client.batches.with_raw_response.list(
                limit=_PAGE, after=after or omit
            )
        )
        if not isinstance(reply.get("data"), list):
            message = f"{NAME} lists no batches."
            raise ProviderError(message)
        return reply

    async def _asked(self, call: Any, *, patience: float | None = None) -> "Reply":
        return replies.read(await self.clients.ask(call, timeout=patience))


def _not_sent(error: ProviderError) -> ProviderError:
    return ProviderConnectionError(
        f"A file was not taken, and nothing was ordered: {error}"
    )


def _state(reply: "Reply") -> BatchState:
    errors = reply.get("errors")
    entries = errors.get("data") if isinstance(errors, dict) else None
    counts = reply.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    done = [counts.get(key) for key in ("completed", "failed")]
    numbers = [one for one in done if isinstance(one, int)]
    total = counts.get("total")
    files = [reply.get(key) for key in ("output_file_id", "error_file_id")]
    return BatchState(
        id=_text(reply, "id"),
        status=_text(reply, "status"),
        files=tuple(one for one in files if isinstance(one, str) and one),
        errors=tuple(entries) if isinstance(entries, list) else (),
        is_untouched=not any(done),
        total=total if isinstance(total, int) else 0,
        carried_out=sum(numbers) if len(numbers) == len(done) else None,
    )


def _text(reply: "Reply", key: str) -> str:
    value = reply.get(key)
    if not isinstance(value, str) or not value:
        message = f"{NAME} answered about a batch what nobody can read."
        raise ProviderError(message)
    return value
