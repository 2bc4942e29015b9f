"""The page about this plugin says what the plugin does."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from gaia_core import Gaia, Secret, load_settings
from gaia_parasail import ModelSettings, ParasailProvider
from gaia_parasail.models import TOKEN_PRICES

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "use-parasail.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def _names(cls: type) -> set[str]:
    return {field.name for field in attrs.fields(cls) if field.init}


def _rows(after: str) -> set[str]:
    """Name what the first column of the first table behind a heading has."""
    table = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(after) :], re.MULTILINE)
    cells = [line.split("|")[1] for line in table[0].splitlines()] if table else []
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_setting_has_a_row() -> None:
    """The table of settings names them all, and no other."""
    assert _rows("## Settings") == _names(ParasailProvider)


def test_every_key_of_a_model_has_a_row() -> None:
    """So does the table of what describes a model."""
    assert _rows("## Add a model") == _names(ModelSettings)


@pytest.mark.parametrize("model", TOKEN_PRICES)
def test_every_price_is_told(model: str) -> None:
    """The prices Gaia books by are those on the page."""
    tokens_in, tokens_out = TOKEN_PRICES[model]

    assert f"| `{model}` | ${tokens_in} | ${tokens_out} |" in TEXT


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_every_example_of_settings_is_taken(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page writes into `gaia.toml` makes a provider that is available."""
    monkeypatch.setenv("STUDIO_KEY", "sk-studio")
    monkeypatch.setenv("PARASAIL_API_KEY", "sk-parasail")
    path = tmp_path / "gaia.toml"
    places = f"[gaia]\ndatabase = 'sqlite:///{tmp_path}/g.db'\n[gaia.plugins]\n"
    path.write_text(f"{places}allow = ['parasail']\n{block}", encoding="utf-8")

    async with Gaia.open(load_settings(path)) as gaia:
        providers = {one.name: one.unavailable for one in gaia.providers()}

    for name in tomllib.loads(block)["providers"]:
        assert providers[name] is None


def test_the_default_address_is_told() -> None:
    """The page names where the service is asked."""
    provider = ParasailProvider(api_key=Secret("sk"))

    assert f"`{provider.base_url}`" in TEXT
