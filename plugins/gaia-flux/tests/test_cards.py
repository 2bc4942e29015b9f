"""Cards tell what is true now: of the files, of the settings, of the machine."""

import json
import shutil
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_flux import availability, devices, memory, pins
from gaia_flux.cards import Cards, dtype_of
from gaia_flux.families import FAMILIES
from gaia_flux.models import ModelSpec, Source
from gaia_flux.paces import Paces
from gaia_flux.payloads import Loras
from gaia_flux.setups import Setup

COMMIT, OTHER = "a" * 40, "b" * 40
NETWORK = "transformer/diffusion_pytorch_model.safetensors"
CardsOf = Callable[..., Cards]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, tiny_models: Mapping[str, Path]) -> Path:
    """Give a model of one's own to change."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["flux1-schnell"], folder)
    return folder


@pytest.fixture(name="spec")
def _spec(folder: Path) -> ModelSpec:
    """Give the model that lies in that folder."""
    return ModelSpec(
        id="mine", name="Mine", family="flux1-schnell", source=Source(path=folder)
    )


@pytest.fixture(name="pulled")
def _pulled(tmp_path: Path, folder: Path) -> ModelSpec:
    """Give a model of which two commits are here; none of them is noted."""
    for commit in (COMMIT, OTHER):
        shutil.copytree(folder, pins.snapshot("someone/model", commit, tmp_path))
    return ModelSpec(
        id="pulled",
        name="Pulled",
        family="flux1-schnell",
        source=Source(repository="someone/model"),
    )


@pytest.fixture(name="cards_of")
def _cards_of(tmp_path: Path) -> CardsOf:
    """Give a maker of cards for settings."""

    def cards_of(loras: Loras | None = None, **settings: Any) -> Cards:
        usual: dict[str, Any] = {"device": "cpu", "home": tmp_path}
        return Cards(
            setup=Setup(**usual | settings),
            loras=loras or Loras(),
            usd_per_second=Decimal(0),
            loaded=frozenset,
            paces=Paces(),
        )

    return cards_of


def _estimate(cards: Cards, spec: ModelSpec) -> int:
    estimate: int = cards.details(spec)["estimated_bytes"]
    return estimate


# -- details --------------------------------------------------------------------------


def test_estimate_goes_by_the_files(cards_of: CardsOf, spec: ModelSpec) -> None:
    """A small model of one's own needs what it needs, not what its family's do."""
    cards = cards_of()
    absent = attrs.evolve(spec, source=Source(path=Path("/nowhere")))
    usual = sum(FAMILIES[spec.family].billions.values()) * 1e9

    assert _estimate(cards, spec) < 5 * memory.GB
    assert _estimate(cards, absent) > usual * 4


def test_estimate_changes_with_the_pull(
    cards_of: CardsOf, pulled: ModelSpec, tmp_path: Path
) -> None:
    """A host that told the family's figures tells the model's once it is here."""
    cards = cards_of()
    before = _estimate(cards, pulled)

    pins.note(tmp_path, pulled.id, "someone/model", COMMIT)

    assert _estimate(cards, pulled) < before / 10


def test_plans_do_not_work_out_details(
    cards_of: CardsOf, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's program is not started until somebody looks at a model's details."""
    asked: list[str] = []
    monkeypatch.setattr(devices, "memory_of", asked.append)
    cards = cards_of(device="cuda")

    state = cards.state(spec)
    before = list(asked)
    shown = json.loads(json.dumps(dict(state.details)))

    assert before == []
    assert asked == ["cuda"]
    assert shown["revision"] == cards.revision(spec)
    assert len(shown) == len(state.details)


@pytest.mark.parametrize(
    ("here", "dtype"),
    [
        pytest.param(("cuda:0",), "bfloat16", id="card"),
        pytest.param(("mps",), "float16", id="apple"),
        pytest.param((), "bfloat16", id="none"),
    ],
)
def test_precision_suits_what_auto_finds(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], dtype: str
) -> None:
    """It is the one the worker takes."""
    found = tuple(devices.Accelerator(device=one, name="x") for one in here)
    monkeypatch.setattr(devices, "found", lambda: found)

    assert dtype_of(Setup(device="auto")) == dtype
    assert dtype_of(Setup(device="auto", dtype="float32")) == "float32"


# -- the state ------------------------------------------------------------------------


def _wants_torchvision(folder: Path) -> None:
    file = folder / "model_index.json"
    index = json.loads(file.read_text("utf-8"))
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    file.write_text(json.dumps(index), encoding="utf-8")


def test_model_that_lacks_a_package_cannot_be_asked(
    cards_of: CardsOf, spec: ModelSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUX.2 [dev] reads prompts with a class that wants torchvision."""
    _wants_torchvision(folder)
    monkeypatch.setitem(availability.WANTED, "PixtralProcessor", "no_such_package")

    state = cards_of().state(spec)

    assert state.word == "on disk"
    assert "Mine cannot be loaded: its PixtralProcessor needs no_such_package" in str(
        state.unavailable
    )


def test_model_that_has_its_packages_can_be_asked(
    cards_of: CardsOf, spec: ModelSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the package there is nothing to complain about."""
    _wants_torchvision(folder)
    monkeypatch.setitem(availability.WANTED, "PixtralProcessor", "json")

    assert cards_of().state(spec).unavailable is None


# -- the revision ---------------------------------------------------------------------


def test_revision_follows_the_pull(
    cards_of: CardsOf, pulled: ModelSpec, tmp_path: Path
) -> None:
    """In a running host, too: a newer commit has other pictures."""
    tell = cards_of().card(pulled).live_revision
    assert tell is not None
    revisions = [tell()]
    for commit in (COMMIT, OTHER):
        pins.note(tmp_path, pulled.id, "someone/model", commit)
        revisions.append(tell())

    assert len(set(revisions)) == 3
    assert revisions[1].startswith(COMMIT)


@pytest.mark.parametrize(
    "name",
    [
        NETWORK,
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "model_index.json",
    ],
)
def test_revision_follows_the_files(
    cards_of: CardsOf, spec: ModelSpec, folder: Path, name: str
) -> None:
    """Whatever a pipeline reads has a part in its pictures."""
    cards = cards_of()
    before = cards.revision(spec)

    (folder / name).write_bytes((folder / name).read_bytes() + b" ")

    assert cards.revision(spec) != before


def test_revision_names_what_goes_with_a_file(
    cards_of: CardsOf, spec: ModelSpec, folder: Path, tmp_path: Path
) -> None:
    """A single file draws otherwise with another scheduler beside it."""
    file = tmp_path / "mine.safetensors"
    shutil.copy(folder / NETWORK, file)
    single = attrs.evolve(spec, source=Source(path=file), config=Source(path=folder))
    cards = cards_of()
    before = cards.revision(single)

    config = folder / "scheduler" / "scheduler_config.json"
    config.write_bytes(config.read_bytes() + b" ")

    assert cards.revision(single) != before


@pytest.mark.parametrize(
    "change",
    [
        {"default_steps": 7},
        {"default_guidance": 2.5},
        {"scheduler": ("EulerDiscreteScheduler", {"shift": 2})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_revision_names_what_requests_leave_open(
    cards_of: CardsOf, spec: ModelSpec, change: dict[str, Any]
) -> None:
    """A request without steps draws another picture where the model's own change."""
    cards = cards_of()

    assert cards.revision(attrs.evolve(spec, **change)) != cards.revision(spec)


def test_revision_names_the_packages_that_take_part(
    cards_of: CardsOf, spec: ModelSpec, tmp_path: Path
) -> None:
    """Those that a setting brings in are named with the others."""
    loras = Loras(files={"ink": tmp_path / "ink.safetensors"})
    network = attrs.evolve(spec, family="esrgan")

    plain = cards_of().revision(spec)

    assert "gaia-flux=" in plain
    assert "peft=" not in plain
    assert "peft=" in cards_of(loras).revision(spec)
    assert "torchao=" in cards_of(quantisation="int8").revision(spec)
    assert "spandrel=" in cards_of().revision(network)
