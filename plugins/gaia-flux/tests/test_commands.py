"""`gaia flux`: fetching models, and seeing which are here."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from gaia_core.cli import main
from gaia_flux import availability
from gaia_flux.commands import commands_of, progress_of
from gaia_flux.hubs import PullError
from gaia_flux.models import CATALOGUE, ModelSpec, Source

from . import hub

Flux = Callable[..., Result]

REPOSITORY = "somebody/some-model"
SPEC = ModelSpec(
    id="some-model",
    name="Some model",
    family="sdxl",
    source=Source(repository=REPOSITORY),
    aliases=("some_model",),
    licence="Strict",
    is_gated=True,
)


@pytest.fixture(name="remote")
def _remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """Run a hub with one repository of one commit."""
    with hub.told_of(monkeypatch, REPOSITORY) as remote:
        yield remote


@pytest.fixture(name="flux")
def _flux(tmp_path: Path, remote: hub.Hub) -> Flux:
    """Give what runs a command of the group, with the catalogue and one model."""
    assert remote.address
    specs = {spec.id: spec for spec in (*CATALOGUE, SPEC)}
    (group,) = commands_of(specs, home=tmp_path / "hub")

    def flux(*words: str) -> Result:
        return CliRunner().invoke(group, words)

    return flux


def _listed(flux: Flux) -> dict[str, Any]:
    shapes = json.loads(flux("list", "--json").stdout)["models"]
    return {one["id"]: one for one in shapes}


def test_pull_says_where_the_model_is(flux: Flux, tmp_path: Path) -> None:
    """The result is one line; the licence and the size are said beside it."""
    result = flux("pull", "some-model")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"some-model is ready: {tmp_path / 'hub'}")
    assert "Some model: licence: Strict" in result.stderr
    assert "0.1 GB to fetch" in result.stderr


def test_alias_is_pulled(flux: Flux) -> None:
    """A model answers to its other names."""
    assert flux("pull", "some_model").stdout.startswith("some-model is ready")


def test_pull_upgrades(flux: Flux, remote: hub.Hub) -> None:
    """`--upgrade` takes the newest commit, and `--revision` the one that it names."""
    flux("pull", "some-model")
    remote.repositories[REPOSITORY][hub.SECOND] = hub.pipeline(seed=9)

    flux("pull", "some-model", "--upgrade")
    upgraded = _listed(flux)["some-model"]["revision"]
    flux("pull", "some-model", "--revision", hub.FIRST)

    assert upgraded == hub.SECOND
    assert _listed(flux)["some-model"]["revision"] == hub.FIRST


def test_failed_pull_fails(flux: Flux, remote: hub.Hub) -> None:
    """What cannot be pulled ends as an error that Gaia can show."""
    remote.repositories.clear()

    result = flux("pull", "some-model")

    assert result.exit_code == 1
    assert isinstance(result.exception, PullError)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["pull", "some-modle"], "Did you mean 'some-model'?", id="near"),
        pytest.param(["pull", "zzz"], "`gaia flux list` shows them", id="far"),
        pytest.param(
            ["pull", "some-model", "--upgrade", "--revision", hub.FIRST],
            "give one",
            id="both",
        ),
    ],
)
def test_wrong_usage(flux: Flux, words: list[str], message: str) -> None:
    """Wrong words end with 2 and say what was meant."""
    result = flux(*words)

    assert result.exit_code == 2
    assert message in result.stderr


def test_list_shows_every_model(flux: Flux) -> None:
    """Every model is listed with its licence, and whether it is to be accepted."""
    result = flux("list")

    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {"MODEL", *(spec.id for spec in (*CATALOGUE, SPEC))}
    assert "Strict (to be accepted)" in lines["some-model"]
    assert "Apache-2.0" in lines["flux1-schnell"]
    assert "absent" in lines["flux1-schnell"]


def test_list_tells_what_is_here(flux: Flux) -> None:
    """A pulled model is on disk, at its commit."""
    before = _listed(flux)["some-model"]
    flux("pull", "some-model")

    after = _listed(flux)["some-model"]

    assert (before["state"], before["revision"]) == ("absent", None)
    assert (after["state"], after["revision"]) == ("on disk", hub.FIRST)


def test_list_tells_what_cannot_be_loaded(
    flux: Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that wants a package which is not installed names it."""
    monkeypatch.setitem(availability.WANTED, "CLIPTokenizer", "no_such_package")
    pulled = flux("pull", "some-model").stdout

    said = flux("list").stderr

    assert pulled.startswith("some-model is here, but cannot be loaded (its CLIPTok")
    assert "some-model cannot be loaded: its CLIPTokenizer needs no_such_pack" in said
    assert _listed(flux)["flux1-schnell"]["lacking"] is None


def test_list_tells_what_is_broken(flux: Flux, tmp_path: Path) -> None:
    """A pulled model that lost a file is incomplete."""
    flux("pull", "some-model")
    (folder,) = (tmp_path / "hub").glob("models--*/snapshots/*")
    (folder / "model_index.json").unlink()

    assert _listed(flux)["some-model"]["state"] == "incomplete"


def test_list_shows_paths(tmp_path: Path) -> None:
    """A model of the settings shows where it lies."""
    spec = attrs.evolve(SPEC, source=Source(path=tmp_path), is_gated=False)
    (group,) = commands_of({spec.id: spec}, home=tmp_path / "hub")

    result = CliRunner().invoke(group, ["list"])

    assert str(tmp_path) in result.stdout
    assert "on disk" in result.stdout


def test_person_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar shows how many bytes are here."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")

    with progress_of("some-model") as tell:
        tell(5_000_000, 10_000_000)

    assert "some-model" in terminal.getvalue()
    assert "5.0/10.0 MB" in terminal.getvalue()


def test_commands_are_part_of_gaia(
    remote: hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gaia flux pull` fetches where the settings say, and its errors are Gaia's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    remote.repositories["stabilityai/stable-diffusion-xl-base-1.0"] = {
        hub.FIRST: hub.pipeline()
    }

    pulled = CliRunner().invoke(main, ["flux", "pull", "sdxl"])
    failed = CliRunner().invoke(main, ["flux", "pull", "flux1-dev"])

    assert pulled.exit_code == 0
    assert (tmp_path / "hub" / "gaia-flux.json").is_file()
    assert failed.exit_code == 1
    assert "error: black-forest-labs/FLUX.1-dev is not on the hub" in failed.stderr
