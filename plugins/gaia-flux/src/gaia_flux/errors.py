"""Turn what goes wrong in a worker into the errors Gaia knows; all of it is light."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gaia_core import (
    GaiaError,
    ModelError,
    ProviderError,
    ProviderRequestError,
    ProviderUnavailableError,
)
from gaia_core.observability import get_logger
from gaia_flux.jobs import StoppedError
from gaia_flux.weights import WeightsError
from gaia_flux.workers import WorkerDiedError

_OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "MemoryError"})
_OF_THE_MACHINE = frozenset({"TuningError", "UpscalerError"})
"""
What another request would meet as well: a setting, or a package that is missing.

Their classes stand in modules that need torch, so they are told by name; from another
process they come as the nearest class that is known here, the name before the words.
"""
_LOST = re.compile(
    "(CUDA|HIP)( driver)? error:|CUDNN_STATUS_INTERNAL|device-side assert"
)
_SHORT = re.compile(r"\[Errno (12|23|24|28|122)\]")
"""Memory, open files, disk or quota: nothing that is wrong with a model's files."""


def is_lost(error: BaseException | None) -> bool:
    """
    Tell whether the driver has given a process up.

    After an illegal access every further call fails with the same words, until the
    process is another one. A lack of memory is no such error.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and _LOST.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def translated() -> Iterator[None]:
    """
    Translate errors at the edge of this room.

    Nothing here was paid by anybody, so nothing is in doubt: whatever cannot be drawn
    here may be drawn elsewhere, unless the request itself is wrong.

    Raises:
        CancelledError: If the caller was cancelled.
        ModelError: If the model cannot be used here: weights, memory, settings.
        ProviderRequestError: If the request asks for what there is not.
        ProviderUnavailableError: If the worker or its device failed.
    """
    try:
        yield
    except (GaiaError, asyncio.CancelledError):
        raise
    except StoppedError as error:
        if _is_cancelled():
            raise asyncio.CancelledError from error
        message = "gaia-flux was closed before the picture was finished: ask again."
        raise ProviderUnavailableError(message) from error
    except Exception as error:
        raise _translation(error) from error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _translation(error: Exception) -> ProviderError:
    name = _name_of(error)
    if name in _OUT_OF_MEMORY:
        return ModelError(_out_of_memory(error))
    if name in _OF_THE_MACHINE:
        return ModelError(_sentence(error))
    for kind, make in _TRANSLATIONS.items():
        if isinstance(error, kind):
            return make(error)
    return _unforeseen(error)


def _name_of(error: Exception) -> str:
    """Give the name of an error's class, also of one from another process."""
    return _parts(error)[0] or type(error).__name__


def _parts(error: Exception) -> tuple[str, str]:
    """Take the name of a class off an error's words, where they begin with one."""
    words = " ".join(str(error).split())
    before, colon, after = words.partition(": ")
    if colon and before.isidentifier() and before.endswith("Error"):
        return before, after
    return "", words


def _sentence(error: Exception) -> str:
    """Give an error's words as a sentence, and the type where it has none."""
    words = _parts(error)[1] or type(error).__name__
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!")) else ".")


def _out_of_memory(error: Exception) -> str:
    """Keep the studio's own words, which say what was tried; torch's are a page."""
    if type(error).__module__.partition(".")[0] != "torch" and str(error).strip():
        return _sentence(error)
    return (
        "The device's memory does not suffice for this picture, not even with parts of "
        "the model offloaded: ask for a smaller or for fewer pictures, set "
        'quantisation = "int8", or take a smaller model.'
    )


def _weights(error: Exception) -> ProviderError:
    return ModelError(_sentence(error))


def _died(error: Exception) -> ProviderError:
    return ProviderUnavailableError(_sentence(error), retry_after=1.0)


def _refused(error: Exception) -> ProviderError:
    return ProviderRequestError(_sentence(error))


def _missing(error: Exception) -> ProviderError:
    name = getattr(error, "name", None) or "a package"
    message = f"gaia-flux lacks {name}: install gaia-flux again. {_sentence(error)}"
    return ProviderUnavailableError(message)


def _of_files(error: Exception) -> ProviderError:
    if _SHORT.search(str(error)):
        message = f"This machine is short of something: {_sentence(error)} Ask again."
        return ProviderUnavailableError(message)
    message = f"Files of the model cannot be read: {_sentence(error)} Pull it again."
    return ModelError(message)


def _device(error: Exception) -> ProviderError:
    _log(error)
    hint = "Ask again; `isolated = true` keeps such failures away from the host."
    if is_lost(error):
        hint = (
            "With `isolated = true` the next picture has the device back; without, "
            "restart this program."
        )
    message = f"The device or a library failed: {_sentence(error)} {hint}"
    return ProviderUnavailableError(message)


def _unforeseen(error: Exception) -> ProviderError:
    _log(error)
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    message = (
        f"What happened was not foreseen ({words}): ask again, or take another model; "
        "the log has the lines."
    )
    return ProviderUnavailableError(message)


def _log(error: Exception) -> None:
    """Keep the lines where a library failed: the sentence does not hold them."""
    get_logger(provider="flux").warning("gaia.flux_failed", exc_info=error)


_TRANSLATIONS: dict[type[Exception], Callable[[Exception], ProviderError]] = {
    WeightsError: _weights,
    WorkerDiedError: _died,
    ImportError: _missing,
    OSError: _of_files,
    ValueError: _refused,
    RuntimeError: _device,
}
