"""The book of API keys, and what links are signed with."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from sqlalchemy import text

from gaia_core.errors import InvalidRequestError, LedgerError
from gaia_core.ledger import SqlLedger
from gaia_core.ledger.access import ApiKey, KeyState, Scope, digest_of, id_of, new_key
from gaia_core.ledger.database import Database

DAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _key(**fields: Any) -> ApiKey:
    kept, _ = new_key(fields.pop("name", "tavern"))
    return attrs.evolve(kept, **fields)


# -- keys -------------------------------------------------------------------------


def test_keys_are_all_different() -> None:
    """No two keys are alike, and each is long enough to be found by nobody."""
    made = [new_key("tavern") for _ in range(100)]

    assert len({kept.id for kept, _ in made}) == 100
    assert len({secret.reveal() for _, secret in made}) == 100
    assert {len(secret.reveal()) for _, secret in made} == {5 + 12 + 1 + 43}


def test_a_key_does_not_show() -> None:
    """Neither the key nor its digest is in what a log or a traceback would show."""
    kept, secret = new_key("tavern")

    assert secret.reveal() not in f"{kept!r} {secret!r}"
    assert kept.digest not in repr(kept)
    assert kept.digest == digest_of(secret.reveal())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(f"gaia_{'0a' * 6}_{'s' * 43}", "0a" * 6, id="key"),
        pytest.param(f"gaia_{'0A' * 6}_{'s' * 43}", None, id="capitals"),
        pytest.param(f"gaia_{'0a' * 6}_{'s' * 42}", None, id="too-short"),
        pytest.param(f"gaia_{'0a' * 6}_{'s' * 43}\n", None, id="line-break"),
        pytest.param(f"gaia_{'²a' * 6}_{'s' * 43}", None, id="other-digits"),
        pytest.param("sk-123", None, id="another-kind"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_key_holds_its_id(words: str, expected: str | None) -> None:
    """The id of a key can be read from it; whatever is no key has none."""
    assert id_of(words) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, KeyState.LIVE, id="live"),
        pytest.param(
            {"expires_at": DAY + timedelta(seconds=1)}, KeyState.LIVE, id="not-yet"
        ),
        pytest.param({"expires_at": DAY}, KeyState.EXPIRED, id="expired"),
        pytest.param({"revoked_at": DAY}, KeyState.REVOKED, id="revoked"),
        pytest.param(
            {"expires_at": DAY, "revoked_at": DAY}, KeyState.REVOKED, id="both"
        ),
    ],
)
def test_a_key_has_a_state(fields: dict[str, Any], expected: KeyState) -> None:
    """A key is live until the moment it expires or is taken back."""
    assert _key(**fields).state(DAY) is expected


# -- the book ---------------------------------------------------------------------


async def test_a_key_is_kept_as_it_was_made(ledger: SqlLedger) -> None:
    """Everything about a key comes back, dates to the microsecond."""
    key = _key(
        name="Ravenloft ✦",
        scopes=[Scope.MONITOR, Scope.ON_BEHALF],
        expires_at=DAY + timedelta(microseconds=1),
    )

    await ledger.access.add(key)

    assert await ledger.access.get(key.id) == key
    assert await ledger.access.get("0" * 12) is None
    assert await ledger.access.get("\0\ud800") is None


async def test_keys_are_listed_newest_first(ledger: SqlLedger) -> None:
    """Keys that have ended are listed as well."""
    old = _key(created_at=DAY, revoked_at=DAY)
    new = _key(created_at=DAY + timedelta(seconds=1))
    for key in (old, new):
        await ledger.access.add(key)

    assert await ledger.access.listed() == [new, old]


async def test_a_key_is_taken_back_once(ledger: SqlLedger) -> None:
    """The moment it was first taken back stays."""
    key = _key()
    await ledger.access.add(key)

    first = await ledger.access.revoke(key.id)
    again = await ledger.access.revoke(key.id)

    assert first is not None
    assert first.state(datetime.now(UTC)) is KeyState.REVOKED
    assert again == first
    assert await ledger.access.revoke("0" * 12) is None


async def test_what_changes_the_keys_changes_their_version(ledger: SqlLedger) -> None:
    """A server sees by the version alone that a key was made or taken back."""
    book, first, second = ledger.access, _key(), _key()
    seen = [await book.version()]
    for change in (book.add(first), book.add(second), book.revoke(first.id)):
        await change
        seen.append(await book.version())

    await book.revoke(first.id)

    assert len(set(seen)) == 4
    assert await book.version() == seen[-1]


async def test_no_two_keys_share_an_id(ledger: SqlLedger) -> None:
    """A key never takes the place of another."""
    key = _key()
    await ledger.access.add(key)

    with pytest.raises(LedgerError):
        await ledger.access.add(attrs.evolve(key, name="thief"))

    assert await ledger.access.get(key.id) == key


async def test_a_name_is_kept_as_it_is(ledger: SqlLedger) -> None:
    """A name that no database takes as text is refused, not changed."""
    with pytest.raises(InvalidRequestError, match="The name of a key"):
        await ledger.access.add(_key(name="a\0b"))


async def test_scopes_of_a_newer_version_give_nothing(ledger: SqlLedger) -> None:
    """A word that this version does not know opens nothing, and harms nothing."""
    key = _key()
    await ledger.access.add(key)
    await ledger.database.write(
        lambda connection: connection.execute(
            text("UPDATE api_keys SET scopes = 'read conquer'")
        )
    )

    found = await ledger.access.get(key.id)

    assert found is not None
    assert found.scopes == {Scope.READ}


# -- what links are signed with ---------------------------------------------------


async def test_the_signing_key_stays(ledger: SqlLedger) -> None:
    """It is made at the first call, and is the same from then on."""
    first = await ledger.access.signing_key()

    assert len(first) == 32
    assert await ledger.access.signing_key() == first


async def test_servers_that_start_at_once_sign_alike(address: str) -> None:
    """Of many that make the signing key at the same moment, the first counts."""
    databases = [Database(address) for _ in range(8)]
    ledgers = [SqlLedger(database) for database in databases]
    for ledger in ledgers:
        await ledger.open()

    found = await asyncio.gather(*(one.access.signing_key() for one in ledgers))
    for ledger in ledgers:
        await ledger.close()

    assert len(set(found)) == 1


SIGN = """
import asyncio, json, sys
from gaia_core.ledger import SqlLedger
from gaia_core.ledger.database import Database

async def main():
    ledger = SqlLedger(Database(sys.argv[1]))
    await ledger.open()
    print(json.dumps((await ledger.access.signing_key()).hex()))
    await ledger.close()

asyncio.run(main())
"""


def test_processes_that_start_at_once_sign_alike(address: str) -> None:
    """Also those that meet in a database that has no tables yet."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SIGN, address], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert len({json.loads(one) for one in said}) == 1
