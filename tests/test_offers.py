"""What providers have to offer, and how those that fail are kept apart."""

from decimal import Decimal
from typing import Any

import pytest

from gaia_core import (
    FREE,
    Capability,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ModelInfo,
    Price,
    ProviderInfo,
    Settings,
    hookimpl,
)
from gaia_core.offers import gather_offers, refreshed
from gaia_core.plugins import Plugins, load_plugins
from gaia_core.requests import MAX_NUM_IMAGES, MAX_SIDE
from gaia_core.settings import ProviderSettings
from gaia_core.testing import FakeProvider, png

MODEL = ModelInfo(
    id="m:1",
    name="M",
    provider="somebody",
    capabilities=set(Capability),
    aliases=["em"],
    price=Price(per_image="0.04"),
)


class Plain:
    """The smallest provider: a card and one hook."""

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what it can do."""
        return ProviderInfo(
            name="plain",
            display_name="Plain",
            capabilities={Capability.TEXT_TO_IMAGE},
        )

    @hookimpl
    async def gaia_generate(self, request: GenerateRequest) -> ImageResult:
        """Draw always the same; a hook may leave out what it does not need."""
        image = GeneratedImage(data=png(request.width, request.height))
        return ImageResult(images=[image], provider="plain", model="plain")


def _plugins(*providers: object, **sections: Any) -> Plugins:
    """Load providers, each section under the name of its instance."""
    settings = Settings(
        providers={
            name: ProviderSettings(**{"name": name} | section)
            for name, section in sections.items()
        }
    )
    return load_plugins(settings, extra=providers, entry_points=())


async def test_offers_come_in_order_of_rank() -> None:
    """One offer per provider, the best rank first."""
    plugins = _plugins(FakeProvider(name="a"), FakeProvider(name="b", priority=3))

    offers = await gather_offers(plugins)

    assert [offer.name for offer in offers] == ["b", "a"]
    assert [offer.problem for offer in offers] == [None, None]


async def test_provider_without_models_has_one() -> None:
    """A provider that lists nothing offers one model under its own name."""
    (offer,) = await gather_offers(_plugins(Plain()))

    (model,) = offer.models
    assert (model.id, model.name, model.provider) == ("plain", "Plain", "plain")
    assert model.capabilities == {Capability.TEXT_TO_IMAGE}
    assert (model.max_width, model.max_images) == (MAX_SIDE, MAX_NUM_IMAGES)
    assert model.price is None


async def test_models_carry_the_name_of_their_instance() -> None:
    """Whatever a model says, it belongs to the provider that lists it."""
    (offer,) = await gather_offers(_plugins(FakeProvider(models=[MODEL])))

    assert [model.provider for model in offer.models] == ["fake"]


@pytest.mark.parametrize("name", ["m:1", "em"], ids=["by id", "by alias"])
async def test_settings_have_the_last_word_about_prices(name: str) -> None:
    """A price in the settings replaces the one the model declares."""
    plugins = _plugins(FakeProvider(models=[MODEL]), fake={"prices": {name: FREE}})

    (offer,) = await gather_offers(plugins)

    assert offer.models[0].price == FREE


async def test_other_prices_stay(caplog: pytest.LogCaptureFixture) -> None:
    """A price under no model's name changes nothing, and the log says so."""
    plugins = _plugins(FakeProvider(models=[MODEL]), fake={"prices": {"m:2": FREE}})

    (offer,) = await gather_offers(plugins)

    assert offer.models[0].price == Price(per_image=Decimal("0.04"))
    assert "event='gaia.price_unused'" in caplog.text
    assert "nearest='m:1'" in caplog.text


async def test_fallbacks_come_from_the_settings() -> None:
    """Offers carry the fallbacks a person configured."""
    fallbacks = {"fallback_models": ("m",), "fallback_providers": ("other",)}

    (offer,) = await gather_offers(_plugins(FakeProvider(), fake=fallbacks))

    assert offer.fallback_models == ("m",)
    assert offer.fallback_providers == ("other",)


async def test_disabled_providers_say_so() -> None:
    """What a person switched off is listed with the line that did it."""
    plugins = _plugins(FakeProvider(), fake={"enabled": False})

    (offer,) = await gather_offers(plugins)

    assert offer.problem == "switched off: [providers.fake] enabled = false"
    assert offer.models == ()


async def test_known_problems_spare_the_question() -> None:
    """A provider that did not start is not asked for its models."""
    provider = FakeProvider(models=[MODEL])

    (offer,) = await gather_offers(_plugins(provider), {"fake": "did not start"})

    assert offer.problem == "did not start"
    assert offer.models == ()


async def test_offers_are_refreshed_by_the_card_of_the_moment() -> None:
    """A changed card is put into the offer; an unchanged one keeps it as it is."""
    provider = FakeProvider()
    plugins = _plugins(provider)
    (offer,) = await gather_offers(plugins)
    loaded = plugins.providers["fake"]

    same = refreshed(offer, loaded)
    provider.unavailable = "KEY is not set"
    changed = refreshed(offer, loaded)

    assert same is offer
    assert changed.info.unavailable == "KEY is not set"
    assert changed.models == offer.models
