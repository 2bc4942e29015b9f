"""From what an entry point names to an instance with its settings."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import attrs

from gaia_core.secrets import Secret, is_secret_name
from gaia_core.settings.reading import Place, make, settable_fields
from gaia_core.settings.values import PACE_KEYS, PROVIDER_KEYS, ProviderSettings

Fields = Mapping[str, "attrs.Attribute[Any]"]


@attrs.frozen(kw_only=True)
class Made:
    """
    One instance of a plugin, or why there is none.

    Attributes:
        section: Its settings.
        value: The plugin's own object.
        sources: Key to where its value came from, for the plugin's own keys.
        withheld: Key to the variables that could have given it, and must not.
        error: What went wrong.
    """

    section: ProviderSettings
    value: object = None
    sources: Mapping[str, str] = attrs.field(factory=dict)
    withheld: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    error: BaseException | None = None


def make_instance(
    loaded: object,
    section: ProviderSettings,
    *,
    sources: Mapping[str, str],
    environ: Mapping[str, str],
) -> Made:
    """
    Make an instance of a class from its section; leave an object as it is.

    Variables that the class's fields name (see `setting`) give the values that
    the section leaves open; every instance of a plugin may fall back on them, but
    a further one with an address of its own on no secret: that is meant for the
    vendor's. Keys about pace are Gaia's own, and a class with such a field learns
    them, too: it may size its pool by them.

    Args:
        loaded: What the entry point names.
        section: The section of the settings.
        sources: Where each setting came from, for messages.
        environ: The environment.

    Raises:
        SettingsError: If the section and the class do not fit together.
    """
    place = Place(("providers", section.name), sources)
    fields = _fields_of(loaded)
    for key in section.options:
        if key not in fields:
            raise (place / key).unknown({*fields, *PROVIDER_KEYS})
    if not isinstance(loaded, type):
        return Made(section=section, value=loaded)
    if not attrs.has(loaded):
        return Made(section=section, value=loaded())
    given = {**_pace_of(section, fields), **section.options}
    withheld = _withheld_from(section, fields, given)
    variables = _variables_for(fields, {*given, *withheld}, environ)
    options = {key: _value(name, environ) for key, name in variables.items()}
    origins = {key: f"environment: {name}" for key, name in variables.items()}
    origins |= {key: (place / key).source or "code" for key in given}
    known = {(place / key).key: origin for key, origin in origins.items()}
    value = make(loaded, {**options, **given}, Place(place.path, known))
    return Made(section=section, value=value, sources=origins, withheld=withheld)


def _fields_of(loaded: object) -> Fields:
    if isinstance(loaded, type) and attrs.has(loaded):
        return settable_fields(loaded)
    return {}


def _pace_of(section: ProviderSettings, fields: Fields) -> Mapping[str, Any]:
    """Take what the section says about pace, as far as the class has a field for it."""
    pace = {key: getattr(section, key) for key in PACE_KEYS.intersection(fields)}
    return {key: value for key, value in pace.items() if value is not None}


def _withheld_from(
    section: ProviderSettings, fields: Fields, given: Container[str]
) -> Mapping[str, Sequence[str]]:
    """Find the secret variables that would leave for an address not their own."""
    is_elsewhere = any(
        value and key.endswith("base_url") for key, value in section.options.items()
    )
    if section.name == section.plugin or not is_elsewhere:
        return {}
    variables = {
        key: field.metadata.get("env", ())
        for key, field in fields.items()
        if key not in given
    }
    return {
        key: names
        for key, names in variables.items()
        if any(map(is_secret_name, names))
    }


def _variables_for(
    fields: Fields, given: Container[str], environ: Mapping[str, str]
) -> Mapping[str, str]:
    """Find the variable for each value that nobody gave."""
    found = {
        key: next(filter(environ.get, field.metadata.get("env", ())), "")
        for key, field in fields.items()
        if key not in given
    }
    return {key: name for key, name in found.items() if name}


def _value(name: str, environ: Mapping[str, str]) -> Secret | str:
    return Secret(environ[name]) if is_secret_name(name) else environ[name]
