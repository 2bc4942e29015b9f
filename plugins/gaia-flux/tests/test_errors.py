"""Whatever goes wrong in a worker, Gaia knows what to make of it."""

import asyncio
import errno

import pytest

from gaia_core import (
    GaiaError,
    ModelError,
    OutcomeClass,
    ProviderError,
    ProviderRequestError,
    ProviderUnavailableError,
)
from gaia_core.testing.contexts import capture_events
from gaia_flux.errors import translated
from gaia_flux.jobs import StoppedError
from gaia_flux.memory import OutOfMemoryError
from gaia_flux.weights import WeightsError
from gaia_flux.wire import error_of, record_of_error
from gaia_flux.workers import WorkerDiedError


class TuningError(ValueError):
    """Stands for the one whose module needs torch."""


class UpscalerError(RuntimeError):
    """Stands for the one whose module needs torch."""


class PictureError(ValueError):
    """Stands for the one whose module needs torch."""


_DIED = WorkerDiedError("It was killed.")
_LOST = RuntimeError("CUDA error: an illegal memory access was encountered")
_UNFORESEEN = IndexError("index 10 is out of bounds")
_REFUSED = WeightsError("a pickle")
_CASES = [
    pytest.param(_REFUSED, ModelError, "A pickle.", id="weights"),
    pytest.param(
        OutOfMemoryError("take a smaller one"), ModelError, "smaller one", id="memory"
    ),
    pytest.param(MemoryError(), ModelError, "memory does not suffice", id="no words"),
    pytest.param(TuningError("no torchao"), ModelError, "No torchao.", id="tuning"),
    pytest.param(UpscalerError("no spandrel"), ModelError, "No sp", id="upscaler"),
    pytest.param(
        PictureError("no picture"), ProviderRequestError, "No picture.", id="picture"
    ),
    pytest.param(
        ModuleNotFoundError("No module named 'peft'", name="peft"),
        ProviderUnavailableError,
        "lacks .*peft",
        id="package",
    ),
    pytest.param(FileNotFoundError("gone"), ModelError, "Pull it again", id="file"),
    pytest.param(
        OSError(errno.ENOSPC, "No space left on device"),
        ProviderUnavailableError,
        "This machine is short of something: .*No space left",
        id="disk full",
    ),
    pytest.param(
        KeyError("latents"),
        ProviderUnavailableError,
        r"not foreseen \(KeyError: 'latents'\).*the log",
        id="unforeseen",
    ),
    pytest.param(
        AssertionError("Torch not compiled with CUDA enabled"),
        ProviderUnavailableError,
        "AssertionError: Torch not compiled",
        id="assertion",
    ),
    pytest.param(
        RuntimeError("CUDA error: launch failure"),
        ProviderUnavailableError,
        "CUDA error: launch failure",
        id="device",
    ),
]


@pytest.mark.parametrize("is_isolated", [False, True], ids=["thread", "process"])
@pytest.mark.parametrize(("error", "kind", "words"), _CASES)
def test_errors_are_translated(
    error: Exception, kind: type[ProviderError], words: str, is_isolated: bool
) -> None:
    """Each error becomes the same one of Gaia's, from a thread and from a process."""
    if is_isolated:
        error = error_of(record_of_error(error))

    with pytest.raises(kind, match=words) as caught, translated():
        raise error

    assert caught.value.__cause__ is error
    assert caught.value.outcome is not OutcomeClass.AMBIGUOUS
    assert kind is ProviderUnavailableError or "Error: " not in str(caught.value)


def test_lines_of_what_nobody_foresaw_are_logged() -> None:
    """Who is on call finds where a library failed; the caller gets a sentence."""
    with (
        capture_events() as events,
        pytest.raises(ProviderUnavailableError),
        translated(),
    ):
        raise _UNFORESEEN

    (event,) = [one for one in events if one["event"] == "gaia.flux_failed"]
    assert event["exc_info"] is _UNFORESEEN


def test_device_that_is_lost_says_who_has_to_begin_anew() -> None:
    """In the host's own process a lost device stays lost until the host restarts."""
    with (
        pytest.raises(ProviderUnavailableError, match="restart this program"),
        translated(),
    ):
        raise _LOST


def test_dead_worker_may_be_asked_again() -> None:
    """A process that died took this picture along, and no other."""
    with (
        pytest.raises(ProviderUnavailableError, match="It was killed") as caught,
        translated(),
    ):
        raise _DIED

    assert caught.value.outcome is OutcomeClass.REJECTED_BUSY


def test_memory_of_torch_is_told_in_a_sentence() -> None:
    """Torch's page about its allocator becomes what a person can do."""
    torch = pytest.importorskip("torch")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(ModelError, match="not even with parts") as caught, translated():
        raise error

    assert "Tried" not in str(caught.value)


def test_failure_lets_others_draw() -> None:
    """Nothing was paid: whatever fails here may be drawn elsewhere."""
    with pytest.raises(ProviderError) as caught, translated():
        raise _REFUSED

    assert caught.value.is_fallback_allowed


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ModelError("known"), id="Gaia's"),
        pytest.param(asyncio.CancelledError(), id="cancelled"),
        pytest.param(KeyboardInterrupt(), id="interrupted"),
    ],
)
def test_rest_is_let_through(error: BaseException) -> None:
    """What is Gaia's already, and what is no failure, goes through unchanged."""
    with pytest.raises(type(error)) as caught, translated():
        raise error

    assert caught.value is error


async def test_stopped_because_nobody_waits_is_cancelled() -> None:
    """A stop that follows a cancellation ends as one."""
    has_begun = asyncio.Event()

    async def work() -> None:
        with translated():
            has_begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise StoppedError from None

    task = asyncio.create_task(work())
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stopped_because_the_host_closed_says_so() -> None:
    """A worker that was closed while somebody waits is a failure, and definite."""
    with pytest.raises(GaiaError, match="closed") as caught, translated():
        raise StoppedError

    assert isinstance(caught.value, ProviderUnavailableError)
