"""Who can make what, within which limits, at which price."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaia_core.capabilities import Capability
from gaia_core.catalog import (
    FREE,
    MICRO_DOLLAR,
    Health,
    HealthLevel,
    ModelInfo,
    Price,
    ProviderInfo,
    Quality,
    Speed,
    Work,
    estimate,
    work_of,
)
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.testing import png

PICTURE = png(64, 32)


def _model(**fields: Any) -> ModelInfo:
    return ModelInfo(
        **{
            "id": "fake:one",
            "name": "One",
            "provider": "fake",
            "capabilities": Capability,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("price", "work", "usd"),
    [
        (FREE, Work(), "0"),
        (Price(base=1), Work(num_images=4), "1"),
        (Price(per_image="0.04"), Work(num_images=3), "0.12"),
        (Price(per_image=0.1), Work(num_images=3), "0.3"),
        (Price(per_megapixel="0.02"), Work(width=2048, height=1024), "0.04"),
        (Price(per_megapixel="0.02"), Work(width=512, height=512), "0.005"),
        (Price(per_step="0.001"), Work(num_inference_steps=30, num_images=2), "0.06"),
        (Price(per_reference="0.01"), Work(num_references=2, num_images=5), "0.02"),
        (
            Price(per_image="0.04", by_quality={"high": 2}),
            Work(quality="high"),
            "0.08",
        ),
        (
            Price(per_image="0.04", by_quality={"high": 2}),
            Work(quality="low"),
            "0.04",
        ),
        (Price(per_image="0.0000001"), Work(), "0.000001"),
        (Price(per_image="0.0000001"), Work(num_images=10), "0.000001"),
        (
            Price(base="0.5", per_image="0.1", per_megapixel=1, per_step="0.01"),
            Work(num_images=2, num_inference_steps=4),
            "2.78",
        ),
    ],
    ids=[
        "free",
        "base",
        "images",
        "float",
        "megapixels",
        "less than a megapixel",
        "steps",
        "references",
        "quality",
        "unknown quality",
        "rounded up",
        "rounded once",
        "everything",
    ],
)
def test_a_price_is_exact(price: Price, work: Work, usd: str) -> None:
    """Amounts are decimals, rounded up to the micro-dollar at the end."""
    assert price.of(work) == Decimal(usd)


AMOUNTS = st.decimals(0, 100, places=8)
PRICES = st.builds(
    Price,
    base=AMOUNTS,
    per_image=AMOUNTS,
    per_megapixel=AMOUNTS,
    per_step=AMOUNTS,
    per_reference=AMOUNTS,
)
WORKS = st.builds(
    Work,
    width=st.integers(16, 8192),
    height=st.integers(16, 8192),
    num_images=st.integers(1, 8),
    num_inference_steps=st.integers(1, 500),
    num_references=st.integers(0, 16),
)


@given(price=PRICES, work=WORKS)
def test_a_price_is_a_whole_number_of_micro_dollars(price: Price, work: Work) -> None:
    """What is reserved can be counted in integers, and never falls short."""
    usd = price.of(work)

    assert usd % MICRO_DOLLAR == 0
    assert usd >= price.base


@given(price=PRICES, work=WORKS)
def test_more_pictures_never_cost_less(price: Price, work: Work) -> None:
    """A price grows with the work."""
    one = Work(
        width=work.width,
        height=work.height,
        num_inference_steps=work.num_inference_steps,
    )

    assert price.of(work) >= price.of(one)


@pytest.mark.parametrize(
    "amounts",
    [
        {"per_image": -1},
        {"base": "-0.01"},
        {"per_step": Decimal("-1e-9")},
        {"per_image": float("inf")},
        {"base": float("nan")},
        {"per_megapixel": "1e30"},
        {"by_quality": {"high": -1}},
        {"by_quality": {"high": float("nan")}},
    ],
    ids=str,
)
def test_a_price_nobody_can_reckon_with_is_refused(amounts: dict[str, Any]) -> None:
    """A price is an amount; nobody is paid for making pictures."""
    with pytest.raises(ValueError, match="must be 0 to 1000000, not "):
        Price(**amounts)


@pytest.mark.parametrize(
    "facts",
    [
        {"id": None},
        {"max_width": "1024"},
        {"max_images": 1.5},
        {"default_steps": None},
        {"price": 0.04},
    ],
    ids=str,
)
def test_a_card_of_the_wrong_types_is_refused(facts: dict[str, Any]) -> None:
    """A slip shows where the card is written, not in somebody's plan."""
    card = {"id": "m", "name": "M", "provider": "p", "capabilities": set()}

    with pytest.raises(TypeError, match=next(iter(facts))):
        ModelInfo(**card | facts)


def test_a_single_name_counts_as_one() -> None:
    """An alias or a field without its list is one name, not its letters."""
    card = ModelInfo(
        id="m",
        name="M",
        provider="p",
        capabilities=set(),
        aliases="the-model",
        supported_fields="seed",
    )

    assert card.answers_to("the-model")
    assert card.supported_fields == {"seed"}


@pytest.mark.parametrize(
    ("request_", "work"),
    [
        (
            GenerateRequest(prompt="x", width=512, height=256, num_images=3),
            Work(width=512, height=256, num_images=3, num_inference_steps=9),
        ),
        (
            GenerateRequest(prompt="x", num_inference_steps=40),
            Work(num_inference_steps=40),
        ),
        (
            GenerateRequest(
                prompt="x",
                image=PICTURE,
                mask_image=PICTURE,
                reference_images=[PICTURE],
            ),
            Work(num_inference_steps=9, num_references=3),
        ),
        (
            GenerateRequest(prompt="x", provider_options={"fake": {"quality": "high"}}),
            Work(num_inference_steps=9, quality="high"),
        ),
        (
            GenerateRequest(prompt="x", provider_options={"else": {"quality": "high"}}),
            Work(num_inference_steps=9),
        ),
        (
            GenerateRequest(prompt="x", provider_options={"fake": {"quality": ["a"]}}),
            Work(num_inference_steps=9),
        ),
        (
            GenerateRequest(
                prompt="x", provider_options={"fake": {"image_size": "4K"}}
            ),
            Work(num_inference_steps=9, image_size="4K"),
        ),
        (
            UpscaleRequest(image=PICTURE, upscale_factor=8),
            Work(width=512, height=256),
        ),
        (RemoveBackgroundRequest(image=PICTURE), Work(width=64, height=32)),
        (DescribeImageRequest(image=PICTURE), Work(width=64, height=32)),
        (EnhancePromptRequest(prompt="x"), Work(width=0, height=0)),
    ],
    ids=[
        "size and count",
        "steps",
        "pictures that go in",
        "quality",
        "another provider's quality",
        "quality of a strange type",
        "image size",
        "upscaling",
        "background removal",
        "description",
        "prompt enhancement",
    ],
)
def test_work_is_measured_from_the_request(request_: Request, work: Work) -> None:
    """Estimate and bill start from the same numbers."""
    assert work_of(request_, _model(default_steps=9)) == work


def test_an_estimate_uses_the_price_of_the_model() -> None:
    """The model's card says what a request costs."""
    request = GenerateRequest(prompt="x", num_images=2)

    assert estimate(request, _model(price=Price(per_image="0.02"))) == Decimal("0.04")
    assert estimate(request, _model(price=None)) is None


def test_a_model_answers_to_its_names() -> None:
    """A person may use an alias."""
    model = _model(aliases=["one", "uno"])

    assert model.answers_to("fake:one")
    assert model.answers_to("uno")
    assert not model.answers_to("One")


def test_words_become_members() -> None:
    """Settings and plugins may write plain words."""
    model = _model(quality="high", speed="fast", capabilities=["upscaling"])
    info = ProviderInfo(name="fake", capabilities=[Capability.UPSCALING])

    assert model.quality is Quality.HIGH
    assert model.speed is Speed.FAST
    assert model.capabilities == info.capabilities == {Capability.UPSCALING}


@pytest.mark.parametrize(
    "fields",
    [
        {"quality": "superb"},
        {"speed": "instant"},
        {"capabilities": ["text-to-video"]},
        {"kind": "sound"},
    ],
    ids=str,
)
def test_unknown_words_are_refused(fields: dict[str, Any]) -> None:
    """A misspelt word in a catalogue is found when it is loaded."""
    with pytest.raises(ValueError, match=next(iter(fields.values()))[0]):
        _model(**fields)


def test_ranks_grow_with_quality_and_speed() -> None:
    """Selection sorts by rank."""
    assert [quality.rank for quality in Quality] == [0, 1, 2, 3]
    assert [speed.rank for speed in Speed] == [0, 1, 2]


def test_lists_become_tuples_and_sets() -> None:
    """A card cannot be changed behind its back."""
    model = _model(aliases=["a"], supported_fields=["seed"], upscale_factors=[2])

    assert (model.aliases, model.supported_fields, model.upscale_factors) == (
        ("a",),
        frozenset({"seed"}),
        frozenset({2}),
    )


def test_a_health_check_has_a_reason_or_none() -> None:
    """A healthy provider needs no words."""
    assert Health(level=HealthLevel.CONFIGURED, is_healthy=True).reason is None
