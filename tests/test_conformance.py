"""The conformance suite itself: good providers pass it, bad ones do not."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gaia_core.testing import FakeProvider
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.conformance.faults import LOST, REFUSED, SERVED, UNUSABLE
from gaia_core.testing.vendors import Fault


class TestFakeProvider(ProviderConformance):
    """The fake keeps the contract it is used to test hosts against."""

    @pytest.fixture
    def provider(self) -> FakeProvider:
        """Give a fake that can do everything."""
        return FakeProvider(is_looking_up=True)


# -- bad providers ------------------------------------------------------------------

HEAD = """
import asyncio, time
import attrs, pytest
from gaia_core import *
from gaia_core.testing import FakeProvider, png
from gaia_core.testing.conformance import ProviderConformance


def picture(**fields):
    images = [GeneratedImage(data=png(256, 256))]
    answer = {"images": images, "provider": "fake", "model": "fake"}
    return ImageResult(**answer | fields)


class Bad(FakeProvider):
    pass
"""

SUITE = """
class TestBad(ProviderConformance):
    @pytest.fixture
    def provider(self):
        return Bad({fields})
"""

BAD_FIELDS = {
    "test_its_name_can_be_typed": "name='Fancy'",
    "test_its_card_says_what_it_can_do": "unavailable=' '",
    "test_every_capability_has_a_model": (
        "models=[ModelInfo(id='m', name='m', provider='fake', "
        "capabilities={Capability.UPSCALING})]"
    ),
    "test_its_models_are_sound": (
        "models=[ModelInfo(id='m', name='m', provider='fake', aliases=['m'], "
        "capabilities={Capability.TEXT_TO_IMAGE})]"
    ),
    "test_it_generates_what_was_asked": "outcomes=[picture(provider='other')]",
    "test_it_generates_several": "outcomes=[picture()]",
    "test_its_seed_repeats_a_picture": "outcomes=[picture()]",
    "test_it_starts_from_a_picture": "outcomes=['no result']",
    "test_it_cuts_out": "outcomes=[picture()]",
    "test_it_copes_with_odd_prompts": "failure=OSError('reset')",
    "test_it_copes_with_unknown_options": "failure=KeyError('option')",
    "test_it_reports_progress_in_order": "steps=(0.5, 50.0, 0.7)",
    "test_it_works_on_two_requests_at_once": "outcomes=[None, 'no result']",
}
"""Test to the fields of a fake that does not pass it."""

BAD_METHODS = {
    "test_it_can_be_registered": """
        @hookimpl
        async def gaia_generat(self, request, context):
            return picture()
    """,
    "test_it_has_a_hook_for_every_capability": "gaia_upscale = None",
    "test_it_is_hashable": "__hash__ = None",
    "test_it_speaks_this_contract": """
        @hookimpl
        def gaia_provider_info(self):
            return ProviderInfo(name="fake", capabilities=(), contract=2)
    """,
    "test_its_card_is_cheap": """
        @hookimpl
        def gaia_provider_info(self):
            open(__file__).close()
            return super().gaia_provider_info()
    """,
    "test_its_card_is_steady": """
        @hookimpl
        def gaia_provider_info(self):
            self.priority += 1
            return super().gaia_provider_info()
    """,
    "test_its_secrets_stay_secret": """
        api_key = "sk-123"

        def __repr__(self):
            return f"Bad({self.api_key})"

        def __init__(self):
            super().__init__()
            self.api_key = "sk-123"
    """,
    "test_it_can_be_cancelled": """
        @hookimpl
        async def gaia_generate(self, request, context):
            try:
                await asyncio.sleep(9)
            except BaseException:
                raise OSError("reset")
    """,
    "test_it_lets_others_work": """
        @hookimpl
        async def gaia_generate(self, request, context):
            time.sleep(1.2)
            return picture()
    """,
    "test_it_starts_and_stops_twice": """
        @hookimpl
        async def gaia_stop(self):
            del self.pool
    """,
    "test_its_settings_can_be_checked_offline": """
        @hookimpl
        async def gaia_check_health(self, level):
            await asyncio.open_connection("127.0.0.1", 9)
    """,
    "test_it_recovers_nothing_it_never_saw": """
        @hookimpl
        async def gaia_recover(self, task_id, context):
            return picture()
    """,
}
"""Test to the body of a provider that does not pass it."""

# -- bad providers of vendors -------------------------------------------------------

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
    hurry_seconds = 8.0

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

OVERRIDDEN = """
class TestSilenced(TestBad):
    def test_its_card_is_steady(self):
        pass
"""

EXCUSED = """
class TestExcused(TestBad):
    @pytest.mark.xfail(reason="the vendor counts")
    def test_its_card_is_steady(self, bench):
        super().test_its_card_is_steady(bench)
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder that pytest takes for a project of its own."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    return tmp_path


def _verdicts(folder: Path, *tests: str) -> dict[str, str]:
    """Run some tests of a folder in a process of their own; test to its verdict."""
    options = ["-q", "-rA", "--tb=no", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(
        [*command, *tests], cwd=folder, capture_output=True, text=True, check=False
    )
    lines = (line.split(" - ")[0].split(" ", 1) for line in done.stdout.splitlines())
    verdicts = ("PASSED", "FAILED", "ERROR", "XFAIL", "SKIPPED")
    found = {line[1]: line[0] for line in lines if line[0] in verdicts}
    assert found, done.stdout + done.stderr
    return found


def test_bad_providers_do_not_pass(folder: Path) -> None:
    """Each promise of the contract, broken, fails the test that is about it."""
    wanted = []
    for number, (test, fields) in enumerate(BAD_FIELDS.items()):
        suite = HEAD + SUITE.format(fields=fields)
        (folder / f"test_fields_{number}.py").write_text(suite)
        wanted.append(f"test_fields_{number}.py::TestBad::{test}")
    for number, (test, body) in enumerate(BAD_METHODS.items()):
        methods = textwrap.indent(textwrap.dedent(body), "    ")
        suite = HEAD.replace("    pass\n", methods) + SUITE.format(fields="")
        (folder / f"test_methods_{number}.py").write_text(suite)
        wanted.append(f"test_methods_{number}.py::TestBad::{test}")

    verdicts = _verdicts(folder, *wanted)

    by_test = {name.partition("[")[0]: verdict for name, verdict in verdicts.items()}
    assert [test for test in wanted if by_test.get(test) != "FAILED"] == []


def _vendor_suite(body: str) -> str:
    methods = textwrap.indent(textwrap.dedent(body), "    ")
    return VENDOR_SUITE.format(body=methods)


def test_bad_providers_of_vendors_do_not_pass(folder: Path) -> None:
    """Whatever costs money, time or a key fails the test that is about it."""
    wanted = []
    for number, (test, body) in enumerate(BAD_CLIENTS.items()):
        (folder / f"test_client_{number}.py").write_text(_vendor_suite(body))
        wanted.append(f"test_client_{number}.py::TestBad::{test}")

    verdicts = _verdicts(folder, *wanted)

    assert [test for test in wanted if verdicts.get(test) != "FAILED"] == []


def test_a_key_is_found_wherever_it_is_told(folder: Path) -> None:
    """Errors, causes, ``repr``, the screen and the log are all searched."""
    test = "test_its_key_is_never_told"
    for number, body in enumerate(TELLTALES.values()):
        (folder / f"test_telltale_{number}.py").write_text(_vendor_suite(body))
    wanted = [f"test_telltale_{n}.py::TestBad::{test}" for n in range(len(TELLTALES))]

    verdicts = _verdicts(folder, *wanted)

    assert [test for test in wanted if verdicts.get(test) != "FAILED"] == []


def test_a_good_provider_of_a_vendor_passes(folder: Path) -> None:
    """The provider that the bad ones are made of passes all that they fail."""
    (folder / "test_good.py").write_text(_vendor_suite("pass"))
    wanted = [f"test_good.py::TestBad::{test}" for test in BAD_CLIENTS]

    verdicts = _verdicts(folder, *wanted)

    assert verdicts == dict.fromkeys(wanted, "PASSED")


def test_the_suite_knows_what_each_fault_means() -> None:
    """Every fault is of one kind, and only what comes after the charge is charged."""
    kinds = [set(REFUSED), UNUSABLE, SERVED, LOST]

    assert sorted(fault for kind in kinds for fault in kind) == sorted(Fault)
    assert not any(fault.is_charged for fault in REFUSED)
    assert all(fault.is_charged for fault in UNUSABLE | SERVED)


def test_an_import_that_is_heavy_fails(folder: Path) -> None:
    """A provider whose module loads an SDK does not pass."""
    provider = HEAD.replace("    pass\n", "    pass\n\nimport numpy_like\n")
    (folder / "numpy_like.py").write_text("")
    (folder / "gaia_bad.py").write_text(provider)
    suite = "from gaia_bad import *\n" + SUITE.format(fields="")
    heavy = '    heavy_modules = frozenset({"numpy_like"})\n'
    (folder / "test_heavy.py").write_text(suite + heavy)

    verdicts = _verdicts(folder, "test_heavy.py", "-k", "import_is_light")

    assert list(verdicts.values()) == ["FAILED"]


def test_a_test_can_be_excused_but_not_silenced(folder: Path) -> None:
    """A standard test may be marked as failing with a reason, not be replaced."""
    suite = HEAD + SUITE.format(fields="") + OVERRIDDEN + EXCUSED
    (folder / "test_marks.py").write_text(suite)

    verdicts = _verdicts(folder, "test_marks.py", "-k", "overridden")

    assert verdicts == {
        "test_marks.py::TestBad::test_no_test_was_overridden": "PASSED",
        "test_marks.py::TestSilenced::test_no_test_was_overridden": "FAILED",
        "test_marks.py::TestExcused::test_no_test_was_overridden": "PASSED",
    }
