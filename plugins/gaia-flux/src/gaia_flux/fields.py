"""What the values of settings are made into, and which of them are refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from gaia_flux.options import nearest, shown

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def one_of(*words: str | None) -> Check:
    """Refuse any other word, and name the nearest."""
    names = [word for word in words if word is not None]

    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if value not in words:
            message = (
                f"{attribute.name} is {shown(value)}: {nearest(str(value), names)}"
            )
            raise ValueError(message)

    return check


def is_finite(_: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Refuse what TOML and decimals know beside numbers: ``inf`` and ``nan``."""
    if not math.isfinite(value):
        message = f"{attribute.name} is {value}: give a number"
        raise ValueError(message)


def expanded(path: Path | None) -> Path | None:
    """Give a path whose tilde is the home directory."""
    return None if path is None else Path(path).expanduser()


def paths(files: Mapping[str, str | Path]) -> Mapping[str, Path]:
    """Give such a path for every name."""
    return {name: Path(path).expanduser() for name, path in files.items()}


def strings(values: Sequence[str]) -> tuple[str, ...]:
    """Take one word for a list of one."""
    return (values,) if isinstance(values, str) else tuple(values)
