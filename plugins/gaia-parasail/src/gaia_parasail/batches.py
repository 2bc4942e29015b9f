"""
A vendor's batch, from requests to answers.

::

    write > upload > remember the file > order > remember the batch > look > fetch

Until the order nothing is owed. After it, whatever goes wrong with looking and
fetching says nothing about the work: it is tried again until the time is over, and
what nobody can tell is left unanswered, which Gaia looks up.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import attrs

from gaia_core import (
    CallContext,
    GenerateRequest,
    ImageResult,
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
)
from gaia_parasail import payloads
from gaia_parasail.batch_files import Part, Writer, next_line, together
from gaia_parasail.desks import BatchState, Desk, Reference
from gaia_parasail.downloads import Downloads
from gaia_parasail.errors import refused_batch, undecided, untouched
from gaia_parasail.merging import merged
from gaia_parasail.models import NAME, ModelSettings
from gaia_parasail.patience import Patience
from gaia_parasail.results import answer_of

Answer = tuple[str, ImageResult | Exception]
"""A task id and what became of it."""

REMEMBERED_AT_ONCE = 5_000
"""How many references are asked to be written at a time."""
_LOOKS_FOR_ORDER = 3
_LOST = frozenset({OutcomeClass.AMBIGUOUS, OutcomeClass.UNUSABLE})


@attrs.define(eq=False, kw_only=True)
class _Wanted:
    """
    What the files of results have not told so far.

    Attributes:
        places: Task to its place among the requests.
        told: Of how many tasks it was told what came of carrying them out.
    """

    places: dict[str, int]
    told: int = 0


@attrs.frozen(kw_only=True)
class BatchRun:
    """
    Requests for one model, made by as many of the service's batches as it takes.

    Attributes:
        desk: Where they are ordered.
        downloads: What fetches the results.
        model: The model.
        requests: What is to be made.
        contexts: Their attempts, in the same order.
        max_bytes: Largest file.
        poll_interval: Seconds between two looks, at first.
    """

    desk: Desk
    downloads: Downloads
    model: ModelSettings
    requests: Sequence[GenerateRequest]
    contexts: Sequence[CallContext]
    max_bytes: int
    poll_interval: float

    async def answers(self) -> AsyncGenerator[Answer, None]:
        """
        Give the answers of all batches as they come, in any order.

        Who closes the generator calls no batch off: it is paid for, and found again.
        """
        with tempfile.TemporaryDirectory(prefix="gaia-parasail-") as folder:
            parts: list[Part] = []
            async with aclosing(self._parts(Path(folder))) as written:
                async for one in written:
                    if isinstance(one, Part):
                        parts.append(one)
                    else:
                        yield one
            async with aclosing(merged(map(self._answers_of, parts))) as answers:
                async for answer in answers:
                    yield answer

    # -- write ------------------------------------------------------------------------

    async def _parts(self, folder: Path) -> AsyncGenerator[Part | Answer, None]:
        """
        Write the files, and give each when it is complete.

        What cannot be asked at all is answered at once.

        Raises:
            ProviderConnectionError: If there is no room for them; nothing was sent.
        """
        writer = Writer(folder=folder, max_bytes=self.max_bytes)
        try:
            for places in together(self.requests):
                lines = await asyncio.to_thread(self._lines, places)
                for place, line in zip(places, lines, strict=True):
                    if isinstance(line, Exception):
                        yield self.contexts[place].task_id, line
                    elif (part := writer.add(place, line)) is not None:
                        yield part
            if (part := writer.end()) is not None:
                yield part
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"The file of a batch cannot be written: {reason}."
            raise ProviderConnectionError(message) from error
        finally:
            writer.end()

    def _lines(self, places: range) -> Sequence[bytes | ProviderError]:
        return [self._line(place) for place in places]

    def _line(self, place: int) -> bytes | ProviderError:
        request, context = self.requests[place], self.contexts[place]
        try:
            return payloads.line(request, self.model, context.task_id)
        except ProviderRequestError as error:
            return error

    # -- order ------------------------------------------------------------------------

    async def _answers_of(self, part: Part) -> AsyncGenerator[Answer, None]:
        """Give the answers of one file; what ends it as a whole is everybody's."""
        left = {context.task_id for context in self._contexts_of(part)}
        failure: ProviderError | None = None
        try:
            async with aclosing(self._of_part(part)) as answers:
                async for answer in answers:
                    left.discard(answer[0])
                    yield answer
        except ProviderError as error:
            failure = error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            failure = ProviderError(f"A batch of {NAME} was lost sight of: {reason}.")
        if failure is not None:
            for task_id in left:
                yield task_id, _copy(failure)

    async def _of_part(self, part: Part) -> AsyncGenerator[Answer, None]:
        """Have one file carried out, and give its answers."""
        contexts = self._contexts_of(part)
        patience = Patience(
            interval=self.poll_interval,
            deadline=min(context.deadline for context in contexts),
        )
        try:
            file_id = await self.desk.upload(part.path)
        finally:
            # Prompts and pictures lie about no longer than they must.
            part.path.unlink(missing_ok=True)
        reference = Reference(
            model=self.requests[part.places[0]].model or "",
            file=file_id,
            lines=len(part.places),
        )
        await self._remember_file(contexts, reference)
        batch_id = await self._order(file_id, patience)
        # Whoever misses it finds the batch by its file.
        await _remember(contexts, attrs.evolve(reference, batch=batch_id))
        state = await self._ended(batch_id, patience)
        if state.is_refused:
            raise refused_batch(state.errors)
        wanted = _Wanted(
            places={self.contexts[place].task_id: place for place in part.places}
        )
        for file in state.files:
            path = part.path.with_suffix(".results")
            await patience.until_answered(partial(self.downloads.fetch, file, path))
            async with aclosing(self._read(path, wanted)) as answers:
                async for answer in answers:
                    yield answer
        if state.has_told_all(wanted.told):
            for task_id in wanted.places:
                yield task_id, untouched(state.status)

    async def _remember_file(
        self, contexts: Sequence[CallContext], reference: Reference
    ) -> None:
        """
        Put the file on record for everybody, or order nothing.

        Raises:
            ProviderConnectionError: If that cannot be done; nothing was ordered.
        """
        problems = await _remember(contexts, reference)
        if problems:
            await self.desk.discard(reference.file or "")
            kind = type(problems[0]).__name__
            message = f"Nothing was ordered: the ledger cannot be written ({kind})."
            raise ProviderConnectionError(message) from problems[0]

    async def _order(self, file_id: str, patience: Patience) -> str:
        """
        Order a batch; where the answer is lost, see whether there is one.

        Raises:
            ProviderError: If there is none, or nobody can tell.
        """
        try:
            return await self.desk.order(file_id, self.model.endpoint.url)
        except ProviderError as error:
            if error.outcome not in _LOST:
                raise
            problem = undecided(error)
        for times in range(_LOOKS_FOR_ORDER):
            await patience.wait(times)
            try:
                found = (await self.desk.by_file()).get(file_id)
            except ProviderError:
                continue
            if found is not None:
                return found
        raise problem

    async def _ended(self, batch_id: str, patience: Patience) -> BatchState:
        """
        Wait until a batch has ended.

        Raises:
            ProviderError: If that is not to be seen.
        """
        look = partial(self.desk.state, batch_id)
        times = 0
        while True:
            state = await patience.until_answered(look)
            if state.is_final:
                return state
            await patience.wait(times)
            times += 1

    # -- fetch ------------------------------------------------------------------------

    async def _read(self, path: Path, wanted: _Wanted) -> AsyncGenerator[Answer, None]:
        """Read a file of results, and give the answers nobody gave before."""
        with path.open("rb") as file:
            while (line := await asyncio.to_thread(next_line, file)) is not None:
                place = wanted.places.pop(line.task_id or "", None)
                if place is None:
                    self.contexts[0].logger.warning(
                        "gaia.batch_line_ignored", custom_id=line.task_id
                    )
                    continue
                wanted.told += not line.is_untouched
                context = self.contexts[place]
                hoped = payloads.wanted(self.requests[place], self.model)
                yield context.task_id, await answer_of(line, hoped, context)

    def _contexts_of(self, part: Part) -> Sequence[CallContext]:
        return [self.contexts[place] for place in part.places]


async def _remember(
    contexts: Sequence[CallContext], reference: Reference
) -> Sequence[BaseException]:
    """Put a reference on record for many attempts; give what went wrong."""
    text, problems = reference.written(), list[BaseException]()
    for start in range(0, len(contexts), REMEMBERED_AT_ONCE):
        some = contexts[start : start + REMEMBERED_AT_ONCE]
        given = await asyncio.gather(
            *(context.remember(text) for context in some), return_exceptions=True
        )
        problems += [one for one in given if one is not None]
    return problems


def _copy(error: ProviderError) -> ProviderError:
    """Make an error for one attempt alone: each operation signs its own."""
    return type(error)(str(error), retry_after=error.retry_after)
