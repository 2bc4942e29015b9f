"""What the settings and the card of a provider say about its pace, put together."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    Capability,
    Gaia,
    GenerateRequest,
    ProviderInfo,
    ProviderUnavailableError,
    Settings,
    hookimpl,
)
from gaia_core.ledger import MemoryLedger
from gaia_core.parts import parts_of
from gaia_core.plugins import load_plugins
from gaia_core.reliability import EgressLimits, StandardReliability
from gaia_core.settings import ProviderSettings
from gaia_core.testing import FakeProvider


@attrs.define(eq=False, kw_only=True)
class Paced(FakeProvider):
    """
    A provider whose card says how fast, and how often, it may be asked.

    Attributes:
        pace: What the card says.
    """

    pace: dict[str, Any] = attrs.field(factory=dict)

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Give the card."""
        capabilities = {Capability.TEXT_TO_IMAGE}
        return ProviderInfo(name="fake", capabilities=capabilities, **self.pace)


def _settings(folder: Path, **section: Any) -> Settings:
    providers = {"fake": ProviderSettings(name="fake", **section)}
    return Settings(providers=providers, image_store=folder, max_attempts=2)


@pytest.mark.parametrize(
    ("section", "pace", "expected"),
    [
        pytest.param({}, {}, EgressLimits(), id="nobody-says-anything"),
        pytest.param(
            {},
            {"max_concurrent": 3, "max_attempts": 4, "retry_delay": 1},
            EgressLimits(max_concurrent=3, max_attempts=4, retry_delay=1),
            id="card",
        ),
        pytest.param(
            {"max_attempts": 1, "retry_delay": 0.0, "requests_per_minute": 60},
            {"max_attempts": 4, "retry_delay": 5.0, "requests_per_minute": 600},
            EgressLimits(max_attempts=1, retry_delay=0.0, requests_per_minute=60),
            id="settings-win",
        ),
        pytest.param(
            {},
            {"max_attempts": 11, "retry_delay": 3_600.0},
            EgressLimits(max_attempts=5, retry_delay=60.0),
            id="vendors-variables-have-bounds",
        ),
    ],
)
def test_settings_win_over_the_card(
    tmp_path: Path,
    section: dict[str, Any],
    pace: dict[str, Any],
    expected: EgressLimits,
) -> None:
    """What a section leaves open the card decides, within bounds."""
    settings = _settings(tmp_path, **section)
    plugins = load_plugins(settings, extra=[Paced(pace=pace)], entry_points=())

    rules = parts_of(settings, plugins).services.reliability

    assert isinstance(rules, StandardReliability)
    assert rules.limits("fake") == expected
    assert rules.max_attempts == 2


@pytest.mark.parametrize(
    ("section", "pace", "expected"),
    [
        pytest.param({}, {"retry_delay": 0}, 2, id="everybody"),
        pytest.param({}, {"retry_delay": 0, "max_attempts": 3}, 3, id="card"),
        pytest.param(
            {"retry_delay": 0, "max_attempts": 1}, {"max_attempts": 5}, 1, id="section"
        ),
    ],
)
async def test_tries_are_counted_per_provider(
    tmp_path: Path, section: dict[str, Any], pace: dict[str, Any], expected: int
) -> None:
    """A provider that is busy is asked as often as its section or card says."""
    provider = Paced(pace=pace, failure=ProviderUnavailableError("busy"))
    request = GenerateRequest(prompt="a keep", width=16, height=16)
    opened = Gaia.open(
        _settings(tmp_path, **section),
        plugins=[provider],
        ledger=MemoryLedger(),
        discover=False,
    )

    async with opened as gaia:
        with pytest.raises(ProviderUnavailableError):
            await gaia.generate(request)

    assert len(provider.calls) == expected
