import sys
import textwrap
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest

from gaia_core import (
    Capability,
    GenerateRequest,
    ImageResult,
    PluginError,
    ProviderInfo,
    hookimpl,
)
from gaia_core.plugins import InstalledPlugin, Plugins, load_plugins
from gaia_core.secrets import MASK, Secret
from gaia_core.settings import (
    PluginSettings,
    ProviderSettings,
    Settings,
    load_settings,
    setting,
)

CANARY = "sk-canary-0123456789"
REQUEST = GenerateRequest(prompt="a keep")
PROVIDER = """
import attrs
from gaia_core import (
    Capability, GeneratedImage, ImageResult, ProviderInfo, Secret, hookimpl
)
from gaia_core.settings import setting

@attrs.define(eq=False, kw_only=True)
class Provider:
    api_key: Secret | None = setting(default=None, env=("HELLO_KEY", "HELLO_TOKEN"))
    colour: str = setting(default="red", env=("HELLO_COLOUR",))

    @hookimpl
    def gaia_provider_info(self):
        return ProviderInfo(
            name="hello", capabilities={Capability.TEXT_TO_IMAGE}, priority=5
        )

    @hookimpl
    async def gaia_generate(self, request, context):
        return ImageResult(images=(), provider="hello", model=self.colour)
"""
MINIMAL = """
from gaia_core import ProviderInfo, hookimpl

class Provider:
    @hookimpl
    def gaia_provider_info(self):
        return ProviderInfo(name="x", capabilities=())
"""

Install = Callable[..., None]
Load = Callable[..., Plugins]
Wrapper = Generator[None, Any, Any]


@pytest.fixture(name="site")
def _site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder that distributions can be installed in."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("plugged_"):
            del sys.modules[name]


@pytest.fixture(name="install")
def _install(site: Path) -> Install:
    """Give a function that installs a plugin, as pip would."""

    def install(
        plugin: str, code: str, entry: str = "Provider", distribution: str = ""
    ) -> None:
        name = distribution or f"gaia-{plugin}"
        module = f"plugged_{name.replace('-', '_')}"
        value = f"{module}:{entry}" if entry else module
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        files = {
            site / f"{module}.py": textwrap.dedent(code),
            info / "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            info / "entry_points.txt": f"[gaia]\n{plugin} = {value}\n",
        }
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")

    return install


@pytest.fixture(name="load")
def _load(site: Path) -> Load:
    """Give a function that loads what a test installed, and nothing else."""

    def load(
        *extra: object,
        environ: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        **providers: Mapping[str, Any],
    ) -> Plugins:
        settings = load_settings(environ={}, overrides={"providers": providers})
        settings = attrs.evolve(settings, plugins=PluginSettings(load_timeout=timeout))
        points = metadata.EntryPoints(
            point
            for found in metadata.distributions(path=[str(site)])
            for point in found.entry_points
        )
        return load_plugins(
            settings, extra=extra, entry_points=points, environ=environ or {}
        )

    return load


def _reason(plugins: Plugins) -> str:
    (failure,) = plugins.failures
    return failure.reason


def _provider(name: str = "made", priority: int = 0) -> type:
    @attrs.define(eq=False, kw_only=True)
    class Made:
        colour: str = "red"

        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            return ProviderInfo(
                name=name,
                capabilities={Capability.TEXT_TO_IMAGE},
                priority=priority,
            )

        @hookimpl
        async def gaia_generate(
            self, request: GenerateRequest, context: object
        ) -> ImageResult:
            words = f"{request.prompt} in {self.colour} for {context}"
            return ImageResult(images=(), provider=name, model=words)

    return Made


# -- discovery --------------------------------------------------------------------


def test_installed_plugins_are_found(install: Install) -> None:
    """A distribution with an entry point in group `gaia` is all it takes."""
    install("hello", PROVIDER)
    settings = Settings(plugins=PluginSettings(allow=frozenset({"hello"})))

    plugins = load_plugins(settings, environ={})

    provider = plugins.providers["hello"]
    assert plugins.failures == ()
    assert (provider.plugin, provider.distribution) == ("hello", "gaia-hello 1.0")
    assert provider.info().priority == 5


def test_what_is_not_allowed_is_not_imported(install: Install) -> None:
    """With an allow list, the code of all other plugins never runs."""
    install("hello", PROVIDER)
    install("other", "raise RuntimeError('imported')")
    settings = Settings(plugins=PluginSettings(allow=frozenset({"hello"})))

    plugins = load_plugins(settings, environ={})

    statuses = {row.plugin: row.status for row in plugins.installed}
    assert statuses["other"] == "not in plugins.allow"
    assert plugins.failures == ()
    assert "plugged_gaia_other" not in sys.modules


def test_allowed_names_must_be_installed() -> None:
    """A slip in the allow list is reported: nothing would ever be loaded."""
    settings = Settings(plugins=PluginSettings(allow=frozenset({"helo"})))

    plugins = load_plugins(settings, entry_points=())

    assert _reason(plugins) == (
        "[gaia.plugins] allow names plugin helo, which is not installed: "
        "install the distribution that offers it, or take it out of the settings"
    )


def test_disabled_plugins_are_not_imported(install: Install, load: Load) -> None:
    """A provider that is switched off costs nothing and is named."""
    install("hello", "raise RuntimeError('imported')")

    plugins = load(hello={"enabled": False})

    assert (plugins.disabled, plugins.failures) == (("hello",), ())
    assert plugins.installed[0].status == "disabled in the settings"
    assert plugins.installed[0].import_seconds is None
    assert "plugged_gaia_hello" not in sys.modules


def test_installed_lists_what_became_of_each(install: Install, load: Load) -> None:
    """`gaia plugins` has a line for every plugin, and how long it took."""
    install("hello", PROVIDER)
    install("broken", "1 / 0")

    plugins = load(SimpleWrapper(), studio={"plugin": "hello"})

    rows = {
        row.plugin: attrs.evolve(row, import_seconds=None) for row in plugins.installed
    }
    assert rows == {
        "hello": InstalledPlugin(
            plugin="hello",
            distribution="gaia-hello 1.0",
            kind="provider",
            instances=("hello", "studio"),
        ),
        "broken": InstalledPlugin(
            plugin="broken", distribution="gaia-broken 1.0", status="failed"
        ),
        "SimpleWrapper": InstalledPlugin(
            plugin="SimpleWrapper",
            distribution="given in code",
            kind="middleware",
            instances=("SimpleWrapper",),
        ),
    }
    assert all((row.import_seconds or 0) > 0 for row in plugins.installed)


def test_one_name_belongs_to_one_distribution(install: Install, load: Load) -> None:
    """Of two distributions with one plugin name the first works; both are named."""
    install("hello", PROVIDER)
    install("hello", PROVIDER, distribution="gaia-impostor")

    plugins = load()

    assert list(plugins.providers) == ["hello"]
    assert "gaia-hello 1.0" in _reason(plugins)
    assert "gaia-impostor 1.0" in _reason(plugins)


def test_discovery_does_not_depend_on_the_disk(install: Install) -> None:
    """Plugins load in the order of their names, then their distributions."""
    install("zeta", MINIMAL, distribution="a-zeta")
    install("alpha", MINIMAL, distribution="z-alpha")
    install("alpha", MINIMAL, distribution="b-alpha")
    settings = Settings(plugins=PluginSettings(allow=frozenset({"zeta", "alpha"})))

    plugins = load_plugins(settings, environ={})

    loaded = [row.distribution for row in plugins.installed if row.status == "loaded"]
    assert loaded == ["b-alpha 1.0", "a-zeta 1.0"]


@pytest.mark.parametrize(
    "entry_points",
    [pytest.param(b"[gaia]\nno value", id="syntax"), pytest.param(b"\xff", id="text")],
)
def test_unreadable_distributions_harm_nobody(
    install: Install, site: Path, entry_points: bytes
) -> None:
    """A distribution with a broken list of entry points spoils no other."""
    install("hello", PROVIDER)
    install("broken", PROVIDER)
    (site / "gaia_broken-1.0.dist-info" / "entry_points.txt").write_bytes(entry_points)
    settings = Settings(plugins=PluginSettings(allow=frozenset({"hello"})))

    plugins = load_plugins(settings, environ={})

    (failure,) = plugins.failures
    assert list(plugins.providers) == ["hello"]
    assert failure.distribution == "gaia-broken 1.0"
    assert failure.reason.startswith("its entry points cannot be read: ")


def test_older_copies_of_a_distribution_stay_hidden(
    install: Install,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken distribution brings back no copy that a newer one hides."""
    install("hello", PROVIDER)
    newer = tmp_path_factory.mktemp("newer")
    (newer / "gaia_hello-2.0.dist-info").mkdir()
    (newer / "gaia_hello-2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gaia_hello\nVersion: 2.0\n"
    )
    (newer / "gaia_hello-2.0.dist-info" / "entry_points.txt").write_text("[gaia]\nx")
    monkeypatch.syspath_prepend(str(newer))
    settings = Settings(plugins=PluginSettings(allow=frozenset({"hello"})))

    plugins = load_plugins(settings, environ={})

    assert plugins.providers == {}
    assert plugins.failures[0].distribution == "gaia-hello 2.0"


@pytest.mark.parametrize(
    "described",
    [pytest.param(b"", id="nothing"), pytest.param(b"\xff", id="no-text")],
)
def test_distributions_without_metadata_still_load(
    install: Install, site: Path, described: bytes
) -> None:
    """A half installed distribution is named as well as can be."""
    install("hello", PROVIDER)
    (site / "gaia_hello-1.0.dist-info" / "METADATA").write_bytes(described)
    settings = Settings(plugins=PluginSettings(allow=frozenset({"hello"})))

    plugins = load_plugins(settings, environ={})

    assert plugins.providers["hello"].distribution == "unknown"


# -- containment ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "entry", "expected"),
    [
        pytest.param(
            "import no_such_sdk",
            "Provider",
            "it cannot be imported: No module named 'no_such_sdk'",
            id="import-error",
        ),
        pytest.param(
            "x = 1",
            "Provider",
            "AttributeError: module 'plugged_gaia_broken' has no attribute 'Provider'",
            id="no-such-name",
        ),
        pytest.param("1 / 0", "", "ZeroDivisionError: division by zero", id="raises"),
        pytest.param("def f(:", "", "SyntaxError: invalid syntax", id="syntax-error"),
        pytest.param(
            "raise SystemExit(3)",
            "",
            "it tries to end the program (status 3)",
            id="exits",
        ),
        pytest.param(
            "raise KeyboardInterrupt", "", "KeyboardInterrupt", id="interrupts"
        ),
        pytest.param(
            """
            class Provider:
                def __init__(self):
                    raise OSError("no device")
            """,
            "Provider",
            "OSError: no device",
            id="constructor-raises",
        ),
        pytest.param(
            """
            class Provider:
                def __init__(self):
                    raise SystemExit
            """,
            "Provider",
            "it tries to end the program (status )",
            id="constructor-exits",
        ),
        pytest.param(
            """
            class Provider:
                def __dir__(self):
                    raise SystemExit
            """,
            "Provider",
            "it tries to end the program (status )",
            id="exits-when-looked-at",
        ),
        pytest.param("x = 1", "", "it has no gaia hook at all", id="no-hooks"),
        pytest.param(
            MINIMAL.replace("gaia_provider_info", "gaia_provider_inf"),
            "Provider",
            "Gaia has no hook gaia_provider_inf: did you mean gaia_provider_info?",
            id="misspelt-hook",
        ),
        pytest.param(
            """
            from gaia_core import hookimpl

            @hookimpl
            def paint(): ...
            """,
            "",
            "Gaia has no hook paint",
            id="unknown-hook",
        ),
        pytest.param(
            MINIMAL + "    def gaia_generate(self, request, context): ...\n",
            "Provider",
            "gaia_generate lacks @hookimpl: it would never be called",
            id="forgotten-mark",
        ),
        pytest.param(
            MINIMAL + "    @hookimpl\n    async def gaia_generate(self, prompt): ...\n",
            "Provider",
            "Argument(s) {'prompt'} are declared in the hookimpl but can not be "
            "found in the hookspec",
            id="hook-signature",
        ),
        pytest.param(
            MINIMAL
            + "    @hookimpl\n"
            + "    async def gaia_list_models(self, refresh, search=None): ...\n",
            "Provider",
            "gaia_list_models would never be given search: "
            "write the parameter without a default, and not behind a *",
            id="default-of-a-hook",
        ),
        pytest.param(
            MINIMAL
            + "    @hookimpl\n"
            + "    async def gaia_list_models(self, *, refresh): ...\n",
            "Provider",
            "gaia_list_models would never be given refresh: "
            "write the parameter without a default, and not behind a *",
            id="keyword-of-a-hook",
        ),
        pytest.param(
            MINIMAL.replace("capabilities=()", "capabilities=(), contract=2"),
            "Provider",
            "it speaks version 2 of the provider contract, and this Gaia version 1: "
            "upgrade gaia-core",
            id="newer-contract",
        ),
        pytest.param(
            MINIMAL.replace("capabilities=()", "capabilities=(), contract=0"),
            "Provider",
            "upgrade the plugin",
            id="older-contract",
        ),
        pytest.param(
            """
            import attrs
            from gaia_core import ProviderInfo, hookimpl

            @attrs.define
            class Provider:
                @hookimpl
                def gaia_provider_info(self):
                    return ProviderInfo(name="x", capabilities=())
            """,
            "Provider",
            "Provider compares by value: write @attrs.define(eq=False) above it",
            id="compares-by-value",
        ),
        pytest.param(
            MINIMAL
            + "    @hookimpl\n    def gaia_prepare_request(self, request): ...\n",
            "Provider",
            "gaia_prepare_request is for middleware: give it an entry point of its own",
            id="provider-at-the-door",
        ),
        pytest.param(
            """
            from gaia_core import hookimpl

            @hookimpl
            def gaia_upscale(request, context): ...
            """,
            "",
            "gaia_upscale of middleware must be a wrapper (@hookimpl(wrapper=True)); "
            "a provider needs gaia_provider_info, too",
            id="middleware-that-answers",
        ),
        pytest.param(
            """
            from gaia_core import hookimpl

            @hookimpl(wrapper=True)
            def gaia_upscale(request, context): ...
            """,
            "",
            "function is not a generator function",
            id="wrapper-without-yield",
        ),
    ],
)
def test_broken_plugins_harm_nobody(
    install: Install, load: Load, code: str, entry: str, expected: str
) -> None:
    """A plugin that cannot be loaded is named with its reason; the rest work on."""
    install("broken", code, entry)
    install("hello", PROVIDER)

    plugins = load()

    (failure,) = plugins.failures
    assert (failure.plugin, failure.distribution) == ("broken", "gaia-broken 1.0")
    assert expected in failure.reason
    assert list(plugins.providers) == ["hello"]
    assert plugins.middleware == ()


def test_long_reasons_are_cut(install: Install, load: Load) -> None:
    """A reason is one line of a length a person reads."""
    install("broken", "raise ValueError('no\\nway ' * 1000)")

    reason = _reason(load())

    assert "\n" not in reason
    assert len(reason) < 600


def test_plugins_that_hang_are_left_behind(install: Install, load: Load) -> None:
    """A plugin that never finishes loading holds nobody up for long."""
    install("sleeper", "import time; time.sleep(5)")
    install("hello", PROVIDER)

    plugins = load(timeout=1.0)

    assert _reason(plugins) == "it takes longer than 1 s to load"
    assert list(plugins.providers) == ["hello"]


def test_interrupts_of_the_user_are_not_swallowed(install: Install, load: Load) -> None:
    """Whoever presses Ctrl-C while a plugin loads stops Gaia, not the plugin."""
    install("slow", "import _thread, time; _thread.interrupt_main(); time.sleep(5)")

    with pytest.raises(KeyboardInterrupt):
        load()


def test_failed_plugins_leave_no_hook_behind(install: Install, load: Load) -> None:
    """No hook of a plugin that was refused is ever called."""
    install(
        "broken",
        """
        from gaia_core import hookimpl

        @hookimpl(wrapper=True)
        def gaia_prepare_request(request):
            yield
            raise RuntimeError

        @hookimpl
        def gaia_generat(): ...
        """,
        "",
    )

    plugins = load()

    assert "gaia_generat" in _reason(plugins)
    assert plugins.prepare(REQUEST) is REQUEST


# -- settings ---------------------------------------------------------------------


def test_sections_set_the_fields_of_a_provider(install: Install, load: Load) -> None:
    """A provider's class gets what its section says, in its own types."""
    install("hello", PROVIDER)

    plugins = load(hello={"colour": "blue", "api_key": CANARY, "priority": 70})

    provider = plugins.providers["hello"]
    assert provider.info().priority == 70
    assert provider.instance.colour == "blue"  # type: ignore[attr-defined]
    assert provider.instance.api_key == Secret(CANARY)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("environ", "section", "expected"),
    [
        pytest.param({"HELLO_COLOUR": "blue"}, {}, "blue", id="variable"),
        pytest.param({"HELLO_COLOUR": ""}, {}, "red", id="empty-variable"),
        pytest.param(
            {"HELLO_COLOUR": "blue"}, {"colour": "gold"}, "gold", id="section-wins"
        ),
    ],
)
def test_vendors_variables_fill_gaps(
    install: Install,
    load: Load,
    environ: Mapping[str, str],
    section: Mapping[str, str],
    expected: str,
) -> None:
    """A vendor's own variable gives what the section leaves open."""
    install("hello", PROVIDER)

    plugins = load(environ=environ, hello=section)

    assert plugins.providers["hello"].instance.colour == expected  # type: ignore[attr-defined]


def test_first_variable_that_is_set_counts(install: Install, load: Load) -> None:
    """A field may name several variables; the first with a value is taken."""
    install("hello", PROVIDER)

    plugins = load(environ={"HELLO_TOKEN": "second", "HELLO_KEY": "first"})

    key = plugins.providers["hello"].instance.api_key  # type: ignore[attr-defined]
    assert key == Secret("first")


def test_missing_reference_takes_no_other_account(install: Install) -> None:
    """A key whose variable is not set is not replaced by the vendor's own one."""
    install("hello", PROVIDER)
    settings = Settings(
        plugins=PluginSettings(allow=frozenset({"hello"})),
        providers={"hello": ProviderSettings(name="hello", options={"api_key": None})},
    )

    plugins = load_plugins(settings, environ={"HELLO_KEY": "another account"})

    assert plugins.providers["hello"].instance.api_key is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("HELLO_KEY is not set (nor HELLO_TOKEN)", "STUDIO_KEY is not set"),
        ("torch is not installed", "torch is not installed"),
    ],
    ids=["its own key", "something else"],
)
def test_missing_reference_is_named_by_the_card(
    install: Install, site: Path, words: str, told: str
) -> None:
    """A provider that lacks its key says which variable its section points at."""
    install(
        "hello",
        PROVIDER.replace(
            "priority=5", f'unavailable=None if self.api_key else "{words}"'
        ),
    )
    file = site / "gaia.toml"
    file.write_text(
        '[providers.studio]\nplugin = "hello"\napi_key = { env = "STUDIO_KEY" }'
    )
    settings = load_settings(file, environ={"GAIA_PLUGINS__ALLOW": "hello"})

    plugins = load_plugins(settings, environ={})

    assert plugins.providers["studio"].info().unavailable == (
        f"{told} ([providers.studio] api_key: "
        f"environment: STUDIO_KEY, not set, named in {file})"
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        pytest.param(
            {"color": "red"},
            "[providers.hello] color is unknown: did you mean colour? (command line).",
            id="unknown",
        ),
        pytest.param(
            {"priorty": 5},
            "[providers.hello] priorty is unknown: did you mean priority? "
            "(command line).",
            id="key-of-the-core",
        ),
        pytest.param(
            {"colour": 5},
            "[providers.hello] colour must be text, not 5 (command line).",
            id="type",
        ),
    ],
)
def test_wrong_settings_fail_one_instance(
    install: Install, load: Load, section: Mapping[str, Any], expected: str
) -> None:
    """A wrong section is a failure of its instance; the others of it work."""
    install("hello", PROVIDER)

    plugins = load(hello=section, studio={"plugin": "hello"})

    assert _reason(plugins) == expected
    assert list(plugins.providers) == ["studio"]


def test_wrong_variables_are_named(install: Install, load: Load) -> None:
    """A vendor's variable with a wrong value is named."""
    install("hello", PROVIDER.replace("colour: str", "colour: int"))

    plugins = load(environ={"HELLO_COLOUR": "blue"})

    assert _reason(plugins) == (
        "[providers.hello] colour must be a whole number, not 'blue' "
        "(environment: HELLO_COLOUR)."
    )


def test_plain_classes_take_no_settings(install: Install, load: Load) -> None:
    """A class without attrs fields is called with nothing."""
    install("plain", MINIMAL)

    plugins = load(plain={"priority": 3, "colour": "red"})

    assert _reason(plugins).startswith("[providers.plain] colour is unknown")
    assert load(plain={"priority": 3}).providers["plain"].info().priority == 3


def test_describe_shows_where_a_provider_got_its_values(
    install: Install, load: Load
) -> None:
    """`gaia config show` tells what vendors' variables and defaults gave."""
    install("hello", PROVIDER)

    plugins = load(environ={"HELLO_KEY": CANARY})

    rows = [tuple(row) for row in plugins.providers["hello"].describe()]
    assert rows == [
        ("providers.hello.api_key", MASK, "environment: HELLO_KEY"),
        ("providers.hello.colour", "red", "default"),
    ]


def test_reasons_repeat_no_secret(install: Install, load: Load) -> None:
    """What a plugin says about its failure is shown without keys."""
    install(
        "broken",
        f"raise ValueError('{CANARY}, 0123-variable, https://u:pw@x.org')",
    )

    plugins = load(environ={"A_KEY": "0123-variable"}, other={"api_key": CANARY})

    reason = plugins.failures[0].reason
    assert reason == f"ValueError: {MASK}, {MASK}, https://{MASK}@x.org"


def test_nothing_shows_a_secret(install: Install, load: Load) -> None:
    """Neither `repr` nor a card nor a row repeats a provider's key."""
    install("hello", PROVIDER)

    plugins = load(
        environ={"HELLO_KEY": CANARY}, studio={"plugin": "hello", "api_key": CANARY}
    )

    provider = plugins.providers["studio"]
    texts = [plugins, provider, provider.info(), provider.describe()]
    assert [text for text in map(repr, texts) if CANARY in text] == []


# -- instances --------------------------------------------------------------------


def test_sections_make_further_instances(install: Install, load: Load) -> None:
    """A section that names a plugin is a second account under its own name."""
    install("hello", PROVIDER)

    plugins = load(studio={"plugin": "hello", "colour": "blue", "priority": 9})

    assert list(plugins.providers) == ["studio", "hello"]
    assert plugins.providers["studio"].info().name == "studio"
    assert plugins.providers["studio"].plugin == "hello"
    assert plugins.providers["hello"].info().priority == 5


ACCOUNT = """
import attrs
from gaia_core import ProviderInfo, Secret, hookimpl, setting

@attrs.define(eq=False, kw_only=True)
class Provider:
    api_key: Secret | None = setting(default=None, env=("HELLO_API_KEY",))
    max_concurrent: int | None = setting(default=None, env=("HELLO_MAX_CONCURRENT",))
    retry_delay: float | None = setting(default=None, env=("HELLO_RETRY_DELAY",))

    @hookimpl
    def gaia_provider_info(self):
        return ProviderInfo(
            name="hello",
            capabilities=(),
            max_concurrent=self.max_concurrent,
            retry_delay=self.retry_delay,
        )
"""
ACCOUNT_VARIABLES = {
    "HELLO_API_KEY": CANARY,
    "HELLO_MAX_CONCURRENT": "8",
    "HELLO_RETRY_DELAY": "2",
}


def test_accounts_have_their_own_keys_and_pace(install: Install, load: Load) -> None:
    """What a section says reaches core and class; variables give what it leaves."""
    install("hello", ACCOUNT)

    plugins = load(
        studio={"plugin": "hello", "api_key": "sk-studio", "max_concurrent": 2},
        environ=ACCOUNT_VARIABLES,
    )

    hello: Any = plugins.providers["hello"].instance
    studio: Any = plugins.providers["studio"].instance
    assert (hello.api_key, hello.max_concurrent) == (Secret(CANARY), 8)
    assert (studio.api_key, studio.max_concurrent) == (Secret("sk-studio"), 2)
    assert hello.retry_delay == studio.retry_delay == 2.0
    assert plugins.providers["studio"].settings.max_concurrent == 2
    assert plugins.providers["hello"].settings.max_concurrent is None


def test_every_value_of_an_account_is_listed_once(install: Install, load: Load) -> None:
    """A provider lists what its section leaves open, and where it has that from."""
    install("hello", ACCOUNT)

    plugins = load(
        studio={"plugin": "hello", "max_concurrent": 2}, environ=ACCOUNT_VARIABLES
    )

    rows = {
        row.key: (row.value, row.source)
        for provider in plugins.providers.values()
        for row in provider.describe()
    }
    assert rows == {
        "providers.hello.api_key": (MASK, "environment: HELLO_API_KEY"),
        "providers.hello.max_concurrent": ("8", "environment: HELLO_MAX_CONCURRENT"),
        "providers.hello.retry_delay": ("2.0", "environment: HELLO_RETRY_DELAY"),
        "providers.studio.api_key": (MASK, "environment: HELLO_API_KEY"),
        "providers.studio.retry_delay": ("2.0", "environment: HELLO_RETRY_DELAY"),
    }


ELSEWHERE = """
import attrs
from gaia_core import ProviderInfo, Secret, hookimpl, setting

@attrs.define(eq=False, kw_only=True)
class Provider:
    api_key: Secret | None = setting(default=None, env=("HELLO_KEY", "HI_KEY"))
    base_url: str = setting(default="https://hello.example", env=("HELLO_BASE_URL",))
    colour: str = setting(default="red", env=("HELLO_COLOUR",))

    @hookimpl
    def gaia_provider_info(self):
        return ProviderInfo(
            name="hello",
            capabilities=(),
            unavailable=None if self.api_key else "HELLO_KEY is not set",
        )
"""
STUDIO = {"plugin": "hello", "base_url": "https://studio.example"}


def test_the_vendors_key_is_not_for_another_address(
    install: Install, load: Load
) -> None:
    """A further instance elsewhere gets no secret of the vendor's, and says so."""
    install("hello", ELSEWHERE)

    plugins = load(studio=STUDIO, environ={"HELLO_KEY": CANARY, "HELLO_COLOUR": "blue"})

    hello: Any = plugins.providers["hello"]
    studio: Any = plugins.providers["studio"]
    assert (hello.instance.api_key, hello.info().unavailable) == (Secret(CANARY), None)
    assert (studio.instance.api_key, studio.instance.colour) == (None, "blue")
    assert studio.info().unavailable == (
        "api_key is not set, and HELLO_KEY or HI_KEY is not sent to an address of its "
        "own: set api_key in [providers.studio]"
    )


@pytest.mark.parametrize(
    ("name", "section"),
    [
        pytest.param("studio", {"plugin": "hello"}, id="the-vendors-address"),
        pytest.param("hello", STUDIO, id="the-plugins-own-section"),
        pytest.param("studio", {**STUDIO, "api_key": CANARY}, id="a-key-of-its-own"),
    ],
)
def test_other_instances_have_a_key(
    install: Install, load: Load, name: str, section: Mapping[str, Any]
) -> None:
    """Whoever has the vendor's address, its name or a key of its own can work."""
    install("hello", ELSEWHERE)

    plugins = load(**{name: section}, environ={"HELLO_KEY": CANARY})

    provider: Any = plugins.providers[name]
    assert provider.instance.api_key == Secret(CANARY)
    assert provider.info().unavailable is None


def test_default_instance_can_be_switched_off(install: Install, load: Load) -> None:
    """With the plugin's own section disabled, only the others are left."""
    install("hello", PROVIDER)

    plugins = load(hello={"enabled": False}, studio={"plugin": "hello"})

    assert (list(plugins.providers), plugins.disabled) == (["studio"], ("hello",))


def test_instance_may_take_the_name_of_a_plugin(install: Install, load: Load) -> None:
    """A section decides what its name stands for, even a plugin's name."""
    install("hello", PROVIDER)
    install("plain", MINIMAL)

    plugins = load(plain={"plugin": "hello"})

    statuses = {row.plugin: row.status for row in plugins.installed}
    assert {name: one.plugin for name, one in plugins.providers.items()} == {
        "hello": "hello",
        "plain": "hello",
    }
    assert statuses["plain"] == "its name is used by an instance: [providers.plain]"


def test_objects_have_one_instance(load: Load) -> None:
    """An object cannot be two providers."""
    plugins = load(_provider("made")(), studio={"plugin": "made"})

    assert (
        _reason(plugins)
        == "it is one object, not a class: there is no second for studio"
    )
    assert list(plugins.providers) == ["made"]


def test_sections_need_a_plugin(load: Load) -> None:
    """A section for a plugin that is not there says how to get it."""
    plugins = load(foo={}, gone={"enabled": False})

    (failure,) = plugins.failures
    assert failure.plugin == "foo"
    assert failure.reason == (
        "[providers.foo] names plugin foo, which is not installed: "
        "install the distribution that offers it, or take it out of the settings"
    )
    assert plugins.disabled == ("gone",)


def test_providers_are_ranked(load: Load) -> None:
    """Providers come by priority, then by name; settings have the last word."""
    low, high, tie = _provider("low", 1), _provider("high", 9), _provider("a-tie", 9)

    ranks = list(load(low, high, tie).providers)
    changed = list(load(low, high, tie, low={"priority": 10}).providers)

    assert ranks == ["a-tie", "high", "low"]
    assert changed == ["low", "a-tie", "high"]


# -- given in code ----------------------------------------------------------------


def test_classes_given_in_code_take_their_section(load: Load) -> None:
    """A host may pass a class; its section of the settings counts."""
    plugins = load(_provider("made"), made={"colour": "blue"})

    assert plugins.providers["made"].instance.colour == "blue"  # type: ignore[attr-defined]
    assert plugins.providers["made"].distribution == "given in code"


def test_what_is_given_in_code_is_always_allowed() -> None:
    """An allow list speaks of what is installed."""
    settings = Settings(plugins=PluginSettings(allow=frozenset()))

    plugins = load_plugins(settings, extra=[_provider("made")()], environ={})

    assert list(plugins.providers) == ["made"]


def test_objects_take_no_settings(load: Load) -> None:
    """An object that is made already cannot be given settings."""
    plugins = load(_provider("made")(), made={"colour": "blue", "priority": 3})

    assert _reason(plugins).startswith("[providers.made] colour is unknown")


def test_classes_that_cannot_be_made_are_named(load: Load) -> None:
    """A class given in code that needs a value fails under its own name."""

    @attrs.define(eq=False, kw_only=True)
    class Needy:
        endpoint: str

    plugins = load(Needy)

    assert plugins.failures[0].plugin == "Needy"
    assert (
        _reason(plugins) == "[providers.Needy] endpoint is not set, and has no default."
    )


def test_modules_may_be_given_in_code(load: Load) -> None:
    """A module with hooks is middleware under its own name."""
    module = ModuleType("rewriter")
    module.gaia_prepare_request = _rewrite  # type: ignore[attr-defined]

    assert load(module).middleware == ("rewriter",)


def test_names_are_taken_once(load: Load) -> None:
    """Of two providers with one name the first one stays."""
    first = _provider("made")()

    plugins = load(first, _provider("made")())

    assert plugins.providers["made"].instance is first
    assert "both" not in _reason(plugins)
    assert "offer a plugin of this name" in _reason(plugins)


def test_names_of_instances_are_taken_once(load: Load) -> None:
    """Middleware cannot push a provider's instance out by its name."""
    wrapper = SimpleWrapper()

    plugins = load(_provider("made"), wrapper, SimpleWrapper={"plugin": "made"})

    assert list(plugins.providers) == ["SimpleWrapper", "made"]
    assert plugins.middleware == ()


# -- calling ----------------------------------------------------------------------


@hookimpl(wrapper=True)
def _rewrite() -> Wrapper:
    """Put a word behind the prompt."""
    prepared = yield
    return attrs.evolve(prepared, prompt=f"{prepared.prompt}, at dusk")


class SimpleWrapper:
    """Middleware that signs every model name, as a watermark signs pictures."""

    def __init__(self, mark: str = "signed") -> None:
        """Remember what to sign with."""
        self.mark = mark

    @hookimpl(wrapper=True)
    def gaia_generate(self) -> Wrapper:
        """Change the result once it is there."""
        answer: Awaitable[ImageResult] = yield

        async def signed() -> ImageResult:
            result = await answer
            return attrs.evolve(result, model=f"{result.model}, {self.mark}")

        return signed()


async def _painted(plugins: Plugins, name: str) -> ImageResult:
    provider = plugins.providers[name]
    result = await provider.call("gaia_generate", request=REQUEST, context="tests")
    assert isinstance(result, ImageResult)
    return result


async def test_one_provider_is_called(load: Load) -> None:
    """A call reaches the provider that was meant, and no other."""
    plugins = load(_provider("one"), _provider("two"), two={"colour": "blue"})

    results = [await _painted(plugins, name) for name in ("one", "two")]

    assert [result.provider for result in results] == ["one", "two"]
    assert results[1].model == "a keep in blue for tests"


async def test_middleware_wraps_every_provider(load: Load) -> None:
    """A wrapper sees what comes of the awaitable, whoever makes it."""
    plugins = load(_provider("one"), SimpleWrapper(), _provider("two"))

    models = [(await _painted(plugins, name)).model for name in ("one", "two")]

    assert models == ["a keep in red for tests, signed"] * 2
    assert plugins.middleware == ("SimpleWrapper",)


async def test_middleware_nests_in_the_order_it_loads(load: Load) -> None:
    """The middleware that loads last is the outermost."""

    class Other(SimpleWrapper):
        pass

    plugins = load(_provider("one"), SimpleWrapper("a"), Other("b"))

    assert (await _painted(plugins, "one")).model.endswith(", a, b")


async def test_wrappers_of_a_provider_are_its_own(load: Load) -> None:
    """A provider that wraps its own hook does not wrap another's."""

    class Wrapping(_provider("wrapping")):  # type: ignore[misc]
        @hookimpl(wrapper=True, specname="gaia_generate")
        def sign(self) -> Wrapper:
            answer = yield
            answer.close()
            raise RuntimeError

    plugins = load(_provider("one"), Wrapping)

    assert (await _painted(plugins, "one")).provider == "one"


def test_middleware_may_have_settings(load: Load) -> None:
    """A class without a card is middleware, and its section sets its fields."""

    @attrs.define(eq=False, kw_only=True)
    class Dusk:
        word: str = "dusk"

        @hookimpl(wrapper=True)
        def gaia_prepare_request(self) -> Wrapper:
            prepared = yield
            return attrs.evolve(prepared, style=self.word)

    plugins = load(Dusk, Dusk={"word": "dawn"})

    prepared = plugins.prepare(REQUEST)
    assert isinstance(prepared, GenerateRequest)
    assert prepared.style == "dawn"


def test_requests_pass_the_door_unchanged(load: Load) -> None:
    """Without middleware a request comes back as it went in."""
    assert load(_provider("one")).prepare(REQUEST) is REQUEST


def test_rewriters_build_upon_one_another(load: Load) -> None:
    """Every wrapper at the door gets what the one inside gave back."""
    first, second = ModuleType("first"), ModuleType("second")
    for module in (first, second):
        module.gaia_prepare_request = _rewrite  # type: ignore[attr-defined]

    prepared = load(first, second).prepare(REQUEST)

    assert isinstance(prepared, GenerateRequest)
    assert prepared.prompt == "a keep, at dusk, at dusk"


def test_door_must_give_a_request(load: Load) -> None:
    """Middleware that loses the request is an error with a sentence."""

    class Forgetful:
        @hookimpl
        def gaia_prepare_request(self) -> str:
            return "oops"

    plugins = load(Forgetful())

    with pytest.raises(PluginError, match="gave str, not a request"):
        plugins.prepare(REQUEST)


def test_missing_hooks_are_an_error(load: Load) -> None:
    """A provider says which hooks it has; calling another is a mistake."""
    provider = load(_provider("one")).providers["one"]

    assert provider.implements("gaia_generate")
    assert not provider.implements("gaia_upscale")
    with pytest.raises(PluginError, match="one has no hook gaia_upscale"):
        provider.call("gaia_upscale")


async def test_upkeep_is_called_once_each(load: Load) -> None:
    """Starting a provider does not start another, nor the middleware."""
    started: list[str] = []

    class Starting(_provider("one")):  # type: ignore[misc]
        @hookimpl
        async def gaia_start(self) -> None:
            started.append("provider")

    class Middle:
        @hookimpl
        async def gaia_start(self) -> None:
            started.append("middleware")

    plugins = load(Starting, Middle())

    await plugins.providers["one"].call("gaia_start")
    assert started == ["provider"]
    for start in plugins.call_middleware("gaia_start"):
        await start
    assert started == ["provider", "middleware"]


# -- cards ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            lambda: 1 / 0,
            "gaia_provider_info failed: ZeroDivisionError: division by zero",
            id="raises",
        ),
        pytest.param(
            lambda: {"name": "one"},
            "gaia_provider_info gave dict, not ProviderInfo",
            id="wrong-type",
        ),
        pytest.param(
            lambda: None,
            "gaia_provider_info gave NoneType, not ProviderInfo",
            id="none",
        ),
        pytest.param(
            lambda: sys.exit("no key"),
            "gaia_provider_info failed: it tries to end the program (status no key)",
            id="exits",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), priority="high"),  # type: ignore[arg-type]
            "gaia_provider_info gave priority 'high', not a whole number",
            id="priority",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), unavailable=True),  # type: ignore[arg-type]
            "gaia_provider_info gave unavailable True, not a reason or None",
            id="reason",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), max_attempts="3"),  # type: ignore[arg-type]
            "gaia_provider_info gave max_attempts '3', not 1 or more",
            id="attempts",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), max_concurrent=0),
            "gaia_provider_info gave max_concurrent 0, not 1 or more",
            id="no-attempt-at-a-time",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), base_url=8000),  # type: ignore[arg-type]
            "gaia_provider_info gave base_url or result_hosts that are no text",
            id="base",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), result_hosts=[None]),  # type: ignore[list-item]
            "gaia_provider_info gave base_url or result_hosts that are no text",
            id="hosts",
        ),
        pytest.param(
            lambda: ProviderInfo(name="One", capabilities=(), retry_delay=float("nan")),
            "gaia_provider_info gave retry_delay nan, not 0 or more",
            id="no-delay",
        ),
    ],
)
def test_broken_cards_make_a_provider_unavailable(
    load: Load, answer: Callable[[], Any], expected: str
) -> None:
    """A provider that cannot say who it is stays listed, with the reason."""

    class One:
        @hookimpl
        def gaia_provider_info(self) -> Any:
            return answer()

    plugins = load(One(), One={"priority": 4})

    info = plugins.providers["One"].info()
    assert (info.name, info.priority, info.unavailable) == ("One", 4, expected)
    assert plugins.failures == ()


def test_broken_cards_repeat_no_secret(load: Load) -> None:
    """A card that fails with a key in its words is shown without it."""

    @attrs.define(eq=False, kw_only=True)
    class One:
        api_key: Secret | None = setting(default=None, env=("ONE_KEY",))

        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            message = f"refused {self.api_key.reveal() if self.api_key else ''}"
            raise ValueError(message)

    plugins = load(One, environ={"ONE_KEY": CANARY})

    info = plugins.providers["One"].info()
    assert info.unavailable == f"gaia_provider_info failed: ValueError: refused {MASK}"


def test_hosts_own_objects_need_no_attrs(load: Load) -> None:
    """Objects that compare by value are refused, whatever they are."""
    plugins = load(SimpleNamespace(name="x"))

    assert _reason(plugins).startswith("SimpleNamespace compares by value")
