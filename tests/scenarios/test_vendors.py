"""The vendor for tests keeps an honest book and fails as it is told."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

from gaia_core import (
    AuthenticationError,
    Capability,
    ContentFilteredError,
    GenerateRequest,
    HealthLevel,
    Image,
    ModelError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    RemoveBackgroundRequest,
    UnusableResultError,
    UpscaleRequest,
)
from gaia_core.plugins import load_plugins
from gaia_core.settings import Settings
from gaia_core.testing import context, png
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.vendors import (
    Fault,
    Faults,
    Job,
    Made,
    RecoverableVendorProvider,
    Vendor,
    VendorProcess,
    VendorProvider,
    plugin_folder,
)
from gaia_core.testing.vendors.charges import read_book
from gaia_core.testing.vendors.errors import refused
from tests.waiting import let_pass

from .worlds import until

KEEP = GenerateRequest(prompt="a ruined keep", width=16, height=16, model="vendor-1")
GAIA = [sys.executable, "-m", "gaia_core.cli"]
TASK = "5f0c1b0e-0000-4000-8000-000000000001"

OUTCOMES = {
    Fault.DROP_BEFORE: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.DROP_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.TRUNCATED_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.HANG_BEFORE: (ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    Fault.HANG_AFTER: (ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    Fault.SLOW_AFTER: (ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    Fault.LATE_AFTER: (ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    Fault.CLOSE_1000_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.CLOSE_1001_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.CLOSE_1011_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.UNNAMED_ERROR: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.BUSY: (RateLimitError, OutcomeClass.REJECTED_BUSY),
    Fault.UNAVAILABLE: (ProviderUnavailableError, OutcomeClass.REJECTED_BUSY),
    Fault.ERROR_BEFORE: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.ERROR_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.BAD_GATEWAY_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.GATEWAY_TIMEOUT_AFTER: (ProviderError, OutcomeClass.AMBIGUOUS),
    Fault.BAD_REQUEST: (ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    Fault.FILTERED: (ContentFilteredError, OutcomeClass.REJECTED_FINAL),
    Fault.UNAUTHORISED: (AuthenticationError, OutcomeClass.REJECTED_AUTH),
    Fault.NO_CREDIT: (QuotaExceededError, OutcomeClass.REJECTED_AUTH),
    Fault.NO_MODEL: (ModelError, OutcomeClass.REJECTED_FINAL),
    Fault.BAD_IMAGE_AFTER: (UnusableResultError, OutcomeClass.UNUSABLE),
}
"""What the provider must make of each fault; without a picture is the core's."""


class TestConformance(ProviderConformance):
    """The provider of the vendor passes what every provider passes."""

    @pytest.fixture
    async def vendor(self) -> AsyncIterator[Vendor]:
        """Give the vendor."""
        async with Vendor() as vendor:
            yield vendor

    @pytest.fixture
    def provider(self, vendor: Vendor, secret: str) -> RecoverableVendorProvider:
        """Give a provider whose vendor is there."""
        return RecoverableVendorProvider(base_url=vendor.url, api_key=secret)

    @pytest.fixture
    def hurried_provider(
        self, vendor: Vendor, secret: str
    ) -> RecoverableVendorProvider:
        """Give one that does not wait for long."""
        return RecoverableVendorProvider(
            base_url=vendor.url, api_key=secret, timeout=1.0
        )


class TestConformanceWithoutLookup(TestConformance):
    """The one that cannot look lost answers up passes it, too."""

    @pytest.fixture
    def provider(self, vendor: Vendor, secret: str) -> VendorProvider:
        """Give a provider whose vendor is there."""
        return VendorProvider(base_url=vendor.url, api_key=secret)

    @pytest.fixture
    def hurried_provider(self, vendor: Vendor, secret: str) -> VendorProvider:
        """Give one that does not wait for long."""
        return VendorProvider(base_url=vendor.url, api_key=secret, timeout=1.0)


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[Vendor]:
    async with Vendor() as vendor:
        yield vendor


@pytest.fixture(name="provider")
async def _provider(vendor: Vendor) -> AsyncIterator[RecoverableVendorProvider]:
    provider = RecoverableVendorProvider(base_url=vendor.url)
    yield provider
    await provider.gaia_stop()


async def test_what_it_makes_is_charged_once(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """A request is answered with a real picture, and is in the book once."""
    result = await provider.gaia_generate(KEEP, context(task_id=TASK))

    assert (result.images[0].width, result.images[0].height) == (16, 16)
    assert result.cost_usd == vendor.total_usd == Decimal("0.04")
    assert vendor.charged(TASK) == vendor.requests_of(TASK) == vendor.requests == 1
    assert vendor.charges[0].prompt == "a ruined keep"
    assert vendor.double_charges() == {}


async def test_each_picture_is_charged(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """Three pictures cost three times as much, and differ."""
    request = GenerateRequest(prompt="a keep", width=16, height=16, num_images=3)

    result = await provider.gaia_generate(request, context())

    assert len({image.data for image in result.images}) == 3
    assert vendor.total_usd == Decimal("0.12")


async def test_pictures_are_enlarged_and_cut_out(provider: VendorProvider) -> None:
    """The other two works are real, too."""
    picture = Image.from_bytes(png(16, 16))

    large = await provider.gaia_upscale(
        UpscaleRequest(image=picture, upscale_factor=2), context()
    )
    cut = await provider.gaia_remove_background(
        RemoveBackgroundRequest(image=picture), context()
    )

    assert large.images[0].width == 32
    assert cut.images[0].image.decode().mode == "RGBA"


async def test_the_same_task_is_charged_again(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """A vendor that promises nothing charges a task id as often as it is sent."""
    for _ in range(3):
        await provider.gaia_generate(KEEP, context(task_id=TASK))

    assert vendor.charged(TASK) == vendor.requests_of(TASK) == 3
    assert vendor.double_charges() == {TASK: 3}


async def test_an_idempotent_vendor_charges_once() -> None:
    """A vendor that promises to tell tasks apart answers twice and charges once."""
    async with Vendor(is_idempotent=True, delay=0.02) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        calls = [provider.gaia_generate(KEEP, context(task_id=TASK)) for _ in range(3)]
        results = await asyncio.gather(*calls)
        await provider.gaia_stop()

    assert len({result.images[0].data for result in results}) == 1
    assert vendor.requests_of(TASK) == 3
    assert vendor.charged(TASK) == 1


@pytest.mark.parametrize("fault", OUTCOMES, ids=str)
async def test_faults_do_what_they_say(
    vendor: Vendor, provider: VendorProvider, fault: Fault
) -> None:
    """Each fault charges or not, and is translated as the contract demands."""
    vendor.inject(Faults(script=[fault]))
    kind, outcome = OUTCOMES[fault]
    if kind is ProviderTimeoutError:
        provider.timeout = 0.3

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context(task_id=TASK))

    assert type(caught.value) is kind
    assert caught.value.outcome is outcome
    assert vendor.charged(TASK) == fault.is_charged
    assert vendor.arrivals[0].fault is fault


def test_every_fault_is_tried() -> None:
    """No fault is left out; an answer with too few pictures is no provider's error."""
    assert set(Fault) - set(OUTCOMES) == {Fault.EMPTY_AFTER, Fault.PARTIAL_AFTER}


def test_every_fault_says_what_it_does() -> None:
    """Only what comes after the charge is charged, and closes a WebSocket."""
    codes = {fault: fault.close_code for fault in Fault if fault.close_code}

    assert list(codes.values()) == [1000, 1001, 1011]
    assert all(fault.is_charged and fault.status is None for fault in codes)


async def test_some_of_the_pictures_are_answered_and_charged(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """What is made is charged and answered, what is not made is neither."""
    vendor.inject(Faults(rates={Fault.PARTIAL_AFTER: 1}))

    three = await provider.gaia_generate(attrs.evolve(KEEP, num_images=3), context())
    one = await provider.gaia_generate(KEEP, context())

    assert [len(three.images), len(one.images)] == [2, 1]
    assert [str(charge.amount_usd) for charge in vendor.charges] == ["0.08", "0.04"]


async def test_a_late_answer_is_a_whole_one(vendor: Vendor) -> None:
    """Who is more patient than the vendor is late gets the picture."""
    vendor.inject(Faults(script=[Fault.LATE_AFTER], late_seconds=0.1))
    provider = VendorProvider(base_url=vendor.url)

    result = await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()

    assert result.images[0].image.decode().size == (16, 16)


async def test_it_keeps_the_latest_requests(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """What came in can be searched as it came, but not all of it for ever."""
    for number in range(70):
        vendor.inject(Faults(script=[Fault.BAD_REQUEST]))
        with pytest.raises(ProviderRequestError):
            await provider.gaia_generate(
                attrs.evolve(KEEP, prompt=f"keep {number}"), context()
            )

    assert len(vendor.bodies) == 64
    assert b'"keep 69"' in vendor.bodies[-1]


async def test_who_gives_up_leaves_no_traceback(
    vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is gone before the answer begins is no error of the vendor's."""
    vendor.delay = 60
    vendor.inject(Faults(script=[Fault.SLOW_AFTER], slow_seconds=0.0))
    provider = VendorProvider(base_url=vendor.url, timeout=30)

    asking = asyncio.create_task(provider.gaia_generate(KEEP, context(task_id=TASK)))
    await until(lambda: vendor.requests == 1)
    let_pass(31)
    with pytest.raises(ProviderTimeoutError):
        await asking
    await provider.gaia_stop()
    vendor.finish_work()
    await until(lambda: vendor.charged(TASK) == 1)
    await asyncio.sleep(0.05)

    assert caplog.messages == []


async def test_an_empty_answer_is_charged(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """An answer without a picture is an answer, and is paid for."""
    vendor.inject(Faults(script=[Fault.EMPTY_AFTER]))

    result = await provider.gaia_generate(KEEP, context(task_id=TASK))

    assert result.images == ()
    assert vendor.charged(TASK) == 1


async def test_a_slow_answer_comes_in_the_end(vendor: Vendor) -> None:
    """Who waits long enough gets a slow answer whole."""
    vendor.inject(Faults(script=[Fault.SLOW_AFTER], slow_seconds=0.2))
    provider = VendorProvider(base_url=vendor.url)

    result = await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()

    assert result.images[0].image.decode().size == (16, 16)


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.UNAVAILABLE], ids=str)
async def test_retry_after_arrives(
    vendor: Vendor, provider: VendorProvider, fault: Fault
) -> None:
    """The wait a vendor asks for is in the error."""
    vendor.inject(Faults(script=[fault], retry_after=3))

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())

    assert caught.value.retry_after == 3.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("-7", 0.0, id="below-zero"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 0.0, id="date-gone-by"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_read(value: str, expected: float | None) -> None:
    """Seconds and dates are both understood, anything else is no wait."""
    error = refused("vendor", 429, "", {"Retry-After": value})

    assert error.retry_after == expected


@pytest.mark.parametrize("status", [408, 500, 502, 504, 520, 524])
def test_what_may_be_charged_is_ambiguous(status: int) -> None:
    """No status that leaves the charge open is taken for a refusal."""
    assert refused("vendor", status, "", {}).outcome is OutcomeClass.AMBIGUOUS


async def test_a_closed_vendor_refuses_connections(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """While it is closed nobody gets in; then it is back at the same address."""
    await provider.gaia_generate(KEEP, context())

    async with vendor.closed():
        with pytest.raises(ProviderConnectionError):
            await provider.gaia_generate(KEEP, context())
    await provider.gaia_generate(KEEP, context())

    assert vendor.requests == len(vendor.charges) == 2


async def test_faults_can_be_healed(vendor: Vendor, provider: VendorProvider) -> None:
    """What goes wrong can be changed while it serves."""
    vendor.inject(Faults(rates={Fault.UNAVAILABLE: 1}))
    with pytest.raises(ProviderUnavailableError):
        await provider.gaia_generate(KEEP, context())

    vendor.inject(Faults())
    await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 2


def test_shares_of_faults_are_kept() -> None:
    """Ten thousand requests hold each fault about as often as was asked for."""
    faults = Faults(rates={Fault.BUSY: 0.2, Fault.DROP_AFTER: 0.1}, seed=7)

    drawn = Counter(faults.drawn(n, f"keep {n}", 0) for n in range(10_000))

    assert 1_880 < drawn[Fault.BUSY] < 2_120
    assert 910 < drawn[Fault.DROP_AFTER] < 1_090
    assert drawn.total() == drawn[None] + drawn[Fault.BUSY] + drawn[Fault.DROP_AFTER]


async def test_the_same_requests_go_wrong_in_any_order() -> None:
    """What goes wrong hangs on the request, not on when it comes."""
    faults = Faults(rates={Fault.BAD_REQUEST: 0.5}, seed=3)
    prompts = [f"keep {number}" for number in range(20)] * 2

    forth = await _spoiled(faults, prompts)
    back = await _spoiled(faults, prompts[::-1])

    assert forth == back
    assert 10 < forth.total() < 30


def test_impossible_shares_are_refused() -> None:
    """More than all requests cannot go wrong."""
    with pytest.raises(ValueError, match="shares of 1"):
        Faults(rates={Fault.BUSY: 0.6, Fault.DROP_AFTER: 0.6})


async def test_a_lost_answer_can_be_looked_up(
    vendor: Vendor, provider: RecoverableVendorProvider
) -> None:
    """What was charged and lost is found by its task id, free of charge."""
    vendor.inject(Faults(script=[Fault.DROP_AFTER]))
    with pytest.raises(ProviderError):
        await provider.gaia_generate(KEEP, context(task_id=TASK))

    found = await provider.gaia_recover(TASK, context(task_id=TASK))

    assert found is not None
    assert found.images[0].width == 16
    assert vendor.requests == len(vendor.charges) == 1


async def test_a_task_never_seen_is_not_found(
    provider: RecoverableVendorProvider,
) -> None:
    """A vendor that never saw a task says so."""
    assert await provider.gaia_recover(TASK, context(task_id=TASK)) is None


async def test_a_vendor_without_lookup_never_says_never(vendor: Vendor) -> None:
    """Where nothing can be looked up, nothing is known, least of all that it is not."""
    vendor.has_lookup = False
    provider = RecoverableVendorProvider(base_url=vendor.url)

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_recover(TASK, context(task_id=TASK))
    await provider.gaia_stop()

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


def test_only_one_of_the_providers_recovers() -> None:
    """The provider without look-up does not have the hook at all."""
    plain = VendorProvider(base_url="http://127.0.0.1:1", name="plain")
    able = RecoverableVendorProvider(base_url="http://127.0.0.1:1", name="able")

    loaded = load_plugins(Settings(), extra=[plain, able], entry_points=())

    implementing = {
        name: provider.implements("gaia_recover")
        for name, provider in loaded.providers.items()
    }
    assert implementing == {"plain": False, "able": True}


async def test_health_costs_nothing(vendor: Vendor, provider: VendorProvider) -> None:
    """A health check asks for what is free, and sees an outage."""
    well = await provider.gaia_check_health(HealthLevel.REACHABLE)
    async with vendor.closed():
        ill = await provider.gaia_check_health(HealthLevel.REACHABLE)

    assert (well.is_healthy, ill.is_healthy) == (True, False)
    assert vendor.requests == 0


async def test_work_goes_on_when_nobody_waits(vendor: Vendor) -> None:
    """A client that goes away is charged all the same, as at any vendor."""
    vendor.delay = 60
    provider = VendorProvider(base_url=vendor.url, timeout=30)

    asking = asyncio.create_task(provider.gaia_generate(KEEP, context(task_id=TASK)))
    await until(lambda: vendor.requests == 1)
    let_pass(31)
    with pytest.raises(ProviderTimeoutError):
        await asking
    await provider.gaia_stop()
    vendor.finish_work()
    await until(lambda: vendor.charged(TASK) == 1)

    assert vendor.requests == 1


async def test_it_counts_what_comes_at_once(vendor: Vendor) -> None:
    """The most requests at the same time are known."""
    vendor.delay = 60
    provider = VendorProvider(base_url=vendor.url)

    calls = [provider.gaia_generate(KEEP, context()) for _ in range(10)]
    asking = asyncio.gather(*calls)
    await until(lambda: vendor.requests == 10)
    vendor.finish_work()
    await asking
    await provider.gaia_stop()

    assert vendor.most_at_once == 10


async def test_nonsense_is_refused_for_nothing(
    vendor: Vendor, provider: VendorProvider
) -> None:
    """What cannot be made is refused with a reason and not charged."""
    with pytest.raises(ProviderRequestError):
        await provider._ask("upscale", {"image": "AAAA"}, KEEP, context())

    assert vendor.charges == []


class HelloVendor(Vendor):
    """A vendor that speaks another form."""

    def routes(self) -> Sequence[web.RouteDef]:
        """Take requests elsewhere."""
        return [web.post("/images", self.work(self.read))]

    def read(self, payload: Mapping[str, Any]) -> Job:
        """Read other names."""
        return Job(
            task_id=payload["id"], prompt=payload["text"], make=lambda: [png(16, 16)]
        )

    def reply(self, made: Made) -> Any:
        """Answer with other names."""
        return {"data": [base64.b64encode(image).decode() for image in made.images]}


async def test_another_form_has_the_same_book_and_faults() -> None:
    """A stand-in for a vendor with a form of its own says only what differs."""
    order = {"id": TASK, "text": "a ruined keep"}
    async with (
        HelloVendor(faults=Faults(script=[Fault.ERROR_AFTER])) as vendor,
        ClientSession(vendor.url) as client,
    ):
        async with client.post("/images", json=order) as failed:
            status = failed.status
        async with client.post("/images", json=order) as answered:
            reply = await answered.json()
        async with client.post("/images", json={"id": TASK}) as refused_one:
            refusal = refused_one.status

    assert (status, refusal) == (500, 400)
    assert base64.b64decode(reply["data"][0]) == png(16, 16)
    assert vendor.double_charges() == {TASK: 2}
    assert vendor.arrivals[0].prompt == "a ruined keep"


# -- as a process -----------------------------------------------------------------


async def test_a_vendor_process_outlives_its_client(tmp_path: Path) -> None:
    """Its book is on disk, and goes on after it was started again."""
    vendor = VendorProcess(
        path=tmp_path / "book.jsonl", faults=Faults(script=[Fault.DROP_AFTER])
    )
    with vendor:
        provider = RecoverableVendorProvider(base_url=vendor.url)
        with pytest.raises(ProviderError):
            await provider.gaia_generate(KEEP, context(task_id=TASK))
        found = await provider.gaia_recover(TASK, context(task_id=TASK))
    await provider.gaia_stop()
    vendor.faults = Faults()
    with vendor:
        await provider.gaia_generate(KEEP, context(task_id="two"))
    await provider.gaia_stop()

    assert found is not None
    assert [charge.task_id for charge in vendor.charges] == [TASK, "two"]
    assert vendor.arrivals[0].fault is Fault.DROP_AFTER
    assert vendor.total_usd == Decimal("0.08")


def test_a_vendor_process_says_when_it_cannot_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A vendor that cannot start is no vendor."""
    vendor = VendorProcess(path=tmp_path / "no" / "folder" / "book.jsonl")

    with pytest.raises(RuntimeError, match="did not start"):
        vendor.start()

    assert "FileNotFoundError" in capfd.readouterr().err


def test_a_vendor_process_ends_with_who_started_it(tmp_path: Path) -> None:
    """A test that is killed leaves no vendor behind."""
    script = (
        "import sys, time; from pathlib import Path;"
        "from gaia_core.testing.vendors import VendorProcess;"
        "vendor = VendorProcess(path=Path(sys.argv[1]));"
        "vendor.start(); print(vendor._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "book.jsonl")],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())

        parent.send_signal(signal.SIGKILL)

    assert _has_ended(pid)


def test_half_a_line_is_no_charge(tmp_path: Path) -> None:
    """A line that is still being written is read the next time."""
    path = tmp_path / "book.jsonl"
    line = '{"charge": {"task_id": "one", "amount_usd": "0.04", "at": 1}}\n'
    path.write_text(line + line[:20])

    charges, arrivals = read_book(path)

    assert [charge.task_id for charge in charges] == ["one"]
    assert arrivals == []


def test_the_plugin_is_found_by_another_process(tmp_path: Path) -> None:
    """A folder on the path brings the provider as if it were installed."""
    path = tmp_path / "keep.png"
    with VendorProcess(path=tmp_path / "book.jsonl") as vendor:
        folder = plugin_folder(
            tmp_path / "plugins", base_url=vendor.url, name="shop", priority=99
        )
        made = subprocess.run(
            [*GAIA, "generate", "a keep", "--size", "16", "-o", str(path)],
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            check=False,
        )

    assert made.returncode == 0, made.stderr
    assert Image.from_bytes(path.read_bytes()).width == 16
    assert [charge.prompt for charge in vendor.charges] == ["a keep"]


def test_capabilities_are_those_that_cost() -> None:
    """It offers the three works the vendor has."""
    info = VendorProvider(base_url="http://127.0.0.1:1").gaia_provider_info()

    assert info.capabilities == {
        Capability.TEXT_TO_IMAGE,
        Capability.UPSCALING,
        Capability.BACKGROUND_REMOVAL,
    }


async def _spoiled(faults: Faults, prompts: list[str]) -> Counter[str]:
    """Ask for everything once, and count what went wrong by prompt."""
    async with Vendor(faults=faults) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        for prompt in prompts:
            with suppress(ProviderRequestError):
                await provider.gaia_generate(
                    attrs.evolve(KEEP, prompt=prompt), context()
                )
        await provider.gaia_stop()
    return Counter(one.prompt for one in vendor.arrivals if one.fault)


def _has_ended(pid: int) -> bool:
    """Wait until a process is gone, or is only a name that nobody reaped."""
    status = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not status.exists() or status.read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False
