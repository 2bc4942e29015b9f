"""What Gaia relies on in every provider: Gemini's two services keep it."""

import pytest

from gaia_core.testing.conformance import ProviderConformance
from gaia_gemini import GeminiProvider


class TestConformance(ProviderConformance):
    """The provider keeps its side of the contract with the Gemini API."""

    @pytest.fixture
    def provider(self, provider: GeminiProvider) -> GeminiProvider:
        """Give a provider whose service is there."""
        return provider


class TestConformanceOnVertex(ProviderConformance):
    """The provider keeps its side of the contract with Vertex AI."""

    @pytest.fixture
    def provider(self, on_vertex: GeminiProvider) -> GeminiProvider:
        """Give a provider whose service is there."""
        return on_vertex
