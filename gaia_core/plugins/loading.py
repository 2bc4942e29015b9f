"""Loading plugins, one at a time, under a guard."""

import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MemberDescriptorType
from typing import TYPE_CHECKING

import attrs
import pluggy

from gaia_core import hookspecs
from gaia_core.errors import PluginError, SettingsError
from gaia_core.hookspecs import PROJECT_NAME, hookimpl
from gaia_core.observability import register_secret
from gaia_core.plugins.checks import (
    MIDDLEWARE_MAY_ANSWER,
    check_arguments,
    check_contract,
    hooks_of,
    kind_of,
    words_of,
)
from gaia_core.plugins.discovery import (
    PluginSource,
    find_installed,
    from_code,
    from_entry_point,
)
from gaia_core.plugins.loaded import (
    HookCalls,
    InstalledPlugin,
    PluginFailure,
    Plugins,
    Provider,
)
from gaia_core.plugins.making import Made, make_instance
from gaia_core.requests import Request
from gaia_core.secrets import Secret, is_secret_name, scrub, secrets_in
from gaia_core.settings import ProviderSettings, Settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Sections = Sequence[ProviderSettings]

_SHORTEST_KEY = 8
"""What is shorter may be a word: masking it would spoil sentences everywhere."""


def load_plugins(
    settings: Settings,
    *,
    extra: Iterable[object] = (),
    entry_points: "Iterable[EntryPoint] | None" = None,
    environ: Mapping[str, str] = os.environ,
) -> Plugins:
    """
    Load every plugin that is installed and allowed, one at a time.

    Args:
        settings: Which plugins to load, and their sections.
        extra: Providers and middleware (objects, or classes to make them from)
            beside the installed ones; always allowed.
        entry_points: What to load instead of what is installed.
        environ: Where the variables that settings fall back on are looked up.

    Returns:
        What was loaded, and what was not, with the reasons.
    """
    _register([settings.server.token, *_options(settings)])
    loader = _Loader(settings=settings, environ=environ)
    if entry_points is None:
        sources, loader.failures = find_installed()
    else:
        sources = list(map(from_entry_point, entry_points))
    for source in sources:
        loader.load_installed(source)
    for item in extra:
        loader.load(from_code(item))
    loader.report_absent()
    return loader.finish()


# -- what becomes of them ---------------------------------------------------------


class _Core:
    """The core's own hook implementations."""

    @hookimpl(trylast=True)
    def gaia_prepare_request(self, request: Request) -> Request:
        """Give the request back as it came."""
        return request


class _Manager(pluggy.PluginManager):
    """Looks for hooks where there can be any: most names are Python's, or fields."""

    def parse_hookimpl_opts(
        self, plugin: object, name: str
    ) -> pluggy.HookimplOpts | None:
        """Read the mark of a hook, if it has one."""
        if name.startswith("__"):
            return None
        if isinstance(getattr(type(plugin), name, None), MemberDescriptorType):
            return None  # the field of a class with slots
        return super().parse_hookimpl_opts(plugin, name)


def _new_manager() -> pluggy.PluginManager:
    manager = _Manager(PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    manager.register(_Core(), "gaia core")
    return manager


@attrs.define(eq=False, kw_only=True)
class _Loader:
    """Loads one plugin after another and keeps what became of each."""

    settings: Settings
    environ: Mapping[str, str]
    manager: pluggy.PluginManager = attrs.field(factory=_new_manager)
    providers: list[Provider] = attrs.field(factory=list)
    middleware: list[str] = attrs.field(factory=list)
    disabled: list[str] = attrs.field(factory=list)
    failures: list[PluginFailure] = attrs.field(factory=list)
    installed: dict[str, InstalledPlugin] = attrs.field(factory=dict)
    _hooks: dict[str, Mapping[str, bool]] = attrs.field(factory=dict, init=False)

    def load_installed(self, source: PluginSource) -> None:
        """Load a plugin unless it is not allowed."""
        allow = self.settings.plugins.allow
        if allow is not None and source.plugin not in allow:
            self._skip(source, "not in plugins.allow")
        else:
            self.load(source)

    def load(self, source: PluginSource) -> None:
        """Load a plugin unless its name is taken or the settings disable it."""
        taken = self.installed.get(source.plugin)
        if taken is not None:
            both = f"{taken.distribution} and {source.distribution}"
            error = PluginError(f"{both} offer a plugin of this name: uninstall one")
            self._fail(source, error)
            return
        sections = self._sections(source.plugin)
        self.disabled += [one.name for one in sections if not one.enabled]
        enabled = [one for one in sections if one.enabled]
        if enabled:
            self._load(source, enabled)
        else:
            self._skip(source, _why_idle(source, sections))

    def _sections(self, plugin: str) -> Sections:
        """Collect the plugin's own section, given or not, and its instances'."""
        given = self.settings.providers
        own = [] if plugin in given else [ProviderSettings(name=plugin)]
        return own + [one for one in given.values() if one.plugin == plugin]

    def _load(self, source: PluginSource, sections: Sections) -> None:
        start = time.perf_counter()
        made = self._made(source, sections)
        seconds = time.perf_counter() - start
        kinds = {one.section.name: self._admit(source, one) for one in made}
        loaded = tuple(name for name, kind in kinds.items() if kind)
        self.installed[source.plugin] = InstalledPlugin(
            plugin=source.plugin,
            distribution=source.distribution,
            kind=next(filter(None, kinds.values()), ""),
            instances=loaded,
            status="loaded" if loaded else "failed",
            import_seconds=seconds,
        )

    def _made(self, source: PluginSource, sections: Sections) -> Sequence[Made]:
        """Make the instances in a thread: one that hangs can be left behind."""
        answers: queue.SimpleQueue[Sequence[Made]] = queue.SimpleQueue()
        threading.Thread(
            target=lambda: answers.put(self._make_all(source, sections)),
            name=f"gaia loads {source.plugin}",
            daemon=True,
        ).start()
        timeout = self.settings.plugins.load_timeout
        try:
            return answers.get(timeout=timeout)
        except queue.Empty:
            error = PluginError(f"it takes longer than {timeout:g} s to load")
            return [Made(section=sections[0], error=error)]

    def _make_all(self, source: PluginSource, sections: Sections) -> Sequence[Made]:
        try:
            loaded = source.load()
        except BaseException as error:  # noqa: BLE001 - SystemExit, too
            return [Made(section=sections[0], error=error)]
        return [self._make(loaded, section) for section in sections]

    def _make(self, loaded: object, section: ProviderSettings) -> Made:
        try:
            made = make_instance(
                loaded, section, sources=self.settings.sources, environ=self.environ
            )
            check_contract(made.value)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too
            return Made(section=section, error=error)
        return made

    def _admit(self, source: PluginSource, made: Made) -> str:
        """Register an instance; give its kind, or nothing when it fails."""
        error, kind = made.error, ""
        if error is None:
            try:
                kind = self._register(made.section.name, made.value)
            except (Exception, SystemExit) as refusal:  # noqa: BLE001 - whatever a plugin does
                error = refusal
        if error is not None:
            self._fail(source, error)
        elif kind == "provider":
            self.providers.append(_provider(source, made))
        else:
            self.middleware.append(made.section.name)
        return kind

    def _register(self, name: str, value: object) -> str:
        """Register an object whole or, raising, not at all."""
        hooks = hooks_of(self.manager, value)
        kind = kind_of(self.manager, value, hooks)
        if self.manager.is_registered(value):
            message = f"it is one object, not a class: there is no second for {name}"
            raise PluginError(message)
        self.manager.register(value, name)
        try:
            check_arguments(self.manager, value)
        except PluginError:
            self.manager.unregister(value)
            raise
        self._hooks[name] = hooks
        return kind

    def _secrets(self) -> Sequence[Secret]:
        """Collect what no reason may repeat."""
        options = _options(self.settings)
        variables = filter(is_secret_name, self.environ)
        return [*secrets_in(options), *(Secret(self.environ[v]) for v in variables)]

    def _skip(self, source: PluginSource, status: str) -> None:
        self.installed[source.plugin] = InstalledPlugin(
            plugin=source.plugin, distribution=source.distribution, status=status
        )

    def _fail(self, source: PluginSource, error: BaseException) -> None:
        self.failures.append(
            PluginFailure(
                plugin=source.plugin,
                distribution=source.distribution,
                reason=scrub(words_of(error), self._secrets()),
                is_by_settings=isinstance(error, SettingsError),
            )
        )

    def report_absent(self) -> None:
        """Report sections and allowed names that no installed plugin answers to."""
        for section in self.settings.providers.values():
            if section.plugin in self.installed:
                continue
            if section.enabled:
                self._fail_absent(section.plugin, f"[providers.{section.name}]")
            else:
                self.disabled.append(section.name)
        for plugin in sorted(self.settings.plugins.allow or ()):
            if plugin not in self.installed:
                self._fail_absent(plugin, "[gaia.plugins] allow")

    def _fail_absent(self, plugin: str, key: str) -> None:
        reason = (
            f"{key} names plugin {plugin}, which is not installed: "
            "install the distribution that offers it, or take it out of the settings"
        )
        absent = PluginFailure(
            plugin=plugin, distribution="not installed", reason=reason
        )
        self.failures.append(absent)

    def finish(self) -> Plugins:
        """Build every hook caller, once, and hand over."""
        providers = [
            attrs.evolve(one, calls=self._calls_of(one)) for one in self.providers
        ]
        _register([list(one.secrets()) for one in providers])
        ranked = sorted(providers, key=lambda one: (-one.info().priority, one.name))
        return Plugins(
            providers={one.name: one for one in ranked},
            disabled=tuple(self.disabled),
            failures=tuple(self.failures),
            middleware=tuple(self.middleware),
            installed=tuple(self.installed.values()),
            calls=self._calls_of_middleware(),
        )

    def _calls_of(self, provider: Provider) -> HookCalls:
        hooks = self._hooks_of(provider.name, provider.instance)
        return {
            hook: self.manager.subset_hook_caller(hook, self._others(hook, provider))
            for hook, is_wrapper in hooks.items()
            if not is_wrapper
        }

    def _others(self, hook: str, provider: Provider) -> Sequence[object]:
        """Collect whom this provider's hook must not reach: all but wrappers."""
        instances = {id(one.instance) for one in self.providers}
        return [
            other
            for name, other in self.manager.list_name_plugin()
            if other is not provider.instance
            and (
                id(other) in instances or self._hooks_of(name, other).get(hook) is False
            )
        ]

    def _hooks_of(self, name: str, plugin: object) -> Mapping[str, bool]:
        """List the hooks of a registered plugin; looking for them takes its time."""
        if name not in self._hooks:
            self._hooks[name] = hooks_of(self.manager, plugin)
        return self._hooks[name]

    def _calls_of_middleware(self) -> HookCalls:
        instances = [one.instance for one in self.providers]
        return {
            hook: self.manager.subset_hook_caller(hook, instances)
            for hook in MIDDLEWARE_MAY_ANSWER
        }


def _options(settings: Settings) -> list[Mapping[str, object]]:
    return [one.options for one in settings.providers.values()]


def _register(values: Sequence[object]) -> None:
    """Have the secrets in some values masked wherever a text repeats them."""
    for secret in secrets_in(values):
        if len(secret.reveal()) >= _SHORTEST_KEY:
            register_secret(secret.reveal())


def _why_idle(source: PluginSource, sections: Sections) -> str:
    if sections:
        return "disabled in the settings"
    return f"its name is used by an instance: [providers.{source.plugin}]"


def _provider(source: PluginSource, made: Made) -> Provider:
    return Provider(
        name=made.section.name,
        plugin=source.plugin,
        distribution=source.distribution,
        instance=made.value,
        settings=made.section,
        sources=made.sources,
        withheld=made.withheld,
    )
