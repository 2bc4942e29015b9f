"""The cards of the vendor's models, and of those that the settings add."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import attrs

from gaia_core import Capability, ModelInfo, Price, Quality, Speed
from gaia_runware.facts import (
    COMMUNITY,
    PICTURES,
    VIDEOS,
    Facts,
    architectures,
    entries,
    facts_of_checkpoint,
    facts_of_entry,
)

PROMPT_ENHANCER = "runware:llama-3-1-8b@prompt-enhancer"
"""The model that works out prompts: the vendor has one."""

MAX_IMAGES = 8
"""Most pictures of one request: the vendor makes 20, Gaia asks for 8 at most."""

_SUPPORTED = {
    "negative_prompt": "negativePrompt",
    "seed": "seed",
    "guidance_scale": "CFGScale",
    "num_inference_steps": "steps",
    "strength": "strength",
    "loras": "lora",
}
_CHECKPOINT = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.IMAGE_TO_IMAGE,
        Capability.INPAINTING,
        Capability.OUTPAINTING,
    }
)
_REFERENCED = frozenset({Capability.TEXT_TO_IMAGE, Capability.IMAGE_TO_IMAGE})
_COMMUNITIES = ("civitai:",)
"""Whose models are checkpoints that make pictures, layers apart."""
_ARCHITECTURES = {
    "flux1d": "flux-1-dev",
    "flux1s": "flux-1-schnell",
    "sd1x": "sd-1-5",
    "sd1xlcm": "sd-1-5",
    "sdhyper": "sd-1-5",
    "sdxldistilled": "sdxl",
    "sdxlhyper": "sdxl",
    "sdxllcm": "sdxl",
    "sdxllightning": "sdxl-lightning",
    "sdxlturbo": "sdxl-turbo",
}
"""What searches call them, or have called them, to what the SDK calls them."""
_LARGEST = 8_192
"""Longest side of what is worked over: the vendor publishes no limit, Gaia's holds."""


def _known(_: object, field: "attrs.Attribute[Any]", value: str) -> None:
    if value not in architectures():
        message = f"{field.name} must be one of {', '.join(architectures())}"
        raise ValueError(message)


def _is_air(model_id: str) -> bool:
    return ":" in model_id and "@" in model_id


@attrs.frozen(kw_only=True)
class ExtraModel:
    """
    A model that the settings add: one of the hundreds of thousands of checkpoints.

    Attributes:
        name: What a person calls it; empty: its identifier.
        price: US dollars for each picture, or a table; None: unknown.
        architecture: What it was trained from; it decides what it takes.
        creator: Who trained it.
        quality: How good its pictures are.
        speed: How fast it answers.
        default_steps: Denoising steps when a request names none.
        aliases: Other names it answers to.
    """

    name: str = ""
    price: Price | None = None
    architecture: str = attrs.field(default=COMMUNITY, validator=_known)
    creator: str | None = None
    quality: Quality = Quality.STANDARD
    speed: Speed = Speed.MEDIUM
    default_steps: int = 28
    aliases: tuple[str, ...] = ()


Extra = Mapping[str, ExtraModel]
"""Identifiers of models to what the settings say of them."""


def cards(provider: str, extra: Extra | None = None) -> tuple[ModelInfo, ...]:
    """
    Give the cards of every model, the preferred ones first.

    Args:
        provider: The name of the provider that offers them.
        extra: Models that the settings add; one that is known already stays in its
            place, with the name and the price given here.

    Raises:
        ValueError: If an identifier is none of the vendor's, or an alias would
            stand for two models.
    """
    listed = _listed(provider)
    if not extra:
        return tuple(listed.values())
    revised = [_revised(card, extra.get(card.id)) for card in listed.values()]
    added = [
        _added(provider, model_id, model)
        for model_id, model in extra.items()
        if model_id not in listed
    ]
    found = (*revised, *added)
    _check_names(found)
    return found


@cache
def _listed(provider: str) -> Mapping[str, ModelInfo]:
    return {model_id: _card(provider, entry) for model_id, entry in entries().items()}


@cache
def _ids() -> Mapping[str, str]:
    """Aliases to the identifiers they stand for."""
    return {
        alias: model_id
        for model_id, card in _listed("").items()
        for alias in card.aliases
    }


@cache
def _facts() -> Mapping[str, Facts]:
    """Identifiers to the facts about what this room lists."""
    return {model_id: facts_of_entry(entry) for model_id, entry in entries().items()}


def facts_of(model_id: str, extra: Extra | None = None) -> Facts:
    """
    Give what has to be known of a model to write a task for it.

    An identifier nobody listed counts as a checkpoint of an unknown kind.

    Args:
        model_id: The identifier of the model's card, or an alias from this room.
        extra: Models that the settings add.
    """
    listed = _facts().get(_ids().get(model_id, model_id))
    if listed is not None:
        return listed
    model = (extra or {}).get(model_id, ExtraModel())
    found = facts_of_checkpoint(model_id, model.name, model.architecture)
    return attrs.evolve(found, is_slow=model.speed is Speed.SLOW)


def found(provider: str, hit: Mapping[str, Any]) -> ModelInfo | None:
    """
    Make a card of what a search among the vendor's models found.

    Args:
        provider: The name of the provider that offers it.
        hit: One of ``results``: ``air``, ``name``, ``version``, ``category``, ….

    Returns:
        The card of this room where the model is known; one of a checkpoint of its
        architecture otherwise, without a price. None for what makes no pictures
        by itself (layers, embeddings), and for models of the vendor's of which
        nobody here knows what they make.
    """
    model_id = str(hit.get("air"))
    category = hit.get("category") or "checkpoint"
    if not _is_air(model_id) or category != "checkpoint":
        return None
    known = _listed(provider).get(model_id)
    if known is not None:
        return known
    architecture = _architecture_of(model_id, str(hit.get("architecture")))
    if architecture is None:
        return None
    words = (hit.get("name"), hit.get("version"))
    name = " ".join(word for word in words if isinstance(word, str) and word)
    model = ExtraModel(name=name, architecture=architecture)
    return _added(provider, model_id, model)


def _architecture_of(model_id: str, word: str) -> str | None:
    architecture = _ARCHITECTURES.get(word, word)
    if architecture in architectures():
        return architecture
    return COMMUNITY if model_id.startswith(_COMMUNITIES) else None


def _card(provider: str, entry: Mapping[str, Any]) -> ModelInfo:
    is_video = entry["task"] == VIDEOS
    facts = facts_of_entry(entry)
    width, height = _bounds(facts)
    price = entry.get("price")
    return ModelInfo(
        id=entry["id"],
        name=entry["name"],
        provider=provider,
        creator=entry["creator"],
        kind="video" if is_video else "image",
        capabilities=entry.get("capabilities", ()),
        max_width=width,
        max_height=height,
        max_images=MAX_IMAGES if facts.task == PICTURES else 1,
        supported_fields=_supported_fields(facts),
        upscale_factors=entry.get("factors", (2, 4)),
        price=None if price is None else Price(**price),
        default_steps=entry.get("default_steps", 28),
        quality=entry.get("quality", Quality.STANDARD),
        speed=entry.get("speed", Speed.SLOW if is_video else Speed.MEDIUM),
        aliases=(entry["slug"], *entry.get("aliases", ())),
    )


def _bounds(facts: Facts) -> tuple[int, int]:
    return facts.sizes.bounds if facts.has_size else (_LARGEST, _LARGEST)


def _supported_fields(facts: Facts) -> frozenset[str]:
    """Say in Gaia's words what a model honours."""
    taken = {ours for ours, theirs in _SUPPORTED.items() if theirs in facts.fields}
    return frozenset(
        taken | ({"reference_images"} if "referenceImages" in facts.inputs else set())
    )


def _revised(card: ModelInfo, model: ExtraModel | None) -> ModelInfo:
    """Put the settings' words over the card of a model that is known."""
    if model is None:
        return card
    return attrs.evolve(
        card,
        name=model.name or card.name,
        price=card.price if model.price is None else model.price,
        creator=model.creator or card.creator,
        aliases=(*card.aliases, *model.aliases),
    )


def _added(provider: str, model_id: str, model: ExtraModel) -> ModelInfo:
    if not _is_air(model_id):
        message = (
            f"{model_id} is no identifier of the vendor's: they look like "
            "civitai:4384@128713."
        )
        raise ValueError(message)
    facts = facts_of_checkpoint(model_id, model.name, model.architecture)
    has_references = "referenceImages" in facts.inputs
    width, height = facts.sizes.bounds
    return ModelInfo(
        id=model_id,
        name=facts.name,
        provider=provider,
        creator=model.creator,
        capabilities=_REFERENCED if has_references else _CHECKPOINT,
        max_width=width,
        max_height=height,
        max_images=MAX_IMAGES,
        supported_fields=_supported_fields(facts),
        price=model.price,
        default_steps=model.default_steps,
        quality=model.quality,
        speed=model.speed,
        aliases=model.aliases,
    )


def _check_names(models: Iterable[ModelInfo]) -> None:
    owners: dict[str, str] = {}
    for model in models:
        for name in {model.id, *model.aliases}:
            owner = owners.setdefault(name, model.id)
            if owner != model.id:
                message = f"{name} stands for two models: {owner} and {model.id}."
                raise ValueError(message)
