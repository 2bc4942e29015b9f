"""Wait for a plugin's hook; whatever it does, an answer or an error comes out."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from gaia_core.errors import GaiaError, PluginError, ProviderError
from gaia_core.observability import mask

if TYPE_CHECKING:
    from gaia_core.plugins import Provider


async def answer_of(
    provider: "Provider", hook: str, *, patience: float | None = None, **arguments: Any
) -> Any:
    """
    Call a hook of a provider and wait for its answer.

    Args:
        provider: Whom to ask.
        hook: The hook's name.
        patience: Longest wait in seconds; None: the caller has its own limit.
        **arguments: What the hook takes.

    Raises:
        TimeoutError: If it takes longer.
        Exception: Whatever the hook raises; a hook that tries to end the process
            or the task it runs in raises `ProviderError`.
    """
    return await contained(
        lambda: provider.call(hook, **arguments), provider.name, patience=patience
    )


async def contained(
    call: Callable[[], Awaitable[Any]], name: str, *, patience: float | None = None
) -> Any:
    """Wait for what a call gives, and keep it from ending more than itself."""
    try:
        async with asyncio.timeout(patience):
            return await _awaitable(call(), name)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        # Exits, cancellations, and what compiled libraries end with (PyO3's
        # PanicException is no Exception).
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        message = f"{name} gave up without an answer ({type(error).__name__})."
        raise ProviderError(message) from error


def words_of(error: BaseException) -> str:
    """
    Say what went wrong.

    Foreign errors are named by their type only: their words may hold a key. In
    Gaia's own, which may quote a vendor, every known secret is masked.
    """
    return mask(str(error)) if isinstance(error, GaiaError) else type(error).__name__


def _awaitable(answer: Awaitable[Any], name: str) -> Awaitable[Any]:
    """Refuse what a hook without ``async`` gives, in words its author understands."""
    if isawaitable(answer):
        return answer
    kind = type(answer).__name__
    message = f"{name} gave {kind} at once: its hook must be `async def`."
    raise PluginError(message)


def _is_cancelled() -> bool:
    """Tell whether somebody outside wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
