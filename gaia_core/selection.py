"""
Rank who can serve a request, and say why everybody else was passed over.

`select` is a pure function: it reads no clock and no setting, and of the providers it
asks no more than what a model's card offers to tell (`suits`, `state`). What it needs
to know comes in as values, what it decides goes out as a `Plan`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any

import attrs

from gaia_core.capabilities import Capability
from gaia_core.catalog import ModelInfo, ProviderInfo, estimate
from gaia_core.fitting import reject_fields, reject_size
from gaia_core.requests import Request
from gaia_core.settings import Policy
from gaia_core.states import reason_against


@attrs.frozen(kw_only=True)
class Offer:
    """
    What one provider has to offer.

    Attributes:
        info: The provider's card, under the name of its instance.
        models: Its models, the preferred one first.
        fallback_models: Models to try, in order, when one is not to be had.
        fallback_providers: Who may step in, in this order, for a request that
            names this one.
        problem: Why it offers nothing (disabled, listing failed), or None.
    """

    info: ProviderInfo
    models: tuple[ModelInfo, ...] = ()
    fallback_models: tuple[str, ...] = ()
    fallback_providers: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.info.name


Admission = Callable[[Offer, Capability], str | None]
"""Takes an offer and a capability; gives the reason not to ask now, or None."""


def admit_available(offer: Offer, _capability: Capability) -> str | None:
    """Admit every provider whose card says that it can work."""
    return offer.info.unavailable


class RankedOffers(tuple[Offer, ...]):
    """Offers in order of priority and name, sorted once for many plans."""

    __slots__ = ()

    @classmethod
    def of(cls, offers: Iterable[Offer]) -> "RankedOffers":
        """Sort some offers, unless they are sorted already."""
        return offers if isinstance(offers, cls) else cls(sorted(offers, key=_rank))


def _rank(offer: Offer) -> tuple[int, str]:
    return (-offer.info.priority, offer.name)


@attrs.frozen(kw_only=True)
class Preferences:
    """
    What the host wants beyond the request.

    Attributes:
        policy: What comes first.
        max_cost_usd: Ceiling of the whole operation; None: no ceiling.
        allowed_providers: The only ones to ask; None: all.
        needs_price: Whether a model of unknown price is passed over: nothing could
            be held for it in a budget.
        latency: Provider to its measured seconds, for policy ``fastest``.
        is_batch: Whether it is an item of a batch, which may take hours.
    """

    policy: Policy = Policy.PRIORITY
    max_cost_usd: Decimal | None = None
    allowed_providers: frozenset[str] | None = None
    needs_price: bool = False
    latency: Mapping[str, float] = attrs.field(factory=dict)
    is_batch: bool = False


@attrs.frozen(kw_only=True)
class Candidate:
    """
    One model of one provider that can serve the request.

    Attributes:
        provider: The provider's name.
        model: The model's card.
        priority: The provider's rank.
        price_usd: The estimate, or None when the price is unknown.
        is_substitute: True for a configured fallback model: it is asked only
            when the provider's model before it was not to be had.
    """

    provider: str
    model: ModelInfo
    priority: int
    price_usd: Decimal | None
    is_substitute: bool = False

    @property
    def name(self) -> str:
        """Provider and model, as reasons name them."""
        return f"{self.provider}/{self.model.id}"


@attrs.frozen(kw_only=True)
class Rejection:
    """
    Somebody who was passed over.

    Attributes:
        name: The provider, or ``provider/model``.
        reason: Why, in words a person can act on.
    """

    name: str
    reason: str


@attrs.define(kw_only=True, eq=False, slots=False)
class Plan:
    """
    Who will be asked, in order, and why nobody else.

    Everything is worked out when first read: most plans are followed to their
    first candidate and never looked at.

    Attributes:
        request: What is to be served.
        preferences: What the host wants beyond it.
    """

    request: Request
    preferences: Preferences
    _offers: tuple[Offer, ...]
    _admit: Admission
    _known: list[Candidate] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        """Prepare to rank; nothing is worked out yet."""
        self._coming = _candidates(
            self.request, self._offers, self.preferences, self._admit
        )

    def in_turn(self) -> Iterator[Candidate]:
        """Give the candidates best first, each worked out when it is reached."""
        for place in itertools.count():
            if place == len(self._known):
                following = next(self._coming, None)
                if following is None:
                    return
                self._known.append(following)
            yield self._known[place]

    @property
    def best(self) -> Candidate | None:
        """Who is asked first; None: nobody can serve the request."""
        return next(self.in_turn(), None)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Who can serve it, best first."""
        return tuple(self.in_turn())

    @cached_property
    def rejections(self) -> tuple[Rejection, ...]:
        """Everybody passed over, with the reason."""
        chosen = {candidate.name for candidate in self.candidates}
        passed_over = (
            rejection
            for offer in self._offers
            for rejection in self._rejections_of(offer)
            if rejection.name not in chosen
        )
        return (*self._strangers(), *passed_over)

    @property
    def reasons(self) -> dict[str, str]:
        """Rejections as a mapping from name to reason."""
        return {rejection.name: rejection.reason for rejection in self.rejections}

    def _strangers(self) -> Iterable[Rejection]:
        """Reject a provider that the request names and nobody knows."""
        name = self.request.provider
        if name is not None and all(offer.name != name for offer in self._offers):
            reason = "no provider of this name is loaded: see `gaia plugins`"
            yield Rejection(name=name, reason=reason)

    def _rejections_of(self, offer: Offer) -> Iterable[Rejection]:
        reason = _reject_offer(self.request, offer, self.preferences, self._admit)
        if reason is not None:
            return [Rejection(name=offer.name, reason=reason)]
        return [
            Rejection(
                name=f"{offer.name}/{model.id}",
                reason=_reject_model(self.request, model, self.preferences)
                or f"another model of {offer.name} comes first; name it to get it",
            )
            for model in offer.models
        ]


def select(
    request: Request,
    offers: Iterable[Offer],
    preferences: Preferences | None = None,
    admit: Admission = admit_available,
) -> Plan:
    """
    Plan who serves a request.

    A request that names a model or a provider gets exactly that one, and the
    fallbacks configured for it.

    Args:
        request: What is to be served.
        offers: What the providers have to offer.
        preferences: Policy, price ceiling, allowed providers.
        admit: Tells whom not to ask now, and why (availability, circuit breaker).

    Returns:
        The plan; without candidates when nobody can serve the request.
    """
    return Plan(
        request=request,
        preferences=preferences or Preferences(),
        offers=_relevant(RankedOffers.of(offers), request),
        admit=admit,
    )


# -- providers ----------------------------------------------------------------------


def _candidates(
    request: Request,
    offers: Iterable[Offer],
    preferences: Preferences,
    admit: Admission,
) -> Iterator[Candidate]:
    """
    Rank the candidates, one provider at a time where the offers are in order.

    They are under policy ``priority``, and where a named provider's stand-ins come
    as they were configured.
    """
    groups: Iterable[list[Candidate]] = (
        group
        for offer in offers
        if _reject_offer(request, offer, preferences, admit) is None
        and (group := _candidates_of(offer, request, preferences))
    )
    if preferences.policy is not Policy.PRIORITY and request.provider is None:
        order = _order(preferences)
        groups = sorted(groups, key=lambda group: order(group[0]))
    return (candidate for group in groups for candidate in group)


def _relevant(offers: RankedOffers, request: Request) -> tuple[Offer, ...]:
    """Keep whom a request may go to: all, or the named one and its stand-ins."""
    if request.provider is None:
        return offers
    by_name = {offer.name: offer for offer in offers}
    named = by_name.get(request.provider)
    stand_ins = () if named is None else named.fallback_providers
    order = dict.fromkeys((request.provider, *stand_ins))
    return tuple(by_name[name] for name in order if name in by_name)


def _reject_offer(
    request: Request, offer: Offer, preferences: Preferences, admit: Admission
) -> str | None:
    """Say why a provider as a whole is passed over, or None."""
    allowed = preferences.allowed_providers
    if offer.problem is not None:
        return offer.info.unavailable or offer.problem
    if not offer.info.capabilities and offer.info.unavailable is not None:
        return offer.info.unavailable
    if allowed is not None and offer.name not in allowed:
        return f"not among the allowed providers ({', '.join(sorted(allowed))})"
    if request.capability not in offer.info.capabilities:
        return f"cannot do {request.capability}"
    return admit(offer, request.capability)


# -- models -------------------------------------------------------------------------


def _candidates_of(
    offer: Offer, request: Request, preferences: Preferences
) -> list[Candidate]:
    """Give the provider's best model for the request, then its substitutes."""
    fitting = [
        model for model in offer.models if not _misfit(request, model, preferences)
    ]
    ready = [model for model in fitting if reason_against(model) is None]
    if not ready and request.model is None:
        return []
    order = _within_provider(request, preferences)
    model = min(ready or fitting, key=order, default=None)
    if model is None:
        return []
    best = _candidate(offer, model, request)
    substitutes = _substitutes(offer, best, request, preferences)
    return [best, *substitutes] if ready else substitutes


def _candidate(offer: Offer, model: ModelInfo, request: Request) -> Candidate:
    return Candidate(
        provider=offer.name,
        model=model,
        priority=offer.info.priority,
        price_usd=estimate(request, model),
    )


def _substitutes(
    offer: Offer, best: Candidate, request: Request, preferences: Preferences
) -> list[Candidate]:
    if not offer.fallback_models:
        return []
    free = attrs.evolve(request, model=None)
    # A dictionary, for a model may be named twice, by its id and by an alias.
    named = {
        model.id: model
        for name in offer.fallback_models
        for model in offer.models
        if model.answers_to(name) and model.id != best.model.id
    }
    return [
        attrs.evolve(_candidate(offer, model, request), is_substitute=True)
        for model in named.values()
        if _reject_model(free, model, preferences) is None
    ]


def _reject_model(
    request: Request, model: ModelInfo, preferences: Preferences
) -> str | None:
    """
    Say why one model is passed over, or None.

    How it is now comes last: nobody need fetch a model that would not do anyway.
    """
    return _misfit(request, model, preferences) or reason_against(model)


def _misfit(request: Request, model: ModelInfo, preferences: Preferences) -> str | None:
    """Say why one model could not serve a request however it is now, or None."""
    if request.model is not None and not model.answers_to(request.model):
        return f"the request names model {request.model}"
    if model.kind != "image":
        return f"makes {model.kind}, not pictures"
    if request.capability not in model.capabilities:
        return f"cannot do {request.capability}"
    if model.is_batch_only and not preferences.is_batch:
        return (
            "answers in batches only, within hours: put it in a file and run "
            "`gaia batch`"
        )
    return (
        reject_size(request, model)
        or reject_fields(request, model)
        or _reject_price(request, model, preferences)
    )


def _reject_price(
    request: Request, model: ModelInfo, preferences: Preferences
) -> str | None:
    ceiling = preferences.max_cost_usd
    if ceiling is None and not preferences.needs_price:
        return None
    price = estimate(request, model)
    if price is None and ceiling is None:
        advice = f"give one in [providers.{model.provider}.prices]"
        return f"its price is unknown and there are budgets: {advice}"
    if price is None:
        return f"its price is unknown and the ceiling is ${ceiling}"
    if ceiling is not None and price > ceiling:
        return f"costs ${price.normalize():f}, the ceiling is ${ceiling}"
    return None


# -- order --------------------------------------------------------------------------


def _by_policy(
    model: ModelInfo, preferences: Preferences, price: Callable[[], Decimal | None]
) -> tuple[Any, ...]:
    """Rank by the policy alone; smaller comes first. Prices take long to find."""
    match preferences.policy:
        case Policy.CHEAPEST:
            amount = price()
            return (amount is None, amount or Decimal(0))
        case Policy.FASTEST:
            return (-model.speed.rank,)
        case Policy.BEST:
            return (-model.quality.rank,)
        case _:
            return ()


def _order(preferences: Preferences) -> Callable[[Candidate], tuple[Any, ...]]:
    """Rank providers by policy, then priority, then name."""
    is_measured = preferences.policy is Policy.FASTEST

    def key(candidate: Candidate) -> tuple[Any, ...]:
        seconds = preferences.latency.get(candidate.provider) if is_measured else None
        return (
            *_by_policy(candidate.model, preferences, lambda: candidate.price_usd),
            *(seconds is None, seconds or 0.0),
            -candidate.priority,
            candidate.provider,
        )

    return key


def _within_provider(
    request: Request, preferences: Preferences
) -> Callable[[ModelInfo], tuple[Any, ...]]:
    """Rank a provider's models: those made for the prompt, then by policy."""
    prompt = getattr(request, "prompt", "")

    def key(model: ModelInfo) -> tuple[Any, ...]:
        rank = _by_policy(model, preferences, lambda: estimate(request, model))
        return (not _is_meant(model, prompt), *rank)

    return key


def _is_meant(model: ModelInfo, prompt: str) -> bool:
    """Ask a model's card whether the prompt is meant for it."""
    try:
        return model.suits is not None and bool(model.suits(prompt))
    except (Exception, SystemExit):  # noqa: BLE001  a plugin may raise anything
        return False
