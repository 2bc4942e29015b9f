"""The kit that tests of hosts and providers are made of."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog

from gaia_core import (
    Capability,
    DescribeImageRequest,
    EnhancePromptRequest,
    Gaia,
    GenerateRequest,
    Image,
    ModelInfo,
    Outpaint,
    ProviderConnectionError,
    ProviderError,
    RateLimitError,
    RemoveBackgroundRequest,
    StorageError,
    UpscaleRequest,
)
from gaia_core.context import CallContext
from gaia_core.observability import get_logger
from gaia_core.storage import ImageStorage
from gaia_core.testing import (
    FakeProvider,
    MemoryStorage,
    capture_events,
    context,
    jpeg,
    png,
)
from gaia_core.testing.probes import (
    Load,
    everything_logged,
    host_state,
    open_sockets,
    shown_by,
    until,
)
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.watching import opened

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=32)


# -- pictures -----------------------------------------------------------------------


def test_png_is_a_real_picture() -> None:
    """`png` gives a PNG file of the size and colour asked for."""
    picture = Image.from_bytes(png(5, 7, "red")).decode()

    assert (picture.format, picture.size) == ("PNG", (5, 7))
    assert picture.getpixel((4, 6)) == (255, 0, 0)


def test_jpeg_is_a_real_picture() -> None:
    """`jpeg` gives a JPEG file."""
    assert Image.from_bytes(jpeg(16, 8)).media_type == "image/jpeg"


# -- the provider -------------------------------------------------------------------


async def test_fake_provider_draws_what_was_asked() -> None:
    """It gives as many pictures as asked for, of the size asked for."""
    provider = FakeProvider()
    request = GenerateRequest(prompt="a keep", width=48, height=16, num_images=3)

    result = await provider.gaia_generate(request, context())

    sizes = [(image.width, image.height) for image in result.images]
    assert sizes == [(48, 16)] * 3


async def test_fake_provider_is_deterministic() -> None:
    """Prompt and seed decide about every byte."""
    requests = [
        GenerateRequest(prompt=prompt, seed=seed, width=16, height=16)
        for prompt, seed in (("a", 1), ("a", 1), ("a", 2), ("b", 1))
    ]

    results = [await FakeProvider().gaia_generate(r, context()) for r in requests]

    first, again, other_seed, other_prompt = [r.images[0].data for r in results]
    assert first == again
    assert len({first, other_seed, other_prompt}) == 3


async def test_fake_provider_edits() -> None:
    """It repaints the white part of a mask and extends a picture."""
    image = Image.from_bytes(png(20, 16, "red"))
    black = Image.from_bytes(png(20, 16, "black", mode="L"))
    masked = GenerateRequest(
        prompt="fog", image=image, mask_image=black, width=20, height=16
    )
    extended = GenerateRequest(
        prompt="fog", image=image, outpaint=Outpaint(left=12), width=32, height=16
    )

    kept = (await FakeProvider().gaia_generate(masked, context())).images[0]
    wider = (await FakeProvider().gaia_generate(extended, context())).images[0]

    assert kept.image.decode().getpixel((3, 3)) == (255, 0, 0)
    assert wider.image.decode().getpixel((31, 15)) == (255, 0, 0)
    assert wider.image.decode().getpixel((0, 0)) != (255, 0, 0)


async def test_fake_provider_has_the_other_verbs() -> None:
    """It enlarges, cuts out, works prompts out and describes."""
    provider = FakeProvider()
    image = Image.from_bytes(png(8, 6))

    large = await provider.gaia_upscale(UpscaleRequest(image=image), context())
    cut = await provider.gaia_remove_background(
        RemoveBackgroundRequest(image=image), context()
    )
    prompt = await provider.gaia_enhance_prompt(
        EnhancePromptRequest(prompt="a keep"), context()
    )
    words = await provider.gaia_describe_image(
        DescribeImageRequest(image=image), context()
    )

    assert (large.images[0].width, large.images[0].height) == (32, 24)
    assert cut.images[0].image.decode().mode == "RGBA"
    assert prompt.prompt.startswith("a keep")
    assert "8x6" in words.description


async def test_fake_provider_plays_a_script() -> None:
    """Outcomes come one after another; then it draws as usual."""
    provider = FakeProvider(outcomes=[RateLimitError("slow down"), None])

    with pytest.raises(RateLimitError):
        await provider.gaia_generate(DRAGON, context())
    await provider.gaia_generate(DRAGON, context())
    await provider.gaia_generate(DRAGON, context())

    assert provider.requests == [DRAGON] * 3
    assert len(provider.charges) == 2


async def test_fake_provider_can_charge_and_fail() -> None:
    """A lost answer is charged, and found by its task id."""
    provider = FakeProvider.failing(
        OSError("reset"), is_charging_failures=True, is_looking_up=True
    )
    attempt = context()

    with pytest.raises(OSError, match="reset"):
        await provider.gaia_generate(DRAGON, attempt)

    assert provider.charges == [attempt.task_id]
    assert await provider.gaia_recover(attempt.task_id, context()) is not None
    assert await provider.gaia_recover("never seen", context()) is None


def test_captured_events_leave_no_configuration_behind() -> None:
    """After a test has looked at events, the log goes where it went before."""
    before = structlog.is_configured()

    with capture_events() as events:
        get_logger().warning("gaia.example_made")

    assert [one["event"] for one in events] == ["gaia.example_made"]
    assert structlog.is_configured() is before


async def test_fake_provider_cannot_tell_unless_told_to() -> None:
    """Without a record of tasks it says so: the outcome stays unknown."""
    with pytest.raises(ProviderError, match="no record"):
        await FakeProvider().gaia_recover("any", context())


async def test_idempotent_fake_charges_a_task_once() -> None:
    """A task that is sent again costs nothing more."""
    provider, attempt = FakeProvider(is_idempotent=True), context()

    for _ in range(2):
        await provider.gaia_generate(DRAGON, attempt)

    assert provider.charges == [attempt.task_id]


async def test_fake_provider_reports_progress() -> None:
    """Its steps come in order, the last when it is done."""
    seen: list[float] = []
    provider = FakeProvider(steps=(0.25, 0.5, 1.0))

    await provider.gaia_generate(
        DRAGON, context(progress=lambda fraction, _: seen.append(fraction))
    )

    assert seen == [0.25, 0.5, 1.0]


async def test_fake_provider_takes_its_time() -> None:
    """A delay is spent waiting, and can be cut short."""
    provider = FakeProvider(delay=30)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await provider.gaia_generate(DRAGON, context())


async def test_fake_provider_is_what_it_is_told() -> None:
    """Name, rank, capabilities, models and availability come from its fields."""
    model = ModelInfo(
        id="m", name="M", provider="x", capabilities={Capability.UPSCALING}
    )
    provider = FakeProvider(
        name="x",
        priority=7,
        capabilities={Capability.UPSCALING},
        models=[model],
        unavailable="no key",
    )

    info = provider.gaia_provider_info()

    assert (info.name, info.priority) == ("x", 7)
    assert info.capabilities == {Capability.UPSCALING}
    assert info.unavailable == "no key"
    assert await provider.gaia_list_models() == (model,)


# -- context and log ----------------------------------------------------------------


async def test_context_is_ready_for_use() -> None:
    """A context has identifiers of its own, time left, and no network."""
    first, second = context(), context(task_id="mine")

    assert isinstance(first, CallContext)
    assert first.operation_id != second.operation_id
    assert second.task_id == "mine"
    assert first.seconds_left > 1
    with pytest.raises(ProviderConnectionError, match="fetch="):
        await first.fetch("https://example.org/picture.png")


def test_capture_events_catches_the_log() -> None:
    """Events are caught with their fields, and not written."""
    with capture_events() as events:
        get_logger(provider="fake").info("gaia.test_made", number=1)

    assert events == [
        {
            "event": "gaia.test_made",
            "log_level": "info",
            "number": 1,
            "provider": "fake",
        }
    ]


# -- the store ----------------------------------------------------------------------


async def test_memory_storage_keeps_pictures() -> None:
    """A picture can be found, listed and read again."""
    storage: ImageStorage = MemoryStorage()
    image = Image.from_bytes(png())

    stored = await storage.put(
        image, operation_id="o", provider="p", model="m", campaign_id="c"
    )

    assert await storage.get(stored.id) == stored
    assert await storage.read(stored.id) == image.data
    assert await storage.list(campaign_id="c") == [stored]
    assert await storage.list(campaign_id="d") == []
    assert await storage.recover("o") == [stored]
    assert await storage.sweep() == 0


async def test_memory_storage_can_fail() -> None:
    """A test says with what error pictures are refused."""
    storage = MemoryStorage(failure=StorageError("the disk is full"))

    with pytest.raises(StorageError, match="full"):
        await storage.put(
            Image.from_bytes(png()), operation_id="o", provider="p", model="m"
        )
    with pytest.raises(StorageError, match="no picture"):
        await storage.read("nothing")


# -- what can be seen of a process --------------------------------------------------


def _translated(error: Exception, *, cause: Exception | None = None) -> Exception:
    """Make an error that was raised ``from`` a cause, or from None."""
    error.__context__ = KeyError("sk-within")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [
        pytest.param(
            _translated(OSError("no"), cause=OSError("sk-1")), True, id="cause"
        ),
        pytest.param(_translated(OSError("no")), False, id="cut-off"),
        pytest.param(_translated(OSError(5, {"key": "sk-1"})), True, id="arguments"),
        pytest.param(
            ExceptionGroup("two", [OSError("no"), OSError("sk-1")]), True, id="group"
        ),
    ],
)
def test_what_an_error_shows_is_what_a_traceback_shows(
    error: Exception, *, is_shown: bool
) -> None:
    """Causes, arguments and groups are searched; what is cut off is not."""
    assert ("sk-1" in shown_by(error)) is is_shown
    assert ("sk-within" in shown_by(error)) is False


def test_an_error_shows_what_was_going_on_and_what_was_noted() -> None:
    """The error that was handled meanwhile shows, and so do attributes and notes."""
    error = OSError("no")
    error.add_note("sk-noted")
    error.headers = {"key": "sk-kept"}  # type: ignore[attr-defined]
    error.__context__ = KeyError("sk-within")

    shown = shown_by(error)

    assert all(key in shown for key in ("sk-noted", "sk-kept", "sk-within"))


def test_every_logger_is_heard_and_put_back() -> None:
    """Loggers that are silent, alone or off are heard, and then as they were."""
    alone, silent = logging.getLogger("probe.alone"), logging.getLogger("probe.silent")
    alone.propagate = False
    silent.setLevel(logging.CRITICAL)
    before = host_state()

    with everything_logged() as lines:
        alone.debug("one %s", "sk-1")
        silent.info("two")
        logging.getLogger("probe.new").debug("three")
    alone.error("four")

    written = [line for line in lines if line.startswith("probe.")]
    assert written == [
        "probe.alone DEBUG one sk-1",
        "probe.silent INFO two",
        "probe.new DEBUG three",
    ]
    assert host_state() == before


def test_the_state_of_the_host_is_taken_down() -> None:
    """A logger that is made changes nothing; one that is touched does."""
    before = host_state()
    logger = logging.getLogger("probe.touched")
    logger.addHandler(logging.NullHandler())
    after_making = host_state()
    logger.setLevel(logging.ERROR)
    after_touching = host_state()
    logger.setLevel(logging.NOTSET)

    assert after_making == before
    assert set(after_touching) - set(before) == {"logger probe.touched"}


async def test_tasks_and_sockets_are_counted() -> None:
    """What is under way is counted, and seen to end."""
    before = Load.now()

    with socket.socket():
        task = asyncio.create_task(asyncio.Event().wait())
        during = Load.now()
        has_settled = before.has_settled()
    task.cancel()

    assert during.tasks == before.tasks + 1
    assert during.sockets == before.sockets + (1 if open_sockets() else 0)
    assert not has_settled or not open_sockets()
    assert await until(before.has_settled, patience=5.0)
    assert not await until(lambda: False, patience=0.05)


def test_whoever_opens_a_file_is_seen(tmp_path: Path) -> None:
    """A file that is opened in another thread, or in vain, is seen, too."""
    canary = tmp_path / "seen-canary.txt"
    canary.write_text("here")
    reader = threading.Thread(target=canary.read_bytes)

    with opened("seen-canary.txt") as paths:
        reader.start()
        reader.join()
        with pytest.raises(OSError, match="nowhere"):
            Path("nowhere/seen-canary.txt").read_bytes()
        (tmp_path / "other.txt").write_text("")

    assert paths == [str(canary), "nowhere/seen-canary.txt"]


BIRTHS = """
import _thread, operator, signal, sys, threading
from functools import partial
from gaia_core.testing.watching import opened, watched

def begin(*_):
    # What a thread does that begins now, if it is traced.
    sys.settrace(None)

def look():
    traced.append(threading.current_thread().name if sys.gettrace() else "nobody")

threading.settrace(lambda *_: None)
signal.signal(signal.SIGINT, begin)
traced = []
with opened("nothing"), watched():
    during = threading.Thread(target=look, name="during")
    during.start()
    during.join()
# A handler is run in the first line of Python after its signal, in a hook as well.
at_once = partial(_thread.interrupt_main, signal.SIGINT), partial(sys.settrace, None)
list(map(operator.call, at_once))
after = threading.Thread(target=look, name="after")
after.start()
after.join()
print(*traced)
"""


def test_who_watches_kills_no_thread() -> None:
    """A traced thread begins unharmed while another one does, watched or not."""
    done = subprocess.run(
        [sys.executable, "-c", BIRTHS],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["nobody", "after"]


# -- the fixtures -------------------------------------------------------------------


def test_gaia_home_is_empty_and_ours(gaia_home: Path) -> None:
    """Home and current folder are one empty folder, whoever runs the test."""
    assert Path.home() == gaia_home
    assert Path.cwd() == gaia_home
    assert list(gaia_home.iterdir()) == []
    assert [name for name in os.environ if name.startswith("GAIA_")] == []


async def test_gaia_draws_at_once(gaia: Gaia, gaia_home: Path) -> None:
    """The fixture `gaia` serves requests from a `FakeProvider`."""
    response = await gaia.generate(DRAGON)

    assert response.provider == "fake"
    assert response.images[0].path.is_relative_to(gaia_home)


async def test_open_gaia_takes_providers_and_settings(open_gaia: OpenGaia) -> None:
    """Providers, settings and parts are a test's own choice."""
    storage = MemoryStorage()
    cheap = FakeProvider(name="cheap", price_usd="0.01")
    dear = FakeProvider(name="dear", price_usd="0.10", priority=5)

    async with open_gaia(cheap, dear, storage=storage, policy="cheapest") as gaia:
        response = await gaia.generate(DRAGON)

    assert list(gaia.plugins.providers) == ["dear", "cheap"]
    assert response.provider == "cheap"
    assert storage.images == list(response.images)


@pytest.mark.parametrize("module", ["gaia_core.testing", "gaia_core.testing.providers"])
def test_the_kit_does_without_pytest(module: str) -> None:
    """Importing the kit loads neither pytest nor anything heavy."""
    code = (
        f"import sys, {module}; "
        "print([m for m in ('pytest', 'PIL', 'structlog', 'aiohttp') "
        "if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
