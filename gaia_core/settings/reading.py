"""From what a person wrote to typed values, and what is wrong with it."""

import sys
import typing
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from itertools import repeat
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs

from gaia_core.catalog import HIGHEST_PRICE, Price
from gaia_core.errors import SettingsError
from gaia_core.secrets import Secret, scrub, secrets_in, shown

if TYPE_CHECKING:
    import cattrs

OWN_TABLES = frozenset({"providers", "budgets", "limits", "cache", "server"})
"""The tables of the file beside ``[gaia]``."""

KeyPath: TypeAlias = tuple[str, ...]
T = TypeVar("T")

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@attrs.frozen
class Place:
    """
    Where a value stands, for the messages about it.

    Attributes:
        path: The keys that lead to it.
        sources: Key to where its value came from.
    """

    path: KeyPath = ()
    sources: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def __truediv__(self, key: str) -> "Place":
        """Go one key down."""
        return attrs.evolve(self, path=(*self.path, key))

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    @property
    def section(self) -> str:
        """How the file spells this table."""
        is_own = self.path[:1] and self.path[0] in OWN_TABLES
        return f"[{'.'.join(self.path if is_own else ('gaia', *self.path))}]"

    @property
    def source(self) -> str | None:
        """Where the value, or something in it, came from."""
        inside = f"{self.key}."
        found = (name for name in self.sources if name.startswith(inside))
        return self.sources.get(self.key) or self.sources.get(next(found, ""))

    @property
    def _source_above(self) -> str | None:
        """Where the list or section that holds the value came from."""
        keys = (".".join(self.path[:end]) for end in range(len(self.path), 1, -1))
        return next(filter(None, map(self.sources.get, keys)), None)

    def wrong(self, value: Any, *, expected: str) -> SettingsError:
        """Say that a value is not what its key takes."""
        return self.error(because=f"must be {expected}, not {_quoted(value)}")

    def unknown(self, known: Iterable[str]) -> SettingsError:
        """Say that there is no such key."""
        return self.error(because=f"is unknown{_hint(self.path[-1], known)}")

    def error(self, *, because: str) -> SettingsError:
        """Say what is wrong here."""
        source = self.source or self._source_above
        section = Place(self.path[:-1]).section
        return SettingsError(f"{section} {self.path[-1]} {because}{_note(source)}.")


def _note(source: str | None) -> str:
    return f" ({source})" if source else ""


def _hint(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip of the pen

    near = get_close_matches(key, names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    return f"; known are {', '.join(names)}" if names else ""


def _quoted(value: Any) -> str:
    return "a table" if isinstance(value, Mapping) else shown(repr(value))


def make(cls: type[T], table: Mapping[str, Any], place: Place, **ready: Any) -> T:
    """
    Make an attrs class from a table of the settings.

    Args:
        cls: The class; its fields say what the table may hold.
        table: What a person gave.
        place: Where the table stands.
        ready: Fields that are not to be read from the table.

    Raises:
        SettingsError: If a key is unknown, missing, or has a wrong value.
    """
    fields = {
        key: field for key, field in settable_fields(cls).items() if key not in ready
    }
    for key in table:
        if key not in fields:
            raise (place / key).unknown(fields)
    kinds = _types(cls) if table else {}
    values = {
        key: read(kinds.get(fields[key].name, Any), value, place / key)
        for key, value in table.items()
        if value is not None
    }
    for key, field in fields.items():
        if key not in values and field.default is attrs.NOTHING:
            raise (place / key).error(because="is not set, and has no default")
    try:
        return cls(**values, **ready)
    except (TypeError, ValueError) as error:
        raise _refused(error, table, place) from None


def settable_fields(cls: type) -> "Mapping[str, attrs.Attribute[Any]]":
    """Give the fields an attrs class can be made with, by the name they take."""
    return {str(field.alias): field for field in attrs.fields(cls) if field.init}


def _types(cls: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # a type only the type checker imports: the others count
        return {field.name: _type_of(field, cls) for field in attrs.fields(cls)}


def _type_of(field: "attrs.Attribute[Any]", cls: type) -> Any:
    """Resolve one annotation; what it names must be found where the class is."""
    holder = type(cls.__name__, (), {"__annotations__": {field.name: field.type}})
    names = ChainMap(*(vars(sys.modules[base.__module__]) for base in cls.__mro__))
    try:
        return typing.get_type_hints(holder, {}, names)[field.name]
    except NameError:
        return Any


def _refused(error: Exception, table: Mapping[str, Any], place: Place) -> SettingsError:
    """Repeat what a class says about its values, without the secrets in them."""
    words = scrub(str(error.args[0] if error.args else error), secrets_in(table))
    key = next((key for key in table if key in words), None)
    source = (place / key if key else place).source
    return SettingsError(f"{place.section} {words}{_note(source)}.")


def read(kind: Any, value: Any, place: Place) -> Any:
    """Turn a value from outside into a type, strictly."""
    kind = _without_none(kind)
    if kind is Price and not isinstance(value, Mapping):
        return _read_price(value, place)
    if attrs.has(kind):
        if not isinstance(value, Mapping):
            raise place.wrong(value, expected="a table")
        return make(kind, value, place)
    if typing.get_origin(kind) in _TABLES and isinstance(value, Mapping):
        item = typing.get_args(kind)[1]
        return {key: read(item, entry, place / key) for key, entry in value.items()}
    try:
        return _read_leaf(kind, value, place)
    except SettingsError:
        raise
    except Exception:  # noqa: BLE001 - readers and cattrs raise all sorts
        raise place.wrong(value, expected=_expected(kind)) from None


def _read_price(value: Any, place: Place) -> Price:
    """Read a plain number as the price of one picture."""
    amount = read(Decimal, value, place)
    try:
        return Price(per_image=amount)
    except ValueError:
        raise place.wrong(value, expected=f"0 to {HIGHEST_PRICE}") from None


def _read_leaf(kind: Any, value: Any, place: Place) -> Any:
    if kind is Any:
        return value
    if _is_list(kind):
        return _read_list(kind, value, place)
    if isinstance(value, Secret) and kind is not Secret:
        value = value.reveal()
    if kind in _READERS:
        return _READERS[kind][1](value)
    return kind(value) if _is_enum(kind) else _read_by_cattrs(kind, value)


def _read_list(kind: Any, value: Any, place: Place) -> Any:
    """Read a list; from the environment it comes as ``a, b``."""
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, list | tuple | frozenset | set):
        raise ValueError  # noqa: TRY004 - the caller says what is wrong
    kinds = _item_kinds(kind, len(value))
    items = [
        read(one, item, place / str(index))
        if attrs.has(one)
        else _read_leaf(one, item, place)
        for index, (one, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return _LISTS[typing.get_origin(kind) or kind](items)


def _item_kinds(kind: Any, length: int) -> Iterable[Any]:
    kinds = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and kinds[-1] is not Ellipsis:
        return kinds
    return repeat(kinds[0] if kinds else Any, length)


def _read_by_cattrs(kind: Any, value: Any) -> Any:
    """Leave to cattrs what is rare, and to the class what cattrs does not know."""
    from cattrs.errors import StructureHandlerNotFoundError  # noqa: PLC0415 - 15 ms

    try:
        return _converter().structure(value, kind)
    except StructureHandlerNotFoundError:
        return value


@cache
def _converter() -> "cattrs.Converter":
    import cattrs  # noqa: PLC0415 - 15 ms, and rarely needed

    converter = cattrs.Converter()
    for kind, (_, reader) in _READERS.items():
        converter.register_structure_hook(kind, _hook(reader))
    return converter


def _hook(reader: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Read a plain type, and the enums built on it (`StrEnum`)."""
    return lambda value, kind: kind(value) if _is_enum(kind) else reader(value)


def _without_none(kind: Any) -> Any:
    """Take ``| None`` off a type."""
    if typing.get_origin(kind) not in {typing.Union, UnionType}:
        return kind
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    return kinds[0] if len(kinds) == 1 else kind


def _read_bool(value: Any) -> bool:
    word = str(value).lower()
    if isinstance(value, bool | str) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError


def _read_int(value: Any) -> int:
    if isinstance(value, str) or type(value) is int:
        return int(value)
    raise ValueError


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError  # noqa: TRY004 - the caller says what is wrong
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError
    return number


def _read_float(value: Any) -> float:
    return float(_read_decimal(value))


def _read_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _read_path(value: Any) -> Path:
    return value if isinstance(value, Path) else Path(_read_text(value)).expanduser()


def _read_secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(_read_text(value))


def _is_list(kind: Any) -> bool:
    return kind in _LISTS or typing.get_origin(kind) in _LISTS


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


_LISTS: Mapping[Any, Any] = {
    tuple: tuple,
    list: list,
    frozenset: frozenset,
    set: set,
    Sequence: tuple,
}
_TABLES = frozenset({dict, Mapping})
_READERS: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    bool: ("true or false", _read_bool),
    int: ("a whole number", _read_int),
    float: ("a number", _read_float),
    Decimal: ("a number", _read_decimal),
    str: ("text", _read_text),
    Secret: ("text", _read_secret),
    Path: ("a path", _read_path),
}


def _expected(kind: Any) -> str:
    """Say in words what a type takes."""
    if kind in _READERS:
        return _READERS[kind][0]
    if _is_enum(kind):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if _is_list(kind):
        items = typing.get_args(kind)
        return f"a list, each item {_expected(items[0])}" if items else "a list"
    return "a table" if typing.get_origin(kind) in _TABLES else str(kind)
