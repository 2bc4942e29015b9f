"""Run the examples of every Markdown page, each page from a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from gaia_core.testing.pytest_plugin import PREFIXES, VARIABLES

FOLDERS = (
    *("APPDATA", "HOME", "LOCALAPPDATA", "USERPROFILE"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
)
"""The variables that say where settings and pictures lie."""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep a test away from the settings, keys and pictures of whoever runs it."""
    home = tmp_path_factory.getbasetemp() / "home"
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in VARIABLES:
            monkeypatch.delenv(name)
    for name in FOLDERS:
        monkeypatch.setenv(name, str(home / name.lower()))


@pytest.fixture(scope="module")
def _page_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give every page an empty folder as its current one."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    excludes=["CHANGELOG.md"],
    fixtures=["_page_folder"],
).pytest()
