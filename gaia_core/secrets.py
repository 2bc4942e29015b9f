"""Strings that never show themselves, and showing values that may hold them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

MASK = "••••"
"""What stands where a secret would."""

_SECRET_NAMES = (
    *("key", "token", "secret", "password"),
    *("authorization", "credentials", "passphrase"),
)
_SHORTEST_SCRUBBED = 4
_USER_INFO = re.compile(r"(?<=://)\S*@")
_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:key|token|secret|password)=)[^&\s]*")


class Secret:
    """
    A string that never shows itself.

    Neither ``print``, logs, tracebacks nor JSON give it away; only `reveal` does.

    >>> key = Secret("sk-123")
    >>> key, str(key), f"{key}"
    (••••, '••••', '••••')
    >>> key.reveal()
    'sk-123'
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        """Hold a value."""
        self.__value = value

    def reveal(self) -> str:
        """Give the value away: only where it is about to be sent."""
        return self.__value

    def __bool__(self) -> bool:
        """Tell whether there is anything to hide."""
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        """Compare in a time that does not depend on where the values differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        from hmac import compare_digest  # noqa: PLC0415 - rarely needed, 2 ms

        return compare_digest(self.__value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        """Hash like the value, but apart from plain strings."""
        return hash((Secret, self.__value))

    def __repr__(self) -> str:
        """Show the mask."""
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Show the mask."""
        return format(MASK, spec)

    def __copy__(self) -> "Secret":
        """Give itself: it never changes."""
        return self

    def __deepcopy__(self, _memo: object) -> "Secret":
        """Give itself: it never changes."""
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse to be pickled: a pickle would hold the value."""
        message = "A Secret cannot be pickled."
        raise TypeError(message)


def is_secret_name(name: str) -> bool:
    """
    Tell whether a key or a variable of this name holds a secret.

    >>> is_secret_name("api_key"), is_secret_name("HF_TOKEN"), is_secret_name("port")
    (True, True, False)
    """
    return name.lower().endswith(_SECRET_NAMES)


def hide(name: str, value: Any) -> Any:
    """Put text under a secret's name into a `Secret`, however deep it lies."""
    if isinstance(value, Mapping):
        return {key: hide(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        hidden = [hide(name, item) for item in value]
        return hidden if isinstance(value, list) else tuple(hidden)
    if isinstance(value, str) and is_secret_name(name):
        return Secret(value)
    return value


def shown(value: Any) -> str:
    """
    Show a value without the secrets in it.

    >>> shown("postgresql://gaia:hunter2@db/gaia")
    'postgresql://••••@db/gaia'
    """
    text = value if isinstance(value, str) else str(value)
    return _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(f"{MASK}@", text))


def secrets_in(value: Any) -> Iterator[Secret]:
    """Find every secret in a value, however deep it lies."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        yield from secrets_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item)


def scrub(text: str, secrets: Iterable[Secret]) -> str:
    """Put the mask over every secret that a text written by others repeats."""
    values = {secret.reveal() for secret in secrets}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SHORTEST_SCRUBBED:
            text = text.replace(value, MASK)
    return shown(text)
