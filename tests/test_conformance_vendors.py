"""The conformance suite's tests with a vendor: they tell good clients from bad ones."""

import textwrap
from pathlib import Path

import pytest

from gaia_core.testing.conformance.faults import LOST, REFUSED, SERVED, UNUSABLE
from gaia_core.testing.vendors import Fault

from .suites import project, verdicts

VENDOR_SUITE = """
import asyncio, logging
from pathlib import Path
import attrs, pytest, pytest_asyncio
from gaia_core import *
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.vendors import *


@attrs.define(eq=False, kw_only=True, slots=False)
class Bad(RecoverableVendorProvider):
{body}

class TestBad(ProviderConformance):
    hurry_seconds = {hurry}

    @pytest_asyncio.fixture
    async def vendor(self):
        async with Vendor() as vendor:
            yield vendor

    @pytest.fixture
    def provider(self, vendor, secret):
        return Bad(base_url=vendor.url, api_key=secret)

    @pytest.fixture
    def hurried_provider(self, vendor, secret):
        return Bad(base_url=vendor.url, api_key=secret, timeout=0.5)
"""

BAD_CLIENTS = {
    "test_only_gaia_repeats": """
        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ProviderError:
                return await super()._ask(*arguments)
    """,
    "test_it_tells_what_a_fault_means[drop_after]": """
        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ProviderError as error:
                raise ProviderConnectionError("not charged") from error
    """,
    "test_it_tells_what_a_fault_means[truncated_after]": """
        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ProviderError as error:
                raise OSError("reset") from error
    """,
    "test_it_tells_what_a_fault_means[filtered]": """
        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ContentFilteredError as error:
                raise ProviderError("no") from error
    """,
    "test_it_tells_what_a_fault_means[empty_after]": """
        def _result(self, reply, model):
            if not reply["images"]:
                raise ProviderUnavailableError("no picture")
            return super()._result(reply, model)
    """,
    "test_no_fault_is_paid_twice[drop_after]": """
        @hookimpl
        async def gaia_recover(self, task_id, context):
            return None
    """,
    "test_no_fault_is_paid_twice[hang_after]": """
        @hookimpl
        async def gaia_recover(self, task_id, context):
            raise ProviderError("no idea")
    """,
    "test_no_fault_is_paid_twice[close_1000_after]": """
        is_broken = False

        async def _ask(self, *arguments):
            if self.is_broken:
                raise ProviderUnavailableError("broken for good")
            self.is_broken = True
            result = await super()._ask(*arguments)
            self.is_broken = False
            return result
    """,
    "test_what_is_made_is_kept": """
        def _result(self, reply, model):
            if len(reply["images"]) == 2:
                raise ProviderError("one of them failed")
            return super()._result(reply, model)
    """,
    "test_a_stale_connection_sends_nothing_twice": """
        is_used = False

        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ProviderError:
                if not self.is_used:
                    raise
                return await super()._ask(*arguments)
            finally:
                self.is_used = True
    """,
    "test_it_outlives_a_restart_of_the_vendor": """
        @hookimpl
        async def gaia_generate(self, request, context):
            if getattr(self, "door", None) is None:
                port = int(self.base_url.rpartition(":")[2])
                self.door = await asyncio.open_connection("127.0.0.1", port)
            if self.door[0].at_eof():
                raise ProviderUnavailableError("the door is shut")
            return await super().gaia_generate(request, context)

        @hookimpl
        async def gaia_stop(self):
            if getattr(self, "door", None) is not None:
                self.door[1].close()
            await super().gaia_stop()
    """,
    "test_a_refused_connection_is_free": """
        async def _ask(self, *arguments):
            try:
                return await super()._ask(*arguments)
            except ProviderConnectionError as error:
                raise ProviderError("lost") from error
    """,
    "test_it_does_not_wait_for_ever[slow_after]": """
        def __attrs_post_init__(self):
            self.timeout = None
    """,
    "test_it_does_not_wait_for_a_mute_vendor": """
        @hookimpl
        async def gaia_generate(self, request, context):
            await self._greeted()
            return await super().gaia_generate(request, context)

        async def _greeted(self):
            port = int(self.base_url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v1/models HTTP/1.0\\r\\n\\r\\n")
            await reader.read(1)
            writer.close()
    """,
    "test_fifty_requests_at_once_get_their_own_answers": """
        @hookimpl
        async def gaia_generate(self, request, context):
            self.latest = request
            await asyncio.sleep(0.01)
            return await super().gaia_generate(self.latest, context)
    """,
    "test_it_works_on_one_event_loop_after_another": """
        lock = None

        @hookimpl
        async def gaia_generate(self, request, context):
            self.lock = self.lock or asyncio.Event()
            asyncio.get_running_loop().call_later(0.01, self.lock.set)
            self.lock.clear()
            await self.lock.wait()
            return await super().gaia_generate(request, context)
    """,
    "test_cancelled_calls_leave_nothing_behind": """
        @hookimpl
        async def gaia_generate(self, request, context):
            task = asyncio.create_task(super().gaia_generate(request, context))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self.kept = asyncio.create_task(asyncio.sleep(60))
                raise
    """,
    "test_stopping_leaves_nothing_behind": """
        @hookimpl
        async def gaia_stop(self):
            self.kept, self._session = self._session, None
    """,
    "test_callers_who_leave_give_their_places_back": """
        calls = 0

        @hookimpl
        async def gaia_generate(self, request, context):
            result = await super().gaia_generate(request, context)
            self.calls += 1
            if self.calls == 2:
                self.fifth = asyncio.Event()
                await self.fifth.wait()
            if self.calls == 5:
                self.fifth.set()
            return result
    """,
    "test_it_leaves_the_host_alone": """
        def _client(self):
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            return super()._client()
    """,
    "test_its_key_is_never_told": """
        async def _ask(self, *arguments):
            logging.getLogger("sdk").debug("sent %s", {"key": self.api_key})
            return await super()._ask(*arguments)
    """,
    "test_no_file_is_read_because_a_string_names_it": """
        @hookimpl
        async def gaia_generate(self, request, context):
            seed = request.options_for("vendor").get("seedImage")
            if isinstance(seed, str) and Path(seed).is_file():
                await asyncio.to_thread(Path(seed).read_bytes)
            return await super().gaia_generate(request, context)
    """,
}
"""Test to the body of a provider of a vendor that does not pass it."""

TELLTALES = {
    "in the error": """
        async def _read(self, answer):
            if answer.status != 200:
                raise ProviderError(f"{self.api_key} was refused")
            return await super()._read(answer)
    """,
    "in what caused it": """
        async def _read(self, answer):
            if answer.status != 200:
                raise ProviderError("refused") from KeyError(await answer.text())
            return await super()._read(answer)
    """,
    "in what it shows": """
        def __str__(self):
            return f"a provider with {self.api_key}"
    """,
    "on the screen": """
        async def _read(self, answer):
            print(self.api_key)
            return await super()._read(answer)
    """,
    "in an event": """
        @hookimpl
        async def gaia_generate(self, request, context):
            context.logger.debug("bad.asked", headers={"x": self.api_key})
            return await super().gaia_generate(request, context)
    """,
}
"""Where a key is told to the body of a provider that tells it there."""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder that pytest takes for a project of its own."""
    return project(tmp_path)


def _vendor_suite(body: str, *, hurry: float = 4.0) -> str:
    """Write the suite of a provider; some of the bad ones use all of the time."""
    methods = textwrap.indent(textwrap.dedent(body), "    ")
    return VENDOR_SUITE.format(body=methods, hurry=hurry)


def test_bad_providers_of_vendors_do_not_pass(folder: Path) -> None:
    """Whatever costs money, time or a key fails the test that is about it."""
    wanted = []
    for number, (test, body) in enumerate(BAD_CLIENTS.items()):
        (folder / f"test_client_{number}.py").write_text(_vendor_suite(body))
        wanted.append(f"test_client_{number}.py::TestBad::{test}")

    found = verdicts(folder, *wanted)

    assert [test for test in wanted if found.get(test) != "FAILED"] == []


def test_a_key_is_found_wherever_it_is_told(folder: Path) -> None:
    """Errors, causes, ``repr``, the screen and the log are all searched."""
    test = "test_its_key_is_never_told"
    for number, body in enumerate(TELLTALES.values()):
        (folder / f"test_telltale_{number}.py").write_text(_vendor_suite(body))
    wanted = [f"test_telltale_{n}.py::TestBad::{test}" for n in range(len(TELLTALES))]

    found = verdicts(folder, *wanted)

    assert [test for test in wanted if found.get(test) != "FAILED"] == []


def test_a_good_provider_of_a_vendor_passes(folder: Path) -> None:
    """The provider that the bad ones are made of passes all that they fail."""
    (folder / "test_good.py").write_text(_vendor_suite("pass", hurry=8.0))
    wanted = [f"test_good.py::TestBad::{test}" for test in BAD_CLIENTS]

    found = verdicts(folder, *wanted)

    assert found == dict.fromkeys(wanted, "PASSED")


def test_the_suite_knows_what_each_fault_means() -> None:
    """Every fault is of one kind, and only what comes after the charge is charged."""
    kinds = [set(REFUSED), UNUSABLE, SERVED, LOST]

    assert sorted(fault for kind in kinds for fault in kind) == sorted(Fault)
    assert not any(fault.is_charged for fault in REFUSED)
    assert all(fault.is_charged for fault in UNUSABLE | SERVED)
