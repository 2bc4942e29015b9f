"""What Gaia relies on in every provider."""

import pytest

from gaia_core.testing.conformance import ProviderConformance
from gaia_example import ExampleProvider


class TestConformance(ProviderConformance):
    """The provider keeps its side of the contract."""

    @pytest.fixture
    def provider(self) -> ExampleProvider:
        """Give a provider with its settings as they come."""
        return ExampleProvider()
