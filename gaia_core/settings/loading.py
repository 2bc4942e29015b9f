"""File, environment and command line, in that order."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs

from gaia_core.errors import SettingsError
from gaia_core.secrets import Secret, hide
from gaia_core.settings.folders import user_folder
from gaia_core.settings.reading import OWN_TABLES, KeyPath, Place, make
from gaia_core.settings.showing import describe
from gaia_core.settings.values import PROVIDER_KEYS, ProviderSettings, Settings

FILE_NAME = "gaia.toml"
"""What a settings file is called."""
PREFIX = "GAIA_"
"""What the variables of Gaia's own settings begin with."""

_NEAR = 0.8

_TOP_KEYS = frozenset(attrs.fields_dict(Settings)) - {"sources"}
_GAIA_KEYS = _TOP_KEYS - OWN_TABLES
_FILE_KEYS = OWN_TABLES | {"gaia"}


class _Given(NamedTuple):
    """One value somebody gave."""

    path: KeyPath
    value: Any
    source: str


@attrs.define(eq=False)
class _Draft:
    """What was given so far; later values win."""

    tree: dict[str, Any] = attrs.field(factory=dict)
    sources: dict[str, str] = attrs.field(factory=dict)

    def add(self, given: Iterable[_Given]) -> None:
        for path, value, source in given:
            self._put(path, hide(path[-1], value))
            self.sources[".".join(path)] = source

    def _put(self, path: KeyPath, value: Any) -> None:
        table = self.tree
        for key in path[:-1]:
            if not isinstance(table.get(key), dict):
                table[key] = {}
            table = table[key]
        if value != {} or not isinstance(table.get(path[-1]), dict):
            table[path[-1]] = value

    def settings(self) -> Settings:
        place = Place(sources=self.sources)
        table = dict(self.tree)
        sections = table.pop("providers", {})
        if not isinstance(sections, dict):
            raise (place / "providers").wrong(sections, expected="a table")
        providers = {
            name: _provider(name, section, place / "providers" / name)
            for name, section in sections.items()
        }
        return make(Settings, table, place, providers=providers, sources=self.sources)


def _provider(name: str, section: Any, place: Place) -> ProviderSettings:
    if not isinstance(section, dict):
        raise place.wrong(section, expected="a table")
    own = {key: value for key, value in section.items() if key in PROVIDER_KEYS}
    options = {key: value for key, value in section.items() if key not in own}
    return make(ProviderSettings, own, place, name=name, options=options)


def load_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """
    Read the settings: file, then environment, then command line.

    Args:
        path: The file (``--config``); without it ``$GAIA_CONFIG``,
            ``./gaia.toml`` and the user's configuration directory are looked at.
        environ: The environment.
        overrides: What the command line says: dotted key
            (``providers.runware.priority``) to value.

    Raises:
        SettingsError: If the file cannot be read, or a key or value is wrong.
    """
    file = find_settings_file(path, environ=environ)
    draft = _Draft()
    draft.add(_from_file(file, environ) if file else ())
    draft.add(_from_environment(environ, draft.tree.get("providers", {})))
    draft.add(_from_overrides(overrides))
    settings = draft.settings()
    rows = {row.key: row.source for row in describe(settings)}
    return attrs.evolve(settings, sources=rows | draft.sources)


def find_settings_file(
    path: Path | None = None, *, environ: Mapping[str, str] = os.environ
) -> Path | None:
    """
    Find the file `load_settings` reads.

    Raises:
        SettingsError: If the file that ``path`` or ``$GAIA_CONFIG`` names is
            missing.
    """
    named = path or environ.get("GAIA_CONFIG")
    if named:
        return _existing(Path(named).expanduser(), "--config" if path else None)
    candidates = (Path(FILE_NAME), user_folder("config") / FILE_NAME)
    return next((file for file in candidates if file.is_file()), None)


def _existing(file: Path, asker: str | None) -> Path:
    if file.is_file():
        return file
    message = (
        f"{asker or 'GAIA_CONFIG'} names {file}, which is not a file: "
        "write one with `gaia config init`."
    )
    raise SettingsError(message)


def _from_file(file: Path, environ: Mapping[str, str]) -> Iterator[_Given]:
    document = _document(file)
    _check_tables(document, str(file))
    for key, table in (document.pop("gaia", {}) | document).items():
        for path, value in _leaves((key,), table):
            yield _resolved(_Given(path, value, str(file)), environ)


def _check_tables(document: Mapping[str, Any], file: str) -> None:
    """Refuse what stands outside its table, or in the wrong one."""
    for key, table in document.items():
        place = Place((key,), {key: file})
        if key in _GAIA_KEYS:
            raise place.error(because="belongs under [gaia]")
        if key not in _FILE_KEYS:
            raise place.unknown(_FILE_KEYS)
        if not isinstance(table, dict):
            raise place.wrong(table, expected="a table")
    for key in OWN_TABLES.intersection(document.get("gaia", {})):
        place = Place((key,), {key: file})
        raise place.error(because=f"belongs outside [gaia]: write [{key}]")


def _document(file: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - 3 ms, and only with a file

    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{file} cannot be read: {reason}."
        raise SettingsError(message) from None


def _leaves(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """Take nested tables apart; an empty one counts as a value."""
    if not isinstance(value, Mapping) or not value or _is_reference(path, value):
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves((*path, key), item)


def _is_reference(path: KeyPath, value: Any) -> bool:
    """Tell ``key = { env = "NAME" }`` from the section of a provider."""
    is_section = path[0] == "providers" and not path[2:]
    return (
        isinstance(value, Mapping)
        and value.keys() == {"env"}
        and isinstance(value["env"], str)
        and not is_section
    )


def _resolved(given: _Given, environ: Mapping[str, str]) -> _Given:
    """Put the variable's value in place of ``{ env = "NAME" }``."""
    path, value, source = given
    if not _is_reference(path, value):
        return given
    text, name = environ.get(value["env"]), value["env"]
    if text:
        return _Given(path, Secret(text), f"environment: {name}, named in {source}")
    source = f"environment: {name}, not set, named in {source}"
    if path[0] != "providers":
        raise Place(path, {".".join(path): source}).error(because="has no value")
    return _Given(path, None, source)


def _from_environment(
    environ: Mapping[str, str], sections: Iterable[str]
) -> Iterator[_Given]:
    if environ.get("IMAGE_STORAGE_PATH"):
        source = "environment: IMAGE_STORAGE_PATH"
        yield _Given(("image_store",), environ["IMAGE_STORAGE_PATH"], source)
    for name, text in environ.items():
        if text and name.startswith(PREFIX) and name != "GAIA_CONFIG":
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if _is_ours(path, name):
                yield _Given(_spelt(path, sections), text, f"environment: {name}")


def _is_ours(path: KeyPath, variable: str) -> bool:
    """Leave a host's own ``GAIA_…`` variables alone, but no slip of the pen."""
    if path[0] in _TOP_KEYS:
        return True
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip of the pen

    if get_close_matches(path[0], _TOP_KEYS, n=1, cutoff=_NEAR):
        place = Place(path[:1], {path[0]: f"environment: {variable}"})
        raise place.unknown(_TOP_KEYS)
    return False


def _spelt(path: KeyPath, sections: Iterable[str]) -> KeyPath:
    """Spell a provider as the file does: variables have no small letters, no -."""
    if path[0] != "providers" or len(path) == 1:
        return path
    known = {section.lower().replace("-", "_"): section for section in sections}
    return (path[0], known.get(path[1], path[1]), *path[2:])


def _from_overrides(overrides: Mapping[str, Any]) -> Iterator[_Given]:
    for key, value in overrides.items():
        path = tuple(key.removeprefix("gaia.").split("."))
        for leaf, item in _leaves(path, value):
            if item is not None:
                yield _Given(leaf, item, "command line")
