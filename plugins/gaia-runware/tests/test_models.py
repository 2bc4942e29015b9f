"""The catalogue: who makes what, under which names, at which prices."""

import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from gaia_core import (
    Capability,
    GenerateRequest,
    Image,
    ModelInfo,
    Price,
    ProviderInfo,
    Quality,
    SettingsError,
    Speed,
    UpscaleRequest,
)
from gaia_core.catalog import Work
from gaia_core.selection import Offer, Plan, select
from gaia_core.settings.reading import Place, read
from gaia_core.testing import png
from gaia_runware import facts, models
from gaia_runware.models import ExtraModel, cards, facts_of, found

CREATORS = (
    "Runware",
    "Black Forest Labs",
    "OpenAI",
    "ByteDance",
    "Google",
    "Ideogram",
    "KlingAI",
    "MiniMax",
    "PixVerse",
    "Vidu",
)
HEAVY = ("PIL", "aiohttp", "pydantic", "runware", "structlog", "websockets")


def offer() -> Offer:
    """Everything the vendor serves, as the core sees it."""
    found = cards("runware")
    capabilities = frozenset().union(*(card.capabilities for card in found))
    info = ProviderInfo(name="runware", capabilities=capabilities)
    return Offer(info=info, models=found)


def plan(**fields: Any) -> Plan:
    """Plan a picture among the vendor's models alone."""
    return select(GenerateRequest(prompt="a red dragon", **fields), [offer()])


def card(name: str) -> ModelInfo:
    """The one model that answers to a name."""
    (only,) = (card for card in cards("runware") if card.answers_to(name))
    return only


# -- who makes what --------------------------------------------------------------------


@pytest.mark.parametrize("creator", CREATORS)
def test_every_creator_appears_with_what_they_make(creator: str) -> None:
    """The owner's list of creators is complete."""
    made = [card for card in cards("runware") if card.creator == creator]

    assert made
    assert all(card.capabilities or card.kind == "video" for card in made)


@pytest.mark.parametrize("capability", Capability)
def test_every_capability_has_a_model(capability: Capability) -> None:
    """Nothing the vendor can do is left out."""
    able = [card.id for card in cards("runware") if capability in card.capabilities]

    assert able


@pytest.mark.parametrize("creator", ["MiniMax", "PixVerse", "Vidu", "KlingAI"])
def test_models_that_make_video_are_passed_over_with_a_sentence(creator: str) -> None:
    """A person sees why a video model makes no picture."""
    video = next(
        card
        for card in cards("runware")
        if card.creator == creator and card.kind == "video"
    )

    planned = plan(model=video.id)

    assert planned.best is None
    assert planned.reasons[f"runware/{video.id}"] == "makes video, not pictures"


def test_the_first_choice_is_the_owners() -> None:
    """Without a word from anybody, FLUX.1 [dev] draws."""
    best = plan().best

    assert best is not None
    assert best.model.id == "runware:101@1"


def test_references_go_to_a_model_that_takes_them() -> None:
    """A model without references is passed over for one that has them."""
    planned = plan(reference_images=[png()])

    assert planned.best is not None
    assert "reference_images" in planned.best.model.supported_fields


@pytest.mark.parametrize("factor", [2, 4])
def test_pictures_are_enlarged_by_what_the_vendor_enlarges_by(factor: int) -> None:
    """Factors 2 and 4 have a model."""
    request = UpscaleRequest(image=png(), upscale_factor=factor)

    assert select(request, [offer()]).best is not None


def test_a_factor_nobody_has_is_refused_with_the_factors_there_are() -> None:
    """No model of the vendor's enlarges by 8."""
    request = UpscaleRequest(image=png(), upscale_factor=8)

    planned = select(request, [offer()])

    assert planned.best is None
    assert "enlarges by 2, 4, not by 8" in planned.reasons["runware/runware:504@1"]


# -- names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("runware:101@1", "runware:101@1"),
        ("blackforestlabs:flux-dev@1", "runware:101@1"),
        ("openai:dall-e-3@1", "openai:1@1"),
        ("ideogram:ideogram-v1@1", "ideogram:4@1"),
        ("juggernaut_pro", "rundiffusion:130@100"),
        ("juggernaut_lightning", "rundiffusion:110@101"),
        ("flux_schnell", "runware:100@1"),
        ("hidream_fast", "runware:97@3"),
        ("bfl-flux-1-dev", "runware:101@1"),
    ],
)
def test_the_names_of_the_owner_and_of_the_host_mean_models_of_today(
    name: str, model_id: str
) -> None:
    """Each resolves to one model, with a price, limits and supported fields."""
    meant = card(name)

    assert meant.id == facts_of(name).id == model_id
    assert meant.price is not None
    assert meant.max_width >= 1024
    assert Capability.TEXT_TO_IMAGE in meant.capabilities


def test_a_name_never_means_two_models() -> None:
    """Identifiers and aliases are all different."""
    names = [name for card in cards("runware") for name in (card.id, *card.aliases)]

    assert len(names) == len(set(names))


def test_every_identifier_is_one_the_sdk_leaves_alone() -> None:
    """What looks like an AIR is sent without asking the SDK's registry."""
    assert [
        name for name in facts.entries() if ":" not in name or "@" not in name
    ] == []


# -- prices ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "width", "height", "steps", "published"),
    [
        ("runware:101@1", 512, 512, 28, "0.0019"),
        ("runware:101@1", 1024, 1024, 28, "0.0038"),
        ("openai:1@1", 1024, 1024, 28, "0.1670"),
        ("ideogram:4@1", 1024, 1024, 28, "0.0600"),
    ],
)
def test_the_vendors_published_examples_come_out_right(
    model_id: str, width: int, height: int, steps: int, published: str
) -> None:
    """The examples on the vendor's model pages, to the digits given there."""
    price = card(model_id).price
    assert price is not None

    cost = price.of(Work(width=width, height=height, num_inference_steps=steps))

    assert cost.quantize(Decimal("0.0001"), ROUND_HALF_UP) == Decimal(published)


def test_every_price_says_where_it_comes_from() -> None:
    """A price is the vendor's, or a reseller's; there is no third kind."""
    origins = {
        entry.get("price_from")
        for entry in facts.entries().values()
        if "price" in entry
    }

    assert origins == {"vendor", "reseller"}


def test_a_model_without_a_published_price_has_none() -> None:
    """Nothing is made up."""
    assert card("runware:112@5").price is None


# -- what the settings add -------------------------------------------------------------


def test_a_checkpoint_from_the_settings_gets_a_card() -> None:
    """An identifier is enough; what it takes follows from what most of them take."""
    extra = {
        "civitai:4384@128713": ExtraModel(name="DreamShaper", price=_dollars("0.002"))
    }

    added = cards("runware", extra)[-1]

    assert added.id == "civitai:4384@128713"
    assert added.name == "DreamShaper"
    assert added.price == Price(per_image="0.002")
    assert {"negative_prompt", "loras", "seed", "strength"} <= added.supported_fields
    assert (added.max_width, added.max_height) == (2048, 2048)


def _dollars(amount: str) -> Price:
    return Price(per_image=Decimal(amount))


def test_an_architecture_says_what_a_checkpoint_takes() -> None:
    """Stable Diffusion 1.5 makes at most 1024 pixels a side, and skips CLIP layers."""
    extra = {"civitai:4384@128713": ExtraModel(architecture="sd-1-5")}

    known = facts_of("civitai:4384@128713", extra)

    assert known.sizes.bounds == (1024, 1024)
    assert "clipSkip" in known.fields
    assert cards("runware", extra)[-1].max_width == 1024


def test_settings_may_give_a_known_model_a_price_and_a_name() -> None:
    """It stays in its place."""
    extra = {
        "bfl:6@1": ExtraModel(name="Flex", price=_dollars("0.06"), aliases=("flex",))
    }

    known = cards("runware", extra)

    assert len(known) == len(cards("runware"))
    (flex,) = (card for card in known if card.answers_to("flex"))
    assert (flex.id, flex.name, flex.price) == ("bfl:6@1", "Flex", _dollars("0.06"))


def test_a_section_of_the_settings_is_read_into_extra_models() -> None:
    """What stands in ``[providers.runware.models."…"]`` becomes an `ExtraModel`."""
    table = {"name": "DreamShaper", "price": 0.002, "quality": "high", "speed": "fast"}

    model = read(ExtraModel, table, Place(("providers", "runware", "models", "x"), {}))

    assert model == ExtraModel(
        name="DreamShaper",
        price=_dollars("0.002"),
        quality=Quality.HIGH,
        speed=Speed.FAST,
    )


def test_an_architecture_nobody_knows_is_refused_with_those_there_are() -> None:
    """A slip of the pen in the settings says what to write."""
    place = Place(("providers", "runware", "models", "x"), {})

    with pytest.raises(SettingsError, match="architecture must be one of community"):
        read(ExtraModel, {"architecture": "sd9"}, place)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"dreamshaper": ExtraModel()}, "no identifier of the vendor's"),
        ({"a:1@1": ExtraModel(aliases=("flux_schnell",))}, "stands for two models"),
        ({"a:1@1": ExtraModel(aliases=("runware:101@1",))}, "stands for two models"),
    ],
    ids=["no AIR", "alias taken", "identifier taken"],
)
def test_settings_that_would_confuse_models_are_refused(
    extra: dict[str, ExtraModel], reason: str
) -> None:
    """A name must stay clear."""
    with pytest.raises(ValueError, match=reason):
        cards("runware", extra)


def test_slow_extra_models_are_not_waited_for_synchronously() -> None:
    """The vendor keeps a synchronous answer open for two minutes only."""
    extra = {"a:1@1": ExtraModel(speed=Speed.SLOW)}

    assert facts_of("a:1@1", extra).delivery == "async"
    assert facts_of("a:1@1").delivery == "sync"


# -- what a search finds ---------------------------------------------------------------


def test_a_hit_that_is_known_gets_its_card() -> None:
    """Price and limits are the catalogue's."""
    assert found("runware", {"air": "runware:101@1", "name": "x"}) == card(
        "runware:101@1"
    )


@pytest.mark.parametrize("architecture", ["sd-1-5", "sd1x"])
def test_a_checkpoint_that_was_found_gets_a_card_by_its_architecture(
    architecture: str,
) -> None:
    """It can be asked for at once, and has no price."""
    hit = {
        "air": "civitai:4384@128713",
        "name": "DreamShaper",
        "version": "8",
        "category": "checkpoint",
        "architecture": architecture,
    }

    checkpoint = found("runware", hit)

    assert checkpoint is not None
    assert (checkpoint.name, checkpoint.price) == ("DreamShaper 8", None)
    assert checkpoint.max_width == 1024


@pytest.mark.parametrize(
    "hit",
    [
        {"air": "civitai:1@2", "category": "lora"},
        {"air": "acme:song@1", "category": "checkpoint", "architecture": "songs"},
        {"name": "no identifier"},
    ],
    ids=["layers", "of an unknown kind", "no identifier"],
)
def test_a_hit_that_makes_no_pictures_is_left_out(hit: dict[str, str]) -> None:
    """Layers and embeddings are no models of their own."""
    assert found("runware", hit) is None


# -- manners ---------------------------------------------------------------------------


def test_listing_models_imports_nothing_heavy() -> None:
    """``gaia models`` stays quick with this room installed."""
    program = (
        "import sys, gaia_runware.models as m; m.cards('runware'); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_the_prompt_enhancer_is_in_the_catalogue() -> None:
    """The one model that payloads name by themselves is listed."""
    assert card(models.PROMPT_ENHANCER).capabilities == {Capability.PROMPT_ENHANCEMENT}


def test_pictures_of_any_accepted_size_can_be_worked_over() -> None:
    """Cutting out and enlarging has no limit below Gaia's own."""
    image = Image.from_bytes(png(2048, 2048))

    assert select(UpscaleRequest(image=image, upscale_factor=4), [offer()]).best
