"""
Words that settings and requests may use, and what they must be; no torch here.

The tables of `gaia_flux.tuning` say what they do. A test keeps both equal.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gaia_core import Capability, ProviderRequestError
from gaia_flux.families import Family

DTYPES: Final = ("auto", "bfloat16", "float16", "float32")
QUANTISATIONS: Final = ("fp8", "int8")
STEP_CACHES: Final = ("first-block", "magcache", "taylorseer")
ATTENTIONS: Final = (
    "_flash_3",
    "_native_cudnn",
    "_native_efficient",
    "_native_flash",
    "_native_math",
    "auto",
    "flash",
    "native",
    "sage",
    "xformers",
)
INEXACT_ATTENTIONS: Final = ("sage",)
MAX_TRUE_CFG_SCALE: Final = 20.0

_MOST_NAMES: Final = 20
_MOST_SHOWN: Final = 60

_Check = Callable[[str, Any, Family], Any]


def nearest(name: str, names: Iterable[str]) -> str:
    """
    Suggest the nearest name, or some of those there are.

    >>> nearest("magcash", STEP_CACHES)
    "did you mean 'magcache'?"
    """
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    rest = len(known) - _MOST_NAMES
    more = f", or one of {rest} more" if rest > 0 else ""
    return f"choose {', '.join(known[:_MOST_NAMES])}{more}."


def shown(value: object) -> str:
    """Show what a stranger wrote, as much of it as fits into a sentence."""
    return repr(value)[:_MOST_SHOWN]


def checked(given: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """
    Check the options that a request has for this provider.

    Args:
        given: What a stranger wrote.
        family: That of the model.

    Returns:
        Fields of a job.

    Raises:
        ProviderRequestError: If one is unknown, or has no such value.
    """
    found = {}
    for name, value in given.items():
        if name not in _CHECKS:
            hint = nearest(str(name), _CHECKS)
            message = f"flux has no option {shown(name)}: {hint}"
            raise ProviderRequestError(message)
        found[name] = None if value is None else _CHECKS[name](name, value, family)
    return {name: value for name, value in found.items() if value is not None}


def _refused(name: str, value: object, wanted: str) -> ProviderRequestError:
    message = f"The flux option {name} cannot be {shown(value)}: {wanted}"
    return ProviderRequestError(message)


def _word(name: str, value: Any, known: Iterable[str]) -> str:
    names = tuple(known)
    if not isinstance(value, str) or value not in names:
        hint = nearest(value if isinstance(value, str) else "", names)
        raise _refused(name, value, hint)
    return value


def _step_cache(name: str, value: Any, family: Family) -> str:
    if Capability.UPSCALING in family.pipelines:
        raise _refused(name, value, f"{family.name} leaves out no steps.")
    return _word(name, value, STEP_CACHES)


def _scheduler(name: str, value: Any, family: Family) -> str:
    if not family.schedulers:
        raise _refused(name, value, f"{family.name} has one scheduler only.")
    return _word(name, value, family.schedulers)


def _length(name: str, value: Any, family: Family) -> int:
    if family.max_sequence_length is None:
        raise _refused(name, value, f"{family.name} has a fixed one.")
    most = family.max_sequence_length
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not 1 <= value <= most:
        raise _refused(name, value, f"it is 1 to {most} for {family.name}.")
    return int(value)


def _true_cfg(name: str, value: Any, family: Family) -> float:
    if not family.has_true_cfg:
        raise _refused(name, value, f"{family.name} has no such guidance.")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_TRUE_CFG_SCALE:
        raise _refused(name, value, f"it is a number from 0 to {MAX_TRUE_CFG_SCALE}.")
    return float(value)


def _flag(name: str, value: Any, _: Family) -> bool:
    if not isinstance(value, bool):
        raise _refused(name, value, "it is true or false.")
    return value


_CHECKS: Final[Mapping[str, _Check]] = {
    "has_previews": _flag,
    "max_sequence_length": _length,
    "scheduler": _scheduler,
    "step_cache": _step_cache,
    "true_cfg_scale": _true_cfg,
}
"""Option to what checks it; each becomes the field of a job of the same name."""

KNOWN: Final = frozenset(_CHECKS)
"""The options that a request may have."""
