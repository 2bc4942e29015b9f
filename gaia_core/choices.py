"""What a host may choose for one call, and what follows from it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from types import MappingProxyType
from typing import TypedDict

from gaia_core.catalog import to_decimal
from gaia_core.context import Progress
from gaia_core.errors import InvalidRequestError, SettingsError
from gaia_core.selection import Preferences
from gaia_core.settings import BudgetSettings, Policy, Settings


class PlanChoices(TypedDict, total=False):
    """
    What decides about a plan, instead of the settings' own.

    Attributes:
        policy: What comes first.
        max_cost_usd: Ceiling of the operation; the settings' ceiling holds as well.
        allowed_providers: The only ones to ask.
        is_batch: Whether it is an item of a batch; only a plan heeds it, a single
            request is none.
    """

    policy: Policy | str | None
    max_cost_usd: Decimal | float | None
    allowed_providers: Iterable[str] | None
    is_batch: bool


class Delivery(StrEnum):
    """What matters more when an answer is lost: the money or the picture."""

    AT_MOST_ONCE = "at_most_once"
    """Nothing is paid twice: the outcome is reported as unknown."""
    AT_LEAST_ONCE = "at_least_once"
    """It is made again, and may have been paid twice; the response says so."""


class Choices(PlanChoices, total=False):
    """
    What a host may choose for one call.

    Attributes:
        timeout: Longest wait in seconds; the settings' deadline holds as well.
        progress: Called with a fraction from 0 to 1 and perhaps a preview.
        idempotency_key: Names the request: asked again under the same key, it is
            answered as it was the first time, and nothing is made or paid.
        principal: Who asks, as the host knows them: keys, limits, kept answers and
            places in the queue are theirs.
        reuse: Whether the answer to an equal request may be given; None: if the
            request has a seed.
        delivery: Whether something may be paid twice rather than not come.
    """

    timeout: float | None
    progress: Progress
    idempotency_key: str | None
    principal: str
    reuse: bool | None
    delivery: Delivery | str


def preferences_of(
    choices: PlanChoices,
    settings: Settings,
    latency: Mapping[str, float] = MappingProxyType({}),
) -> Preferences:
    """
    Take the choices of a call, and from the settings what they leave open.

    Args:
        choices: What the caller chose.
        settings: What holds otherwise.
        latency: Provider to its measured seconds.

    Raises:
        InvalidRequestError: If one of them makes no sense.
    """
    return Preferences(
        policy=_policy(choices.get("policy") or settings.policy),
        max_cost_usd=_lowest(choices.get("max_cost_usd"), settings.max_cost_usd),
        allowed_providers=_names(choices.get("allowed_providers")),
        needs_price=settings.budgets.is_set,
        latency=latency,
        is_batch=choices.get("is_batch", False),
    )


def check_timeout(timeout: float | None) -> None:
    """
    Refuse what is no time to wait.

    Raises:
        InvalidRequestError: If it is not a number above 0.
    """
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and timeout > 0):
        message = f"timeout must be a number of seconds above 0, not {timeout!r}."
        raise InvalidRequestError(message)


def delivery_of(word: Delivery | str) -> Delivery:
    """
    Take a delivery by its name.

    Raises:
        InvalidRequestError: If there is none of that name.
    """
    try:
        return Delivery(word)
    except ValueError:
        message = f"delivery must be one of {', '.join(Delivery)}, not {word!r}."
        raise InvalidRequestError(message) from None


def _policy(word: Policy | str) -> Policy:
    try:
        return Policy(word)
    except ValueError:
        message = f"policy must be one of {', '.join(Policy)}, not {word!r}."
        raise InvalidRequestError(message) from None


def _names(names: Iterable[str] | None) -> frozenset[str] | None:
    """Take names as a set; a single one counts as one, not as its letters."""
    if names is None:
        return None
    return frozenset([names] if isinstance(names, str) else names)


def _lowest(*ceilings: Decimal | float | None) -> Decimal | None:
    """Take the lowest of the ceilings that are set."""
    return min((_amount(c) for c in ceilings if c is not None), default=None)


def _amount(ceiling: Decimal | float) -> Decimal:
    try:
        amount = to_decimal(ceiling)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        message = f"max_cost_usd must be US dollars, 0 or more, not {ceiling!r}."
        raise InvalidRequestError(message)
    return amount


def check_budgets(budgets: BudgetSettings, *, are_kept: bool) -> None:
    """
    Refuse to work under a budget that nobody keeps.

    Raises:
        SettingsError: If there is one; a limit that does not hold is worse than none.
    """
    if budgets.is_set and not are_kept:
        message = (
            "[budgets] is set, but the ledger in use keeps no budgets: take the "
            "section out, and limit each operation by max_cost_usd."
        )
        raise SettingsError(message)
