"""Who can serve a request, in which order, and why nobody else."""

from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia_core import (
    FREE,
    Capability,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    Lora,
    ModelInfo,
    ModelState,
    Policy,
    Price,
    ProviderInfo,
    Quality,
    RemoveBackgroundRequest,
    Speed,
    UpscaleRequest,
)
from gaia_core.fitting import OPTIONAL_FIELDS, ignored_fields
from gaia_core.selection import Offer, Plan, Preferences, select
from gaia_core.testing import png

DRAGON = GenerateRequest(prompt="a red dragon", width=512, height=512)
PICTURE = Image.from_bytes(png(64, 64))
EVERYTHING = frozenset(Capability)


def _model(id_: str = "m", **fields: Any) -> ModelInfo:
    facts = {"id": id_, "name": id_, "provider": "p", "capabilities": EVERYTHING}
    return ModelInfo(**facts | fields)


def _offer(
    name: str = "p", *models: ModelInfo, priority: int = 0, **fields: Any
) -> Offer:
    info = ProviderInfo(name=name, capabilities=EVERYTHING, priority=priority)
    cards = models or (_model(name),)
    cards = tuple(attrs.evolve(card, provider=name) for card in cards)
    facts: dict[str, Any] = {"info": info, "models": cards}
    return Offer(**facts | fields)


def _names(plan: Plan) -> list[str]:
    return [candidate.name for candidate in plan.candidates]


# -- who is passed over ------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (_offer(problem="switched off"), "switched off"),
        (
            _offer(
                info=ProviderInfo(
                    name="p", capabilities=EVERYTHING, unavailable="KEY is not set"
                )
            ),
            "KEY is not set",
        ),
        (
            _offer(info=ProviderInfo(name="p", capabilities={Capability.UPSCALING})),
            "cannot do text-to-image",
        ),
    ],
    ids=["problem", "unavailable", "capability"],
)
def test_providers_are_passed_over_with_a_reason(offer: Offer, reason: str) -> None:
    """A provider that cannot serve at all is rejected as a whole."""
    plan = select(DRAGON, [offer])

    assert plan.candidates == ()
    assert plan.best is None
    assert plan.reasons == {"p": reason}


@pytest.mark.parametrize(
    ("request_", "model", "reason"),
    [
        (
            attrs.evolve(DRAGON, model="other"),
            _model(),
            "the request names model other",
        ),
        (DRAGON, _model(kind="video"), "makes video, not pictures"),
        (
            DRAGON,
            _model(capabilities={Capability.UPSCALING}),
            "cannot do text-to-image",
        ),
        (DRAGON, _model(max_width=256), "makes at most 256x1024, not 512x512"),
        (DRAGON, _model(max_height=500), "makes at most 1024x500, not 512x512"),
        (
            attrs.evolve(DRAGON, num_images=3),
            _model(max_images=2),
            "makes at most 2 per request, not 3",
        ),
        (
            attrs.evolve(DRAGON, reference_images=[png()]),
            _model(),
            "does not support reference_images",
        ),
        (
            attrs.evolve(DRAGON, loras=[Lora(model="ink")]),
            _model(supported_fields=["reference_images"]),
            "does not support loras",
        ),
        (
            UpscaleRequest(image=PICTURE, upscale_factor=8),
            _model(upscale_factors=[4, 2]),
            "enlarges by 2, 4, not by 8",
        ),
        (
            UpscaleRequest(image=PICTURE, upscale_factor=8),
            _model(max_width=500),
            "makes at most 500x1024, not 512x512",
        ),
        (
            RemoveBackgroundRequest(image=PICTURE),
            _model(max_width=32),
            "makes at most 32x1024, not 64x64",
        ),
    ],
    ids=[
        "model",
        "video",
        "capability",
        "width",
        "height",
        "count",
        "references",
        "loras",
        "factor",
        "enlarged size",
        "size as it is",
    ],
)
def test_models_are_passed_over_with_a_reason(
    request_: Any, model: ModelInfo, reason: str
) -> None:
    """A model that cannot serve is rejected in words a person can act on."""
    plan = select(request_, [_offer("p", model)])

    assert plan.candidates == ()
    assert plan.reasons == {"p/m": reason}


def test_words_have_no_size() -> None:
    """A request for words is served by a model of any size."""
    small = _model(max_width=16, max_height=16)

    plan = select(EnhancePromptRequest(prompt="a keep"), [_offer("p", small)])

    assert _names(plan) == ["p/m"]


@pytest.mark.parametrize(
    ("price", "ceiling", "reason"),
    [
        (Price(per_image="0.04"), "0.04", None),
        (Price(per_image="0.041"), "0.04", "costs $0.041, the ceiling is $0.04"),
        (None, "0.04", "its price is unknown and the ceiling is $0.04"),
        (FREE, "0", None),
        (None, None, None),
    ],
    ids=["at the ceiling", "above it", "unknown", "free", "no ceiling"],
)
def test_ceiling_holds_exactly(
    price: Price | None, ceiling: str | None, reason: str | None
) -> None:
    """What costs more than the ceiling, or may, is passed over."""
    preferences = Preferences(
        max_cost_usd=None if ceiling is None else Decimal(ceiling)
    )

    plan = select(DRAGON, [_offer("p", _model(price=price))], preferences)

    assert plan.reasons.get("p/m") == reason
    assert bool(plan.candidates) is (reason is None)


def test_ceiling_counts_the_whole_request() -> None:
    """The estimate is for all pictures of the request."""
    request = attrs.evolve(DRAGON, num_images=4)
    model = _model(price=Price(per_image="0.03"), max_images=4)

    plan = select(
        request, [_offer("p", model)], Preferences(max_cost_usd=Decimal("0.1"))
    )

    assert plan.reasons == {"p/m": "costs $0.12, the ceiling is $0.1"}


def test_allowed_providers_are_the_only_ones() -> None:
    """Everybody else says who is allowed."""
    allowed = Preferences(allowed_providers=frozenset({"b", "c"}))

    plan = select(DRAGON, [_offer("a"), _offer("b")], allowed)

    assert _names(plan) == ["b/b"]
    assert plan.reasons == {"a": "not among the allowed providers (b, c)"}


def test_admission_has_a_say() -> None:
    """Whoever is not admitted now is passed over with the reason given."""

    def admit(offer: Offer, _capability: Capability) -> str | None:
        return "resting for 30 s" if offer.name == "a" else None

    plan = select(DRAGON, [_offer("a"), _offer("b")], admit=admit)

    assert _names(plan) == ["b/b"]
    assert plan.reasons == {"a": "resting for 30 s"}


def test_admission_is_asked_when_its_turn_comes() -> None:
    """Nobody behind the first candidate is worked out before it is needed."""
    asked: list[str] = []

    def admit(offer: Offer, _capability: Capability) -> str | None:
        asked.append(offer.name)
        return None

    plan = select(DRAGON, [_offer("a"), _offer("b")], admit=admit)

    assert plan.best is not None
    assert asked == ["a"]
    assert len(plan.candidates) == 2


# -- whom a request names ----------------------------------------------------------


def test_named_provider_is_asked_alone() -> None:
    """A request that names a provider is not taken elsewhere."""
    offers = [_offer("a", priority=9), _offer("b")]

    plan = select(attrs.evolve(DRAGON, provider="b"), offers)

    assert _names(plan) == ["b/b"]
    assert plan.reasons == {}


def test_named_provider_comes_before_its_stand_ins() -> None:
    """Configured fallback providers stand in, as configured, and nobody else."""
    offers = [
        _offer("named", fallback_providers=("low", "high")),
        _offer("low", priority=1),
        _offer("high", priority=9),
        _offer("other", priority=5),
    ]

    plan = select(attrs.evolve(DRAGON, provider="named"), offers)

    assert _names(plan) == ["named/named", "low/low", "high/high"]


def test_unknown_provider_is_named() -> None:
    """A provider that nobody knows is a rejection of its own."""
    plan = select(attrs.evolve(DRAGON, provider="runwear"), [_offer("runware")])

    assert plan.candidates == ()
    assert "no provider of this name" in plan.reasons["runwear"]


@pytest.mark.parametrize("name", ["m:1", "em", "first"], ids=["id", "alias", "another"])
def test_named_model_is_asked_alone(name: str) -> None:
    """A model is named by its identifier or an alias, by all who have it."""
    model = _model("m:1", aliases=["em", "first"])
    offers = [_offer("a", _model("x"), model), _offer("b", model), _offer("c")]

    plan = select(attrs.evolve(DRAGON, model=name), offers)

    assert _names(plan) == ["a/m:1", "b/m:1"]


def test_substitutes_follow_the_model_they_stand_in_for() -> None:
    """Fallback models come right behind, in the order of the settings."""
    models = [_model("a"), _model("b"), _model("c", aliases=["see"])]
    offers = [
        _offer("p", *models, fallback_models=("see", "a", "b", "nothing")),
        _offer("q", priority=-1),
    ]

    plan = select(attrs.evolve(DRAGON, model="a"), offers)

    assert _names(plan) == ["p/a", "p/c", "p/b"]
    assert [one.is_substitute for one in plan.candidates] == [False, True, True]


def test_substitutes_are_asked_once() -> None:
    """A fallback model that is named twice is one candidate."""
    models = [_model("a"), _model("b", aliases=["bee"])]
    section = ("b", "bee", "b")

    plan = select(DRAGON, [_offer("p", *models, fallback_models=section)])

    assert _names(plan) == ["p/a", "p/b"]


def test_substitutes_keep_to_the_limits() -> None:
    """A fallback model that cannot serve the request is no candidate."""
    models = [_model("a"), _model("b", max_width=64)]

    plan = select(DRAGON, [_offer("p", *models, fallback_models=("b",))])

    assert _names(plan) == ["p/a"]
    assert plan.reasons == {"p/b": "makes at most 64x1024, not 512x512"}


# -- order -------------------------------------------------------------------------


def test_priority_then_name() -> None:
    """Without another policy the highest priority comes first."""
    offers = [_offer("b", priority=1), _offer("c", priority=7), _offer("a", priority=1)]

    assert _names(select(DRAGON, offers)) == ["c/c", "a/a", "b/b"]


@pytest.mark.parametrize(
    ("policy", "first", "second"),
    [
        (
            Policy.CHEAPEST,
            _model(price=Price(per_image="0.01")),
            _model(price=Price(per_image="0.02")),
        ),
        (Policy.CHEAPEST, _model(price=Price(per_image=9)), _model(price=None)),
        (Policy.CHEAPEST, _model(price=FREE), _model(price=None)),
        (Policy.FASTEST, _model(speed=Speed.FAST), _model(speed=Speed.MEDIUM)),
        (Policy.FASTEST, _model(speed=Speed.MEDIUM), _model(speed=Speed.SLOW)),
        (Policy.BEST, _model(quality=Quality.HIGH), _model(quality=Quality.STANDARD)),
        (Policy.BEST, _model(quality=Quality.STANDARD), _model(quality=Quality.DRAFT)),
    ],
    ids=[
        "cheaper",
        "known price",
        "free",
        "fast",
        "medium",
        "high quality",
        "standard quality",
    ],
)
def test_policy_comes_before_priority(
    policy: Policy, first: ModelInfo, second: ModelInfo
) -> None:
    """The policy decides, whatever the priorities."""
    offers = [_offer("second", second, priority=99), _offer("first", first)]

    plan = select(DRAGON, offers, Preferences(policy=policy))

    assert [candidate.provider for candidate in plan.candidates] == ["first", "second"]


def test_policy_falls_back_on_priority() -> None:
    """Where the policy sees no difference, priority and name decide."""
    offers = [_offer("b"), _offer("a"), _offer("c", priority=1)]

    for policy in Policy:
        plan = select(DRAGON, offers, Preferences(policy=policy))
        assert _names(plan) == ["c/c", "a/a", "b/b"]


def test_measured_latency_decides_among_equals() -> None:
    """Of equally fast models the one that was faster of late comes first."""
    offers = [_offer("a"), _offer("b"), _offer("c")]
    latency = {"b": 1.5, "c": 0.5}

    plan = select(DRAGON, offers, Preferences(policy=Policy.FASTEST, latency=latency))

    assert _names(plan) == ["c/c", "b/b", "a/a"]


def test_price_depends_on_the_request() -> None:
    """The cheapest for a small picture need not be the cheapest for a large one."""
    flat = _offer("flat", _model(price=Price(per_image="0.02")))
    by_size = _offer("size", _model(price=Price(per_megapixel="0.03")))
    cheapest = Preferences(policy=Policy.CHEAPEST)

    small = select(DRAGON, [flat, by_size], cheapest)
    large = select(
        attrs.evolve(DRAGON, width=1024, height=1024), [flat, by_size], cheapest
    )

    assert small.candidates[0].provider == "size"
    assert large.candidates[0].provider == "flat"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a map of Eldmoor", "maps"),
        ("a maple tree", "plain"),
        ("a dragon", "plain"),
    ],
    ids=["word", "part of a word", "none"],
)
def test_prompt_chooses_among_a_providers_models(prompt: str, expected: str) -> None:
    """A model made for what the prompt asks for comes before its siblings."""
    models = [
        _model("plain"),
        _model("maps", suits=lambda prompt: "map" in prompt.split()),
    ]

    plan = select(attrs.evolve(DRAGON, prompt=prompt), [_offer("p", *models)])

    assert _names(plan) == [f"p/{expected}"]


def test_a_card_that_fails_is_not_meant() -> None:
    """A model whose card raises over a prompt stays in its place."""
    models = [_model("plain"), _model("odd", suits=lambda prompt: prompt[9_999] == "")]

    plan = select(DRAGON, [_offer("p", *models)])

    assert _names(plan) == ["p/plain"]


def test_siblings_say_how_to_get_them() -> None:
    """A model that could serve but comes second says that it can be named."""
    plan = select(DRAGON, [_offer("p", _model("a"), _model("b"))])

    assert plan.reasons == {"p/b": "another model of p comes first; name it to get it"}


# -- how a model is now ------------------------------------------------------------


def _absent() -> ModelState:
    return ModelState(word="absent", unavailable="is not here: fetch it")


def test_a_model_that_cannot_be_asked_is_passed_over() -> None:
    """The provider's next model serves; the reason is what the state says."""
    plan = select(DRAGON, [_offer("p", _model("a", state=_absent), _model("b"))])

    assert _names(plan) == ["p/b"]
    assert plan.reasons == {"p/a": "is not here: fetch it"}


def test_a_named_model_that_cannot_be_asked_is_passed_over() -> None:
    """Nobody serves in its place unasked."""
    named = attrs.evolve(DRAGON, model="a")

    plan = select(named, [_offer("p", _model("a", state=_absent), _model("b"))])

    assert plan.best is None
    assert plan.reasons == {
        "p/a": "is not here: fetch it",
        "p/b": "the request names model a",
    }


def test_a_fallback_stands_in_for_a_model_that_cannot_be_asked() -> None:
    """What the settings configure for it serves, as a substitute."""
    named = attrs.evolve(DRAGON, model="a")
    models = [_model("a", state=_absent), _model("b"), _model("c", state=_absent)]

    plan = select(named, [_offer("p", *models, fallback_models=("c", "b"))])

    assert _names(plan) == ["p/b"]
    assert plan.candidates[0].is_substitute
    assert plan.reasons["p/a"] == "is not here: fetch it"


def test_a_model_that_would_not_do_says_so_first() -> None:
    """Nobody is told to fetch a model that cannot make the picture anyway."""
    small = _model("a", max_width=256, max_height=256, state=_absent)

    plan = select(DRAGON, [_offer("p", small)])

    assert plan.reasons == {"p/a": "makes at most 256x256, not 512x512"}


def test_the_state_is_asked_at_every_plan() -> None:
    """A model that arrives meanwhile serves the next request."""
    states = [_absent(), ModelState(word="on disk")]
    model = _model("a", state=lambda: states[0])

    before = select(DRAGON, [_offer("p", model)]).best
    del states[0]
    after = select(DRAGON, [_offer("p", model)]).best

    assert before is None
    assert after is not None


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "it gave NoneType, not ModelState"), (KeyError("sk-canary"), "KeyError")],
    ids=["nothing", "raises"],
)
def test_a_state_that_fails_is_contained(answer: object, words: str) -> None:
    """Such a model counts as one that cannot be asked; the others serve."""

    def state() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    plan = select(DRAGON, [_offer("p", _model("a", state=state), _model("b"))])

    assert _names(plan) == ["p/b"]
    assert plan.reasons == {"p/a": f"telling its state failed: {words}"}


def test_cards_are_equal_whatever_tells_their_state() -> None:
    """A provider may list them anew with every call."""
    loaded = ModelState(word="loaded")

    assert _model("a", state=_absent) == _model("a", state=lambda: loaded)
    assert "state" not in repr(_model("a", state=_absent))


# -- ignored fields ----------------------------------------------------------------


def test_ignored_fields_are_those_set_and_not_supported() -> None:
    """A field that is not set, or is supported, is not ignored."""
    request = attrs.evolve(DRAGON, seed=0, guidance_scale=2.0)

    assert ignored_fields(request, _model()) == ("seed", "guidance_scale")
    assert ignored_fields(request, _model(supported_fields=OPTIONAL_FIELDS)) == ()
    assert ignored_fields(EnhancePromptRequest(prompt="a"), _model()) == ()


# -- laws --------------------------------------------------------------------------

laws = settings(max_examples=40, deadline=None)

prices = st.none() | st.builds(
    Price,
    per_image=st.decimals(0, 1, places=3),
    per_megapixel=st.decimals(0, 1, places=3),
)
models = st.builds(
    _model,
    st.sampled_from(["m1", "m2", "m3", "m4"]),
    capabilities=st.sets(st.sampled_from(Capability)),
    max_width=st.sampled_from([256, 512, 1024]),
    max_images=st.integers(1, 4),
    price=prices,
    quality=st.sampled_from(Quality),
    speed=st.sampled_from(Speed),
    kind=st.sampled_from(["image", "image", "video"]),
)
model_lists = st.lists(models, min_size=1, max_size=4, unique_by=lambda one: one.id)


@st.composite
def _offers(draw: st.DrawFn) -> list[Offer]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    return [
        _offer(
            name,
            *draw(model_lists),
            priority=draw(st.integers(-2, 2)),
            fallback_models=tuple(draw(st.lists(st.sampled_from(["m1", "m2"])))),
            fallback_providers=tuple(draw(st.lists(st.sampled_from("abc")))),
            problem=draw(st.none() | st.just("switched off")),
        )
        for name in names
    ]


requests = st.builds(
    GenerateRequest,
    prompt=st.sampled_from(["a dragon", "a map"]),
    width=st.sampled_from([128, 512]),
    height=st.just(128),
    num_images=st.integers(1, 3),
    model=st.none() | st.sampled_from(["m1", "m2"]),
    provider=st.none() | st.sampled_from("abz"),
)
preferences = st.builds(
    Preferences,
    policy=st.sampled_from(Policy),
    max_cost_usd=st.none() | st.decimals(0, 2, places=2),
    allowed_providers=st.none() | st.frozensets(st.sampled_from("abcdef")),
    latency=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 60)),
)


@laws
@given(requests, _offers(), preferences, st.randoms())
def test_plan_depends_on_values_alone(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences, chance: Any
) -> None:
    """The same values give the same plan, in whatever order offers come."""
    first = select(request, offers, wishes)
    chance.shuffle(offers)
    second = select(request, offers, wishes)

    assert first.candidates == second.candidates
    assert first.reasons == second.reasons


@laws
@given(requests, _offers(), preferences)
def test_everybody_is_a_candidate_or_has_a_reason(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences
) -> None:
    """Nobody who may serve is passed over in silence, and nobody is both."""
    plan = select(request, offers, wishes)
    chosen = {candidate.name for candidate in plan.candidates}
    stand_ins = {
        name
        for offer in offers
        if offer.name == request.provider
        for name in offer.fallback_providers
    }

    for offer in offers:
        if request.provider not in {None, offer.name} and offer.name not in stand_ins:
            continue
        for model in offer.models:
            name = f"{offer.name}/{model.id}"
            has_reason = name in plan.reasons or offer.name in plan.reasons
            assert (name in chosen) is not has_reason
    assert all(plan.reasons.values())
    assert len(chosen) == len(plan.candidates)


@laws
@given(requests, _offers(), preferences)
def test_candidates_keep_every_promise(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences
) -> None:
    """Whoever is asked can do it, may be asked, and costs no more than allowed."""
    for candidate in select(request, offers, wishes).candidates:
        model = candidate.model
        assert request.capability in model.capabilities
        assert request.width <= model.max_width
        assert request.num_images <= model.max_images
        assert model.kind == "image"
        if wishes.allowed_providers is not None:
            assert candidate.provider in wishes.allowed_providers
        if wishes.max_cost_usd is not None:
            assert candidate.price_usd is not None
            assert candidate.price_usd <= wishes.max_cost_usd
        if request.model is not None and not candidate.is_substitute:
            assert model.answers_to(request.model)


@laws
@given(requests, _offers(), preferences)
def test_order_follows_the_policy(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences
) -> None:
    """Along the plan nothing gets better by the policy's own measure."""
    request = attrs.evolve(request, provider=None)
    ranked = [
        one
        for one in select(request, offers, wishes).candidates
        if not one.is_substitute
    ]

    match wishes.policy:
        case Policy.CHEAPEST:
            known = [one.price_usd for one in ranked if one.price_usd is not None]
            assert known == sorted(known)
            assert all(one.price_usd is None for one in ranked[len(known) :])
        case Policy.FASTEST:
            speeds = [one.model.speed.rank for one in ranked]
            assert speeds == sorted(speeds, reverse=True)
        case Policy.BEST:
            qualities = [one.model.quality.rank for one in ranked]
            assert qualities == sorted(qualities, reverse=True)
        case _:
            ranks = [(-one.priority, one.provider) for one in ranked]
            assert ranks == sorted(ranks)


@laws
@given(requests, _offers(), preferences)
def test_reading_a_plan_changes_nothing(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences
) -> None:
    """A plan may be read in any order, part of it first."""
    whole = select(request, offers, wishes)
    piecewise = select(request, offers, wishes)

    reasons = piecewise.reasons
    best = piecewise.best

    assert piecewise.candidates == whole.candidates
    assert best == next(iter(whole.candidates), None)
    assert reasons == whole.reasons


@laws
@given(requests, _offers(), preferences)
def test_a_higher_ceiling_takes_nobody_away(
    request: GenerateRequest, offers: list[Offer], wishes: Preferences
) -> None:
    """Whoever is affordable stays so, possibly behind a better one."""
    request = attrs.evolve(request, model=None)
    generous = attrs.evolve(wishes, max_cost_usd=None)

    before = {one.provider for one in select(request, offers, wishes).candidates}
    after = {one.provider for one in select(request, offers, generous).candidates}

    assert before <= after
