"""
What a model's own configuration may ask for.

Libraries heed it: some kernels and ways to quantise are programs that they fetch from
a hub and run. A model's files bring no code along, so none of these is loaded.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gaia_flux.weights import WeightsError

_CONFIG: Final = "config.json"
_KERNELS: Final = "_implementation"
"""How the keys end that name kernels: of attention, of experts."""
_QUANTISED: Final = "quantization_config"
_KNOWN: Final = frozenset({None, "eager", "sdpa"})
_METHODS: Final = frozenset(
    {"bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit", "quanto", "torchao"}
)
"""Ways to quantise whose programs are installed, and never fetched."""


def check(parts: Iterable[Path]) -> None:
    """
    Refuse components whose configuration has programs fetched.

    Raises:
        WeightsError: The sentence names the file, and what it asks for.

    """
    for part in parts:
        file = part / _CONFIG
        if file.is_file():
            _check(file, _read(file))


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file} is no JSON that can be read: replace it"
        raise WeightsError(message) from error


def _check(file: Path, config: object) -> None:
    for key, value in _pairs(config):
        if key == _QUANTISED and value is not None:
            wanted = _words(value, "quant_method")
            _refuse(file, key, wanted - _METHODS)
        elif key.endswith(_KERNELS):
            _refuse(file, key, _words(value) - _KNOWN)


def _pairs(config: object) -> Iterator[tuple[str, object]]:
    """Go through all keys, also of tables in tables."""
    left = [config]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left.extend(one)
        elif isinstance(one, dict):
            left.extend(one.values())
            yield from one.items()


def _words(value: object, key: str | None = None) -> frozenset[Any]:
    """Give what a value names; what is no name is shown as it is."""
    if isinstance(value, Mapping):
        found = list(value.values()) if key is None else [value.get(key)]
    else:
        found = [value if key is None else repr(value)]
    return frozenset(
        one if one is None or isinstance(one, str) else repr(one) for one in found
    )


def _refuse(file: Path, key: str, wanted: frozenset[Any]) -> None:
    if not wanted:
        return
    named = ", ".join(sorted(str(one)[:80] for one in wanted))
    message = (
        f"{file} asks for {named} ({key}), which may be fetched from a hub and run: "
        "take that line out, or take another version of the model"
    )
    raise WeightsError(message)
