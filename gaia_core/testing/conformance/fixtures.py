# ruff: noqa: S101 - these are tests, although no folder says so
"""What the tests of the conformance suite are made of."""

import time
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import attrs
import pytest

from gaia_core.images import Image
from gaia_core.requests import GenerateRequest
from gaia_core.results import ImageResult
from gaia_core.testing import samples
from gaia_core.testing.bench import Bench, assert_sound, has_size
from gaia_core.testing.vendors import Shop


class Conformance:
    """
    What a suite gives, and the limits it sets.

    Attributes:
        heavy_modules: What importing the provider must not load.
        patience: How long one request may take here.
        cancel_seconds: How long it may take to notice that nobody waits.
        silence_seconds: How long it may keep the event loop from other work.
        hurry_seconds: How long `hurried_provider` may take to give a vendor up.
        option_names: Vendor options that could name a file.
    """

    heavy_modules: ClassVar[frozenset[str]] = samples.HEAVY_MODULES
    patience: ClassVar[float] = 60.0
    cancel_seconds: ClassVar[float] = 5.0
    silence_seconds: ClassVar[float] = 1.0
    hurry_seconds: ClassVar[float] = 20.0
    option_names: ClassVar[tuple[str, ...]] = samples.OPTION_NAMES

    # -- what a subclass gives --------------------------------------------------------

    @pytest.fixture
    def provider(self) -> object:
        """Give a new provider, ready to work; every subclass has its own."""
        pytest.fail(f"{type(self).__name__} lacks the fixture `provider`.")

    @pytest.fixture
    def vendor(self) -> Shop | None:
        """
        Give an open stand-in for the vendor, or None: there is none.

        A suite that gives one makes its `provider` for ``vendor.url``.
        """
        return None

    @pytest.fixture
    def secret(self) -> str:
        """Give the key that `provider` is to have: whatever tells it, is found out."""
        return f"sk-canary-{uuid.uuid4().hex}"

    @pytest.fixture
    def hurried_provider(self, provider: object) -> object:
        """Give a provider that gives a silent vendor up within a second or two."""
        return provider

    @pytest.fixture
    def context_facts(self) -> Mapping[str, Any]:
        """Give fields of `CallContext` the hooks need, such as ``fetch``."""
        return {}

    @pytest.fixture
    def generate_request(self) -> GenerateRequest:
        """Give a request the provider serves quickly; its sizes are used all over."""
        return GenerateRequest(
            prompt="a red dragon over a ruined keep", width=256, height=256
        )

    @pytest.fixture
    def sample_image(self) -> Image:
        """Give a picture with a subject before a plain background."""
        return Image.from_bytes(samples.subject(256, 256))

    @pytest.fixture
    def bench(self, provider: object, context_facts: Mapping[str, Any]) -> Bench:
        """Put the provider on the bench."""
        return Bench(
            provider=provider,
            facts={"deadline": time.monotonic() + self.patience, **context_facts},
        )

    @pytest.fixture
    def shop(self, vendor: Shop | None) -> Shop:
        """Give the stand-in; a test that needs one is skipped where there is none."""
        if vendor is None:
            pytest.skip("gives no stand-in: see the fixture `vendor`")
        return vendor

    @pytest.fixture
    def hurried_bench(
        self, hurried_provider: object, context_facts: Mapping[str, Any]
    ) -> Bench:
        """Put the provider that does not wait for long on the bench."""
        deadline = time.monotonic() + self.patience
        return Bench(
            provider=hurried_provider, facts={"deadline": deadline, **context_facts}
        )

    # -- for the tests --------------------------------------------------------------

    async def check_edit(
        self, bench: Bench, request: GenerateRequest, **changes: Any
    ) -> None:
        """Fail unless an edit gives pictures of the size asked for."""
        request = attrs.evolve(request, **changes)

        async with bench:
            result = await bench.ask(request)

        self.assert_answers(bench, result)
        size = (request.width, request.height)
        assert all(has_size(one, size, result.warnings) for one in result.images)

    def assert_answers(self, bench: Bench, result: object) -> None:
        """Fail unless a result is complete: signed, priced, with sound pictures."""
        assert isinstance(result, ImageResult)
        assert result.provider == bench.info.name
        assert result.model
        assert result.images
        assert result.cost_usd is None or isinstance(result.cost_usd, Decimal)
        assert result.cost_usd is None or result.cost_usd >= 0
        for image in result.images:
            assert_sound(image)
