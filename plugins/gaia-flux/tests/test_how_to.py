"""The page on this provider says what holds."""

import itertools
import re
from pathlib import Path

import attrs
import click
import pytest

from gaia_core import Capability
from gaia_flux import FluxProvider, memory, options
from gaia_flux.commands import commands_of
from gaia_flux.families import FAMILIES, Family
from gaia_flux.models import CATALOGUE, KEYS

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "use-flux.md"
COLUMNS = (
    Capability.TEXT_TO_IMAGE,
    Capability.IMAGE_TO_IMAGE,
    Capability.INPAINTING,
    Capability.OUTPAINTING,
)


def _section(heading: str) -> str:
    return PAGE.read_text("utf-8").split(f"# {heading}\n", 1)[1]


def _table(heading: str) -> tuple[list[str], ...]:
    """The first table under a heading, with its head."""
    lines = _section(heading).splitlines()
    below = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    table = itertools.takewhile(lambda line: line.startswith("|"), below)
    cells = (line.strip("|").split("|") for line in table if not line.startswith("|--"))
    return tuple([cell.strip() for cell in row] for row in cells)


def _rows(heading: str) -> tuple[list[str], ...]:
    return _table(heading)[1:]


def _words(cell: str) -> list[str]:
    """What a cell has in the type of a machine."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_on_the_page_with_its_variable() -> None:
    """The table has each field of the class, and the variables that give it."""
    fields = {
        field.name: ", ".join(f"`{name}`" for name in field.metadata["env"]) or "none"
        for field in attrs.fields(FluxProvider)
        if field.init
    }

    page = {name: row[1] for row in _rows("Settings") for name in _words(row[0])}

    assert page == fields


def test_every_key_of_an_own_model_is_on_the_page() -> None:
    """And no other is."""
    page = {name for row in _rows("Add a model of your own") for name in _words(row[0])}

    assert page == set(KEYS)


def test_every_option_of_a_request_is_on_the_page() -> None:
    """And no other is."""
    page = {name for row in _rows("Options of one request") for name in _words(row[0])}

    assert page == set(options.KNOWN)


def test_every_choice_that_changes_pictures_is_on_the_page() -> None:
    """Each quantisation, step cache and inexact attention, as it is written."""
    choices = {
        "quantisation": options.QUANTISATIONS,
        "step_cache": options.STEP_CACHES,
        "attention": options.INEXACT_ATTENTIONS,
    }
    wanted = {f'{key} = "{one}"' for key, ones in choices.items() for one in ones}

    page = {
        name
        for row in _rows("Faster, or smaller, for other pictures")
        for name in _words(row[0])
    }

    assert wanted <= page


@pytest.mark.parametrize("row", _rows("Models"), ids=lambda row: str(row[0]))
def test_the_page_says_what_each_model_can_do(row: list[str]) -> None:
    """A model is in the catalogue, has that licence, and can do what is said."""
    specs = {spec.id: spec for spec in CATALOGUE}
    names, marks, licence = _words(row[0]), row[1:-1], row[-1]

    assert names
    for name in names:
        able = FAMILIES[specs[name].family].pipelines
        assert [mark != "no" for mark in marks] == [one in able for one in COLUMNS]
        assert licence == specs[name].licence


def test_every_model_is_on_the_page() -> None:
    """In the table of models, or under enlarging."""
    page = {name for row in _rows("Models") for name in _words(row[0])}

    left = {spec.id for spec in CATALOGUE} - page

    assert left == {"sd-latent-upscaler"}
    assert "`sd-latent-upscaler`" in _section("Enlarging")


def _plan(family: Family, gigabytes: int, quantisation: str | None) -> str:
    side = min(1024, family.max_side)
    need = memory.need_of(
        family, dtype="bfloat16", quantisation=quantisation, width=side, height=side
    )
    plan = memory.plan_for(need, gigabytes * memory.GB, quantisation=quantisation)
    assert plan.fits
    assert not plan.has_vae_tiling
    return plan.mode.value.removesuffix(" offload")


@pytest.mark.parametrize("row", _rows("Memory"), ids=lambda row: str(row[0]))
def test_the_page_says_how_each_model_lies_on_each_card(row: list[str]) -> None:
    """The plans are those that the arithmetic gives."""
    sizes = [int(cell.removesuffix(" GB")) for cell in _table("Memory")[0][1:]]
    names = _words(row[0])
    quantisation = "fp8" if "fp8" in names else None
    families = [name for name in names if name != "fp8"]

    assert families
    for name in families:
        assert row[1:] == [_plan(FAMILIES[name], size, quantisation) for size in sizes]


@pytest.mark.parametrize("name", ["pull", "list"])
def test_every_command_is_on_the_page_with_its_options(name: str) -> None:
    """And each option has a line of help."""
    (group,) = commands_of({}, home=None, token=None)
    assert isinstance(group, click.Group)
    given = [
        one for one in group.commands[name].params if isinstance(one, click.Option)
    ]
    text = PAGE.read_text("utf-8")

    assert f"`gaia flux {name}" in text or f"\ngaia flux {name}" in text
    assert [one.name for one in given if not one.help] == []
    assert [word for one in given for word in one.opts if word not in text] == []
