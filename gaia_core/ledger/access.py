"""API keys: made once, shown once, kept as digests; the ledger keeps the book."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import attrs

from gaia_core.secrets import Secret

_ID_BYTES = 6
_SECRET_BYTES = 32
_KEY = re.compile(r"gaia_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """What a caller may do."""

    MAKE = "make"
    """Make, edit, enlarge and describe pictures; plan; open and call off batches."""
    READ = "read"
    """See own pictures, operations, batches and spending."""
    MONITOR = "monitor"
    """See the figures of the whole server, and how its providers are."""
    ON_BEHALF = "on-behalf"
    """Say for which user a request is."""


USUAL = (Scope.MAKE, Scope.READ)
"""What a key may be used for, unless more is said."""


class KeyState(StrEnum):
    """Whether a key opens anything."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _scopes(words: Iterable[Scope | str]) -> frozenset[Scope]:
    return frozenset(map(Scope, words))


@attrs.frozen(kw_only=True)
class ApiKey:
    """
    A key that opens the server, without what makes it one.

    Attributes:
        id: What names it in lists and logs; the part of the key that is no secret.
        name: The principal it stands for; several keys may stand for one.
        scopes: What it may be used for.
        digest: SHA-256 of the whole key, in hexadecimal.
        created_at: When it was made, in UTC.
        expires_at: When it ends, in UTC, or None.
        revoked_at: When it was taken back, in UTC, or None.
    """

    id: str
    name: str
    scopes: frozenset[Scope] = attrs.field(converter=_scopes)
    digest: str = attrs.field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """Tell whether it opens anything at a moment."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= now
        return KeyState.EXPIRED if is_over else KeyState.LIVE


def new_key(
    name: str,
    *,
    scopes: Iterable[Scope | str] = USUAL,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, Secret]:
    """
    Make a key: what is kept of it, and the key itself, which is never seen again.

    >>> kept, key = new_key("tavern")
    >>> kept.name, kept.digest == digest_of(key.reveal())
    ('tavern', True)

    Args:
        name: The principal it stands for.
        scopes: What it may be used for.
        expires_at: When it ends; None: when it is taken back.
    """
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"gaia_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    kept = ApiKey(
        id=key_id,
        name=name,
        scopes=scopes,
        digest=digest_of(key),
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    return kept, Secret(key)


def id_of(key: str) -> str | None:
    """Give the id in a key, or None: it is no key of ours."""
    found = _KEY.fullmatch(key)
    return found and found[1]


def digest_of(key: str) -> str:
    """
    Give what is kept of a key.

    A key holds 256 random bits: there is no dictionary to try, so none of the slow
    digests that passwords need.
    """
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


class AccessBook(Protocol):
    """The part of a ledger that keeps API keys, and what links are signed with."""

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""

    async def get(self, key_id: str) -> ApiKey | None:
        """Look a key up by its id, also one that has ended."""

    async def listed(self) -> Sequence[ApiKey]:
        """List the keys, newest first."""

    async def version(self) -> str:
        """Give what changes whenever a key is added or taken back; it is cheap."""

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Take a key back, for good; None if there is none."""

    async def signing_key(self) -> bytes:
        """Give the key links are signed with; made at the first call, then the same."""
