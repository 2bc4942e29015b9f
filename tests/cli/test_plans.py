"""``--dry-run``: who would be asked, at which price, and why nobody else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]

KEYLESS = """
    import attrs
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        unavailable: str | None = "STUDIO_KEY is not set"
"""
HUNDRED = """
    import attrs
    from gaia_core import Capability, ModelInfo
    from gaia_core.testing import FakeProvider

    MODELS = [
        ModelInfo(
            id=f"m{number}",
            name="M",
            provider="crowd",
            capabilities={Capability.TEXT_TO_IMAGE},
            max_width=64 + number % 5,
        )
        for number in range(100)
    ]

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        models: tuple = attrs.field(default=tuple(MODELS))
"""
BROKEN = "raise RuntimeError('no such library')"
PRICES = (
    *("--set", "providers.dear.price_usd=0.08", "--set", "providers.dear.priority=9"),
    *("--set", "providers.studio.price_usd=0.04"),
)


def test_a_plan_lists_candidates_in_order(gaia: Gaia, install: Install) -> None:
    """Each candidate has a line with provider, model, rank, price and quality."""
    install()
    install("dear")

    result = gaia(*PRICES, "generate", "a dragon", "--dry-run")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert lines[:3] == [
        ["PROVIDER", "MODEL", "PRIORITY", "PRICE", "QUALITY"],
        ["1", "dear", "fake", "9", "$0.08", "standard"],
        ["2", "studio", "fake", "0", "$0.04", "standard"],
    ]


def test_a_plan_is_not_carried_out(gaia: Gaia, install: Install, store: Path) -> None:
    """A dry run makes nothing, and not even the folder of its output."""
    install()

    result = gaia("generate", "a dragon", "--dry-run", "-o", "album/dragon.png")

    assert result.exit_code == 0
    assert not store.exists()


def test_a_plan_obeys_the_policy(gaia: Gaia, install: Install) -> None:
    """The policy on the command line wins over the settings."""
    install()
    install("dear")

    result = gaia(
        *PRICES, "generate", "a dragon", "--dry-run", "--policy", "cheapest", "--json"
    )

    names = [one["provider"] for one in json.loads(result.stdout)["candidates"]]
    assert names == ["studio", "dear"]


def test_a_plan_as_json(gaia: Gaia, install: Install) -> None:
    """The JSON plan holds candidates, prices and reasons."""
    install()
    install("keyless", KEYLESS)

    result = gaia(*PRICES[-2:], "generate", "a", "-n", 2, "--dry-run", "--json")

    document = json.loads(result.stdout)
    reasons = document.pop("reasons")
    assert reasons["keyless"] == "STUDIO_KEY is not set"
    assert document == {
        "capability": "text-to-image",
        "policy": "priority",
        "max_cost_usd": None,
        "estimate_usd": 0.08,
        "highest_usd": 0.08,
        "candidates": [
            {
                "provider": "studio",
                "model": "fake",
                "priority": 0,
                "price_usd": 0.08,
                "quality": "standard",
                "speed": "medium",
                "is_substitute": False,
            }
        ],
    }


def test_a_plan_gives_the_estimate(gaia: Gaia, install: Install) -> None:
    """The estimate is the first price, and the highest a fallback may cost."""
    install()
    install("dear")

    dear_first = gaia(*PRICES, "generate", "a dragon", "--dry-run")
    cheap_first = gaia(
        *PRICES, "generate", "a dragon", "--dry-run", "--policy", "cheapest"
    )

    assert "Estimate: $0.08\n" in dear_first.stdout
    assert "Estimate: $0.04, at most $0.08\n" in cheap_first.stdout


def test_reasons_are_grouped(gaia: Gaia, install: Install) -> None:
    """A hundred models of one provider take a few lines, unless all are wanted."""
    install("crowd", HUNDRED)

    short = gaia("generate", "a", "--size", "128", "--dry-run")
    full = gaia("generate", "a", "--size", "128", "--dry-run", "--all")

    assert short.exit_code == full.exit_code == 4
    assert "crowd (20 models): makes at most 64x1024, not 128x128" in short.stdout
    assert "crowd (40 models): other reasons" in short.stdout
    # Whatever else is installed, and not allowed, has lines of its own.
    assert short.stdout.count("crowd") < 10
    assert full.stdout.count("crowd") >= 100


def test_without_candidates_the_reasons_are_printed(
    gaia: Gaia, install: Install
) -> None:
    """Nobody to ask ends with code 4 and every reason."""
    install("keyless", KEYLESS)

    result = gaia("generate", "a dragon", "--dry-run")

    assert result.exit_code == 4
    assert "Nobody can serve this text-to-image request." in result.stdout
    assert "keyless: STUDIO_KEY is not set" in result.stdout


def test_a_broken_plugin_is_a_reason(gaia: Gaia, install: Install) -> None:
    """A plugin that failed to load is among those passed over."""
    install("broken", BROKEN)

    result = gaia("generate", "a dragon", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 4
    assert document["error"] == "Nobody can serve this text-to-image request."
    assert document["reasons"]["broken"].startswith("failed to load: ")
    assert "no such library" in document["reasons"]["broken"]


def test_a_provider_that_is_not_there_is_named(gaia: Gaia, install: Install) -> None:
    """Asking for a provider that is not installed says so, and who is."""
    install()

    result = gaia("generate", "a dragon", "-p", "elsewhere")

    assert result.exit_code == 4
    assert "elsewhere: not installed; there is studio" in result.stderr


def test_a_plugin_that_is_not_allowed_is_named(
    gaia: Gaia, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for a provider the settings lock out says so."""
    install()
    install("locked")
    monkeypatch.setenv("GAIA_PLUGINS__ALLOW", "studio")

    result = gaia("generate", "a dragon", "-p", "locked")

    assert result.exit_code == 4
    assert "locked: not in plugins.allow" in result.stderr


def test_a_provider_that_is_switched_off_is_named(gaia: Gaia, install: Install) -> None:
    """Asking for a provider the settings switch off says so."""
    install()

    result = gaia(
        *("--set", "providers.studio.enabled=false"),
        *("generate", "a dragon", "-p", "studio"),
    )

    assert result.exit_code == 4
    assert "studio: switched off" in result.stderr


def test_other_verbs_have_plans_too(
    gaia: Gaia, install: Install, picture: Path
) -> None:
    """Enlarging, cutting out, enhancing and describing can be planned."""
    install()
    commands = {
        "upscaling": ("upscale", picture, "--factor", 2),
        "background-removal": ("rmbg", picture),
        "prompt-enhancement": ("enhance", "a dragon"),
        "image-description": ("describe", picture),
    }

    found = {
        capability: json.loads(gaia(*words, "--dry-run", "--json").stdout)
        for capability, words in commands.items()
    }

    assert {one["capability"] for one in found.values()} == set(commands)
    assert all(one["candidates"] for one in found.values())
