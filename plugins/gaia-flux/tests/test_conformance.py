"""The provider keeps the contract, with real pipelines and tiny weights."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gaia_core import GenerateRequest, Image
from gaia_core.testing import samples
from gaia_core.testing.conformance import ProviderConformance
from gaia_flux import FluxProvider


class TestConformance(ProviderConformance):
    """Local FLUX on the CPU, in a thread."""

    heavy_modules = ProviderConformance.heavy_modules | {
        "diffusers",
        "huggingface_hub",
        "torch",
        "transformers",
    }

    @pytest.fixture
    def provider(
        self, tiny_models: Mapping[str, Path], tmp_path: Path, secret: str
    ) -> FluxProvider:
        """Give the provider under test."""
        return FluxProvider(
            device="cpu",
            default_model="tiny-flux1-schnell",
            home=tmp_path,
            threads=1,
            token=secret,
            models={
                f"tiny-{family}": {"family": family, "path": str(folder)}
                for family, folder in tiny_models.items()
            },
        )

    @pytest.fixture
    def generate_request(self) -> GenerateRequest:
        """Give a request that tiny models draw in milliseconds."""
        return GenerateRequest(prompt="a red dragon", width=64, height=64)

    @pytest.fixture
    def sample_image(self) -> Image:
        """Give a small picture with a subject before a plain background."""
        return Image.from_bytes(samples.subject(64, 64))
