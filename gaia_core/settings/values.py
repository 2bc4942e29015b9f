"""The settings themselves, as frozen values."""

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from gaia_core.catalog import Price, to_decimal
from gaia_core.secrets import Secret, is_secret_name, shown
from gaia_core.settings.folders import user_folder

MOST_PACE = {"max_attempts": 5, "retry_delay": 60.0}
"""The most tries for one operation, and seconds before the first repetition."""
_HIGHEST_PORT = 65_535
_SIGNING_BYTES = range(24, 65)


class Policy(StrEnum):
    """How candidates are ordered."""

    PRIORITY = "priority"
    """The highest priority first."""
    CHEAPEST = "cheapest"
    """The lowest price first."""
    FASTEST = "fastest"
    """The shortest wait first."""
    BEST = "best"
    """The best quality first."""


class Period(StrEnum):
    """How long a budget lasts."""

    DAY = "day"
    MONTH = "month"
    FOREVER = "forever"


def setting(  # noqa: PLR0913 - every one is a keyword
    *,
    default: Any = attrs.NOTHING,
    factory: Any = None,
    env: Iterable[str] = (),
    help: str = "",  # noqa: A002 - the word every settings library uses
    validator: Any = None,
    converter: Any = None,
) -> Any:
    """
    Make a field a setting that the vendor's own variables may give.

    ::

        @attrs.define(eq=False, kw_only=True)
        class HelloProvider:
            api_key: Secret | None = setting(
                default=None, env=("HELLO_API_KEY",), help="From hello.example/keys."
            )

    Args:
        default: What holds when nobody gives a value.
        factory: Makes the default, instead of ``default``.
        env: Variables that give the value when the section does not; the first
            one that is set counts.
        help: What it is for, in a sentence.
        validator: As in `attrs.field`.
        converter: As in `attrs.field`.

    Returns:
        An attrs field; it does not show in ``repr`` when a variable's name says
        that it is a secret.
    """
    if factory is not None:
        default = attrs.Factory(factory)
    return attrs.field(
        default=default,
        repr=not any(is_secret_name(name) for name in env),
        validator=validator,
        converter=converter,
        metadata={"env": tuple(env), "help": help},
    )


def _number(low: float, high: float | None = None, *, above: bool = False) -> Any:
    """Accept numbers from low (or above it) up to high, and None."""

    def check(_: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if value is None:
            return
        too_low = value <= low if above else value < low
        if too_low or (high is not None and value > high):
            if high is None:
                span = f"above {low:g}" if above else f"{low:g} or more"
            else:
                span = (
                    f"above {low:g} up to {high:g}" if above else f"{low:g} to {high:g}"
                )
            message = f"{field.name} must be {span}, not {value}"
            raise ValueError(message)

    return check


def _default_database() -> str:
    return f"sqlite:///{user_folder('data') / 'gaia.db'}"


def _default_image_store() -> Path:
    return user_folder("data") / "images"


@attrs.frozen(kw_only=True)
class PluginSettings:
    """
    Which plugins are loaded, and how long each may take.

    Attributes:
        allow: The only plugins that are loaded; None: every installed one.
        load_timeout: Seconds one plugin may take to load.
    """

    allow: frozenset[str] | None = None
    load_timeout: float = attrs.field(default=10.0, validator=_number(0, above=True))


def _shares(values: Iterable[Decimal | float | str]) -> tuple[Decimal, ...]:
    return tuple(sorted(map(to_decimal, values)))


def _check_webhook(_: object, __: object, value: str | None) -> None:
    if value is not None and not value.startswith(("https://", "http://")):
        message = "alert_webhook must begin with https:// or http://"
        raise ValueError(message)


def _check_signing_secret(_: object, __: object, value: Secret | None) -> None:
    """Take what the Standard Webhooks specification takes."""
    if value is None:
        return
    prefix, key = value.reveal()[:6], value.reveal()[6:]
    try:
        length = len(a2b_base64(key.encode(), strict_mode=True))
    except (ValueError, UnicodeError):
        length = 0
    if prefix != "whsec_" or length not in _SIGNING_BYTES:
        message = "alert_secret must be whsec_ and 24 to 64 random bytes in base64"
        raise ValueError(message)


@attrs.frozen(kw_only=True)
class BudgetSettings:
    """
    What may be spent, in US dollars; None sets no limit.

    Attributes:
        campaign_usd: By each campaign.
        user_usd: By each user.
        total_usd: By everybody together.
        per: When the sums start again.
        alert_at: Shares of a budget (0.8 is 80 %) whose crossing is told.
        alert_webhook: The address it is told to, beside the log.
        alert_secret: What webhooks are signed with: ``whsec_`` and 24 to 64 random
            bytes in base64, as the Standard Webhooks specification has it.
    """

    campaign_usd: Decimal | None = attrs.field(default=None, validator=_number(0))
    user_usd: Decimal | None = attrs.field(default=None, validator=_number(0))
    total_usd: Decimal | None = attrs.field(default=None, validator=_number(0))
    per: Period = attrs.field(default=Period.FOREVER, converter=Period)
    alert_at: tuple[Decimal, ...] = attrs.field(
        default=(Decimal("0.8"), Decimal(1)),
        converter=_shares,
        validator=attrs.validators.deep_iterable(_number(0, 1, above=True)),
    )
    alert_webhook: str | None = attrs.field(
        default=None, validator=_check_webhook, repr=shown
    )
    alert_secret: Secret | None = attrs.field(
        default=None, validator=_check_signing_secret
    )

    def __attrs_post_init__(self) -> None:
        """Refuse to tell strangers what nobody could check."""
        if self.alert_webhook is not None and self.alert_secret is None:
            message = "alert_webhook needs alert_secret, which signs what it is told"
            raise ValueError(message)

    @property
    def is_set(self) -> bool:
        """Whether there is any budget to keep."""
        return (self.campaign_usd, self.user_usd, self.total_usd) != (None,) * 3


@attrs.frozen(kw_only=True)
class LimitSettings:
    """
    How much is taken at the door; None sets no limit.

    Attributes:
        requests_per_minute: By each user, or by each principal where no user is
            named.
        campaign_requests_per_minute: By each campaign.
        total_requests_per_minute: By everybody together.
        max_waiting: Most attempts that wait for one provider at a time.
    """

    requests_per_minute: int | None = attrs.field(default=None, validator=_number(1))
    campaign_requests_per_minute: int | None = attrs.field(
        default=None, validator=_number(1)
    )
    total_requests_per_minute: int | None = attrs.field(
        default=None, validator=_number(1)
    )
    max_waiting: int = attrs.field(default=1_000, validator=_number(1))


def _check_public_url(_: object, __: object, value: str | None) -> None:
    if value is not None and not value.startswith(("https://", "http://")):
        message = "public_url must begin with https:// or http://"
        raise ValueError(message)


def _each(
    pattern: str, expected: str
) -> "Callable[[object, attrs.Attribute[tuple[str, ...]], tuple[str, ...]], None]":
    """Make a validator: each entry of a list is spelt like this."""
    spelling = re.compile(pattern)

    def check(
        _: object, field: "attrs.Attribute[tuple[str, ...]]", value: tuple[str, ...]
    ) -> None:
        for entry in value:
            if not spelling.fullmatch(entry):
                message = f"{field.name} must hold {expected}, not {entry!r}"
                raise ValueError(message)

    return check


_check_hosts = _each(r"[\w.-]+|\[[\da-fA-F:.]+\]", "names without a port")
_check_origins = _each(r"https?://[^/*]+", "origins, as https://campaign.example")
_check_proxies = _each(r"[\da-fA-F:.]+(/\d{1,3})?", "addresses, as 10.0.0.0/8")


@attrs.frozen(kw_only=True)
class CacheSettings:
    """
    Which answers are given again to equal requests.

    Attributes:
        enabled: Whether requests with a seed are answered from the image store
            when an equal one was.
        max_entries: How many answers can be found again; the one unused longest is
            forgotten first. The pictures stay.
    """

    enabled: bool = True
    max_entries: int = attrs.field(default=100_000, validator=_number(1))


@attrs.frozen(kw_only=True)
class ServerSettings:
    """
    Where ``gaia serve`` listens, and whom it serves.

    Attributes:
        host: The address; only this machine can reach the default.
        port: The port; 0 picks a free one.
        token: A key that stands for whoever has this machine, beside those that
            ``gaia keys create`` makes.
        require_auth: Whether callers must present a key; None: on every address
            that other machines can reach.
        allowed_hosts: The names it may be called by; empty: those of this machine
            where it listens only there, otherwise any.
        allowed_origins: Pages of other sites that may call it, as
            ``https://campaign.example``.
        public_url: Where its clients reach it, for the addresses it gives out.
        trusted_proxies: Addresses of proxies whose word about the client counts.
        image_roots: The folders that ``image_path`` may name files below; none:
            it names stored pictures only.
        link_seconds: How long the address of a picture opens for whoever has it.
        signing_secret: What such addresses are signed with; None: a key that the
            ledger keeps.
        max_concurrent: Most requests of one caller at a time.
    """

    host: str = "127.0.0.1"
    port: int = attrs.field(default=8188, validator=_number(0, _HIGHEST_PORT))
    token: Secret | None = None
    require_auth: bool | None = None
    allowed_hosts: tuple[str, ...] = attrs.field(default=(), validator=_check_hosts)
    allowed_origins: tuple[str, ...] = attrs.field(default=(), validator=_check_origins)
    public_url: str | None = attrs.field(default=None, validator=_check_public_url)
    trusted_proxies: tuple[str, ...] = attrs.field(default=(), validator=_check_proxies)
    image_roots: tuple[Path, ...] = ()
    link_seconds: int = attrs.field(default=86_400, validator=_number(1))
    signing_secret: Secret | None = None
    max_concurrent: int = attrs.field(default=100, validator=_number(1))


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """
    One ``[providers.NAME]`` section: one instance of a plugin.

    Attributes:
        name: The instance's own name.
        plugin: The plugin it is an instance of; its own name unless said.
        enabled: Whether it is loaded.
        priority: Its rank, in place of the one it declares.
        fallback_models: What may step in for a model that a request names.
        fallback_providers: Who may step in for a request that names this one.
        prices: Model to price, in place of the one it declares.
        max_concurrent: Most attempts at a time, in place of what it declares.
        requests_per_minute: Most attempts a minute, in place of what it declares.
        max_attempts: Most tries at it for one operation, in place of what it declares
            and of what holds for everybody.
        retry_delay: Seconds before the first repetition, in place of what it declares.
        options: The remaining keys, for the provider's own class.
    """

    name: str
    plugin: str = attrs.field()
    enabled: bool = True
    priority: int | None = None
    fallback_models: tuple[str, ...] = ()
    fallback_providers: tuple[str, ...] = ()
    prices: Mapping[str, Price] = attrs.field(factory=dict)
    max_concurrent: int | None = attrs.field(default=None, validator=_number(1))
    requests_per_minute: int | None = attrs.field(default=None, validator=_number(1))
    max_attempts: int | None = attrs.field(
        default=None, validator=_number(1, MOST_PACE["max_attempts"])
    )
    retry_delay: float | None = attrs.field(
        default=None, validator=_number(0, MOST_PACE["retry_delay"])
    )
    options: Mapping[str, Any] = attrs.field(factory=dict, repr=shown)

    @plugin.default
    def _own_name(self) -> str:
        return self.name

    @property
    def given(self) -> frozenset[str]:
        """The keys of Gaia's own that say something other than nothing at all."""
        blank = ProviderSettings(name=self.name)
        values = {key: getattr(self, key) for key in PROVIDER_KEYS}
        return frozenset(
            key for key, value in values.items() if value != getattr(blank, key)
        )


PROVIDER_KEYS = frozenset(attrs.fields_dict(ProviderSettings)) - {"name", "options"}
"""The keys of a provider's section that Gaia itself reads."""
PACE_KEYS = frozenset(
    {"max_concurrent", "max_attempts", "requests_per_minute", "retry_delay"}
)
"""Those of them that a provider's class is given, too, where it has such a field."""


@attrs.frozen(kw_only=True)
class Settings:
    """
    Everything that can be set.

    ``Settings()`` holds the defaults; `load_settings` reads what a person wrote.

    Attributes:
        policy: How candidates are ordered.
        max_cost_usd: Ceiling of one operation in US dollars; None: no ceiling.
        database: SQLAlchemy address of the ledger.
        image_store: The folder pictures are kept in.
        spill: The folder paid pictures wait in when the image store is full; None:
            one of its own among the system's temporary files.
        keep_prompt: Whether prompts are written into the pictures Gaia encodes.
        deadline: Seconds one operation may take.
        max_attempts: Most tries at one provider for one operation.
        max_fallbacks: How many further providers may be asked when the first
            cannot serve; a request that names a provider goes to those configured
            for it.
        plugins: Which plugins are loaded.
        providers: Instance name to its section.
        budgets: What may be spent.
        limits: How much is taken at the door.
        cache: Which answers are given again.
        server: Where the server listens.
        sources: Key (``providers.runware.priority``) to where its value came
            from.
    """

    policy: Policy = attrs.field(default=Policy.PRIORITY, converter=Policy)
    max_cost_usd: Decimal | None = attrs.field(default=None, validator=_number(0))
    database: str = attrs.field(factory=_default_database, repr=shown)
    image_store: Path = attrs.field(factory=_default_image_store, converter=Path)
    spill: Path | None = None
    keep_prompt: bool = True
    deadline: float = attrs.field(default=120.0, validator=_number(0, above=True))
    max_attempts: int = attrs.field(
        default=4, validator=_number(1, MOST_PACE["max_attempts"])
    )
    max_fallbacks: int = attrs.field(default=1, validator=_number(0))
    plugins: PluginSettings = attrs.field(factory=PluginSettings)
    providers: Mapping[str, ProviderSettings] = attrs.field(factory=dict)
    budgets: BudgetSettings = attrs.field(factory=BudgetSettings)
    limits: LimitSettings = attrs.field(factory=LimitSettings)
    cache: CacheSettings = attrs.field(factory=CacheSettings)
    server: ServerSettings = attrs.field(factory=ServerSettings)
    sources: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def provider(self, name: str) -> ProviderSettings:
        """Give the section of a provider, an empty one where there is none."""
        return self.providers.get(name) or ProviderSettings(name=name)
