# ruff: noqa: S101 - these are tests, although no folder says so
"""
The tests every provider passes.

Subclass `ProviderConformance` in the provider's own tests::

    class TestConformance(ProviderConformance):
        @pytest.fixture
        def provider(self) -> HelloProvider:
            return HelloProvider(api_key="sk-test", base_url=stand_in.url)

Tests ask for capabilities, not for names: a test about something the provider
does not declare is skipped.

A provider for a vendor gives a stand-in, too, and is tried with all that can go
wrong between the two::

    class TestConformance(ProviderConformance):
        @pytest.fixture
        async def vendor(self):
            async with HelloVendor() as vendor:
                yield vendor

        @pytest.fixture
        def provider(self, vendor, secret):
            return HelloProvider(api_key=secret, base_url=vendor.url)

        @pytest.fixture
        def hurried_provider(self, vendor, secret):
            return HelloProvider(api_key=secret, base_url=vendor.url, timeout=1.0)
"""

from gaia_core.testing.conformance.card import CardTests
from gaia_core.testing.conformance.connections import ConnectionTests
from gaia_core.testing.conformance.discretion import DiscretionTests
from gaia_core.testing.conformance.faults import FaultTests
from gaia_core.testing.conformance.manners import MannersTests
from gaia_core.testing.conformance.traces import TraceTests
from gaia_core.testing.conformance.work import WorkTests

__all__ = ["ProviderConformance"]


class ProviderConformance(
    CardTests,
    WorkTests,
    MannersTests,
    FaultTests,
    ConnectionTests,
    TraceTests,
    DiscretionTests,
):
    """What Gaia and its hosts rely on in a provider."""

    def test_no_test_was_overridden(self) -> None:
        """
        The suite is whole: what cannot pass is marked, not left out.

        Troubleshooting:
            Override a test only to mark it ``@pytest.mark.xfail(reason=…)``, and
            call the original in it.
        """
        silenced = [
            name
            for name in dir(ProviderConformance)
            if name.startswith("test_")
            and (own := getattr(type(self), name))
            is not getattr(ProviderConformance, name)
            and not _is_excused(own)
        ]

        assert silenced == []


def _is_excused(test: object) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
