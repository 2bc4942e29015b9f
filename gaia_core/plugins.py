"""
Discover plugins, load them one at a time, and contain what fails.

A plugin that cannot be imported, raises, exits, hangs, misspells a hook or has a
wrong setting becomes a `PluginFailure`; all the others work on.
"""

import difflib
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, cast

import attrs
import pluggy

from gaia_core import hookspecs
from gaia_core.catalog import CONTRACT, ProviderInfo
from gaia_core.errors import GaiaError, PluginError
from gaia_core.hookspecs import ENTRY_POINT_GROUP, PROJECT_NAME, hookimpl
from gaia_core.requests import Request
from gaia_core.secrets import Secret, is_secret_name, scrub, secrets_in
from gaia_core.settings.reading import Place, make, settable_fields
from gaia_core.settings.values import PROVIDER_KEYS, ProviderSettings, Settings

IN_CODE = "given in code"
"""The distribution of a plugin that a host passed to `load_plugins`."""

_PREPARE = "gaia_prepare_request"
_INFO = "gaia_provider_info"
_MIDDLEWARE_MAY_ANSWER = frozenset({_PREPARE, "gaia_start", "gaia_stop"})
_LONGEST_REASON = 500


# -- values -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class PluginFailure:
    """
    A plugin, or one instance of it, that could not be loaded.

    Attributes:
        plugin: Its name.
        distribution: What installed it: name and version.
        reason: Why, and what to do about it.
    """

    plugin: str
    distribution: str
    reason: str


@attrs.frozen(kw_only=True)
class InstalledPlugin:
    """
    One line of ``gaia plugins``.

    Attributes:
        plugin: Its name.
        distribution: What installed it: name and version.
        kind: ``provider``, ``middleware`` or, when it was not loaded, nothing.
        instances: The names of its loaded instances.
        status: ``loaded``, or why it is not.
        import_seconds: How long loading took; None when it was not tried.
    """

    plugin: str
    distribution: str
    kind: str = ""
    instances: tuple[str, ...] = ()
    status: str = "loaded"
    import_seconds: float | None = None


@attrs.define(eq=False, kw_only=True)
class Provider:
    """
    One loaded instance of a provider.

    Attributes:
        name: The instance's name.
        plugin: The plugin it is an instance of.
        distribution: What installed it: name and version.
        instance: The plugin's own object.
        settings: Its section of the settings.
    """

    name: str
    plugin: str
    distribution: str
    instance: object = attrs.field(repr=False)
    settings: ProviderSettings
    _calls: Mapping[str, Callable[..., Any]] = attrs.field(
        factory=dict, alias="calls", repr=False
    )

    def info(self) -> ProviderInfo:
        """
        Ask the provider for its card; its settings have the last word.

        Never raises: a provider that fails to answer is unavailable, and the
        card says why.
        """
        try:
            info = self.call(_INFO)
        except Exception as error:  # noqa: BLE001 - contained, whatever it is
            return self._unavailable(f"{_INFO} failed: {_words(error)}")
        if not isinstance(info, ProviderInfo):
            kind = type(info).__name__
            return self._unavailable(f"{_INFO} gave {kind}, not ProviderInfo")
        priority = self.settings.priority
        return attrs.evolve(
            info,
            name=self.name,
            priority=info.priority if priority is None else priority,
        )

    def _unavailable(self, reason: str) -> ProviderInfo:
        return ProviderInfo(
            name=self.name,
            capabilities=frozenset(),
            priority=self.settings.priority or 0,
            unavailable=scrub(reason, secrets_in(self.settings.options)),
        )

    def implements(self, hook_name: str) -> bool:
        """Tell whether the provider has this hook."""
        return hook_name in self._calls

    def call(self, hook_name: str, **arguments: Any) -> Any:
        """
        Call a hook of this provider only, with all middleware around it.

        Returns:
            What the hook gives: an awaitable, except for ``gaia_provider_info``.

        Raises:
            PluginError: If the provider does not have the hook.
        """
        if hook_name not in self._calls:
            message = f"{self.name} has no hook {hook_name}."
            raise PluginError(message)
        answer = self._calls[hook_name](**arguments)
        return answer[0] if isinstance(answer, list) else answer


@attrs.define(eq=False, kw_only=True)
class Plugins:
    """
    Every plugin there is, loaded or not.

    Attributes:
        providers: Instance name to provider, the highest priority first.
        disabled: Instances that the settings switch off.
        failures: What could not be loaded.
        middleware: The names of the plugins that wrap hooks.
        installed: Every plugin with what became of it.
    """

    providers: Mapping[str, Provider]
    disabled: tuple[str, ...] = ()
    failures: tuple[PluginFailure, ...] = ()
    middleware: tuple[str, ...] = ()
    installed: tuple[InstalledPlugin, ...] = ()
    _calls: Mapping[str, Callable[..., Any]] = attrs.field(alias="calls", repr=False)

    def prepare(self, request: Request) -> Request:
        """
        Let middleware change a request at the door.

        Raises:
            PluginError: If what comes back is no request.
        """
        prepared = self._calls[_PREPARE](request=request)
        if isinstance(prepared, Request):
            return prepared
        message = f"{_PREPARE} gave {type(prepared).__name__}, not a request."
        raise PluginError(message)

    def call_middleware(self, hook_name: str) -> tuple[Awaitable[None], ...]:
        """Call ``gaia_start`` or ``gaia_stop`` of the middleware only."""
        return tuple(self._calls[hook_name]())


# -- loading ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Source:
    """Where a plugin comes from."""

    plugin: str
    distribution: str
    load: Callable[[], object] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class _Instance:
    """One object of a plugin, built but not registered."""

    section: ProviderSettings
    value: object = None
    error: BaseException | None = None


class _Core:
    """The core's own hook implementations."""

    @hookimpl(trylast=True)
    def gaia_prepare_request(self, request: Request) -> Request:
        """Give the request back as it came."""
        return request


def load_plugins(
    settings: Settings,
    *,
    extra: Iterable[object] = (),
    entry_points: Iterable[metadata.EntryPoint] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Plugins:
    """
    Load every plugin that is installed and allowed, one at a time.

    Args:
        settings: Which plugins to load, and their sections.
        extra: Providers and middleware (objects, or classes to make them from)
            beside the installed ones.
        entry_points: What to load instead of what is installed.
        environ: Where the variables that settings fall back on are looked up.

    Returns:
        What was loaded, and what was not, with the reasons.
    """
    found = _installed() if entry_points is None else entry_points
    loader = _Loader(settings=settings, environ=environ)
    for source in map(_from_entry_point, found):
        loader.load_installed(source)
    for item in extra:
        loader.load(_from_code(item))
    loader.report_unknown_names()
    return loader.finish()


def _installed() -> list[metadata.EntryPoint]:
    """Find the entry points, in an order that does not depend on the disk."""
    found = metadata.entry_points(group=ENTRY_POINT_GROUP)
    return sorted(found, key=lambda point: (point.name, _distribution(point)))


def _from_entry_point(point: metadata.EntryPoint) -> _Source:
    return _Source(
        plugin=point.name, distribution=_distribution(point), load=point.load
    )


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"


def _from_code(item: object) -> _Source:
    return _Source(plugin=_name_of(item), distribution=IN_CODE, load=lambda: item)


def _name_of(item: object) -> str:
    """Ask a provider for its name; call anything else what Python calls it."""
    kind = item if isinstance(item, type) else type(item)
    try:
        instance = item() if isinstance(item, type) else item
        return str(cast("Any", instance).gaia_provider_info().name)
    except Exception:  # noqa: BLE001 - the reason comes up again at load
        return str(getattr(item, "__name__", kind.__name__))


@attrs.define(eq=False, kw_only=True)
class _Loader:
    """Loads one plugin after another and keeps what became of each."""

    settings: Settings
    environ: Mapping[str, str]
    manager: pluggy.PluginManager = attrs.field(init=False)
    providers: list[Provider] = attrs.field(factory=list)
    middleware: list[str] = attrs.field(factory=list)
    disabled: list[str] = attrs.field(factory=list)
    failures: list[PluginFailure] = attrs.field(factory=list)
    installed: dict[str, InstalledPlugin] = attrs.field(factory=dict)

    @manager.default
    def _new_manager(self) -> pluggy.PluginManager:
        manager = pluggy.PluginManager(PROJECT_NAME)
        manager.add_hookspecs(hookspecs)
        manager.register(_Core(), "gaia core")
        return manager

    def load_installed(self, source: _Source) -> None:
        """Load a plugin unless it is not allowed."""
        allow = self.settings.plugins.allow
        if allow is not None and source.plugin not in allow:
            self._skip(source, "not in plugins.allow")
        else:
            self.load(source)

    def load(self, source: _Source) -> None:
        """Load a plugin unless its name is taken or the settings disable it."""
        taken = self.installed.get(source.plugin)
        if taken is not None:
            self._fail(
                source, f"{taken.distribution} offers a plugin of this name, too"
            )
            return
        sections = self._sections(source.plugin)
        self.disabled += [one.name for one in sections if not one.enabled]
        enabled = [one for one in sections if one.enabled]
        if enabled:
            self._load(source, enabled)
        else:
            self._skip(source, "disabled in the settings")

    def _sections(self, plugin: str) -> list[ProviderSettings]:
        """Collect the plugin's own section, given or not, and its instances'."""
        given = self.settings.providers
        own = [] if plugin in given else [ProviderSettings(name=plugin)]
        return own + [one for one in given.values() if one.plugin == plugin]

    def _load(self, source: _Source, sections: list[ProviderSettings]) -> None:
        start = time.perf_counter()
        built = self._built(source, sections)
        seconds = time.perf_counter() - start
        kinds = {one.section.name: self._admit(source, one) for one in built}
        loaded = tuple(name for name, kind in kinds.items() if kind)
        self.installed[source.plugin] = InstalledPlugin(
            plugin=source.plugin,
            distribution=source.distribution,
            kind=next(filter(None, kinds.values()), ""),
            instances=loaded,
            status="loaded" if loaded else "failed",
            import_seconds=seconds,
        )

    def _built(
        self, source: _Source, sections: list[ProviderSettings]
    ) -> list[_Instance]:
        """Build the instances in a thread, so that a plugin that hangs is left."""
        answers: queue.SimpleQueue[list[_Instance]] = queue.SimpleQueue()
        threading.Thread(
            target=lambda: answers.put(self._build_all(source, sections)),
            name=f"gaia loads {source.plugin}",
            daemon=True,
        ).start()
        timeout = self.settings.plugins.load_timeout
        try:
            return answers.get(timeout=timeout)
        except queue.Empty:
            error = PluginError(f"takes longer than {timeout:g} s to load")
            return [_Instance(section=sections[0], error=error)]

    def _build_all(
        self, source: _Source, sections: list[ProviderSettings]
    ) -> list[_Instance]:
        try:
            loaded = source.load()
        except BaseException as error:  # noqa: BLE001 - SystemExit, too
            return [_Instance(section=sections[0], error=error)]
        return [self._build(loaded, section) for section in sections]

    def _build(self, loaded: object, section: ProviderSettings) -> _Instance:
        try:
            value = _made(loaded, section, self.settings.sources, self.environ)
            _check_contract(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too
            return _Instance(section=section, error=error)
        return _Instance(section=section, value=value)

    def _admit(self, source: _Source, instance: _Instance) -> str:
        """Register an instance; give its kind, or nothing when it fails."""
        name, error = instance.section.name, instance.error
        kind = ""
        if error is None:
            try:
                kind = self._register(name, instance.value)
            except Exception as refusal:  # noqa: BLE001 - whatever a plugin does
                error = refusal
        if error is not None:
            self._fail(source, self._reason(error, instance.section))
            return ""
        if kind == "middleware":
            self.middleware.append(name)
        else:
            self.providers.append(
                Provider(
                    name=name,
                    plugin=source.plugin,
                    distribution=source.distribution,
                    instance=instance.value,
                    settings=instance.section,
                )
            )
        return kind

    def _register(self, name: str, value: object) -> str:
        hooks = _hooks(self.manager, value)
        kind = "provider" if _INFO in hooks else "middleware"
        _check_identity(value)
        _check_names(self.manager, value, hooks)
        _check_kind(kind, hooks)
        self._check_new(name, value)
        self.manager.register(value, name)
        return kind

    def _check_new(self, name: str, value: object) -> None:
        """Refuse a name or an object that is registered already."""
        if self.manager.has_plugin(name):
            message = f"another plugin is already called {name}"
            raise PluginError(message)
        if self.manager.is_registered(value):
            message = (
                f"[providers.{name}] needs a second instance of what is one object, "
                "not a class"
            )
            raise PluginError(message)

    def _skip(self, source: _Source, status: str) -> None:
        self.installed[source.plugin] = InstalledPlugin(
            plugin=source.plugin, distribution=source.distribution, status=status
        )

    def _fail(self, source: _Source, reason: str) -> None:
        self.failures.append(
            PluginFailure(
                plugin=source.plugin, distribution=source.distribution, reason=reason
            )
        )

    def _reason(self, error: BaseException, section: ProviderSettings) -> str:
        variables = (
            Secret(value)
            for name, value in self.environ.items()
            if is_secret_name(name)
        )
        return scrub(_words(error), [*secrets_in(section.options), *variables])

    def report_unknown_names(self) -> None:
        """Report sections and allowed names that no installed plugin answers to."""
        for section in self.settings.providers.values():
            if section.plugin in self.installed:
                continue
            if not section.enabled:
                self.disabled.append(section.name)
                continue
            self._report_absent(section.plugin, f"[providers.{section.name}] names")
        for name in sorted(self.settings.plugins.allow or ()):
            if name not in self.installed:
                self._report_absent(name, "[gaia.plugins] allow names")

    def _report_absent(self, plugin: str, who: str) -> None:
        reason = (
            f"{who} plugin {plugin}, which is not installed: "
            f"pip install gaia-{plugin}, or take it out of the settings"
        )
        self.failures.append(
            PluginFailure(plugin=plugin, distribution="not installed", reason=reason)
        )

    def finish(self) -> Plugins:
        """Build every hook caller, once, and hand over."""
        providers = [
            attrs.evolve(one, calls=self._calls_of(one.instance))
            for one in self.providers
        ]
        ranked = sorted(providers, key=lambda one: (-one.info().priority, one.name))
        return Plugins(
            providers={one.name: one for one in ranked},
            disabled=tuple(self.disabled),
            failures=tuple(self.failures),
            middleware=tuple(self.middleware),
            installed=tuple(self.installed.values()),
            calls={
                hook: self.manager.subset_hook_caller(
                    hook, [one.instance for one in providers]
                )
                for hook in _MIDDLEWARE_MAY_ANSWER
            },
        )

    def _calls_of(self, provider: object) -> Mapping[str, Callable[..., Any]]:
        return {
            hook: self.manager.subset_hook_caller(hook, self._others(hook, provider))
            for hook, is_wrapper in _hooks(self.manager, provider).items()
            if not is_wrapper
        }

    def _others(self, hook: str, provider: object) -> list[object]:
        """Collect whom a hook of this provider must not reach: no middleware."""
        instances = [one.instance for one in self.providers]
        return [
            other
            for _, other in self.manager.list_name_plugin()
            if other is not provider
            and (
                any(other is one for one in instances)
                or not _hooks(self.manager, other).get(hook, True)
            )
        ]


# -- from an entry point to an instance -------------------------------------------


def _made(
    loaded: object,
    section: ProviderSettings,
    sources: Mapping[str, str],
    environ: Mapping[str, str],
) -> object:
    """Make an instance of a class from its section; leave an object as it is."""
    place = Place(("providers", section.name), sources)
    if not isinstance(loaded, type) or not attrs.has(loaded):
        for key in section.options:
            raise (place / key).unknown(PROVIDER_KEYS)
        return loaded() if isinstance(loaded, type) else loaded
    fields = settable_fields(loaded)
    for key in section.options:
        if key not in fields:
            raise (place / key).unknown({*fields, *PROVIDER_KEYS})
    given = _from_variables(fields, section.options, environ)
    origins = {(place / key).key: f"environment: {name}" for key, name in given.items()}
    options = {
        key: _secret_if_named(name, environ[name]) for key, name in given.items()
    }
    place = Place(place.path, {**sources, **origins})
    return make(loaded, {**options, **section.options}, place)


def _from_variables(
    fields: "Mapping[str, attrs.Attribute[Any]]",
    options: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Mapping[str, str]:
    """Find the variable that gives each value the section leaves open."""
    found = {
        key: next(filter(environ.get, field.metadata.get("env", ())), None)
        for key, field in fields.items()
        if key not in options
    }
    return {key: name for key, name in found.items() if name}


def _secret_if_named(name: str, value: str) -> Secret | str:
    return Secret(value) if is_secret_name(name) else value


# -- checks -----------------------------------------------------------------------


def _hooks(manager: pluggy.PluginManager, value: object) -> Mapping[str, bool]:
    """List the hooks an object implements, and whether each is a wrapper."""
    hooks = {}
    for name in dir(value):
        options = manager.parse_hookimpl_opts(value, name)
        if options is not None:
            hook = options.get("specname") or name
            hooks[hook] = bool(options.get("wrapper") or options.get("hookwrapper"))
    return hooks


def _known_hooks() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith(f"{PROJECT_NAME}_")]


def _check_identity(value: object) -> None:
    """Refuse instances that compare by value: two accounts may look the same."""
    if type(value).__eq__ is not object.__eq__:
        message = (
            f"{type(value).__name__} compares by value: "
            "write @attrs.define(eq=False) above it"
        )
        raise PluginError(message)


def _check_names(
    manager: pluggy.PluginManager, value: object, hooks: Mapping[str, bool]
) -> None:
    """Refuse hooks that would never be called."""
    known = _known_hooks()
    for hook in hooks:
        if hook not in known:
            near = difflib.get_close_matches(hook, known, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            message = f"Gaia has no hook {hook}{hint}"
            raise PluginError(message)
    for name in known:
        is_spec = manager.parse_hookspec_opts(cast("Any", value), name) is not None
        if hasattr(value, name) and name not in hooks and not is_spec:
            message = f"{name} lacks @hookimpl: it would never be called"
            raise PluginError(message)
    if not hooks:
        message = "it has no gaia hook at all"
        raise PluginError(message)


def _check_kind(kind: str, hooks: Mapping[str, bool]) -> None:
    """Keep middleware from answering for a provider, and the other way round."""
    if kind == "provider":
        if _PREPARE in hooks:
            message = f"{_PREPARE} is for middleware: give it its own entry point"
            raise PluginError(message)
        return
    for hook, is_wrapper in hooks.items():
        if not is_wrapper and hook not in _MIDDLEWARE_MAY_ANSWER:
            message = (
                f"{hook} of middleware must be a wrapper (@hookimpl(wrapper=True)); "
                f"a provider needs {_INFO}, too"
            )
            raise PluginError(message)


def _check_contract(value: object) -> None:
    """Refuse a provider that was written for another major version."""
    ask = getattr(value, _INFO, None)
    try:
        info = ask() if callable(ask) else None
    except Exception:  # noqa: BLE001 - `Provider.info` reports it each time
        return
    if isinstance(info, ProviderInfo) and info.contract != CONTRACT:
        newer = "gaia-core" if info.contract > CONTRACT else "the plugin"
        message = (
            f"speaks version {info.contract} of the provider contract, "
            f"this Gaia speaks {CONTRACT}: upgrade {newer}"
        )
        raise PluginError(message)


def _words(error: BaseException) -> str:
    """Say in one line what went wrong in a plugin."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    if isinstance(error, GaiaError):
        return text
    if isinstance(error, ImportError):
        return f"cannot be imported: {text}"
    if isinstance(error, SystemExit):
        return f"exits while loading (status {text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
