"""
Calls that come together go to the provider together.

Some vendors take many requests in one call, and cheaper than one by one. Items of a
batch that go to such a provider are collected for a moment and handed to its hook
``gaia_generate_many``; each keeps its own task id, its own place in the ledger and
its own answer.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs

from gaia_core.calls import answer_of, words_of
from gaia_core.context import CallContext
from gaia_core.errors import ProviderError
from gaia_core.plugins import Provider
from gaia_core.requests import Request

ONE = "gaia_generate"
"""The hook that takes one request."""
MANY = "gaia_generate_many"
"""The hook that takes several requests."""
WINDOW = 0.05
"""How long the first call waits for others, in seconds."""


@attrs.frozen(kw_only=True)
class _Call:
    """One attempt that waits for company."""

    request: Request
    context: CallContext
    answer: asyncio.Future[Any]


@attrs.define(eq=False, kw_only=True)
class _Bundle:
    """What goes to one provider in one call."""

    provider: Provider
    limit: int
    timer: asyncio.TimerHandle
    calls: list[_Call] = attrs.field(factory=list)


@attrs.define(eq=False)
class Bundles:
    """
    Collects calls that belong together.

    Attributes:
        window: How long the first call waits for others, in seconds.
    """

    window: float = WINDOW
    _open: dict[str, _Bundle] = attrs.field(factory=dict, init=False)
    _sent: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    @staticmethod
    def takes(provider: Provider, hook: str) -> bool:
        """
        Tell whether calls of a provider's hook can be bundled.

        They are not where middleware wraps that hook and would be passed by.
        """
        return (
            hook == ONE
            and provider.implements(MANY)
            and provider.info().max_batch_size > 1
            and provider.wrappers(ONE) <= provider.wrappers(MANY)
        )

    async def call(
        self, provider: Provider, request: Request, context: CallContext
    ) -> Any:
        """
        Ask a provider, together with others who ask it at about the same time.

        Returns:
            What the provider gave for this request, unchecked.

        Raises:
            Exception: What the provider gave or raised instead; when its hook fails
                as a whole, or answers more or less than it was asked, that is the
                answer to each.
        """
        answer = asyncio.get_running_loop().create_future()
        call = _Call(request=request, context=context, answer=answer)
        bundle = self._bundle_for(provider)
        bundle.calls.append(call)
        if len(bundle.calls) >= bundle.limit:
            self._send(bundle)
        try:
            return await answer
        finally:
            # Whoever leaves before it is sent takes the request along.
            bundle.calls = [one for one in bundle.calls if one is not call]

    def _bundle_for(self, provider: Provider) -> _Bundle:
        """Find the bundle that is open, or open one."""
        found = self._open.get(provider.name)
        if found is None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self.window, self._send_open, provider.name)
            limit = max(1, provider.info().max_batch_size)
            found = _Bundle(provider=provider, limit=limit, timer=timer)
            self._open[provider.name] = found
        return found

    def _send_open(self, name: str) -> None:
        self._send(self._open[name])

    def _send(self, bundle: _Bundle) -> None:
        """Close a bundle and ask for what is in it."""
        bundle.timer.cancel()
        del self._open[bundle.provider.name]
        if bundle.calls:
            task = asyncio.create_task(_ask(bundle.provider, tuple(bundle.calls)))
            self._sent.add(task)
            task.add_done_callback(self._sent.discard)


async def _ask(provider: Provider, calls: Sequence[_Call]) -> None:
    """Call the hook once and hand its answers out."""
    try:
        answers = await answer_of(
            provider,
            MANY,
            requests=tuple(call.request for call in calls),
            contexts=tuple(call.context for call in calls),
        )
        results = _one_each(provider, calls, answers)
    except asyncio.CancelledError:
        for call in calls:
            call.answer.cancel()
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, everybody gets it
        results = [_copy(error) for _ in calls]
    for call, result in zip(calls, results, strict=True):
        _answer(call, result)


def _one_each(
    provider: Provider, calls: Sequence[_Call], answers: object
) -> Sequence[object]:
    """
    Check that there is one answer for each call.

    Raises:
        ProviderError: If not: nobody can tell then which is whose.
    """
    is_list = isinstance(answers, Sequence) and not isinstance(answers, str | bytes)
    found = list(answers) if isinstance(answers, Sequence) and is_list else None
    if found is None:
        given = type(answers).__name__
    elif len(found) != len(calls):
        given = f"{len(found)} answers"
    else:
        return found
    message = f"{provider.name} gave {given} for {len(calls)} requests at once."
    raise ProviderError(message)


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
