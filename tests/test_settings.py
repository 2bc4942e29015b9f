import copy
import json
import pickle
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from gaia_core import SettingsError
from gaia_core.catalog import Price
from gaia_core.secrets import MASK, Secret, hide, is_secret_name, scrub, shown
from gaia_core.settings import (
    BudgetSettings,
    CacheSettings,
    LimitSettings,
    Period,
    PluginSettings,
    Policy,
    ProviderSettings,
    ServerSettings,
    Settings,
    describe,
    example_settings,
    find_settings_file,
    load_settings,
    setting,
)
from gaia_core.settings.folders import user_folder
from gaia_core.settings.reading import Place, make, read

CANARY = "sk-canary-0123456789"
SIGNING = "whsec_" + "c2VjcmV0" * 4

DOCUMENTED = """
[gaia]
policy = "priority"
max_cost_usd = 0.20
database = "sqlite:///gaia.db"
image_store = "pictures"
max_attempts = 2
max_fallbacks = 0

[gaia.plugins]
allow = ["runware", "flux"]

[providers.runware]
enabled = true
priority = 100
api_key = { env = "RUNWARE_API_KEY" }
fallback_models = ["runware:100@1"]
max_concurrent = 8
requests_per_minute = 120
max_attempts = 3
retry_delay = 1
[providers.runware.prices]
"runware:101@1" = 0.0038

[providers.studio]
plugin = "runware"

[budgets]
campaign_usd = 5.00
user_usd = 10
total_usd = 50.5
per = "month"
alert_at = [1, 0.5]
alert_webhook = "https://example.com/gaia"
alert_secret = { env = "ALERT_SECRET" }
[limits]
requests_per_minute = 60
campaign_requests_per_minute = 120
total_requests_per_minute = 600
max_waiting = 50
[cache]
enabled = false
max_entries = 7
[server]
host = "127.0.0.1"
port = 8188
"""


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "gaia.toml"


def _load(text: str, file: Path, **environ: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ=environ)


def _complaint(text: str, file: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        _load(text, file, **environ)
    return str(caught.value)


def _rows(settings: Settings) -> Mapping[str, tuple[str, str]]:
    return {row.key: (row.value, row.source) for row in describe(settings)}


# -- what can be set --------------------------------------------------------------


def test_documented_file_loads(file: Path) -> None:
    """Every key of the documented file arrives, with its type."""
    settings = _load(DOCUMENTED, file, RUNWARE_API_KEY=CANARY, ALERT_SECRET=SIGNING)

    runware = settings.providers["runware"]
    assert settings.policy is Policy.PRIORITY
    assert settings.max_cost_usd == Decimal("0.2")
    assert settings.database == "sqlite:///gaia.db"
    assert settings.image_store == Path("pictures")
    assert settings.plugins.allow == frozenset({"runware", "flux"})
    assert (runware.plugin, runware.enabled, runware.priority) == ("runware", True, 100)
    assert runware.fallback_models == ("runware:100@1",)
    assert runware.prices == {"runware:101@1": Price(per_image="0.0038")}
    assert runware.options == {"api_key": Secret(CANARY)}
    assert settings.providers["studio"].plugin == "runware"
    assert settings.budgets.campaign_usd == Decimal(5)
    assert settings.budgets.user_usd == Decimal(10)
    assert settings.budgets.total_usd == Decimal("50.5")
    assert settings.budgets.per is Period.MONTH
    assert settings.budgets.alert_at == (Decimal("0.5"), Decimal(1))
    assert settings.budgets.alert_webhook == "https://example.com/gaia"
    assert settings.budgets.alert_secret == Secret(SIGNING)
    assert settings.limits == LimitSettings(
        requests_per_minute=60,
        campaign_requests_per_minute=120,
        total_requests_per_minute=600,
        max_waiting=50,
    )
    assert settings.cache == CacheSettings(enabled=False, max_entries=7)
    assert (settings.max_attempts, settings.max_fallbacks) == (2, 0)
    assert (runware.max_concurrent, runware.requests_per_minute) == (8, 120)
    assert (runware.max_attempts, runware.retry_delay) == (3, 1.0)
    assert settings.server == ServerSettings(host="127.0.0.1", port=8188)


def test_no_file_is_needed(gaia_home: Path) -> None:
    """Without a file, everything has a default, below the user's data directory."""
    settings = load_settings(environ={})

    assert settings == attrs.evolve(Settings(), sources=settings.sources)
    assert settings.image_store.is_relative_to(gaia_home)
    assert settings.database.startswith(f"sqlite:///{gaia_home}")
    assert set(settings.sources.values()) == {"default"}


def test_example_is_a_file_of_comments(file: Path) -> None:
    """The example changes nothing until somebody takes a # away."""
    settings = _load(example_settings(), file)

    assert set(settings.sources.values()) == {"default"}


def test_example_loads_uncommented(file: Path) -> None:
    """Every key of the example is one that Gaia knows, with a value it takes."""
    text = re.sub(r"(?m)^#(?=\S)", "", example_settings())
    secrets = {"GAIA_TOKEN": CANARY, "GAIA_SIGNING_SECRET": CANARY}

    settings = _load(text, file, GAIA_ALERT_SECRET=SIGNING, **secrets)

    assert settings.providers["studio"].plugin == "runware"
    assert settings.server.token == Secret(CANARY)
    assert settings.providers["runware"].prices["runware:100@1"] == Price(
        base="0.001", per_megapixel="0.0013"
    )


def test_example_shows_every_key() -> None:
    """The example leaves out no key of any section of Gaia's own."""
    rows = {row.key.rpartition(".")[2] for row in describe(Settings())}
    provider = {field.name for field in attrs.fields(ProviderSettings)}

    expected = (rows | provider) - {"name", "options"}
    shown_keys = set(re.findall(r"(?m)^#\[?(?:[\w.]+\.)?(\w+)", example_settings()))
    assert expected - shown_keys == set()


def test_reference_names_every_variable() -> None:
    """The page of settings lists every key beside the variable that sets it."""
    page = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    provider = attrs.evolve(Settings(), providers={"name": ProviderSettings(name="")})

    keys = [row.key for row in describe(provider)]

    missing = [
        key
        for key in keys
        if not any(
            line.startswith(f"| `{key.rpartition('.')[2]}` |")
            and f"`GAIA_{key.upper().replace('.', '__')}`" in line
            for line in lines
        )
    ]
    assert missing == []


def test_section_may_be_empty(file: Path) -> None:
    """A section without keys is an instance with defaults."""
    settings = _load("[providers.studio]", file)

    assert settings.providers == {"studio": ProviderSettings(name="studio")}


def test_section_can_be_had_for_any_provider() -> None:
    """A provider without a section has an empty one."""
    assert Settings().provider("flux") == ProviderSettings(name="flux")


# -- where values come from -------------------------------------------------------


def test_named_file_comes_first(file: Path, gaia_home: Path) -> None:
    """The file of the command line wins over every other."""
    (gaia_home / "gaia.toml").write_text("", encoding="utf-8")
    file.write_text("", encoding="utf-8")

    found = find_settings_file(file, environ={"GAIA_CONFIG": "elsewhere.toml"})

    assert found == file


def test_variable_names_a_file(file: Path, gaia_home: Path) -> None:
    """$GAIA_CONFIG wins over the file in the current folder."""
    (gaia_home / "gaia.toml").write_text("", encoding="utf-8")
    file.write_text("", encoding="utf-8")

    assert find_settings_file(environ={"GAIA_CONFIG": str(file)}) == file


def test_current_folder_wins_over_the_users(gaia_home: Path) -> None:
    """./gaia.toml is taken before the user's configuration directory."""
    users = gaia_home / ".config" / "gaia" / "gaia.toml"
    users.parent.mkdir(parents=True)
    users.write_text("", encoding="utf-8")

    before = find_settings_file(environ={})
    (gaia_home / "gaia.toml").write_text("", encoding="utf-8")
    after = find_settings_file(environ={})

    assert (before, after) == (users, Path("gaia.toml"))


@pytest.mark.parametrize(
    ("path", "environ", "asker"),
    [
        pytest.param(Path("gone.toml"), {}, "--config", id="command-line"),
        pytest.param(None, {"GAIA_CONFIG": "gone.toml"}, "GAIA_CONFIG", id="variable"),
    ],
)
def test_named_file_must_exist(
    path: Path | None, environ: Mapping[str, str], asker: str
) -> None:
    """A file that is asked for and missing is an error that says who asked."""
    with pytest.raises(SettingsError, match=rf"{asker} names gone\.toml.*config init"):
        load_settings(path, environ=environ)


def test_a_mark_of_an_editor_is_no_setting(file: Path) -> None:
    """Some editors begin a file with a byte order mark."""
    assert _load("\ufeff[gaia]\npolicy = 'best'", file).policy is Policy.BEST


def test_environment_wins_over_the_file(file: Path) -> None:
    """A GAIA_ variable replaces what the file says, and only that."""
    text = '[gaia]\npolicy = "best"\ndeadline = 30'

    settings = _load(text, file, GAIA_POLICY="cheapest")

    assert (settings.policy, settings.deadline) == (Policy.CHEAPEST, 30.0)


def test_command_line_wins_over_the_environment() -> None:
    """What the command line says is the last word."""
    settings = load_settings(
        environ={"GAIA_POLICY": "cheapest"}, overrides={"policy": "fastest"}
    )

    assert settings.policy is Policy.FASTEST


def test_command_line_takes_dotted_keys_and_tables() -> None:
    """Overrides reach every section, and None leaves a value alone."""
    settings = load_settings(
        environ={},
        overrides={
            "providers.runware.priority": "5",
            "providers": {"flux": {"enabled": False}},
            "gaia.deadline": 10,
            "policy": None,
        },
    )

    assert settings.providers["runware"].priority == 5
    assert not settings.providers["flux"].enabled
    assert settings.deadline == 10.0
    assert settings.policy is Policy.PRIORITY


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        pytest.param("GAIA_MAX_COST_USD", "0.2", Decimal("0.2"), id="decimal"),
        pytest.param("GAIA_KEEP_PROMPT", "no", False, id="bool"),
        pytest.param("GAIA_IMAGE_STORE", "pictures", Path("pictures"), id="path"),
        pytest.param("GAIA_DATABASE", "sqlite://", "sqlite://", id="text"),
        pytest.param("GAIA_DEADLINE", "2.5", 2.5, id="float"),
        pytest.param(
            "GAIA_PLUGINS__ALLOW",
            "runware, flux",
            PluginSettings(allow=frozenset({"runware", "flux"})),
            id="list",
        ),
        pytest.param("GAIA_SERVER__PORT", "0", ServerSettings(port=0), id="int"),
        pytest.param("GAIA_MAX_ATTEMPTS", "2", 2, id="attempts"),
        pytest.param("GAIA_SPILL", "spilt", Path("spilt"), id="spill"),
        pytest.param(
            "GAIA_BUDGETS__ALERT_AT",
            "1, 0.5",
            BudgetSettings(alert_at=("0.5", 1)),
            id="shares",
        ),
        pytest.param(
            "GAIA_BUDGETS__ALERT_SECRET",
            SIGNING,
            BudgetSettings(alert_secret=Secret(SIGNING)),
            id="signing-secret",
        ),
        pytest.param(
            "GAIA_LIMITS__MAX_WAITING", "5", LimitSettings(max_waiting=5), id="waiting"
        ),
        pytest.param(
            "GAIA_CACHE__ENABLED", "off", CacheSettings(enabled=False), id="cache"
        ),
        pytest.param(
            "GAIA_SERVER__TOKEN", CANARY, ServerSettings(token=Secret(CANARY)), id="key"
        ),
        pytest.param(
            "GAIA_PROVIDERS__RUNWARE__PRIORITY",
            "5",
            {"runware": ProviderSettings(name="runware", priority=5)},
            id="provider",
        ),
    ],
)
def test_environment_reaches_every_type(
    variable: str, text: str, expected: object
) -> None:
    """Text from the environment becomes the type its key has."""
    settings = load_settings(environ={variable: text})

    field = variable.removeprefix("GAIA_").split("__")[0].lower()
    assert getattr(settings, field) == expected


def test_empty_tables_take_nothing_away(file: Path) -> None:
    """An empty table on the command line leaves the file's sections alone."""
    file.write_text("[providers.runware]\npriority = 5", encoding="utf-8")

    settings = load_settings(file, environ={}, overrides={"providers": {}})

    assert settings.providers["runware"].priority == 5


def test_environment_finds_sections_with_hyphens(file: Path) -> None:
    """A variable reaches a section whose name a variable cannot spell."""
    settings = _load(
        "[providers.My-Studio]", file, GAIA_PROVIDERS__MY_STUDIO__PRIORITY="7"
    )

    assert settings.providers["My-Studio"].priority == 7


def test_empty_variables_are_unset() -> None:
    """An empty variable changes nothing."""
    settings = load_settings(environ={"GAIA_POLICY": "", "IMAGE_STORAGE_PATH": ""})

    assert settings.sources["policy"] == "default"
    assert settings.sources["image_store"] == "default"


def test_variables_of_the_host_are_its_own() -> None:
    """A host's own GAIA_ variables are none of our business."""
    settings = load_settings(environ={"GAIA_SESSION_COOKIE": "x", "GAIA__": "y"})

    assert set(settings.sources.values()) == {"default"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"IMAGE_STORAGE_PATH": "b"}, "b", id="over-the-file"),
        pytest.param(
            {"IMAGE_STORAGE_PATH": "b", "GAIA_IMAGE_STORE": "c"},
            "c",
            id="under-our-own-variable",
        ),
    ],
)
def test_image_storage_path_wins(
    file: Path, environ: Mapping[str, str], expected: str
) -> None:
    """The host's own variable for the image store wins over the file."""
    settings = _load('[gaia]\nimage_store = "a"', file, **environ)

    assert settings.image_store == Path(expected)


def test_home_directory_is_spelt_out(file: Path, gaia_home: Path) -> None:
    """A path may begin with ~."""
    settings = _load('[gaia]\nimage_store = "~/pictures"', file)

    assert settings.image_store == gaia_home / "pictures"


def test_every_value_knows_its_source(file: Path) -> None:
    """Sources name the file, the variable, the command line or the default."""
    file.write_text("[gaia]\ndeadline = 30\n[limits]\nrequests_per_minute = 6")

    settings = load_settings(
        file, environ={"GAIA_POLICY": "best"}, overrides={"server.port": 1}
    )

    assert settings.sources["deadline"] == str(file)
    assert settings.sources["limits.requests_per_minute"] == str(file)
    assert settings.sources["policy"] == "environment: GAIA_POLICY"
    assert settings.sources["server.port"] == "command line"
    assert settings.sources["database"] == "default"


def test_references_name_variable_and_file(file: Path) -> None:
    """A value behind { env = … } says which variable gave it, and who asked."""
    settings = _load(DOCUMENTED, file, RUNWARE_API_KEY=CANARY, ALERT_SECRET=SIGNING)

    expected = f"environment: RUNWARE_API_KEY, named in {file}"
    assert settings.sources["providers.runware.api_key"] == expected


def test_reference_to_nothing_is_kept_as_none(file: Path) -> None:
    """A provider's key whose variable is not set is known to be missing."""
    settings = _load(DOCUMENTED, file, ALERT_SECRET=SIGNING)

    source = settings.sources["providers.runware.api_key"]
    assert settings.providers["runware"].options == {"api_key": None}
    assert source == f"environment: RUNWARE_API_KEY, not set, named in {file}"


def test_reference_to_nothing_is_an_error_of_the_core(file: Path) -> None:
    """A limit of Gaia's own does not vanish with a variable."""
    text = '[gaia]\nmax_cost_usd = { env = "CEILING" }'

    complaint = _complaint(text, file)

    assert complaint == (
        f"[gaia] max_cost_usd has no value (environment: CEILING, not set, "
        f"named in {file})."
    )


def test_reference_may_give_any_type(file: Path) -> None:
    """{ env = … } is read like the variable it names."""
    settings = _load('[gaia]\nmax_cost_usd = { env = "CEILING" }', file, CEILING="2")

    assert settings.max_cost_usd == Decimal(2)


def test_provider_may_have_a_key_called_env(file: Path) -> None:
    """A section whose one key is `env` is no reference."""
    settings = _load('[providers.cloud]\nenv = "staging"', file)

    assert settings.providers["cloud"].options == {"env": "staging"}


# -- showing ----------------------------------------------------------------------


def test_describe_lists_providers(file: Path) -> None:
    """`gaia config show` tells a provider's keys, options and prices, too."""
    settings = _load(DOCUMENTED, file, RUNWARE_API_KEY=CANARY, ALERT_SECRET=SIGNING)

    rows = _rows(settings)

    assert rows["providers.runware.priority"] == ("100", str(file))
    assert rows["providers.runware.fallback_models"][0] == "runware:100@1"
    assert rows["providers.runware.prices.runware:101@1"][0] == "per_image 0.0038"
    assert rows["providers.runware.api_key"][0] == MASK
    assert rows["providers.runware.enabled"] == ("true", str(file))
    assert rows["plugins.allow"] == ("flux, runware", str(file))
    assert rows["server.token"] == ("not set", "default")
    assert rows["budgets.alert_at"] == ("0.5, 1", str(file))
    assert rows["budgets.alert_secret"][0] == MASK
    assert rows["cache.enabled"] == ("false", str(file))


def test_describe_tells_defaults_from_code() -> None:
    """Settings made in Python say so."""
    rows = _rows(Settings(deadline=5, providers={"a": ProviderSettings(name="a")}))

    assert rows["deadline"] == ("5", "code")
    assert rows["policy"] == ("priority", "default")
    assert rows["providers.a.enabled"] == ("true", "default")


def test_describe_shows_nested_options_and_prices(file: Path) -> None:
    """Tables inside tables are shown key by key, secrets masked."""
    text = (
        "[providers.a.http]\nretries = 2\npassword = 'hunter2hunter2'\n"
        "[providers.a.prices.big]\nbase = 1\nby_quality = { high = 2 }"
    )

    settings = _load(text, file)

    rows = _rows(settings)
    assert rows["providers.a.http.retries"] == ("2", str(file))
    assert rows["providers.a.http.password"] == (MASK, str(file))
    assert rows["providers.a.prices.big"][1] == str(file)
    assert settings.providers["a"].prices["big"].by_quality == {"high": Decimal(2)}


# -- wrong settings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "[gaia]\npolcy = 'best'",
            "[gaia] polcy is unknown: did you mean policy? ({file}).",
            id="key",
        ),
        pytest.param(
            "[gaia.plugins]\nalow = []",
            "[gaia.plugins] alow is unknown: did you mean allow? ({file}).",
            id="nested-key",
        ),
        pytest.param(
            "[cache]\nqqq = 1",
            "[cache] qqq is unknown; known are enabled, max_entries ({file}).",
            id="nothing-near",
        ),
        pytest.param(
            "[budget]\ncampaign_usd = 1",
            "[gaia] budget is unknown: did you mean budgets? ({file}).",
            id="section",
        ),
        pytest.param(
            "policy = 'best'",
            "[gaia] policy belongs under [gaia] ({file}).",
            id="outside-a-section",
        ),
        pytest.param(
            "[gaia.server]\nport = 1",
            "[gaia] server belongs outside [gaia]: write [server] ({file}).",
            id="in-the-wrong-section",
        ),
        pytest.param(
            "gaia = 3", "[gaia] gaia must be a table, not 3 ({file}).", id="no-section"
        ),
        pytest.param(
            "[gaia]\npolicy = 'cheap'",
            "[gaia] policy must be one of priority, cheapest, fastest, best, "
            "not 'cheap' ({file}).",
            id="enum",
        ),
        pytest.param(
            "[gaia]\nkeep_prompt = 1.5",
            "[gaia] keep_prompt must be true or false, not 1.5 ({file}).",
            id="bool",
        ),
        pytest.param(
            "[gaia]\ndeadline = true",
            "[gaia] deadline must be a number, not True ({file}).",
            id="float",
        ),
        pytest.param(
            "[gaia]\ndeadline = nan",
            "[gaia] deadline must be a number, not nan ({file}).",
            id="nan",
        ),
        pytest.param(
            "[gaia]\ndeadline = 0",
            "[gaia] deadline must be above 0, not 0.0 ({file}).",
            id="range",
        ),
        pytest.param(
            "[gaia]\nmax_cost_usd = [1]",
            "[gaia] max_cost_usd must be a number, not [1] ({file}).",
            id="decimal",
        ),
        pytest.param(
            "[gaia]\ndatabase = 5",
            "[gaia] database must be text, not 5 ({file}).",
            id="text",
        ),
        pytest.param(
            "[gaia]\nimage_store = 5",
            "[gaia] image_store must be a path, not 5 ({file}).",
            id="path",
        ),
        pytest.param(
            "[gaia.plugins]\nallow = 5",
            "[gaia.plugins] allow must be a list, each item text, not 5 ({file}).",
            id="list",
        ),
        pytest.param(
            "[gaia]\nplugins = 5",
            "[gaia] plugins must be a table, not 5 ({file}).",
            id="table",
        ),
        pytest.param(
            "[server]\nport = 70000",
            "[server] port must be 0 to 65535, not 70000 ({file}).",
            id="port",
        ),
        pytest.param(
            '[server]\nallowed_hosts = ["gaia.example:8188"]',
            "[server] allowed_hosts must hold names without a port, "
            "not 'gaia.example:8188' ({file}).",
            id="host-with-port",
        ),
        pytest.param(
            '[server]\nallowed_origins = ["*"]',
            "[server] allowed_origins must hold origins, as https://campaign.example, "
            "not '*' ({file}).",
            id="any-origin",
        ),
        pytest.param(
            '[server]\ntrusted_proxies = ["*"]',
            "[server] trusted_proxies must hold addresses, as 10.0.0.0/8, "
            "not '*' ({file}).",
            id="any-proxy",
        ),
        pytest.param(
            "[server]\nport = 81.5",
            "[server] port must be a whole number, not 81.5 ({file}).",
            id="int",
        ),
        pytest.param(
            "[server]\nhost = { name = 'x' }",
            "[server] host must be text, not a table ({file}).",
            id="table-for-text",
        ),
        pytest.param(
            "[gaia]\nmax_attempts = 6",
            "[gaia] max_attempts must be 1 to 5, not 6 ({file}).",
            id="too-many-attempts",
        ),
        pytest.param(
            "[providers.runware]\nmax_attempts = 0",
            "[providers.runware] max_attempts must be 1 to 5, not 0 ({file}).",
            id="no-attempt",
        ),
        pytest.param(
            "[providers.runware]\nretry_delay = 61",
            "[providers.runware] retry_delay must be 0 to 60, not 61.0 ({file}).",
            id="retry-delay",
        ),
        pytest.param(
            "[gaia]\nmax_fallbacks = -1",
            "[gaia] max_fallbacks must be 0 or more, not -1 ({file}).",
            id="fewer-than-no-fallback",
        ),
        pytest.param(
            "[gaia]\ncache = true",
            "[gaia] cache belongs outside [gaia]: write [cache] ({file}).",
            id="cache-in-the-wrong-section",
        ),
        pytest.param(
            "[cache]\nenabled = 'perhaps'",
            "[cache] enabled must be true or false, not 'perhaps' ({file}).",
            id="cache-switch",
        ),
        pytest.param(
            "[cache]\nmax_entries = 0",
            "[cache] max_entries must be 1 or more, not 0 ({file}).",
            id="cache-of-nothing",
        ),
        pytest.param(
            "[limits]\nrequests_per_minute = 0",
            "[limits] requests_per_minute must be 1 or more, not 0 ({file}).",
            id="limit-of-nothing",
        ),
        pytest.param(
            "[limits]\ncampaign_requests_per_minute = 1.5",
            "[limits] campaign_requests_per_minute must be a whole number, not 1.5 "
            "({file}).",
            id="half-a-request",
        ),
        pytest.param(
            "[limits]\ntotal_requests_per_minute = -5",
            "[limits] total_requests_per_minute must be 1 or more, not -5 ({file}).",
            id="negative-limit",
        ),
        pytest.param(
            "[limits]\nmax_waiting = 0",
            "[limits] max_waiting must be 1 or more, not 0 ({file}).",
            id="nobody-may-wait",
        ),
        pytest.param(
            "[budgets]\nalert_at = [0]",
            "[budgets] alert_at must be above 0 up to 1, not 0 ({file}).",
            id="alert-at-nothing",
        ),
        pytest.param(
            "[budgets]\nalert_at = [80]",
            "[budgets] alert_at must be above 0 up to 1, not 80 ({file}).",
            id="alert-at-per-cent",
        ),
        pytest.param(
            "[budgets]\nalert_at = 'soon'",
            "[budgets] alert_at must be a list, each item a number, not 'soon' "
            "({file}).",
            id="alert-at-no-number",
        ),
        pytest.param(
            "[budgets]\nalert_webhook = 'ftp://example.com'",
            "[budgets] alert_webhook must begin with https:// or http:// ({file}).",
            id="webhook-of-another-kind",
        ),
        pytest.param(
            "[budgets]\nalert_webhook = 'https://example.com'",
            "[budgets] alert_webhook needs alert_secret, which signs what it is told "
            "({file}).",
            id="webhook-without-a-secret",
        ),
        pytest.param(
            "[budgets]\nalert_secret = 'whsec_c2hvcnQ='",
            "[budgets] alert_secret must be whsec_ and 24 to 64 random bytes in "
            "base64 ({file}).",
            id="short-signing-secret",
        ),
        pytest.param(
            "[providers.a]\nmax_concurrent = 0",
            "[providers.a] max_concurrent must be 1 or more, not 0 ({file}).",
            id="provider-without-a-place",
        ),
        pytest.param(
            "[providers.a]\nrequests_per_minute = 'many'",
            "[providers.a] requests_per_minute must be a whole number, not 'many' "
            "({file}).",
            id="pace-of-a-provider",
        ),
        pytest.param(
            "[providers.a]\npriority = 'high'",
            "[providers.a] priority must be a whole number, not 'high' ({file}).",
            id="provider",
        ),
        pytest.param(
            "[providers.a]\nprices = { m = 'dear' }",
            "[providers.a.prices] m must be a number, not 'dear' ({file}).",
            id="price",
        ),
        pytest.param(
            "[providers.a]\nprices = { m = -1 }",
            "[providers.a.prices] m must be 0 to 1000000, not -1 ({file}).",
            id="negative-price",
        ),
        pytest.param(
            "[providers.a]\nprices = { m = { base = -1 } }",
            "[providers.a.prices.m] base must be 0 to 1000000, not -1 ({file}).",
            id="negative-part-of-a-price",
        ),
        pytest.param(
            "[providers.a.prices.m]\nper_pixel = 1",
            "[providers.a.prices.m] per_pixel is unknown: did you mean per_megapixel? "
            "({file}).",
            id="price-key",
        ),
        pytest.param(
            "[providers]\na = 1",
            "[providers] a must be a table, not 1 ({file}).",
            id="provider-is-no-table",
        ),
        pytest.param(
            "[providers]\na = 1\n[gaia\n", "{file} cannot be read: ", id="syntax"
        ),
    ],
)
def test_wrong_settings_say_what_and_where(
    file: Path, text: str, expected: str
) -> None:
    """A wrong setting names section, key, what is accepted, and the file."""
    complaint = _complaint(text, file)

    assert complaint.startswith(expected.replace("{file}", str(file)))


def test_syntax_errors_name_the_line(file: Path) -> None:
    """A file that is no TOML says where it stops being it."""
    assert "at line 2" in _complaint("[gaia]\npolicy =\n", file)


def test_unreadable_files_say_so(file: Path) -> None:
    """A file that is no text is refused with its name."""
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsError, match=r"gaia\.toml cannot be read: .*utf-8"):
        load_settings(file, environ={})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param(
            {"GAIA_POLCY": "best"},
            "[gaia] polcy is unknown: did you mean policy? (environment: GAIA_POLCY).",
            id="key",
        ),
        pytest.param(
            {"GAIA_SERVER__PRT": "1"},
            "[server] prt is unknown: did you mean port? "
            "(environment: GAIA_SERVER__PRT).",
            id="nested-key",
        ),
        pytest.param(
            {"GAIA_PROVIDERS": "runware"},
            "[gaia] providers must be a table, not 'runware' "
            "(environment: GAIA_PROVIDERS).",
            id="section",
        ),
        pytest.param(
            {"GAIA_LIMITS__REQUESTS_PER_MINUTE": "0"},
            "[limits] requests_per_minute must be 1 or more, not 0 "
            "(environment: GAIA_LIMITS__REQUESTS_PER_MINUTE).",
            id="range",
        ),
    ],
)
def test_wrong_variables_are_named(environ: Mapping[str, str], expected: str) -> None:
    """A wrong variable is named as it is spelt."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)

    assert str(caught.value) == expected


def test_wrong_overrides_name_the_command_line() -> None:
    """A wrong word on the command line says it came from there."""
    with pytest.raises(SettingsError, match=r"not 'x' \(command line\)\.$"):
        load_settings(environ={}, overrides={"server.port": "x"})


# -- secrets ----------------------------------------------------------------------


def test_secret_never_shows_itself() -> None:
    """Only `reveal` gives a secret away."""
    secret = Secret(CANARY)

    texts = [repr(secret), str(secret), f"{secret:>40}", f"{secret!r}", "%s" % secret]  # noqa: UP031 - a log does it so

    assert [text for text in texts if CANARY in text or MASK not in text] == []
    assert secret.reveal() == CANARY


def test_secret_cannot_be_written_by_accident() -> None:
    """Neither JSON nor pickle take a secret along."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps({"api_key": Secret(CANARY)})
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(CANARY))


def test_secrets_compare_by_value() -> None:
    """Two secrets of one value are equal; a plain string never is."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("ä")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), "a"}) == 2


def test_secret_is_true_unless_empty() -> None:
    """An empty secret is none."""
    assert Secret("a")
    assert not Secret("")


def test_secret_copies_are_itself() -> None:
    """A copy needs no pickling."""
    secret = Secret("a")

    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"] is secret


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("api_key", True, id="key"),
        pytest.param("HF_TOKEN", True, id="token"),
        pytest.param("client-secret", True, id="secret"),
        pytest.param("Password", True, id="password"),
        pytest.param("max_tokens", False, id="plural"),
        pytest.param("port", False, id="other"),
    ],
)
def test_secret_names_are_recognised(name: str, expected: bool) -> None:
    """Names that end in key, token, secret or password hold secrets."""
    assert is_secret_name(name) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "postgresql://gaia:p/w@db/gaia", f"postgresql://{MASK}@db/gaia", id="user"
        ),
        pytest.param(
            "https://x.org/v1?api_key=abc&size=2",
            f"https://x.org/v1?api_key={MASK}&size=2",
            id="query",
        ),
        pytest.param("https://x.org/v1", "https://x.org/v1", id="plain"),
    ],
)
def test_addresses_are_shown_without_credentials(text: str, expected: str) -> None:
    """An address that carries a password is shown without it."""
    assert shown(text) == expected


def test_scrub_takes_the_longest_first() -> None:
    """A secret inside another leaves no tail behind."""
    secrets = [Secret("abcdefgh"), Secret("abcdefghijkl"), Secret("abc")]

    assert scrub("abc: abcdefghijkl, abcdefgh", secrets) == f"abc: {MASK}, {MASK}"


def test_secrets_are_hidden_however_deep_they_lie() -> None:
    """Text under a secret's name is hidden in lists and tables, too."""
    hidden = hide("accounts", [{"name": "a", "api_key": CANARY}])

    assert hidden == [{"name": "a", "api_key": Secret(CANARY)}]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[providers.a]\napi_key = '{}'", id="plain"),
        pytest.param("[providers.a]\naccounts = [{ token = '{}' }]", id="list"),
        pytest.param("[gaia]\ndatabase = 'postgresql://u:{}@db/x'", id="database"),
        pytest.param("[server]\ntoken = '{}'", id="server"),
        pytest.param("[providers.a]\nbase_url = 'https://u:{}@x.org'", id="address"),
    ],
)
def test_secrets_show_nowhere(file: Path, text: str) -> None:
    """Neither `repr` nor `describe` repeat a secret."""
    settings = _load(text.replace("{}", CANARY), file)

    assert CANARY not in repr(settings)
    assert CANARY not in str(describe(settings))


def test_signing_secrets_show_nowhere(file: Path) -> None:
    """What webhooks are signed with is a secret like any other."""
    settings = _load(f"[budgets]\nalert_secret = '{SIGNING}'", file)

    assert settings.budgets.alert_secret == Secret(SIGNING)
    assert SIGNING not in repr(settings)
    assert SIGNING not in str(describe(settings))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[gaia]\napi_key = '{}'", id="unknown-key"),
        pytest.param("[gaia]\ndeadline = { env = 'KEY' }", id="wrong-type"),
        pytest.param("[server]\ntoken = ['{}']", id="wrong-type-of-a-secret"),
        pytest.param("[budgets]\nalert_secret = '{}'", id="signing-secret"),
        pytest.param("[providers.a]\npriority = { env = 'KEY' }", id="provider"),
    ],
)
def test_errors_repeat_no_secret(file: Path, text: str) -> None:
    """A complaint about a secret does not quote it."""
    complaint = _complaint(text.replace("{}", CANARY), file, KEY=CANARY)

    assert CANARY not in complaint


# -- a provider's own class -------------------------------------------------------


@attrs.frozen(kw_only=True)
class Account:
    """A table inside a provider's section."""

    region: str = "eu"
    quota: int


@attrs.define(eq=False, kw_only=True)
class Own:
    """Settings of every kind that a provider may have."""

    api_key: Secret | None = setting(default=None, env=("OWN_API_KEY",))
    endpoint: str
    timeout: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    size: tuple[int, int] = (1, 1)
    tags: list[str] = setting(factory=list, help="Words to send along.")
    mode: Literal["fast", "good"] = "fast"
    account: Account | None = None
    accounts: Mapping[str, Account] = attrs.field(factory=dict)
    spares: tuple[Account, ...] = ()
    colours: set[Policy] = attrs.field(factory=set)
    passwords: tuple[str, ...] = ()
    anything: Any = None
    rest: list = attrs.field(factory=list)  # type: ignore[type-arg]
    either: int | str = 0
    _hidden: int = 0
    cache: dict[str, int] = attrs.field(factory=dict, init=False)


def _own(**table: Any) -> Own:
    place = Place(("providers", "own"))
    return make(Own, {"endpoint": "x", **table}, place)


def test_provider_classes_take_every_type() -> None:
    """Values become the types of a provider's fields."""
    own = _own(
        api_key=CANARY,
        timeout="2",
        size=[3, "4"],
        tags="a, b",
        mode="good",
        account={"quota": 5},
        accounts={"a": {"quota": 1, "region": "us"}},
        spares=[{"quota": 2}],
        colours="best, cheapest",
        passwords=[Secret("a")],
        anything=Secret("b"),
        rest=[1, "c"],
        either="x",
        hidden=7,
    )

    assert own.api_key == Secret(CANARY)
    assert (own.timeout, own.size, own.tags, own.mode) == (
        2.0,
        (3, 4),
        ["a", "b"],
        "good",
    )
    assert own.account == Account(quota=5)
    assert own.accounts == {"a": Account(quota=1, region="us")}
    assert own.spares == (Account(quota=2),)
    assert own.colours == {Policy.BEST, Policy.CHEAPEST}
    assert own.passwords == ("a",)
    assert (own.anything, own.rest) == (Secret("b"), [1, "c"])
    assert (own.either, own._hidden) == ("x", 7)


def test_types_for_the_checker_only_spoil_no_others() -> None:
    """An annotation that cannot be resolved leaves the other fields typed."""

    @attrs.define(eq=False, kw_only=True)
    class Lazy:
        size: "int"
        client: "NoSuchClient | None" = None  # type: ignore[name-defined]  # noqa: F821 - the point of the test

    lazy = make(Lazy, {"size": "3", "client": "raw"}, Place(("providers", "lazy")))

    assert (lazy.size, lazy.client) == (3, "raw")


def test_secret_variables_keep_fields_out_of_repr() -> None:
    """A field that a secret's variable gives does not show in `repr`."""
    assert "api_key" not in repr(_own(api_key=CANARY))


def test_setting_keeps_its_help() -> None:
    """A field's variables and its help can be read from the class."""
    fields = attrs.fields_dict(Own)

    assert fields["api_key"].metadata == {"env": ("OWN_API_KEY",), "help": ""}
    assert fields["tags"].metadata["help"] == "Words to send along."


def test_text_fields_take_secrets() -> None:
    """A provider that wants plain text gets the text of a secret."""
    assert _own(endpoint=Secret("x")).endpoint == "x"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(
            {"timout": 1}, "timout is unknown: did you mean timeout?", id="unknown"
        ),
        pytest.param(
            {"cache": {}},
            "cache is unknown; known are account, accounts, anything",
            id="not-settable",
        ),
        pytest.param(
            {"endpoint": None}, "endpoint is not set, and has no default", id="missing"
        ),
        pytest.param(
            {"size": [1, 2, 3]},
            "size must be a list, each item a whole number, not [1, 2, 3]",
            id="tuple",
        ),
        pytest.param(
            {"mode": "best"}, "mode must be one of fast, good, not 'best'", id="literal"
        ),
        pytest.param({"account": 1}, "account must be a table, not 1", id="class"),
        pytest.param({"rest": 1}, "rest must be a list, not 1", id="plain-list"),
        pytest.param(
            {"spares": [{"quota": 1}, {"quota": "x"}]},
            "[providers.own.spares.1] quota must be a whole number, not 'x'",
            id="list-of-classes",
        ),
        pytest.param({"accounts": 1}, "accounts must be a table, not 1", id="table"),
        pytest.param({"timeout": -1}, "'timeout' must be > 0: -1.0", id="validator"),
    ],
)
def test_provider_classes_refuse_with_a_sentence(
    table: Mapping[str, Any], expected: str
) -> None:
    """What does not fit a provider's class is named."""
    with pytest.raises(SettingsError) as caught:
        _own(**table)

    assert str(caught.value).startswith("[providers.own")
    assert expected in str(caught.value)


def test_items_of_lists_know_their_source(file: Path) -> None:
    """A wrong value in a table of a list says which file it is in."""
    place = Place(("providers", "own"), {"providers.own.spares": str(file)})

    with pytest.raises(SettingsError, match=r"spares\.0\] quota .*gaia\.toml\)\.$"):
        make(Own, {"endpoint": "x", "spares": [{"quota": True}]}, place)


def test_kinds_that_nobody_knows_stay_as_they_are() -> None:
    """A value of a type without a reader is left to the class itself."""
    assert read(complex, "1j", Place(("a",))) == "1j"


# -- folders ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"HOME": "/home/ana"}, id="home"),
        pytest.param({"HOME": "relative"}, id="relative-home"),
        pytest.param({"HOME": ""}, id="empty-home"),
        pytest.param({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, id="config"),
        pytest.param({"HOME": "/h", "XDG_DATA_HOME": "/d/e/"}, id="data"),
        pytest.param({"HOME": "/h", "XDG_DATA_HOME": "d"}, id="relative"),
        pytest.param({"HOME": "/h", "XDG_CONFIG_HOME": " /c"}, id="blank"),
    ],
)
@pytest.mark.parametrize("kind", ["config", "data"])
def test_folders_are_those_of_platformdirs(
    monkeypatch: pytest.MonkeyPatch, kind: str, environ: dict[str, str]
) -> None:
    """The short way to a user's folders leads where the long one does."""
    import platformdirs

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    dirs = platformdirs.PlatformDirs("gaia", appauthor=False)

    expected = dirs.user_config_path if kind == "config" else dirs.user_data_path

    assert user_folder(kind) == expected
