"""Waiting for hooks that may do anything."""

import asyncio
from typing import Any

import pytest

from gaia_core.calls import contained, words_of
from gaia_core.errors import PluginError, ProviderError, RateLimitError


async def test_answers_come_through() -> None:
    """What a hook answers is the answer."""

    async def answer() -> int:
        return 42

    assert await contained(answer, "p") == 42


async def test_errors_come_through() -> None:
    """What a hook raises is raised."""

    async def answer() -> int:
        message = "slow down"
        raise RateLimitError(message)

    with pytest.raises(RateLimitError):
        await contained(answer, "p")


async def test_patience_ends() -> None:
    """A hook that takes too long is given up."""
    with pytest.raises(TimeoutError):
        await contained(lambda: asyncio.sleep(60), "p", patience=0.01)


@pytest.mark.parametrize(
    "ending",
    [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), BaseException()],
    ids=lambda ending: type(ending).__name__,
)
async def test_hooks_end_nothing_but_themselves(ending: BaseException) -> None:
    """A hook that exits, panics or cancels itself is an error of its provider."""

    async def answer() -> Any:
        raise ending

    with pytest.raises(ProviderError, match="p gave up without an answer"):
        await contained(answer, "p")


async def test_hook_that_answers_at_once_is_told_how_to() -> None:
    """A hook without ``async`` fails in words its author understands."""

    def answer() -> Any:
        return 42

    with pytest.raises(PluginError, match=r"p gave int at once: .* `async def`"):
        await contained(answer, "p")


async def test_interrupts_of_the_user_come_through() -> None:
    """Control-C is no business of a hook."""

    def answer() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await contained(answer, "p")


async def test_cancelled_callers_are_cancelled() -> None:
    """Cancelling from outside is no error of the provider."""
    work = asyncio.ensure_future(contained(lambda: asyncio.sleep(60), "p"))
    await asyncio.sleep(0.01)

    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work


@pytest.mark.parametrize(
    ("error", "words"),
    [(RateLimitError("slow down"), "slow down"), (OSError("key sk-1"), "OSError")],
    ids=["Gaia's own", "foreign"],
)
def test_foreign_words_are_left_out(error: Exception, words: str) -> None:
    """Only Gaia's own errors are quoted; others may repeat a key."""
    assert words_of(error) == words
