"""The page on this provider says what holds."""

import itertools
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import attrs
import pytest

from gaia_core.catalog import Work
from gaia_runware import RunwareProvider, options
from gaia_runware.models import cards

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "use-runware.md"


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    section = PAGE.read_text("utf-8").split(f"## {heading}\n", 1)[1]
    body = section.split("|---", 1)[1].splitlines()[1:]
    table = itertools.takewhile(lambda line: line.startswith("|"), body)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_setting_is_on_the_page_with_its_variable() -> None:
    """The table has each field of the class, and the variable that gives it."""
    fields = {
        field.name: ", ".join(f"`{name}`" for name in field.metadata["env"]) or "none"
        for field in attrs.fields(RunwareProvider)
        if field.init
    }

    page = {row[0].strip("`"): row[1] for row in rows("Settings")}

    assert page == fields


@pytest.mark.parametrize("row", rows("Models"), ids=lambda row: str(row[0]))
def test_the_names_on_the_page_mean_these_models(row: list[str]) -> None:
    """Each name leads where the page says."""
    name, model_id, words = (cell.strip("`") for cell in row)

    (meant,) = (card for card in cards("runware") if card.answers_to(name))

    assert meant.id == model_id
    assert words.split(":")[0] == meant.name


@pytest.mark.parametrize("row", rows("Prices"), ids=lambda row: str(row[0]))
def test_the_prices_on_the_page_are_what_gaia_reckons_with(row: list[str]) -> None:
    """To the digits given there."""
    model_id, amount, what, _ = row
    sides = re.match(r"(\d+)x(\d+)", what)
    assert sides
    (card,) = (
        card for card in cards("runware") if card.answers_to(model_id.strip("`"))
    )
    assert card.price is not None

    cost = card.price.of(
        Work(
            width=int(sides[1]),
            height=int(sides[2]),
            num_inference_steps=card.default_steps,
        )
    )

    assert cost.quantize(Decimal(amount), ROUND_HALF_UP) == Decimal(amount)


def test_every_option_is_on_the_page() -> None:
    """And no other is."""
    page = {word for row in rows("Options") for word in re.findall(r"`(\w+)`", row[0])}

    assert page == set(options.KNOWN)
