"""
What all providers offer, and what their vendors have beyond that.

Providers give a usual list when a `Gaia` is opened, without asking anybody. Here
they are had to ask their vendors, and what is found is put beside the usual.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import attrs

from gaia_core.catalog import ModelInfo, ProviderInfo
from gaia_core.errors import InvalidRequestError
from gaia_core.observability import get_logger
from gaia_core.offers import LIST, gather_offers, offer_of, refreshed
from gaia_core.requests import Request
from gaia_core.selection import Offer, RankedOffers

if TYPE_CHECKING:
    from gaia_core.plugins import Plugins, Provider

MOST_FOUND = 1_000
"""How many names of found models are kept of one provider; the oldest go first."""


class ModelList(tuple[ModelInfo, ...]):  # noqa: SLOT001  tuples cannot have any
    """
    The cards of some models, and who could not be asked for more.

    Attributes:
        problems: Provider to the reason why its vendor could not be asked.
    """

    problems: Mapping[str, str]

    def __new__(
        cls,
        models: Iterable[ModelInfo] = (),
        problems: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Put models and problems together."""
        made = super().__new__(cls, models)
        made.problems = dict(problems)
        return made


@attrs.define(eq=False, kw_only=True)
class Assortment:
    """
    What all providers offer: their usual models, and what was found by searching.

    Attributes:
        plugins: The providers.
        offers: One offer per provider, best rank first.
    """

    plugins: "Plugins"
    offers: RankedOffers = attrs.field(factory=RankedOffers, init=False)
    _not_started: Mapping[str, str] = attrs.field(factory=dict, init=False)
    _found: dict[str, dict[str, ModelInfo]] = attrs.field(factory=dict, init=False)

    async def open(self, not_started: Mapping[str, str]) -> None:
        """Ask for the usual lists, but nobody who did not start."""
        self._not_started = not_started
        self.offers = await gather_offers(self.plugins, not_started)

    def models(
        self,
        name: str | None = None,
        *,
        problems: Mapping[str, str] = MappingProxyType({}),
    ) -> ModelList:
        """
        List every model there is, those found by searching behind the usual.

        Args:
            name: The only provider whose models are listed; None: all.
            problems: Whose vendor could not be asked, and why.

        Raises:
            InvalidRequestError: If there is no such provider.
        """
        self._check_name(name)
        models = (
            model
            for offer in self.offers
            if name in {None, offer.name}
            for model in self._models_of(offer)
        )
        return ModelList(models, problems)

    def offers_for(self, request: Request) -> RankedOffers:
        """
        Give what a request can be served from.

        What was found serves only who names it: looking for a model must not change
        what others get.
        """
        name = request.model
        if name is None or not self._found:
            return self.offers
        return RankedOffers(self._with_found(offer, name) for offer in self.offers)

    def cards(self) -> tuple[ProviderInfo, ...]:
        """Give the providers' cards of this moment, best rank first."""
        providers = self.plugins.providers
        current = (
            refreshed(offer, providers[offer.name])
            if offer.name in providers
            else offer
            for offer in self.offers
        )
        cards = (
            attrs.evolve(one.info, unavailable=one.info.unavailable or one.problem)
            if one.problem
            else one.info
            for one in current
        )
        return tuple(sorted(cards, key=lambda card: (-card.priority, card.name)))

    async def refresh(self, name: str | None = None) -> ModelList:
        """
        Have the providers ask their vendors; who cannot keeps the list of before.

        Args:
            name: The only provider that asks; None: all.

        Returns:
            Their models, and whose vendor could not be asked.

        Raises:
            InvalidRequestError: If there is no such provider.
        """
        self._check_name(name)
        asked = [
            one for one in self.plugins.providers.values() if name in {None, one.name}
        ]
        answers = await asyncio.gather(*map(self._refreshed, asked))
        known = {offer.name: offer for offer in self.offers}
        fresh = {one.name: one for one in answers if one.problem is None}
        self.offers = RankedOffers.of((known | fresh).values())
        return self.models(name, problems=_logged_problems(answers))

    async def search(
        self, words: str, name: str | None = None, *, is_fresh: bool = False
    ) -> ModelList:
        """
        Look in the vendors' catalogues; what is found can be named from then on.

        Args:
            words: What to look for.
            name: The only provider whose catalogue is looked in; None: all.
            is_fresh: Whether nothing that a provider remembers will do.

        Returns:
            What was found, and whose vendor could not be asked.

        Raises:
            InvalidRequestError: If there is nothing to look for, or no such provider.
        """
        asked = self._searchable(words, name)
        answers = await asyncio.gather(
            *(self._searched(one, words.strip(), is_fresh=is_fresh) for one in asked)
        )
        problems = _logged_problems(answers)
        if name is not None and not asked:
            problems = {name: "it has no catalogue that can be searched"}
        offers = RankedOffers.of(answers)
        found = [model for offer in offers for model in self._kept(offer)]
        return ModelList(found, problems)

    def _searchable(self, words: str, name: str | None) -> "list[Provider]":
        """Choose the providers to ask: those whose hook takes the words."""
        if not words.strip():
            message = "There is nothing to look for: give a word."
            raise InvalidRequestError(message)
        self._check_name(name)
        return [
            provider
            for provider in self.plugins.providers.values()
            if name in {None, provider.name} and provider.takes(LIST, "search")
        ]

    def _check_name(self, name: str | None) -> None:
        names = [offer.name for offer in self.offers]
        if name is not None and name not in names:
            known = f"there is {', '.join(names)}" if names else "there is none"
            message = f"There is no provider {name!r}; {known}."
            raise InvalidRequestError(message)

    async def _refreshed(self, provider: "Provider") -> Offer:
        if provider.takes(LIST, "refresh"):
            problem = self._problem_of(provider)
        else:
            problem = self._not_started.get(provider.name)
        return await offer_of(provider, problem, refresh=True)

    async def _searched(
        self, provider: "Provider", words: str, *, is_fresh: bool
    ) -> Offer:
        problem = self._problem_of(provider)
        return await offer_of(provider, problem, refresh=is_fresh, search=words)

    def _problem_of(self, provider: "Provider") -> str | None:
        """Say why a provider cannot ask its vendor now, if so."""
        return self._not_started.get(provider.name) or provider.info().unavailable

    def _kept(self, offer: Offer) -> Iterable[ModelInfo]:
        """Keep what was found under its names; a usual model's card goes first."""
        usual = {
            model.id: model
            for known in self.offers
            if known.name == offer.name
            for model in known.models
        }
        for model in offer.models:
            if model.id not in usual:
                self._keep(offer.name, model)
            yield usual.get(model.id, model)

    def _keep(self, provider: str, model: ModelInfo) -> None:
        names = self._found.setdefault(provider, {})
        for name in (model.id, *model.aliases):
            names.pop(name, None)
            names[name] = model
        while len(names) > MOST_FOUND:
            del names[next(iter(names))]

    def _models_of(self, offer: Offer) -> Iterable[ModelInfo]:
        usual = {model.id for model in offer.models}
        found = {one.id: one for one in self._found.get(offer.name, {}).values()}
        yield from offer.models
        yield from (model for name, model in found.items() if name not in usual)

    def _with_found(self, offer: Offer, name: str) -> Offer:
        found = self._found.get(offer.name, {}).get(name)
        if found is None or any(model.answers_to(name) for model in offer.models):
            return offer
        return attrs.evolve(offer, models=(*offer.models, found))


def _logged_problems(offers: Iterable[Offer]) -> dict[str, str]:
    """Collect why vendors could not be asked, and put it into the log."""
    problems = {offer.name: offer.problem for offer in offers if offer.problem}
    for name, reason in problems.items():
        get_logger(provider=name).warning("gaia.vendor_not_asked", reason=reason)
    return problems
