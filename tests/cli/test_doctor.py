"""``gaia doctor``: what works, what does not, what to do next."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]

KEYLESS = """
    import attrs
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        unavailable: str | None = "KEY is not set"
"""
DRAWER = """
    import attrs
    from gaia_core import Health, HealthLevel, hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        capabilities: frozenset = attrs.field(
            default=("text-to-image",), converter=frozenset
        )

        @hookimpl
        async def gaia_check_health(self, level):
            is_healthy = level is HealthLevel.CONFIGURED
            reason = None if is_healthy else "the key is refused"
            return Health(level=level, is_healthy=is_healthy, reason=reason)
"""
LOSER = """
    import attrs
    from gaia_core import ProviderTimeoutError
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        price_usd: str = "0.04"
        failure: Exception = ProviderTimeoutError("no answer")
"""


def _findings(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    found = json.loads(result.stdout)["findings"]
    return {(one["topic"], one["name"]): one for one in found}


def test_a_working_installation_is_well(
    gaia: Gaia, install: Install, store: Path
) -> None:
    """With a provider that generates and a store, the doctor is content."""
    install()

    result = gaia("doctor")

    assert result.exit_code == 0
    assert "Pictures can be made." in result.stdout
    assert f"{store} can be written" in result.stdout
    assert "next:" not in result.stdout


def test_findings_as_json(gaia: Gaia, install: Install) -> None:
    """Every finding has a topic, a name, a verdict, a detail and a next step."""
    install(source=DRAWER)

    result = gaia("doctor", "--json")

    found = _findings(result)
    assert json.loads(result.stdout)["can_generate"] is True
    assert {topic for topic, _ in found} == {
        *("gaia", "python", "settings", "image store", "ledger"),
        *("plugin", "provider", "capability"),
    }
    assert found["capability", "text-to-image"]["detail"] == "studio"
    assert found["capability", "upscaling"] == {
        "topic": "capability",
        "name": "upscaling",
        "is_ok": False,
        "detail": "nobody serves it",
        "next_step": "pip install ./plugins/gaia-offline, "
        "in a copy of Gaia's repository",
        "notes": [],
    }


def test_online_asks_the_providers(gaia: Gaia, install: Install) -> None:
    """``--online`` checks the keys; one that is refused counts."""
    install(source=DRAWER)

    offline, online = gaia("doctor", "--json"), gaia("doctor", "--online", "--json")

    assert offline.exit_code == 0
    assert online.exit_code == 1
    assert _findings(online)["provider", "studio"]["detail"] == "the key is refused"


def test_a_missing_key_is_pointed_out(gaia: Gaia, install: Install) -> None:
    """Who could serve, but for a key, is named as the way to go."""
    install("keyless", KEYLESS)

    result = gaia("doctor")

    assert result.exit_code == 1
    assert "KEY is not set" in result.stdout
    assert "next: see to keyless above (text-to-image, " in result.stdout


def test_a_broken_plugin_is_diagnosed(gaia: Gaia, install: Install) -> None:
    """A plugin that could not be loaded is named with its distribution."""
    install("broken", "raise RuntimeError('no such library')")

    result = gaia("doctor", "--json")

    finding = _findings(result)["plugin", "broken"]
    assert finding["is_ok"] is False
    assert "no such library" in finding["detail"]
    assert finding["next_step"] == "update or uninstall gaia-broken"


def test_a_wrong_setting_is_no_fault_of_the_plugin(
    gaia: Gaia, install: Install
) -> None:
    """Whoever misspelt a setting is sent to the settings, not to another release."""
    install("painter")

    result = gaia("--set=providers.painter.colur=red", "doctor", "--json")

    finding = _findings(result)["plugin", "painter"]
    assert "colur" in finding["detail"]
    assert finding["next_step"].startswith("put the setting right")


def test_a_store_that_cannot_be_written_is_found(
    gaia: Gaia, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor really writes; a store below a file is none."""
    install()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IMAGE_STORAGE_PATH", str(tmp_path / "file" / "store"))

    result = gaia("doctor")

    assert result.exit_code == 1
    assert "cannot be written" in result.stdout
    assert "No picture can be made yet." in result.stdout


def test_wrong_settings_are_diagnosed(gaia: Gaia, tmp_path: Path) -> None:
    """A settings file that cannot be read is a finding, not the end."""
    file = tmp_path / "gaia.toml"
    file.write_text("[gaia]\npolice = 1\n", encoding="utf-8")

    result = gaia("--config", file, "doctor", "--json")

    finding = _findings(result)["settings", ""]
    assert result.exit_code == 1
    assert finding["is_ok"] is False
    assert "policy" in finding["detail"]


# -- the ledger -------------------------------------------------------------------


def test_the_ledger_is_summed_up(gaia: Gaia, install: Install) -> None:
    """A ledger in order is named with what is on it."""
    install()
    gaia("generate", "a dragon")

    finding = _findings(gaia("doctor", "--json"))["ledger", ""]

    assert finding["is_ok"]
    assert finding["detail"].startswith("sqlite:///")
    assert finding["detail"].endswith("1 operation, $0.00 spent, $0.00 held")


def test_unknown_outcomes_are_counted(gaia: Gaia, install: Install) -> None:
    """What may have been charged is a finding, with a way to learn more."""
    install(source=LOSER)
    gaia("generate", "a dragon")

    result = gaia("doctor")

    assert result.exit_code == 0
    assert "1 operation may have been charged; $0.04 held" in result.stdout
    assert "next: `gaia usage` lists them, and whom to ask" in result.stdout


def test_a_ledger_that_cannot_be_opened_is_a_finding(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """Nothing is sent without a ledger; everything else is looked at all the same."""
    install()
    book = tmp_path / "book.db"
    book.write_text("this is no database, and long enough to be read as one")

    result = gaia(f"--set=database=sqlite:///{book}", "doctor", "--json")

    found = _findings(result)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["can_generate"] is False
    assert found["ledger", ""]["is_ok"] is False
    assert str(book) in found["ledger", ""]["detail"]
    assert "gaia config show" in found["ledger", ""]["next_step"]
    assert found["capability", "text-to-image"]["is_ok"]


def test_a_password_of_the_ledger_is_masked(gaia: Gaia, install: Install) -> None:
    """Neither a finding nor its detail gives the database's password away."""
    install()
    address = "postgresql://ada:canary-7f3a@127.0.0.1:1/gaia"

    result = gaia(f"--set=database={address}", "doctor")

    assert result.exit_code == 1
    assert "canary-7f3a" not in result.output


def test_damage_in_the_ledger_is_a_finding(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """Sums that do not agree are found, and something can be done about it."""
    install(source=LOSER)
    book = tmp_path / "book.db"
    gaia(f"--set=database=sqlite:///{book}", "generate", "a dragon")
    with closing(sqlite3.connect(book)) as connection, connection:
        connection.execute("UPDATE operations SET reserved = reserved + 1")

    result = gaia(f"--set=database=sqlite:///{book}", "doctor", "--json")

    findings = json.loads(result.stdout)["findings"]
    damage = [
        one
        for one in findings
        if one["topic"] == "ledger"
        and not one["is_ok"]
        and one["name"] != "outcome unknown"
    ]
    assert damage
    assert all(one["detail"] and one["next_step"] for one in damage)


def test_a_price_of_no_model_is_pointed_out(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A price that bears no model's name is named, with the nearest name."""
    install()
    file = tmp_path / "gaia.toml"
    file.write_text("[providers.studio.prices]\nfakes = 0.5\nzzz = 1\n", "utf-8")

    result = gaia("--config", file, "doctor", "--json")
    listed = gaia("--config", file, "models")

    found = _findings(result)
    assert result.exit_code == 0
    assert found["price", "studio/fakes"]["is_ok"] is False
    assert found["price", "studio/fakes"]["next_step"] == (
        "write 'fake' in [providers.studio.prices]"
    )
    assert "gaia models --all -p studio" in found["price", "studio/zzz"]["next_step"]
    words = "the price in your settings is not used."
    assert listed.stderr.splitlines() == [
        f"warning: studio offers no model 'fakes': {words} Did you mean 'fake'?",
        f"warning: studio offers no model 'zzz': {words}",
    ]


def test_a_price_that_is_used_is_well(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A price under a model's name is no finding."""
    install()
    file = tmp_path / "gaia.toml"
    file.write_text("[providers.studio.prices]\nfake = 0.5\n", "utf-8")

    result = gaia("--config", file, "doctor")
    listed = gaia("--config", file, "models")

    assert "not used" not in result.stdout
    assert listed.stderr == ""
    assert "$0.5/" in listed.stdout


NOTED = """
    import attrs
    from gaia_core import Capability, Health, ModelInfo, ModelState, hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        models: tuple = (
            ModelInfo(
                id="big",
                name="Big",
                provider="studio",
                capabilities={Capability.TEXT_TO_IMAGE},
                state=lambda: ModelState(word="absent", unavailable="run `x pull`"),
            ),
        )

        @hookimpl
        async def gaia_check_health(self, level):
            notes = ["There are 8 GB.", "Big needs \\x1b[31m12 GB."]
            return Health(level=level, is_healthy=True, notes=notes)
"""


def test_notes_stand_below_the_provider(gaia: Gaia, install: Install) -> None:
    """What a provider says beside its health is one line each, without escapes."""
    install(source=NOTED)

    lines = gaia("doctor").stdout.splitlines()

    (place,) = [i for i, line in enumerate(lines) if line.split()[1:2] == ["provider"]]
    assert lines[place + 1] == "    There are 8 GB."
    assert lines[place + 2].startswith("    Big needs ")
    assert "\x1b" not in lines[place + 2]


def test_notes_as_json(gaia: Gaia, install: Install) -> None:
    """They belong to the finding about the provider."""
    install(source=NOTED)

    found = _findings(gaia("doctor", "--json"))

    assert found["provider", "studio"]["notes"][0] == "There are 8 GB."


def test_a_provider_without_a_model_at_hand_serves_nobody(
    gaia: Gaia, install: Install
) -> None:
    """No picture can be made yet, and the next step says where the reason is."""
    install(source=NOTED)

    result = gaia("doctor")

    assert result.exit_code == 1
    assert "No picture can be made yet." in result.stdout
    assert "`gaia models --all` says what keeps the models of studio" in result.stdout
