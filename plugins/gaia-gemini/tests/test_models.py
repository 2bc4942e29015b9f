"""Cards, prices, and names of models that are gone."""

from decimal import Decimal

import pytest

from gaia_core import Capability, GenerateRequest, Image
from gaia_core.catalog import estimate
from gaia_core.testing import png
from gaia_gemini.models import IMAGE_MODELS, RETIRED, cards, image_model, matches
from gaia_gemini.prices import Rates

FLASH, LITE, PRO = (model.id for model in IMAGE_MODELS)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gemini-2.0-flash-preview-image-generation", FLASH),
        ("gemini-2.5-flash-image", FLASH),
        ("gemini-2.5-flash-image-preview", FLASH),
        ("gemini-3.1-flash-image-preview", FLASH),
        ("gemini-3-pro-image-preview", PRO),
        ("nano-banana-2", FLASH),
        ("nano-banana-2-lite", LITE),
        ("nano-banana-pro-preview", PRO),
        (None, FLASH),
    ],
    ids=str,
)
def test_names_lead_to_living_models(name: str | None, model: str) -> None:
    """Other names and names of models that are gone lead to one that answers."""
    assert image_model(name).id == model


@pytest.mark.parametrize("name", sorted(RETIRED))
def test_who_is_gone_is_an_alias(name: str) -> None:
    """A request that names a model that is gone finds its successor's card."""
    known = cards(more=(), size=None, text_model="words", is_vertex=False)

    assert sum(card.answers_to(name) for card in known) == 1


@pytest.mark.parametrize(
    ("model", "width", "height", "price"),
    [
        (FLASH, 512, 512, "0.044820"),
        (FLASH, 1024, 1024, "0.067200"),
        (FLASH, 1920, 1080, "0.100800"),
        (FLASH, 4096, 4096, "0.151200"),
        (LITE, 1024, 1024, "0.033600"),
        (PRO, 1024, 1024, "0.134400"),
        (PRO, 2048, 2048, "0.134400"),
        (PRO, 4096, 4096, "0.240000"),
    ],
)
def test_a_price_goes_by_the_size_that_is_drawn(
    model: str, width: int, height: int, price: str
) -> None:
    """The estimate is what Google's price list says of that size."""
    card = image_model(model).card()
    request = GenerateRequest(prompt="a keep", width=width, height=height)

    assert estimate(request, card) == Decimal(price)


def test_a_price_counts_pictures_that_go_in() -> None:
    """Each picture that goes in is paid for with each that comes out."""
    picture = Image.from_bytes(png())
    request = GenerateRequest(
        prompt="a keep", image=picture, reference_images=[picture], num_images=3
    )

    price = estimate(request, image_model(FLASH).card())

    assert price == 3 * (Decimal("0.0672") + 2 * Decimal("0.00056"))


def test_a_fixed_size_fixes_the_price() -> None:
    """With the setting image_size, small pictures cost as much as large ones."""
    card = image_model(FLASH).card("4K")

    assert estimate(GenerateRequest(prompt="a keep", width=64, height=64), card) == (
        Decimal("0.1512")
    )


@pytest.mark.parametrize(
    ("asked", "price"),
    [("4K", "0.1512"), ("512", "0.04482"), ("8K", "0.0672"), (4, "0.0672")],
    ids=str,
)
def test_a_size_of_the_request_fixes_the_price(asked: object, price: str) -> None:
    """A budget reckons with the size that is drawn, not with width and height."""
    card = image_model(FLASH).card("1K")
    options = {"gemini": {"image_size": asked}}
    request = GenerateRequest(prompt="a keep", provider_options=options)

    assert estimate(request, card) == Decimal(price)


def test_what_has_no_known_price_says_so() -> None:
    """Nothing is invented: an unknown model and the upscaler have no price."""
    known = cards(more=["gemini-9-image"], size=None, text_model="x", is_vertex=True)
    without = {card.id for card in known if card.price is None}

    assert without == {"gemini-9-image", "x", "imagen-4.0-upscale-preview"}


def test_rates_are_per_million() -> None:
    """Tokens of each kind have their own rate."""
    rates = Rates(into="0.5", words=3, pictures=60)

    assert rates.cost(into=1_000_000, words=1_000_000) == Decimal("3.5")


def test_further_models_come_once() -> None:
    """A model that is known, or was, gets no second card."""
    known = cards(
        more=[PRO, "nano-banana-2", "gemini-2.5-flash-image", "new-image"] * 2,
        size=None,
        text_model="words",
        is_vertex=False,
    )

    assert [card.id for card in known] == [FLASH, LITE, PRO, "new-image", "words"]


def test_upscaling_is_on_vertex_only() -> None:
    """With a key of the Gemini API nothing enlarges; on Vertex AI by 2 and 4."""
    (*_, upscaler) = cards(more=(), size=None, text_model="words", is_vertex=True)

    assert upscaler.capabilities == {Capability.UPSCALING}
    assert upscaler.upscale_factors == {2, 4}


@pytest.mark.parametrize(
    ("words", "is_found"),
    [("pro", True), ("NANO banana", True), ("google", True), ("flash pro", False)],
)
def test_a_search_finds_every_word(words: str, is_found: bool) -> None:
    """A card is found when it holds all the words, in any case."""
    assert matches(image_model(PRO).card(), words) is is_found
