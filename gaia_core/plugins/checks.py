"""What a plugin must be like, and the words for one that is not."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import pluggy

from gaia_core import hookspecs
from gaia_core.catalog import CONTRACT, ProviderInfo
from gaia_core.errors import GaiaError, PluginError
from gaia_core.hookspecs import PROJECT_NAME

INFO = "gaia_provider_info"
"""The hook that makes a plugin a provider."""
PREPARE = "gaia_prepare_request"
"""The hook at the door."""
MIDDLEWARE_MAY_ANSWER = frozenset({PREPARE, "gaia_start", "gaia_stop"})
"""The hooks that middleware may implement without wrapping."""
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith(f"{PROJECT_NAME}_"))
"""Every hook there is."""

_LONGEST_REASON = 500


def hooks_of(manager: pluggy.PluginManager, value: object) -> Mapping[str, bool]:
    """List the hooks an object implements, and whether each is a wrapper."""
    hooks = {}
    for name in dir(value):
        options = manager.parse_hookimpl_opts(value, name)
        if options is not None:
            hook = options.get("specname") or name
            hooks[hook] = bool(options.get("wrapper") or options.get("hookwrapper"))
    return hooks


def kind_of(
    manager: pluggy.PluginManager, value: object, hooks: Mapping[str, bool]
) -> str:
    """
    Tell a provider from middleware.

    Args:
        manager: What reads the marks.
        value: The plugin's own object.
        hooks: Its hooks, as `hooks_of` lists them.

    Raises:
        PluginError: If it cannot be one or the other.
    """
    _check_identity(value)
    _check_names(hooks)
    _check_marks(manager, value, hooks)
    if INFO in hooks:
        _check_provider(hooks)
        return "provider"
    _check_middleware(hooks)
    return "middleware"


def _check_identity(value: object) -> None:
    """Refuse instances that compare by value: two accounts may look the same."""
    if type(value).__eq__ is not object.__eq__:
        message = (
            f"{type(value).__name__} compares by value: "
            "write @attrs.define(eq=False) above it"
        )
        raise PluginError(message)


def _check_names(hooks: Mapping[str, bool]) -> None:
    """Refuse hooks that Gaia does not know."""
    for hook in hooks:
        if hook not in HOOKS:
            from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

            near = get_close_matches(hook, HOOKS, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            message = f"Gaia has no hook {hook}{hint}"
            raise PluginError(message)


def _check_marks(
    manager: pluggy.PluginManager, value: object, hooks: Mapping[str, bool]
) -> None:
    """Refuse a hook whose mark was forgotten: it would never be called."""
    for name in HOOKS:
        is_spec = manager.parse_hookspec_opts(cast("Any", value), name) is not None
        if name not in hooks and not is_spec and hasattr(value, name):
            message = f"{name} lacks @hookimpl: it would never be called"
            raise PluginError(message)


def _check_provider(hooks: Mapping[str, bool]) -> None:
    if PREPARE in hooks:
        message = f"{PREPARE} is for middleware: give it an entry point of its own"
        raise PluginError(message)


def _check_middleware(hooks: Mapping[str, bool]) -> None:
    """Keep middleware from answering in a provider's place."""
    if not hooks:
        message = "it has no gaia hook at all"
        raise PluginError(message)
    for hook, is_wrapper in hooks.items():
        if not is_wrapper and hook not in MIDDLEWARE_MAY_ANSWER:
            message = (
                f"{hook} of middleware must be a wrapper (@hookimpl(wrapper=True)); "
                f"a provider needs {INFO}, too"
            )
            raise PluginError(message)


def check_arguments(manager: pluggy.PluginManager, value: object) -> None:
    """
    Refuse hooks of a registered plugin that would not get what they ask for.

    pluggy hands arguments over by position, and none to a parameter that has a
    default: such a hook would never learn what it is asked.

    Raises:
        PluginError: If a parameter stands behind a ``*`` or has a default.
    """
    for caller in manager.get_hookcallers(cast("Any", value)) or ():
        known = frozenset(caller.spec.argnames if caller.spec else ())
        for impl in caller.get_hookimpls():
            lost = _never_given(impl) & known if impl.plugin is value else ()
            for name in sorted(lost):
                message = (
                    f"{caller.name} would never be given {name}: "
                    "write the parameter without a default, and not behind a *"
                )
                raise PluginError(message)


def _never_given(impl: pluggy.HookImpl) -> frozenset[str]:
    """Name the parameters of a hook that pluggy passes nothing to."""
    code = getattr(inspect.unwrap(impl.function), "__code__", None)
    if code is None:
        return frozenset(impl.kwargnames)
    end = code.co_argcount + code.co_kwonlyargcount
    by_keyword = code.co_varnames[code.co_argcount : end]
    return frozenset((*impl.kwargnames, *by_keyword))


def check_contract(value: object) -> None:
    """
    Refuse a provider that was written for another major version.

    Raises:
        PluginError: If its card says so; a card that cannot be had is left to
            `Provider.info`.
    """
    try:
        info = cast("Any", value).gaia_provider_info()
    except (Exception, SystemExit):  # noqa: BLE001 - middleware has no card at all
        return
    if isinstance(info, ProviderInfo) and info.contract != CONTRACT:
        older = "gaia-core" if info.contract > CONTRACT else "the plugin"
        message = (
            f"it speaks version {info.contract} of the provider contract, "
            f"and this Gaia version {CONTRACT}: upgrade {older}"
        )
        raise PluginError(message)


def words_of(error: BaseException) -> str:
    """Say in one line what went wrong in a plugin."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    if isinstance(error, GaiaError):
        return text
    if isinstance(error, ImportError):
        return f"it cannot be imported: {text}"
    if isinstance(error, SystemExit):
        return f"it tries to end the program (status {text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
