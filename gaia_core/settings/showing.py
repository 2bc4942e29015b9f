"""Showing the settings, and an example to start from."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import attrs

from gaia_core.catalog import Price
from gaia_core.secrets import hide, shown
from gaia_core.settings.reading import Place
from gaia_core.settings.values import ProviderSettings, Settings


class SettingRow(NamedTuple):
    """One value, as a person may see it."""

    key: str
    value: str
    source: str


def describe(settings: Settings) -> list[SettingRow]:
    """List every value with where it came from, secrets masked."""
    return list(_rows(settings, Place(sources=settings.sources)))


def _rows(value: Any, place: Place) -> Iterator[SettingRow]:
    blank = _blank(value)
    for field in attrs.fields(type(value)):
        item, below = getattr(value, field.name), place / field.name
        if field.name == "options":
            yield from _table_rows(item, place)
        elif isinstance(item, Mapping) and field.name != "sources":
            yield from _table_rows(item, below)
        elif attrs.has(type(item)):
            yield from _rows(item, below)
        elif field.name not in {"sources", "name"}:
            is_default = item == getattr(blank, field.name)
            yield _row(item, below, "default" if is_default else "code")


def _table_rows(table: Mapping[str, Any], place: Place) -> Iterator[SettingRow]:
    for key, item in table.items():
        if isinstance(item, ProviderSettings):
            yield from _rows(item, place / key)
        elif isinstance(item, Mapping):
            yield from _table_rows(item, place / key)
        else:
            yield _row(item, place / key, "code")


def _row(value: Any, place: Place, otherwise: str) -> SettingRow:
    return row_of(place.key, value, place.source or otherwise)


def row_of(key: str, value: Any, source: str | None) -> SettingRow:
    """Make a row of a value, masked where its key names a secret."""
    return SettingRow(key, _text(hide(key, value)), source or "default")


def _blank(value: Any) -> Any:
    if isinstance(value, ProviderSettings):
        return ProviderSettings(name=value.name)
    return type(value)()


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | tuple | list):
        items = sorted(value) if isinstance(value, frozenset) else value
        return ", ".join(_text(item) for item in items)
    if isinstance(value, Price):
        given = attrs.asdict(value, filter=lambda _, amount: bool(amount))
        return ", ".join(f"{name} {amount}" for name, amount in given.items())
    return shown(value)


_EXAMPLE = """\
# Settings of Gaia images. Every key is optional: take away the # to set one.
# Environment variables win over this file (GAIA_POLICY=cheapest), the command
# line wins over both. `gaia config show` tells where every value came from.

#[gaia]
# How candidates are ordered: priority, cheapest, fastest or best.
#policy = "priority"
# Ceiling of one operation, in US dollars.
#max_cost_usd = 0.20
# The ledger of operations and spend: a file on this machine, or PostgreSQL
# (postgresql://user@host/gaia, with the extra gaia-core[postgres]).
#database = "sqlite:///gaia.db"
# The folder pictures are kept in; IMAGE_STORAGE_PATH wins.
#image_store = "images"
# Where paid pictures wait while the image store is full; by default in the
# system's temporary folder.
#spill = "/var/tmp/gaia-spill"
# Whether prompts are written into the pictures Gaia encodes.
#keep_prompt = true
# Seconds one operation may take.
#deadline = 120
# Most tries at one provider for one operation; what may have cost is never repeated.
#max_attempts = 4
# How many further providers may be asked when the first cannot serve.
#max_fallbacks = 1

#[gaia.plugins]
# The only plugins that are loaded; without it, every installed one.
#allow = ["runware", "flux", "offline"]
# Seconds one plugin may take to load.
#load_timeout = 10

# One section per provider; the keys after `prices` are the provider's own.
#[providers.runware]
#enabled = true
#priority = 100
#fallback_models = ["runware:100@1"]
#fallback_providers = ["flux"]
# Most requests to it at a time, and most a minute, in place of what it declares.
#max_concurrent = 8
#requests_per_minute = 120
# Most tries at it for one operation, and seconds before the first repetition.
#max_attempts = 3
#retry_delay = 1.0
#api_key = { env = "RUNWARE_API_KEY" }

# US dollars per image, in place of the declared price; or a table of base,
# per_image, per_megapixel, per_step, per_reference and by_quality.
#[providers.runware.prices]
#"runware:101@1" = 0.0038
#"runware:100@1" = { base = 0.001, per_megapixel = 0.0013 }

# A second instance of a plugin, under its own name, key and priority.
#[providers.studio]
#plugin = "runware"
#priority = 50
#api_key = { env = "STUDIO_RUNWARE_KEY" }

#[budgets]
# What may be spent, in US dollars, each day, each month or for ever: by each
# campaign, by each user, by everybody together.
#campaign_usd = 5.00
#user_usd = 10.00
#total_usd = 50.00
#per = "month"
# Shares of a budget whose crossing is told, in the log and by a signed webhook.
#alert_at = [0.8, 1]
#alert_webhook = "https://example.com/gaia"
#alert_secret = { env = "GAIA_ALERT_SECRET" }

#[limits]
# How many requests are taken a minute: from each user, for each campaign, in all.
#requests_per_minute = 60
#campaign_requests_per_minute = 120
#total_requests_per_minute = 600
# Most that wait for one provider at a time; more are refused at once.
#max_waiting = 1000

#[cache]
# Whether a request with a seed is answered from the image store when an equal one
# was, and how many answers are remembered.
#enabled = true
#max_entries = 100000

# What `gaia serve` goes by. Other machines need a key: `gaia keys create NAME`.
#[server]
#host = "127.0.0.1"
#port = 8188
# A key that stands for whoever has this machine.
#token = { env = "GAIA_TOKEN" }
# Ask for a key on this machine, too.
#require_auth = true
# The names it is called by, and the pages of other sites that may call it.
#allowed_hosts = ["pictures.example"]
#allowed_origins = ["https://campaign.example"]
# Behind a proxy: where clients reach it, and whose word about them counts.
#public_url = "https://pictures.example"
#trusted_proxies = ["127.0.0.1"]
# Folders that `image_path` of a request may name files below.
#image_roots = ["~/pictures"]
# How long the address of a picture opens for whoever has it, in seconds.
#link_seconds = 86400
#signing_secret = { env = "GAIA_SIGNING_SECRET" }
# Most requests of one caller at a time.
#max_concurrent = 100
"""


def example_settings() -> str:
    """Give a commented ``gaia.toml`` to start from."""
    return _EXAMPLE
