"""What vendors are asked for, what is kept of it, and who may name it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from gaia_core import (
    FREE,
    Capability,
    Gaia,
    GenerateRequest,
    InvalidRequestError,
    ModelInfo,
    Price,
    ProviderConnectionError,
    Secret,
    Settings,
    hookimpl,
)
from gaia_core.assortment import MOST_FOUND, ModelList
from gaia_core.settings import ProviderSettings
from gaia_core.testing import FakeProvider

OpenGaia = Callable[..., Any]
DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)


def card(name: str, **fields: Any) -> ModelInfo:
    """Make the card of a model that draws."""
    return ModelInfo(
        id=name,
        name=name,
        provider="vendor",
        capabilities={Capability.TEXT_TO_IMAGE},
        **fields,
    )


@attrs.define(eq=False, kw_only=True)
class Vendor(FakeProvider):
    """
    A provider that can ask its vendor, and writes down what it was asked for.

    Attributes:
        today: What the vendor has, beyond the usual list.
        trouble: What asking it raises.
    """

    name: str = "vendor"
    models: tuple[ModelInfo, ...] = (card("usual"),)
    today: Sequence[Any] = (card("dragon-xl"), card("dragon-lite"), card("keep"))
    trouble: Exception | None = None
    asked: list[tuple[bool, str | None]] = attrs.field(factory=list, init=False)

    @hookimpl
    async def gaia_list_models(  # type: ignore[override]  # hooks take what they need
        self, refresh: bool, search: str | None
    ) -> Sequence[ModelInfo]:
        """List the usual, everything, or what has the words in its name."""
        self.asked.append((refresh, search))
        if not refresh and search is None:
            return self.models
        if self.trouble is not None:
            raise self.trouble
        if search is None:
            return (*self.models, *self.today)
        return [one for one in self.today if search in one.id]


@attrs.define(eq=False, kw_only=True)
class Relisting(FakeProvider):
    """A provider whose list can be asked anew, and not be searched."""

    name: str = "relisting"

    @hookimpl
    async def gaia_list_models(  # type: ignore[override]  # as above
        self, refresh: bool
    ) -> Sequence[ModelInfo]:
        """Say whether it was asked anew."""
        return [card("fresh" if refresh else "stale")]


@asynccontextmanager
async def _open(*providers: FakeProvider, **sections: Any) -> AsyncIterator[Gaia]:
    settings = Settings(
        providers={
            name: ProviderSettings(name=name, **section)
            for name, section in sections.items()
        }
    )
    async with Gaia.open(settings, plugins=providers, discover=False) as gaia:
        yield gaia


def _ids(models: ModelList) -> list[str]:
    return [model.id for model in models]


def _planned(gaia: Gaia, **fields: Any) -> list[str]:
    plan = gaia.plan(attrs.evolve(DRAGON, **fields))
    return [candidate.name for candidate in plan.candidates]


# -- asking anew ------------------------------------------------------------------


async def test_opening_asks_for_the_usual_list() -> None:
    """No vendor is asked until somebody wants to know what it has."""
    vendor = Vendor()

    async with _open(vendor) as gaia:
        models = await gaia.models()

    assert vendor.asked == [(False, None)]
    assert _ids(models) == ["usual"]
    assert models.problems == {}


async def test_vendors_are_asked_anew_on_demand() -> None:
    """What a vendor has today is listed, and serves requests."""
    async with _open(Vendor(), Relisting(), FakeProvider()) as gaia:
        models = await gaia.models(refresh=True)
        planned = _planned(gaia, model="keep")

    assert _ids(models) == [
        *("fake", "fresh"),
        *("usual", "dragon-xl", "dragon-lite", "keep"),
    ]
    assert models.problems == {}
    assert planned == ["vendor/keep"]


async def test_one_provider_can_be_asked_alone() -> None:
    """Whoever is not named keeps its list, and is not asked."""
    vendor = Vendor()

    async with _open(vendor, Relisting()) as gaia:
        models = await gaia.models(refresh=True, provider="relisting")
        everything = await gaia.models()

    assert _ids(models) == ["fresh"]
    assert _ids(everything) == ["fresh", "usual"]
    assert len(vendor.asked) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param(
            {"trouble": ProviderConnectionError("No route to the vendor.")},
            "listing its models failed: No route to the vendor.",
            id="our-error",
        ),
        pytest.param(
            {"trouble": OSError("sk-canary")},
            "listing its models failed: OSError",
            id="foreign-error",
        ),
        pytest.param(
            {"today": ["keep"]},
            "listing its models failed: gaia_list_models must give ModelInfo, not str",
            id="wrong-answer",
        ),
        pytest.param(
            {"unavailable": "KEY is not set"}, "KEY is not set", id="unavailable"
        ),
    ],
)
async def test_who_cannot_be_asked_keeps_the_usual_list(
    caplog: pytest.LogCaptureFixture, fields: dict[str, Any], reason: str
) -> None:
    """The list of before stays, and why is said and logged."""
    async with _open(Vendor(**fields), Relisting()) as gaia:
        models = await gaia.models(refresh=True)

    assert _ids(models) == ["fresh", "usual"]
    assert models.problems == {"vendor": reason}
    assert "event='gaia.vendor_not_asked'" in caplog.text
    assert "sk-canary" not in caplog.text


async def test_a_vendor_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking has a limit of its own, and the list of before stays."""
    monkeypatch.setattr("gaia_core.offers.ASK_TIMEOUT", 0.05)

    class Hanging(Vendor):
        @hookimpl
        async def gaia_list_models(  # type: ignore[override]  # as above
            self, refresh: bool, search: str | None
        ) -> Sequence[ModelInfo]:
            await asyncio.sleep(60 if refresh or search else 0)
            return self.models

    async with _open(Hanging()) as gaia:
        anew = await gaia.models(refresh=True)
        found = await gaia.models(search="dragon")

    assert _ids(anew) == ["usual"]
    assert _ids(found) == []
    reason = "listing its models took longer than 0.05 s"
    assert anew.problems == found.problems == {"vendor": reason}


async def test_who_did_not_start_is_not_asked() -> None:
    """A provider that could not start is named, with the reason."""

    class Broken(Vendor):
        @hookimpl
        async def gaia_start(self) -> None:
            raise OSError

    broken = Broken()

    async with _open(broken) as gaia:
        anew = await gaia.models(refresh=True)
        found = await gaia.models(search="dragon")

    assert broken.asked == []
    assert list(anew.problems) == list(found.problems) == ["vendor"]


async def test_what_was_found_outlives_asking_anew() -> None:
    """A new list does not take away what somebody may name already."""
    vendor = Vendor()

    async with _open(vendor) as gaia:
        await gaia.models(search="keep")
        vendor.today = ()
        models = await gaia.models(refresh=True)

    assert _ids(models) == ["usual", "keep"]


# -- looking for ------------------------------------------------------------------


async def test_catalogues_are_searched() -> None:
    """Only what was found is given, and the words reach the hook as they are."""
    vendor = Vendor()

    async with _open(vendor, Relisting(), FakeProvider()) as gaia:
        found = await gaia.models(search=" dragon ")
        fresh = await gaia.models(search="keep", refresh=True)

    assert _ids(found) == ["dragon-xl", "dragon-lite"]
    assert _ids(fresh) == ["keep"]
    assert vendor.asked[1:] == [(False, "dragon"), (True, "keep")]


async def test_what_was_found_can_be_named_from_then_on() -> None:
    """A request that names it is planned for it; before, nobody could serve it."""
    async with _open(Vendor()) as gaia:
        before = _planned(gaia, model="dragon-xl")
        await gaia.models(search="dragon")
        after = _planned(gaia, model="dragon-xl")
        response = await gaia.generate(attrs.evolve(DRAGON, model="dragon-xl"))
        listed = await gaia.models()

    assert before == []
    assert after == ["vendor/dragon-xl"]
    assert response.provider == "vendor"
    assert _ids(listed) == ["usual", "dragon-xl", "dragon-lite"]


async def test_what_was_found_changes_nothing_for_others() -> None:
    """A cheap model somebody looked for does not serve those who name none."""
    usual = card("usual", price=Price(per_image="0.04"))
    vendor = Vendor(models=(usual,), today=[card("dragon-cheap", price=FREE)])

    async with _open(vendor) as gaia:
        await gaia.models(search="dragon")
        plan = gaia.plan(DRAGON, policy="cheapest")

    assert [candidate.name for candidate in plan.candidates] == ["vendor/usual"]


async def test_names_of_the_usual_list_stay_its_own() -> None:
    """Nothing that is found takes the place of a model that was there before."""
    vendor = Vendor(
        models=(card("usual", aliases=["flux"], price=Price(per_image="0.04")),),
        today=[card("usual", price=FREE), card("usual-two", aliases=["flux"])],
    )

    async with _open(vendor) as gaia:
        found = await gaia.models(search="usual")
        planned = _planned(gaia, model="flux")
        listed = await gaia.models()

    assert found[0].price == Price(per_image="0.04")
    assert planned == ["vendor/usual"]
    assert _ids(listed) == ["usual", "usual-two"]


async def test_the_same_name_at_two_providers_is_told_apart() -> None:
    """Found at one provider, it is that one's alone."""
    first, second = Vendor(name="first", priority=5), Vendor(name="second")

    async with _open(first, second) as gaia:
        await gaia.models(search="keep", provider="second")
        planned = _planned(gaia, model="keep")

    assert planned == ["second/keep"]
    assert len(first.asked) == 1


async def test_found_models_get_the_prices_of_the_settings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A price in the settings holds for what is found, too, and no name is missed."""
    async with _open(Vendor(), vendor={"prices": {"keep": FREE, "usual": FREE}}) as one:
        caplog.clear()
        (found,) = await one.models(search="keep")

    assert found.price == FREE
    assert "gaia.price_unused" not in caplog.text


async def test_catalogues_that_cannot_be_asked_are_named() -> None:
    """What others found is given all the same."""
    lost = Vendor(name="lost", trouble=ProviderConnectionError("No route."))

    async with _open(Vendor(), lost) as gaia:
        found = await gaia.models(search="keep")

    assert _ids(found) == ["keep"]
    assert found.problems == {"lost": "listing its models failed: No route."}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"search": "  "}, "nothing to look for"),
        (
            {"search": "keep", "provider": "nobody"},
            "no provider 'nobody'; there is vendor",
        ),
        ({"refresh": True, "provider": "nobody"}, "no provider 'nobody'"),
        ({"provider": "nobody"}, "no provider 'nobody'"),
    ],
    ids=["no-words", "search", "refresh", "list"],
)
async def test_what_makes_no_sense_is_refused(
    choices: dict[str, Any], message: str
) -> None:
    """Nobody is asked for nothing, or at somebody who is not there."""
    vendor = Vendor()

    async with _open(vendor) as gaia:
        with pytest.raises(InvalidRequestError, match=message):
            await gaia.models(**choices)

    assert len(vendor.asked) == 1


async def test_a_provider_without_a_catalogue_says_so_when_named() -> None:
    """Nothing is found there; who asked for it by name learns why."""
    async with _open(Relisting()) as gaia:
        everywhere = await gaia.models(search="keep")
        there = await gaia.models(search="keep", provider="relisting")

    assert _ids(everywhere) == _ids(there) == []
    assert everywhere.problems == {}
    assert there.problems == {"relisting": "it has no catalogue that can be searched"}


async def test_what_is_kept_of_searches_has_a_limit() -> None:
    """Those who search without end push out their own oldest finds."""
    today = [card(f"m{number}") for number in range(MOST_FOUND + 1)]

    async with _open(Vendor(today=today)) as gaia:
        found = await gaia.models(search="m")
        listed = await gaia.models()
        first, last = _planned(gaia, model="m0"), _planned(gaia, model=today[-1].id)

    assert len(found) == MOST_FOUND + 1
    assert len(listed) == MOST_FOUND + 1
    assert first == []
    assert last == [f"vendor/{today[-1].id}"]


async def test_a_secret_of_a_vendor_is_masked_in_its_errors() -> None:
    """A vendor's words that repeat the key are shown without it."""

    @attrs.define(eq=False, kw_only=True)
    class Keyed(Vendor):
        api_key: Secret | None = None

    keyed = Keyed(
        api_key=Secret("sk-canary-4711"),
        trouble=ProviderConnectionError("sk-canary-4711 is unknown."),
    )

    async with _open(keyed) as gaia:
        models = await gaia.models(refresh=True)

    assert "sk-canary" not in str(models.problems)
    assert "is unknown" in models.problems["vendor"]


async def test_searching_and_asking_anew_at_once() -> None:
    """Neither loses what the other brings."""
    async with _open(Vendor()) as gaia:
        await asyncio.gather(
            gaia.models(refresh=True),
            gaia.models(search="dragon"),
            gaia.models(search="keep"),
        )
        models = await gaia.models()

    assert sorted(_ids(models)) == ["dragon-lite", "dragon-xl", "keep", "usual"]
