"""
The fixtures that every suite has once ``gaia-core`` is installed.

pytest loads this module in every run, so it loads next to nothing itself.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from gaia_core import Gaia

try:
    from pytest_asyncio import fixture as _async_fixture
except ModuleNotFoundError:  # a suite without asynchronous tests does without
    _async_fixture = pytest.fixture  # type: ignore[assignment]

PREFIXES = ("GAIA_", "GEMINI_", "GOOGLE_", "HF_", "PARASAIL_", "RUNWARE_")
"""How the variables begin that could decide a test."""
VARIABLES = ("HUGGING_FACE_KEY", "IMAGE_STORAGE_PATH")
"""Further variables that could."""

PARTS = (
    *("storage", "ledger", "reliability", "cache"),
    *("fetcher", "metrics", "lookup"),
)
"""What `open_gaia` hands over to `Gaia.open`."""

_FOLDERS = {
    "HOME": ".",
    "USERPROFILE": ".",
    "APPDATA": "appdata",
    "LOCALAPPDATA": "localappdata",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}

pytest.register_assert_rewrite("gaia_core.testing.conformance")


class OpenGaia(Protocol):
    """What the fixture `open_gaia` gives."""

    def __call__(self, *plugins: object, **settings: Any) -> "Gaia":
        """Open a `Gaia` over some plugins, with some settings."""


@pytest.fixture
def gaia_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """
    Keep a test away from the settings, keys and pictures of whoever runs it.

    The home directory and the current one are an empty folder, the one this
    fixture gives; no variable of Gaia or of a provider is set.
    """
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in VARIABLES:
            monkeypatch.delenv(name)
    for name, folder in _FOLDERS.items():
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def open_gaia(gaia_home: Path) -> OpenGaia:
    """
    Give a function that opens a `Gaia` over a test's own plugins.

    ::

        async with open_gaia(FakeProvider(), policy="cheapest") as gaia:
            ...

    What is installed is left out. Keywords are fields of `Settings`, or parts as for
    `Gaia.open`: ``storage``, ``ledger``, ``reliability``, ``cache``, ``fetcher``,
    ``metrics`` and ``lookup``. Unless they are given, the ledger is one in memory and
    nothing is repeated, so that a test is quick and sees every call.
    """
    from gaia_core import Gaia, Settings  # noqa: PLC0415 - only who asks pays
    from gaia_core.ledger import MemoryLedger  # noqa: PLC0415 - as above
    from gaia_core.reliability import SingleTry  # noqa: PLC0415 - as above

    def opened(*plugins: object, **choices: Any) -> Gaia:
        given = {name: choices.pop(name) for name in PARTS if name in choices}
        parts: dict[str, Any] = {
            "ledger": MemoryLedger(),
            "reliability": SingleTry(),
        } | given
        settings = Settings(**{"image_store": gaia_home / "images"} | choices)
        return Gaia.open(settings, plugins=plugins, discover=False, **parts)

    return opened


@_async_fixture
async def gaia(open_gaia: OpenGaia) -> AsyncIterator["Gaia"]:
    """Give an open `Gaia` over one `FakeProvider`, its pictures in a folder."""
    from gaia_core.testing import FakeProvider  # noqa: PLC0415 - as above

    async with open_gaia(FakeProvider()) as opened:
        yield opened
