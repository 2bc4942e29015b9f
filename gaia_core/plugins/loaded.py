"""What became of the plugins: providers, middleware and failures."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from gaia_core.catalog import ProviderInfo
from gaia_core.errors import GaiaError, PluginError
from gaia_core.plugins.checks import INFO, PREPARE, words_of
from gaia_core.requests import Request
from gaia_core.secrets import Secret, hide, scrub, secrets_in
from gaia_core.settings import ProviderSettings, SettingRow
from gaia_core.settings.reading import settable_fields
from gaia_core.settings.showing import row_of

HookCalls = Mapping[str, Callable[..., Any]]
"""Hook name to what calls it."""

_PACE: tuple[tuple[str, Any, int], ...] = (
    ("max_concurrent", int, 1),
    ("requests_per_minute", int, 1),
    ("max_attempts", int, 1),
    ("retry_delay", int | float, 0),
)
"""Name, type and least of what a card says about pace."""


@attrs.frozen(kw_only=True)
class PluginFailure:
    """
    A plugin, or one instance of it, that could not be loaded.

    Attributes:
        plugin: Its name.
        distribution: What installed it: name and version.
        reason: Why, and what to do about it.
        is_by_settings: Whether the settings are at fault, not the plugin.
    """

    plugin: str
    distribution: str
    reason: str
    is_by_settings: bool = False


@attrs.frozen(kw_only=True)
class InstalledPlugin:
    """
    One line of ``gaia plugins``.

    Attributes:
        plugin: Its name.
        distribution: What installed it: name and version.
        kind: ``provider`` or ``middleware``; nothing when it was not loaded.
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
        sources: Key to where its value came from, for the keys of its own.
        withheld: Key to the variables that it must not have the value from.
    """

    name: str
    plugin: str
    distribution: str
    instance: object = attrs.field(repr=False)
    settings: ProviderSettings
    sources: Mapping[str, str] = attrs.field(factory=dict)
    withheld: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    _calls: HookCalls = attrs.field(factory=dict, alias="calls", repr=False)

    def info(self) -> ProviderInfo:
        """
        Ask the provider for its card; its settings have the last word.

        Never raises: a provider that fails to answer is unavailable, and the
        card says why.
        """
        try:
            info = self.call(INFO)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - all is contained
            return self._unavailable(f"{INFO} failed: {words_of(error)}")
        problem = _problem_of(info)
        if problem is not None:
            return self._unavailable(f"{INFO} gave {problem}")
        return self._adapted(info)

    def _adapted(self, info: ProviderInfo) -> ProviderInfo:
        """Put what the settings say on the card."""
        priority = self.settings.priority
        return attrs.evolve(
            info,
            name=self.name,
            priority=info.priority if priority is None else priority,
            unavailable=info.unavailable and self._explained(info.unavailable),
        )

    def _explained(self, reason: str) -> str:
        """Say what its section has to do with a reason."""
        for key, names in self.withheld.items():
            if any(name in reason for name in names):
                return (
                    f"{key} is not set, and {' or '.join(names)} is not sent to an "
                    f"address of its own: set {key} in [providers.{self.name}]"
                )
        return self._by_its_own_names(reason) + self._unset()

    def _by_its_own_names(self, reason: str) -> str:
        """Name the variable its section points at: it knows the vendor's alone."""
        for key in self._keys_unset():
            variable = _missing_in(self.sources.get(key, ""))
            if variable and any(name in reason for name in self._variables_of(key)):
                return f"{variable} is not set"
        return reason

    def _unset(self) -> str:
        """Name the variables that its section points at and that are not set."""
        notes = [
            f" ([providers.{self.name}] {key}: {self.sources.get(key)})"
            for key in self._keys_unset()
        ]
        return "".join(notes)

    def _keys_unset(self) -> Sequence[str]:
        return [key for key, value in self.settings.options.items() if value is None]

    def _variables_of(self, key: str) -> Sequence[str]:
        """Name the variables that give a key its value where no section does."""
        if not attrs.has(type(self.instance)):
            return ()
        field = settable_fields(type(self.instance)).get(key)
        return field.metadata.get("env", ()) if field is not None else ()

    def _unavailable(self, reason: str) -> ProviderInfo:
        return ProviderInfo(
            name=self.name,
            capabilities=frozenset(),
            priority=self.settings.priority or 0,
            unavailable=scrub(reason, self.secrets()),
        )

    def secrets(self) -> Iterator[Secret]:
        """Give every secret it was made with: what no text may repeat."""
        return secrets_in([self.settings.options, hide("", self._values())])

    def implements(self, hook_name: str) -> bool:
        """Tell whether the provider has this hook."""
        return hook_name in self._calls

    def takes(self, hook_name: str, argument: str) -> bool:
        """Tell whether its own hook is given an argument; hooks may leave some out."""
        listed = getattr(self._calls.get(hook_name), "get_hookimpls", list)
        return any(
            argument in impl.argnames
            for impl in listed()
            if impl.plugin is self.instance
        )

    def wrappers(self, hook_name: str) -> frozenset[str]:
        """Name the middleware that wraps a hook of this provider."""
        listed = getattr(self._calls.get(hook_name), "get_hookimpls", list)
        return frozenset(
            impl.plugin_name for impl in listed() if impl.wrapper or impl.hookwrapper
        )

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
        # pluggy leaves an answer of None out.
        return next(iter(answer), None) if isinstance(answer, list) else answer

    def describe(self) -> list[SettingRow]:
        """
        List its own settings that its section leaves open, secrets masked.

        A field may bear the name of a key that Gaia itself reads (``max_concurrent``):
        its value holds where the section gives none.
        """
        given = {*self.settings.options, *self.settings.given}
        return [
            row_of(f"providers.{self.name}.{key}", value, self.sources.get(key))
            for key, value in self._values().items()
            if key not in given
        ]

    def _values(self) -> Mapping[str, Any]:
        return dict(_values_of(self.instance))


def _missing_in(source: str) -> str | None:
    """Find the variable that has no value in where a setting came from."""
    name, _, rest = source.removeprefix("environment: ").partition(", ")
    return name if rest.startswith("not set") else None


def _problem_of(info: Any) -> str | None:
    """Say what is wrong with a card, as far as Gaia itself depends on it."""
    if not isinstance(info, ProviderInfo):
        return f"{type(info).__name__}, not ProviderInfo"
    if not isinstance(info.priority, int):
        return f"priority {info.priority!r}, not a whole number"
    if not isinstance(info.unavailable, str | None):
        return f"unavailable {info.unavailable!r}, not a reason or None"
    if not all(
        isinstance(one, str) for one in (info.base_url or "", *info.result_hosts)
    ):
        return "base_url or result_hosts that are no text"
    return next(filter(None, (_problem_in(info, *one) for one in _PACE)), None)


def _problem_in(info: ProviderInfo, name: str, kind: Any, least: int) -> str | None:
    """Say what is wrong with a number on a card; None there: the settings decide."""
    value = getattr(info, name)
    if value is None or (isinstance(value, kind) and value >= least):
        return None
    return f"{name} {value!r}, not {least} or more"


def _values_of(instance: object) -> Iterator[tuple[str, Any]]:
    """Give the fields an instance was made with, if it is an attrs one."""
    if attrs.has(type(instance)):
        for key, field in settable_fields(type(instance)).items():
            yield key, getattr(instance, field.name, None)


@attrs.define(eq=False, kw_only=True)
class Plugins:
    """
    Every plugin there is, loaded or not.

    Attributes:
        providers: Instance name to provider, the highest priority first.
        disabled: Instances that the settings switch off.
        failures: What could not be loaded.
        middleware: The names of the plugins that wrap hooks.
        installed: Every plugin, with what became of it.
    """

    providers: Mapping[str, Provider]
    disabled: tuple[str, ...] = ()
    failures: tuple[PluginFailure, ...] = ()
    middleware: tuple[str, ...] = ()
    installed: tuple[InstalledPlugin, ...] = ()
    _calls: HookCalls = attrs.field(alias="calls", repr=False)

    def addressed(self, request: Request) -> Request:
        """
        Say under an instance's own name what is told it under its plugin's.

        Prices depend on options, whichever of the two names they are given under.
        """
        told = request.provider_options
        inherited = {
            one.name: told[one.plugin]
            for one in self.providers.values()
            if told.get(one.plugin) and not told.get(one.name)
        }
        if not inherited:
            return request
        return attrs.evolve(request, provider_options={**told, **inherited})

    def prepare(self, request: Request) -> Request:
        """
        Let middleware change a request at the door.

        Raises:
            GaiaError: Of theirs, as it is: it may refuse the request.
            PluginError: If they fail otherwise, or what comes back is no request.
        """
        try:
            prepared = self._calls[PREPARE](request=request)
        except GaiaError:
            raise
        except Exception as error:
            message = f"Middleware failed at the door: {type(error).__name__}."
            raise PluginError(message) from error
        if isinstance(prepared, Request):
            return prepared
        message = f"{PREPARE} gave {type(prepared).__name__}, not a request."
        raise PluginError(message)

    def call_middleware(self, hook_name: str) -> tuple[Awaitable[None], ...]:
        """Call ``gaia_start`` or ``gaia_stop`` of the middleware only."""
        return tuple(self._calls[hook_name]())
