"""Options that several commands share, and how their texts become values."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs
import click

from gaia_core.requests import Outpaint
from gaia_core.settings import Policy

Command = Callable[..., int]

_SIDES = ("left", "right", "top", "bottom")


@attrs.frozen(kw_only=True)
class Choices:
    """
    What every command that asks a provider takes.

    Attributes:
        provider: Exactly this provider, or None.
        model: Exactly this model, or None.
        provider_options: Vendor-only knobs by provider name.
        campaign: The campaign the result belongs to.
        policy: How candidates are ordered, or None: as the settings say.
        max_cost: Ceiling in US dollars, or None: as the settings say.
        timeout: Seconds to wait, or None: as the settings say.
        is_dry_run: Whether only the plan is shown.
        is_complete: Whether the plan names everybody passed over.
        is_json: Whether the result is one JSON document.
    """

    provider: str | None = None
    model: str | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    campaign: str | None = None
    policy: str | None = None
    max_cost: Decimal | None = None
    timeout: float | None = None
    is_dry_run: bool = False
    is_complete: bool = False
    is_json: bool = False

    @property
    def request_fields(self) -> dict[str, Any]:
        """What goes into the request."""
        return {
            "provider": self.provider,
            "model": self.model,
            "provider_options": self.provider_options,
            "campaign_id": self.campaign,
        }

    @property
    def preferences(self) -> dict[str, Any]:
        """What the plan goes by."""
        return {"policy": self.policy, "max_cost_usd": self.max_cost}


# -- texts to values --------------------------------------------------------------


def parse_size(text: str) -> tuple[int, int]:
    """
    Read a width and a height; one number is a square.

    >>> parse_size("1024x768"), parse_size("512")
    ((1024, 768), (512, 512))
    """
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text.strip().lower())
    if match is None:
        message = f"--size takes WIDTHxHEIGHT, as in 1024x768, not {text!r}."
        raise click.UsageError(message)
    width, height = match[1], match[2] or match[1]
    return int(width), int(height)


def parse_outpaint(text: str) -> Outpaint:
    """
    Read how far to extend a picture.

    >>> parse_outpaint("left=256,right=256")
    Outpaint(left=256, right=256, top=0, bottom=0)
    """
    pairs = [part.strip().partition("=") for part in text.split(",")]
    sides = {side: pixels for side, _, pixels in pairs}
    is_clear = len(sides) == len(pairs) and set(sides) <= set(_SIDES)
    if not is_clear or not all(re.fullmatch(r"\d{1,6}", px) for px in sides.values()):
        message = (
            "--outpaint takes pixels per side (left, right, top, bottom), "
            f"as in left=256,right=256, not {text!r}."
        )
        raise click.UsageError(message)
    return Outpaint(**{side: int(pixels) for side, pixels in sides.items()})


def parse_provider_options(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """
    Read ``provider.key=value``; a value that is JSON counts as such.

    >>> parse_provider_options(["runware.scheduler=Euler", "runware.CFGScale=3.5"])
    {'runware': {'scheduler': 'Euler', 'CFGScale': 3.5}}
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        provider, _, key = name.partition(".")
        if not (sign and provider and key):
            message = (
                "--option takes PROVIDER.KEY=VALUE, as in runware.scheduler=Euler, "
                f"not {text!r}."
            )
            raise click.UsageError(message)
        options.setdefault(provider, {})[key] = _json_or_text(value)
    return options


def parse_amount(text: str | None) -> Decimal | None:
    """
    Read an amount of US dollars.

    >>> parse_amount("$0.05")
    Decimal('0.05')
    """
    if text is None:
        return None
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        message = f"--max-cost takes US dollars, as in 0.05, not {text!r}."
        raise click.UsageError(message)
    return amount


def _json_or_text(text: str) -> Any:
    from json import loads  # noqa: PLC0415 - 3 ms

    try:
        return loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(word: str) -> Any:
    """Take ``NaN`` for the word it is: it is no JSON."""
    raise ValueError(word)


# -- options ----------------------------------------------------------------------


json_option = click.option(
    "--json", "is_json", is_flag=True, help="Print one JSON document."
)

_WORK_OPTIONS = (
    click.option("-p", "--provider", metavar="NAME", help="Ask this provider only."),
    click.option("-m", "--model", metavar="ID", help="Ask for this model only."),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="PROVIDER.KEY=VALUE",
        help="An option of one vendor; JSON where it is JSON. May be repeated.",
    ),
    click.option("--campaign", metavar="ID", help="The campaign it belongs to."),
    click.option(
        "--policy",
        type=click.Choice([policy.value for policy in Policy]),
        help="Whom to ask first; the settings decide without it.",
    ),
    click.option(
        "--max-cost", metavar="USD", help="Ask nobody who may cost more than this."
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Wait no longer than this.",
    ),
    click.option(
        "--dry-run",
        "is_dry_run",
        is_flag=True,
        help="Show who would be asked, at which price, and why nobody else.",
    ),
    click.option(
        "--all",
        "is_complete",
        is_flag=True,
        help="With --dry-run: name everybody passed over.",
    ),
    json_option,
)


def work_options(function: Command) -> Command:
    """Give a command the options of `Choices`, and the choices as ``choices``."""

    @functools.wraps(function)
    def command(
        *args: Any, options: Iterable[str], max_cost: str | None, **given: Any
    ) -> int:
        own = {name: given.pop(name) for name in _GATHERED}
        choices = Choices(
            provider_options=parse_provider_options(options),
            max_cost=parse_amount(max_cost),
            **own,
        )
        return function(*args, choices=choices, **given)

    for option in reversed(_WORK_OPTIONS):
        command = option(command)
    return command


_GATHERED = tuple(
    field.name
    for field in attrs.fields(Choices)
    if field.name not in {"provider_options", "max_cost"}
)
