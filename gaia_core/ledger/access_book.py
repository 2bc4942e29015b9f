"""The book of API keys in the database."""

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
from sqlalchemy import Connection, Row, desc, func, insert, select, update

from gaia_core.ledger import rows
from gaia_core.ledger.access import ApiKey, Scope
from gaia_core.ledger.database import Database
from gaia_core.ledger.dialects import insert_or_ignore
from gaia_core.ledger.tables import api_keys, server_secrets

_LINKS = "links"
_KEY_BYTES = 32
_SCOPES = frozenset(Scope)


@attrs.frozen(eq=False)
class SqlAccessBook:
    """
    Keeps API keys in the ledger's database.

    Attributes:
        database: Where they are kept.
    """

    database: Database

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        await self.database.write(partial(_add, key))

    async def get(self, key_id: str) -> ApiKey | None:
        """Look a key up by its id, also one that has ended."""
        return await self.database.read(partial(_get, key_id))

    async def listed(self) -> Sequence[ApiKey]:
        """List the keys, newest first."""
        newest = select(api_keys).order_by(desc(api_keys.c.created_at), api_keys.c.id)
        return await self.database.read(
            lambda connection: [_key(row) for row in connection.execute(newest)]
        )

    async def version(self) -> str:
        """Give what changes whenever a key is added or taken back; it is cheap."""
        return await self.database.read(_version)

    async def revoke(self, key_id: str) -> ApiKey | None:
        """Take a key back, for good; None if there is none."""
        return await self.database.write(partial(_revoke, key_id))

    async def signing_key(self) -> bytes:
        """Give the key links are signed with; made at the first call, then the same."""
        return bytes.fromhex(await self.database.write(_signing_key))


def _add(key: ApiKey, connection: Connection) -> None:
    values = {
        "id": key.id,
        "name": rows.identifier(key.name, name="The name of a key"),
        "scopes": " ".join(sorted(key.scopes)),
        "digest": key.digest,
        "created_at": rows.moment(key.created_at),
        "expires_at": rows.moment(key.expires_at),
        "revoked_at": rows.moment(key.revoked_at),
    }
    connection.execute(insert(api_keys), values)


def _get(key_id: str, connection: Connection) -> ApiKey | None:
    query = select(api_keys).where(api_keys.c.id == rows.clean(key_id))
    row = connection.execute(query).one_or_none()
    return None if row is None else _key(row)


def _version(connection: Connection) -> str:
    counts = func.count(), func.count(api_keys.c.revoked_at)
    row = connection.execute(select(*counts, func.max(api_keys.c.created_at))).one()
    return " ".join(map(str, row))


def _revoke(key_id: str, connection: Connection) -> ApiKey | None:
    change = (
        update(api_keys)
        .where(api_keys.c.id == rows.clean(key_id), api_keys.c.revoked_at.is_(None))
        .values(revoked_at=rows.now())
    )
    connection.execute(change)
    return _get(key_id, connection)


def _signing_key(connection: Connection) -> str:
    """Read the key; of several processes that make one, the first counts."""
    look = select(server_secrets.c.value).where(server_secrets.c.name == _LINKS)
    known = connection.execute(look).scalar_one_or_none()
    if known is not None:
        return str(known)
    made = {"name": _LINKS, "value": secrets.token_hex(_KEY_BYTES)}
    connection.execute(insert_or_ignore(connection, server_secrets), made)
    return str(connection.execute(look).scalar_one())


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        # A word that a newer Gaia wrote gives nothing here.
        scopes=_SCOPES.intersection(row.scopes.split()),
        digest=row.digest,
        created_at=rows.instant(row.created_at),
        expires_at=rows.instant(row.expires_at),
        revoked_at=rows.instant(row.revoked_at),
    )
