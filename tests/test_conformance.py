"""The conformance suite itself: good providers pass it, bad ones do not."""

import textwrap
from pathlib import Path

import pytest

from gaia_core.testing import FakeProvider
from gaia_core.testing.conformance import ProviderConformance

from .suites import project, verdicts


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
    return project(tmp_path)


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

    found = verdicts(folder, *wanted)

    by_test = {name.partition("[")[0]: verdict for name, verdict in found.items()}
    assert [test for test in wanted if by_test.get(test) != "FAILED"] == []


def test_an_import_that_is_heavy_fails(folder: Path) -> None:
    """A provider whose module loads an SDK does not pass."""
    provider = HEAD.replace("    pass\n", "    pass\n\nimport numpy_like\n")
    (folder / "numpy_like.py").write_text("")
    (folder / "gaia_bad.py").write_text(provider)
    suite = "from gaia_bad import *\n" + SUITE.format(fields="")
    heavy = '    heavy_modules = frozenset({"numpy_like"})\n'
    (folder / "test_heavy.py").write_text(suite + heavy)

    found = verdicts(folder, "test_heavy.py", "-k", "import_is_light")

    assert list(found.values()) == ["FAILED"]


def test_a_test_can_be_excused_but_not_silenced(folder: Path) -> None:
    """A standard test may be marked as failing with a reason, not be replaced."""
    suite = HEAD + SUITE.format(fields="") + OVERRIDDEN + EXCUSED
    (folder / "test_marks.py").write_text(suite)

    found = verdicts(folder, "test_marks.py", "-k", "overridden")

    assert found == {
        "test_marks.py::TestBad::test_no_test_was_overridden": "PASSED",
        "test_marks.py::TestSilenced::test_no_test_was_overridden": "FAILED",
        "test_marks.py::TestExcused::test_no_test_was_overridden": "PASSED",
    }
