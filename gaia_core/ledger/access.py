"""What the ledger keeps of API keys: never the key itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class ApiKey:
    """
    A key that opens the server, without what makes it one.

    Attributes:
        id: What names it in lists and logs; the part of the key that is no secret.
        name: The principal it stands for; several keys may stand for one.
        scopes: What it may be used for, as words of `gaia_core.server.Scope`.
        digest: SHA-256 of the whole key, in hexadecimal.
        created_at: When it was made, in UTC.
        expires_at: When it ends, in UTC, or None.
        revoked_at: When it was taken back, in UTC, or None.
    """

    id: str
    name: str
    scopes: frozenset[str] = attrs.field(converter=frozenset)
    digest: str = attrs.field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class AccessBook(Protocol):
    """The part of a ledger that keeps API keys, and what links are signed with."""

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""

    async def get(self, key_id: str) -> ApiKey | None:
        """Look a key up by its id, also one that has ended."""

    async def listed(self) -> Sequence[ApiKey]:
        """List the keys, newest first."""

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Take a key back, for good; None if there is none."""

    async def signing_key(self) -> bytes:
        """Give the key links are signed with; made at the first call, then the same."""
