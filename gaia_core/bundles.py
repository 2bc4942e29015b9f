"""
Calls that come together go to the provider together.

Some vendors take many requests in one call, and cheaper than one by one. Items of a
batch that go to such a provider are collected and handed to its hook
``gaia_generate_many``; each keeps its own task id, its own line in the ledger and
its own answer, which it gets as soon as the provider has it.

::

    joined > closed > its turn at the gate > on the ledger > the hook > answers
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from operator import attrgetter
from typing import Any

import attrs

from gaia_core.calls import contained, words_of
from gaia_core.capabilities import Capability
from gaia_core.catalog import ModelInfo
from gaia_core.context import CallContext
from gaia_core.errors import PluginError, ProviderError, ProviderTimeoutError
from gaia_core.observability import get_logger
from gaia_core.places import Places
from gaia_core.plugins import Provider
from gaia_core.requests import GenerateRequest

ONE = "gaia_generate"
"""The hook that takes one request."""
MANY = "gaia_generate_many"
"""The hook that takes several requests."""
WINDOW = 0.25
"""A bundle is closed when nobody has joined it for so long, in seconds."""
MOST_HANDED_OUT = 16
"""How many pictures may be on their way to the store before more are asked for."""
LISTENING = 600.0
"""How long answers are waited for beyond the deadline, in seconds: they are paid."""

SENT_AT_ONCE = 32
"""How many calls are written down at a time."""

Turn = Callable[[Provider, Capability], AbstractAsyncContextManager[object]]
"""Gives what a call of the hook holds: its turn at the provider."""


async def nothing_to_send() -> None:
    """Write nothing: nobody keeps a book."""


def at_any_time(
    _provider: Provider, _capability: Capability
) -> AbstractAsyncContextManager[object]:
    """Let everybody through."""
    return nullcontext()


@attrs.define(eq=False, kw_only=True)
class _Call:
    """One attempt that waits for company, then for its answer."""

    request: GenerateRequest
    context: CallContext
    send: Callable[[], Awaitable[None]]
    place: int
    answer: asyncio.Future[Any]


@attrs.define(eq=False, kw_only=True)
class _Bundle:
    """What goes to one provider in one call."""

    key: Hashable
    provider: Provider
    capability: Capability
    limit: int
    calls: dict[str, _Call] = attrs.field(factory=dict)
    joined: float = 0.0
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    handed_out: set[str] = attrs.field(factory=set)
    has_room: asyncio.Event = attrs.field(factory=asyncio.Event)


@attrs.define(eq=False)
class Bundles:
    """
    Collects calls that belong together.

    Attributes:
        window: Seconds without a newcomer after which a bundle is closed.
        turn: What each bundle waits for and holds, like a single attempt.
        places: Who is told that a call waits.
    """

    window: float = WINDOW
    turn: Turn = attrs.field(default=at_any_time, kw_only=True)
    places: Places = attrs.field(factory=Places, kw_only=True)
    _open: dict[Hashable, _Bundle] = attrs.field(factory=dict, init=False)
    _sent: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _handed_out: dict[str, _Bundle] = attrs.field(factory=dict, init=False)
    _expected: set[Hashable] = attrs.field(factory=set, init=False)

    @staticmethod
    def takes(provider: Provider, model: ModelInfo, hook: str) -> bool:
        """
        Tell whether calls of a provider's hook can be bundled, for one of its models.

        They are not where middleware wraps that hook and would be passed by.
        """
        return (
            hook == ONE
            and provider.implements(MANY)
            and _most_of(provider, model) > 1
            and provider.wrappers(ONE) <= provider.wrappers(MANY)
        )

    async def call(  # noqa: PLR0913  what an attempt is made of
        self,
        provider: Provider,
        model: ModelInfo,
        request: GenerateRequest,
        context: CallContext,
        *,
        send: Callable[[], Awaitable[None]] = nothing_to_send,
        place: int = 0,
    ) -> Any:
        """
        Ask a provider, together with others that ask for the same model.

        Whoever gets pictures says `ended` once they are kept: until then they count
        among those on their way, and only so many are at a time.

        Args:
            provider: Whom to ask.
            model: Which of its models.
            request: What for; its model is set.
            context: The attempt; its deadline is set when the hook is called.
            send: Writes down that it is sent, right before it is; what it raises is
                the answer, and nothing is sent.
            place: Where it stands among the others, whoever joined first.

        Returns:
            What the provider gave for this request, unchecked.

        Raises:
            Exception: What the provider gave or raised instead.
        """
        bundle = self._bundle_for(provider, model, request)
        answer = asyncio.get_running_loop().create_future()
        call = _Call(
            request=request, context=context, send=send, place=place, answer=answer
        )
        bundle.calls[context.task_id] = call
        bundle.joined = time.monotonic()
        if len(bundle.calls) >= bundle.limit:
            self._close(bundle)
        self.places.leave(context.operation_id)
        try:
            return await answer
        finally:
            self.places.take(context.operation_id)
            self._leave(bundle, call)

    def ended(self, operation_id: str) -> None:
        """Note that nothing of an operation's pictures is on its way any more."""
        bundle = self._handed_out.pop(operation_id, None)
        if bundle is not None:
            bundle.handed_out.discard(operation_id)
            bundle.has_room.set()

    def expect(self, source: Hashable, *, more: bool) -> None:
        """
        Note that somebody has more to come, or no more: bundles wait for it.

        Args:
            source: Who it is.
            more: Whether calls are to be expected at once.
        """
        if more:
            self._expected.add(source)
        else:
            self._expected.discard(source)

    async def close(self, patience: float) -> None:
        """Send nothing more, and wait for what was called off to end."""
        for bundle in list(self._open.values()):
            for call in bundle.calls.values():
                call.answer.cancel()
            bundle.calls.clear()
            self._close(bundle)
        if self._sent:
            _, late = await asyncio.wait(self._sent, timeout=patience)
            for task in late:
                task.cancel()

    # -- joining ------------------------------------------------------------------

    def _bundle_for(
        self, provider: Provider, model: ModelInfo, request: GenerateRequest
    ) -> _Bundle:
        """Find the bundle that is open, or open one."""
        key = (provider.name, request.model, request.capability)
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = _Bundle(
                key=key,
                provider=provider,
                capability=request.capability,
                limit=max(1, _most_of(provider, model)),
            )
            self._wait_for_more(found, self.window)
        return found

    def _wait_for_more(self, bundle: _Bundle, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        bundle.timer = loop.call_later(seconds, self._close_if_quiet, bundle)

    def _close_if_quiet(self, bundle: _Bundle) -> None:
        left = bundle.joined + self.window - time.monotonic()
        if self._expected:
            left = self.window
        if left > 0:
            self._wait_for_more(bundle, left)
        else:
            self._close(bundle)

    def _close(self, bundle: _Bundle) -> None:
        """Let nobody in any more, and ask for what is in it."""
        if bundle.timer is not None:
            bundle.timer.cancel()
        del self._open[bundle.key]
        if bundle.calls:
            bundle.task = asyncio.create_task(self._ask(bundle))
            self._sent.add(bundle.task)
            bundle.task.add_done_callback(self._sent.discard)

    def _leave(self, bundle: _Bundle, call: _Call) -> None:
        """Take a call out; where nobody is left, nothing is waited for."""
        if bundle.calls.get(call.context.task_id) is not call:
            return
        del bundle.calls[call.context.task_id]
        if bundle.calls:
            return
        if bundle.task is not None:
            bundle.task.cancel()
        elif self._open.get(bundle.key) is bundle:
            self._close(bundle)

    # -- asking -------------------------------------------------------------------

    async def _ask(self, bundle: _Bundle) -> None:
        """Call the hook once and hand its answers out."""
        try:
            async with self.turn(bundle.provider, bundle.capability):
                await self._send(bundle)
                if bundle.calls:
                    await self._listen(bundle)
        except asyncio.CancelledError:
            for call in list(bundle.calls.values()):
                call.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, everybody gets it
            for call in list(bundle.calls.values()):
                _answer(call, _copy(error))

    async def _send(self, bundle: _Bundle) -> None:
        """Have each call written down; one that cannot be goes without."""
        left = iter(list(bundle.calls.values()))

        async def one_by_one() -> None:
            for call in left:
                await self._send_one(bundle, call)

        await asyncio.gather(*(one_by_one() for _ in range(SENT_AT_ONCE)))

    async def _send_one(self, bundle: _Bundle, call: _Call) -> None:
        if call.answer.done():
            return
        try:
            await call.send()
        except Exception as error:  # noqa: BLE001  its own caller deals with it
            self._hand_out(bundle, call, error)
            return
        if not call.answer.done():
            self.places.leave(call.context.operation_id, is_sent=True)

    async def _listen(self, bundle: _Bundle) -> None:
        """Take answers as they come, not faster than they can be kept."""
        provider, patience = bundle.provider, bundle.provider.info().batch_timeout
        calls = sorted(bundle.calls.values(), key=attrgetter("place"))
        deadline = time.monotonic() + patience
        requests = tuple(call.request for call in calls)
        contexts = tuple(attrs.evolve(one.context, deadline=deadline) for one in calls)
        calls.clear()
        limit = asyncio.timeout(patience + LISTENING)
        try:
            async with limit, _stream(provider, requests, contexts) as stream:
                await self._hand_all_out(bundle, stream)
        except TimeoutError as error:
            if not limit.expired():
                raise
            message = f"{provider.name} did not answer within {patience:g} s."
            raise ProviderTimeoutError(message) from error
        if bundle.calls:
            message = f"{provider.name} ended without an answer to this request."
            raise ProviderError(message)

    async def _hand_all_out(
        self, bundle: _Bundle, stream: AsyncIterator[object]
    ) -> None:
        name = bundle.provider.name
        while bundle.calls:
            while len(bundle.handed_out) >= MOST_HANDED_OUT:
                bundle.has_room.clear()
                await bundle.has_room.wait()
            try:
                given = await contained(lambda: anext(stream), name)
            except StopAsyncIteration:
                return
            self._take(bundle, given)

    def _take(self, bundle: _Bundle, given: object) -> None:
        """Give an answer to whom it belongs."""
        is_pair = isinstance(given, tuple) and len(given) == 2  # noqa: PLR2004  a pair
        task_id, answer = (
            given if isinstance(given, tuple) and is_pair else (None, None)
        )
        call = bundle.calls.get(task_id) if isinstance(task_id, str) else None
        if call is None:
            # Of a task that nobody asked for, that was answered, or that was left.
            get_logger(provider=bundle.provider.name).warning(
                "gaia.answer_ignored", task_id=task_id if is_pair else None
            )
            return
        self._hand_out(bundle, call, answer)

    def _hand_out(self, bundle: _Bundle, call: _Call, answer: object) -> None:
        operation_id = call.context.operation_id
        if bundle.calls.pop(call.context.task_id, None) is None or call.answer.done():
            return
        if not isinstance(answer, BaseException):
            bundle.handed_out.add(operation_id)
            self._handed_out[operation_id] = bundle
        _answer(call, answer)


def _most_of(provider: Provider, model: ModelInfo) -> int:
    """Tell how many requests for a model go into one call."""
    own = model.max_batch_size
    return provider.info().max_batch_size if own is None else own


@asynccontextmanager
async def _stream(
    provider: Provider,
    requests: Sequence[GenerateRequest],
    contexts: Sequence[CallContext],
) -> AsyncIterator[AsyncIterator[object]]:
    """
    Call the hook, and see to it that it comes to its end.

    Raises:
        PluginError: If it gives no asynchronous iterator.
    """
    given = provider.call(MANY, requests=requests, contexts=contexts)
    try:
        if not isinstance(given, AsyncIterator):
            message = (
                f"{provider.name} gave {type(given).__name__}: {MANY} must be an "
                "`async def` that yields task ids and answers."
            )
            raise PluginError(message)
        yield given
    finally:
        await _end(given, provider.name)


async def _end(stream: object, name: str) -> None:
    """End a generator; or a coroutine, which was never begun."""
    if hasattr(stream, "aclose"):
        try:
            await contained(stream.aclose, name)
        except Exception as error:  # noqa: BLE001  its answers were given
            log = get_logger(provider=name)
            log.warning("gaia.bundle_not_ended", error=words_of(error))
    elif hasattr(stream, "close"):
        stream.close()


def _answer(call: _Call, result: object) -> None:
    if call.answer.done():
        return
    if isinstance(result, BaseException):
        call.answer.set_exception(_raisable(result))
    else:
        call.answer.set_result(result)


def _raisable(error: BaseException) -> Exception:
    """Put what a future does not take, or what ends more than a call, into one."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return ProviderError(f"The call ended with {type(error).__name__}.")


def _copy(error: Exception) -> Exception:
    """Make an error for one call alone: each operation signs its own."""
    try:
        own = type(error).__new__(type(error), *error.args)
        own.__dict__.update(error.__dict__)
    except Exception:  # noqa: BLE001  a foreign class may want anything
        return ProviderError(f"The call failed with {words_of(error)}.")
    return own
