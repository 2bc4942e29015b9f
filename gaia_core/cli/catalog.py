"""``gaia models`` and ``gaia providers``: who can make what, at which price."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import click

from gaia_core.capabilities import Capability
from gaia_core.catalog import ModelInfo, ModelState, Price, ProviderInfo
from gaia_core.cli.failures import ExitCode
from gaia_core.cli.findings import UnknownPrice, unknown_prices
from gaia_core.cli.options import json_option
from gaia_core.cli.phrases import ADVICE_WITHOUT_PROVIDERS, show_amount
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import clean, print_table
from gaia_core.cli.writing import print_json, say, sentence
from gaia_core.states import state_of

if TYPE_CHECKING:
    from gaia_core.plugins import PluginFailure
    from gaia_core.showroom import Showroom


class Listing(NamedTuple):
    """
    Everybody there is, and what is wrong.

    Attributes:
        infos: The providers, by rank.
        models: Their models.
        num_failures: How many plugins could not be loaded.
        unused_prices: Prices in the settings that are not used, in words.
        errors: Provider to the reason why its vendor could not be asked.
    """

    infos: tuple[ProviderInfo, ...]
    models: tuple[ModelInfo, ...]
    num_failures: int
    unused_prices: tuple[str, ...]
    errors: Mapping[str, str]


class ModelRow(NamedTuple):
    """
    One line of ``gaia models``.

    Attributes:
        model: The model's card.
        unavailable: Why its provider, or else the model itself, cannot be asked now.
        state: How the model is now; None: its card has nothing to tell.
    """

    model: ModelInfo
    unavailable: str | None
    state: ModelState | None

    @classmethod
    def of(cls, model: ModelInfo, reason: str | None) -> Self:
        """Ask a model how it is; the provider's own reason goes first."""
        state = state_of(model)
        own = state.unavailable if state else None
        return cls(model=model, unavailable=reason or own, state=state)

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked now."""
        return self.model.kind == "image" and not self.unavailable

    def cells(self) -> tuple[str, ...]:
        """Give what the table shows; one that cannot be asked says both."""
        model, word = self.model, self.state.word if self.state else "ready"
        if self.unavailable:
            word = f"{word}: {self.unavailable}" if self.state else self.unavailable
        elif model.kind != "image":
            word = f"makes {model.kind}, not pictures"
        return (
            model.id,
            model.provider,
            _list(model.capabilities),
            show_price(model.price),
            str(model.quality),
            word,
        )


_UNITS = {
    "base": "request",
    "per_image": "image",
    "per_megapixel": "megapixel",
    "per_step": "step",
    "per_reference": "reference",
}

all_option = click.option(
    "--all", "is_complete", is_flag=True, help="Show those that cannot work now, too."
)


@click.command()
@click.option(
    "--capability",
    type=click.Choice([capability.value for capability in Capability]),
    help="Only models that can do this.",
)
@click.option("-p", "--provider", metavar="NAME", help="Only models of this provider.")
@all_option
@click.option("--refresh", is_flag=True, help="Ask the vendors what they have today.")
@click.option("--search", metavar="TEXT", help="Look in the vendors' catalogues.")
@json_option
@click.pass_obj
def models(  # noqa: PLR0913  one for each option
    session: Session,
    capability: str | None,
    provider: str | None,
    *,
    is_complete: bool,
    refresh: bool,
    search: str | None,
    is_json: bool,
) -> int:
    """
    List the models, with what they do and cost.

    Without --all, only those that can be asked now.
    """
    if refresh or search is not None:
        session.silence()  # what the log would say of it is said below
    look = partial(_look_up, provider=provider, refresh=refresh, search=search)
    listing = session.browse(look)
    infos = listing.infos
    wanted = pick_models(listing.models, capability=capability, provider=provider)
    reasons = {info.name: info.unavailable for info in infos}
    rows = [ModelRow.of(one, reasons.get(one.provider)) for one in wanted]
    shown = [one for one in rows if is_complete or one.is_ready]
    if is_json:
        from gaia_core.cli.shapes import shape_model  # noqa: PLC0415 - only for JSON

        shapes = [shape_model(one.model, one.unavailable, one.state) for one in shown]
        print_json({"models": shapes, "errors": listing.errors})
    else:
        print_table(
            ("Model", "Provider", "Capabilities", "Price", "Quality", "State"),
            [one.cells() for one in shown],
        )
    _hint(listing, hidden=len(wanted) - len(shown))
    is_empty = search is not None and not listing.models
    if is_empty:
        say(clean(f"Nothing was found for {search!r}."))
    is_lost = is_empty and _is_unasked(listing, provider)
    return ExitCode.FAILED if is_lost else ExitCode.DONE


@click.command()
@json_option
@click.pass_obj
def providers(session: Session, *, is_json: bool) -> None:
    """
    List the providers, by rank.

    The state says why one cannot work now.
    """
    listing = session.browse(_look_up)
    counts = Counter(model.provider for model in listing.models)
    if is_json:
        from gaia_core.cli.shapes import shape_provider  # noqa: PLC0415 - as above

        rows = [shape_provider(info, counts[info.name]) for info in listing.infos]
        print_json({"providers": rows})
    else:
        print_table(
            ("Provider", "Priority", "Models", "Capabilities", "State"),
            [_provider_row(info, counts[info.name]) for info in listing.infos],
        )
    _hint(listing, hidden=0)


async def _look_up(
    room: "Showroom",
    *,
    provider: str | None = None,
    refresh: bool = False,
    search: str | None = None,
) -> Listing:
    offered = room.assortment
    infos = offered.cards()
    _check_name(provider, infos, offered.plugins.failures)
    if search is not None:
        found = await offered.search(search, provider, is_fresh=refresh)
    elif refresh:
        found = await offered.refresh(provider)
    else:
        found = offered.models(provider)
    places = {info.name: place for place, info in enumerate(infos)}
    unused = unknown_prices(room.settings, offered.models())
    return Listing(
        infos=infos,
        models=tuple(sorted(found, key=lambda model: places[model.provider])),
        num_failures=len(offered.plugins.failures),
        unused_prices=tuple(map(_unused_price, unused)),
        errors=found.problems,
    )


def _is_unasked(listing: Listing, provider: str | None) -> bool:
    """Tell whether somebody could not be asked who should have been."""
    idle = {info.name for info in listing.infos if info.unavailable}
    return any(name == provider or name not in idle for name in listing.errors)


def _unused_price(price: UnknownPrice) -> str:
    near = f" Did you mean {price.nearest!r}?" if price.nearest else ""
    return clean(
        f"{price.provider} offers no model {price.name!r}: "
        f"the price in your settings is not used.{near}"
    )


def pick_models(
    found: Iterable[ModelInfo], *, capability: str | None, provider: str | None
) -> list[ModelInfo]:
    """Keep the models that can do something, of one provider or of all."""
    return [
        model
        for model in found
        if provider in (None, model.provider)
        and (capability is None or Capability(capability) in model.capabilities)
    ]


def show_price(price: Price | None) -> str:
    """
    Show what a model costs.

    >>> show_price(Price(per_image="0.04")), show_price(Price()), show_price(None)
    ('$0.04/image', 'free', 'unknown')
    """
    if price is None:
        return "unknown"
    parts = [
        f"{show_amount(amount)}/{unit}"
        for field, unit in _UNITS.items()
        if (amount := getattr(price, field))
    ]
    return " + ".join(parts) or "free"


def _provider_row(info: ProviderInfo, num_models: int) -> tuple[str, ...]:
    return (
        info.name,
        str(info.priority),
        str(num_models),
        _list(info.capabilities),
        info.unavailable or "ready",
    )


def _list(capabilities: Iterable[Capability]) -> str:
    """Join capabilities in the order of the enum."""
    has = frozenset(capabilities)
    return ", ".join(one.value for one in Capability if one in has)


def _check_name(
    provider: str | None,
    infos: Sequence[ProviderInfo],
    failures: "Sequence[PluginFailure]",
) -> None:
    names = [info.name for info in infos]
    if provider is None or provider in names:
        return
    if reasons := [one.reason for one in failures if one.plugin == provider]:
        message = f"{provider} could not be loaded: {clean(reasons[0])}"
        raise click.UsageError(message)
    known = f"there is {', '.join(names)}" if names else ADVICE_WITHOUT_PROVIDERS
    message = f"There is no provider {clean(provider)!r}; {known}."
    if failures:
        message = f"{message} {_not_loaded(len(failures))}"
    raise click.UsageError(message)


def _hint(listing: Listing, *, hidden: int) -> None:
    """Say what the table leaves out, and what to do when there is nothing."""
    if hidden:
        count = _count(hidden, "model")
        say(f"{count} more cannot be asked now: `gaia models --all` says why.")
    for name, reason in listing.errors.items():
        say(clean(f"warning: {name} could not ask its vendor: {reason}"))
    for words in listing.unused_prices:
        say(f"warning: {words}")
    if listing.num_failures:
        say(_not_loaded(listing.num_failures))
    elif not listing.infos:
        say(sentence(ADVICE_WITHOUT_PROVIDERS))


def _not_loaded(number: int) -> str:
    return f"{_count(number, 'plugin')} could not be loaded: `gaia plugins` says why."


def _count(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number} {word}s"
