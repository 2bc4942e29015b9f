"""Ask every provider what it has to offer, and contain those that fail."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.calls import answer_of, words_of
from gaia_core.capabilities import HOOK_OF
from gaia_core.catalog import ModelInfo, ProviderInfo
from gaia_core.errors import PluginError
from gaia_core.observability import get_logger
from gaia_core.requests import MAX_NUM_IMAGES, MAX_SIDE
from gaia_core.selection import Offer, RankedOffers

if TYPE_CHECKING:
    from gaia_core.plugins import Plugins, Provider

LIST = "gaia_list_models"
"""The hook that lists models."""
LIST_TIMEOUT = 10.0
"""Longest wait for a provider's usual list of models, in seconds."""
ASK_TIMEOUT = 30.0
"""Longest wait for a provider that asks its vendor, in seconds."""


async def gather_offers(
    plugins: "Plugins", problems: Mapping[str, str] | None = None
) -> RankedOffers:
    """
    Ask every provider for its card and its models, all at once.

    A provider that fails or takes too long offers nothing, and says why.

    Args:
        plugins: The providers to ask.
        problems: Provider to the reason why it is not to be asked.

    Returns:
        One offer per provider, best rank first, those switched off included.
    """
    known = problems or {}
    offers = await asyncio.gather(
        *(
            offer_of(provider, known.get(name))
            for name, provider in plugins.providers.items()
        )
    )
    return RankedOffers.of([*offers, *map(_switched_off, plugins.disabled)])


def refreshed(offer: Offer, provider: "Provider") -> Offer:
    """Put the provider's current card into an offer made earlier."""
    info = provider.info()
    return offer if info == offer.info else attrs.evolve(offer, info=info)


async def offer_of(
    provider: "Provider",
    known: str | None,
    *,
    refresh: bool = False,
    search: str | None = None,
) -> Offer:
    """
    Ask one provider for its card and its models.

    Args:
        provider: Whom to ask.
        known: The reason why it is not to be asked for models.
        refresh: Whether it is to ask its vendor what there is today.
        search: What to look for in its vendor's catalogue.

    Returns:
        What it offers; its ``problem`` says why that is nothing.
    """
    info = provider.info()
    settings = provider.settings
    offer = Offer(
        info=info,
        fallback_models=tuple(settings.fallback_models),
        fallback_providers=tuple(settings.fallback_providers),
    )
    problem = known or _missing_hook(provider, info)
    if problem is not None:
        return attrs.evolve(offer, problem=problem)
    is_asking = refresh or search is not None
    patience = ASK_TIMEOUT if is_asking else LIST_TIMEOUT
    try:
        models = await _models_of(
            provider, info, patience=patience, refresh=refresh, search=search
        )
    except TimeoutError:
        reason = f"listing its models took longer than {patience:g} s"
        return attrs.evolve(offer, problem=reason)
    except Exception as error:  # noqa: BLE001  a plugin may raise anything
        reason = f"listing its models failed: {words_of(error)}"
        return attrs.evolve(offer, problem=reason)
    unused = {} if search else unused_prices(settings.prices, models)
    for name, nearest in unused.items():
        get_logger(provider=provider.name).warning(
            "gaia.price_unused", model=name, nearest=nearest
        )
    return attrs.evolve(offer, models=tuple(_priced(models, provider)))


async def _models_of(
    provider: "Provider", info: ProviderInfo, **wanted: Any
) -> Sequence[ModelInfo]:
    if not provider.implements(LIST):
        return [_only_model(info)]
    models = await answer_of(provider, LIST, **wanted)
    wrong = [type(model).__name__ for model in models if type(model) is not ModelInfo]
    if wrong:
        message = f"{LIST} must give ModelInfo, not {wrong[0]}"
        raise PluginError(message)
    return list(models)


def _only_model(info: ProviderInfo) -> ModelInfo:
    return ModelInfo(
        id=info.name,
        name=info.display_name or info.name,
        provider=info.name,
        capabilities=info.capabilities,
        max_width=MAX_SIDE,
        max_height=MAX_SIDE,
        max_images=MAX_NUM_IMAGES,
    )


def unused_prices(
    prices: Mapping[str, object], models: Iterable[ModelInfo]
) -> dict[str, str | None]:
    """
    Find the prices that no model of a provider bears the name of.

    Args:
        prices: Name of a model to its price.
        models: What the provider offers.

    Returns:
        Each such name to the nearest one there is, or None.
    """
    known = [name for model in models for name in (model.id, *model.aliases)]
    unused = [name for name in prices if name not in known]
    if not unused:
        return {}
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip of the pen

    return {
        name: next(iter(get_close_matches(name, known, n=1)), None) for name in unused
    }


def _priced(models: Iterable[ModelInfo], provider: "Provider") -> Iterable[ModelInfo]:
    """Put the instance's name and the prices from the settings on the cards."""
    prices = provider.settings.prices
    for model in models:
        price = next(
            (prices[name] for name in (model.id, *model.aliases) if name in prices),
            model.price,
        )
        if model.provider == provider.name and price is model.price:
            yield model
        else:
            yield attrs.evolve(model, provider=provider.name, price=price)


def _missing_hook(provider: "Provider", info: ProviderInfo) -> str | None:
    for capability in sorted(info.capabilities):
        hook = HOOK_OF[capability]
        if not provider.implements(hook):
            return f"declares {capability} but implements no {hook}"
    return None


def _switched_off(name: str) -> Offer:
    return Offer(
        info=ProviderInfo(name=name, capabilities=()),
        problem=f"switched off: [providers.{name}] enabled = false",
    )
