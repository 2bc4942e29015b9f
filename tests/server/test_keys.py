"""The caller is known by the key they present."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import attrs
import httpx
import pytest

from gaia_core import Secret
from gaia_core.ledger import SqlLedger
from gaia_core.ledger.access import AccessBook, ApiKey, Scope, new_key
from gaia_core.ledger.database import Database
from gaia_core.server import keys
from gaia_core.server.access import OWNER
from gaia_core.server.keys import KeyRing, bearer
from gaia_core.server.problems import RefusedError
from gaia_core.testing import capture_events
from tests.waiting import until

from .conftest import OpenClient, settings_in

Issue = Callable[..., Awaitable[str]]
OWN = "/api/images"
"""What any caller who may read can ask for."""
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(name="issue")
def _issue(tmp_path: Path) -> Issue:
    """Give a function that makes a key in the ledger the server works with."""

    async def issue(name: str = "tavern", **fields: Any) -> str:
        changes = {"revoked_at": fields.pop("revoked_at", None)}
        kept, secret = new_key(name, **fields)
        await _with_book(tmp_path, lambda book: book.add(attrs.evolve(kept, **changes)))
        return secret.reveal()

    return issue


async def _with_book(folder: Path, work: Callable[[Any], Awaitable[object]]) -> None:
    ledger = SqlLedger(Database(settings_in(folder).database))
    await ledger.open()
    await work(ledger.access)
    await ledger.close()


def _bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _basic(key: str, user: str = "gaia") -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{key}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


# -- over HTTP --------------------------------------------------------------------


async def test_a_key_opens(open_client: OpenClient, issue: Issue) -> None:
    """A key works as a bearer token, whatever the case of the scheme."""
    key = await issue()

    async with open_client(auth=bearer) as client:
        answers = [
            await client.get(OWN, headers=headers)
            for headers in (
                _bearing(key),
                {"authorization": f"bearer {key}"},
                _basic(key),
                _basic(key, user=""),
            )
        ]

    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_key_made_meanwhile_opens(
    open_client: OpenClient, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs need not be told of a new key."""
    monkeypatch.setattr(keys, "MIN_AGE", 0.0)
    early = await issue()

    async with open_client(auth=bearer) as client:
        before = await client.get(OWN, headers=_bearing(early))
        after = await client.get(OWN, headers=_bearing(await issue("later")))

    assert (before.status_code, after.status_code) == (200, 200)


async def test_a_key_taken_back_opens_no_more(
    open_client: OpenClient,
    issue: Issue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is revoked while the server runs is refused once keys are read again."""
    monkeypatch.setattr(keys, "MAX_AGE", 0.0)
    key = await issue()

    async with open_client(auth=bearer) as client:
        before = await client.get(OWN, headers=_bearing(key))
        await _with_book(tmp_path, lambda book: book.revoke(key.split("_")[1]))
        after = await client.get(OWN, headers=_bearing(key))

    assert (before.status_code, after.status_code) == (200, 401)


async def test_every_wrong_key_has_the_same_answer(
    open_client: OpenClient, issue: Issue
) -> None:
    """Nobody learns from an answer whether there is, or was, such a key."""
    live = await issue()
    wrong = [
        _bearing(await issue("late", expires_at=LONG_AGO)),
        _bearing(await issue("gone", revoked_at=LONG_AGO)),
        _bearing(live[:-1] + ("A" if live[-1] != "A" else "B")),
        _bearing(live.upper()),
        _bearing(f"{live}x"),
        _bearing(f"gaia_{'0' * 12}_{'s' * 43}"),
        _bearing("sk-something-else"),
        {"Authorization": "Bearer"},
        _basic("wrong"),
        _basic(live, user="a:b"),
        {"Authorization": "Basic !!!"},
        {"Authorization": f"Digest {live}"},
        {"Authorization": live},
        {"Authorization": f"Bearer {'x' * 4_000}"},
        {"Authorization": "Bearer \xe9\xff"},
        {"X-Api-Key": live},
    ]

    async with open_client(auth=bearer) as client:
        answers = [await client.get(OWN, headers=_raw(one)) for one in wrong]
        nothing = await client.get(OWN)
        in_query = await client.get(OWN, params={"key": live, "token": live})

    assert nothing.status_code == 401
    assert nothing.headers["www-authenticate"] == "Bearer"
    for answer in (*answers, in_query):
        assert (answer.status_code, answer.content) == (401, nothing.content)
        assert answer.headers["www-authenticate"] == "Bearer"


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


async def test_two_keys_at_once_are_none(open_client: OpenClient, issue: Issue) -> None:
    """Whoever presents two keys is not let in by either: a proxy may see the other."""
    headers = [("Authorization", f"Bearer {await issue()}")] * 2

    async with open_client(auth=bearer) as client:
        answer = await client.get(OWN, headers=headers)

    assert answer.status_code == 401


async def test_the_token_is_the_owners_key(open_client: OpenClient) -> None:
    """Whoever has the token may do everything, as on the machine itself."""
    server = {"token": Secret("open-sesame-1234"), "require_auth": True}

    async with open_client(auth=None, server=server) as client:
        right = await client.get(OWN, headers=_bearing("open-sesame-1234"))
        wrong = await client.get(OWN, headers=_bearing("open-sesame-1235"))

    assert (right.status_code, wrong.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("require_auth", "key", "status"),
    [
        pytest.param(None, None, 200, id="local"),
        pytest.param(None, "not-needed", 200, id="local-with-some-word"),
        pytest.param(None, f"gaia_{'0' * 12}_{'s' * 43}", 401, id="local-wrong-key"),
        pytest.param(False, None, 200, id="local-open"),
        pytest.param(True, None, 401, id="local-closed"),
        pytest.param(True, "not-needed", 401, id="local-closed-with-some-word"),
    ],
)
async def test_on_this_machine_a_key_is_optional(
    open_client: OpenClient,
    *,
    require_auth: bool | None,
    key: str | None,
    status: int,
) -> None:
    """Whoever has the machine needs none, unless the settings ask for one."""
    headers = _bearing(key) if key else {}

    async with open_client(auth=None, server={"require_auth": require_auth}) as client:
        answer = await client.get(OWN, headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Via"],
)
async def test_what_a_proxy_passes_on_needs_a_key(
    open_client: OpenClient, header: str
) -> None:
    """A proxy that nobody told the server of does not open it to everybody."""
    async with open_client(auth=None) as client:
        passed_on = await client.get(OWN, headers={header: "192.0.2.1"})
    async with open_client(auth=None, server={"require_auth": False}) as client:
        open_to_all = await client.get(OWN, headers={header: "192.0.2.1"})

    assert (passed_on.status_code, open_to_all.status_code) == (401, 200)


async def test_elsewhere_a_key_is_needed(open_client: OpenClient) -> None:
    """Where others can reach the server, nobody is taken for the owner."""
    async with open_client(auth=None, server={"host": "192.0.2.1"}) as client:
        answer = await client.get(OWN)

    assert answer.status_code == 401


async def test_a_host_may_do_without_keys(open_client: OpenClient) -> None:
    """In a host's own app a key is needed unless the settings say otherwise."""
    async with open_client(auth=bearer, server={"require_auth": False}) as client:
        answer = await client.get(OWN)

    assert answer.status_code == 200


async def test_wrong_keys_are_told_of_without_what_makes_them(
    open_client: OpenClient, issue: Issue
) -> None:
    """The log names the key's id, the reason and the address; a flood is cut short."""
    key = await issue("gone", revoked_at=LONG_AGO)

    with capture_events() as events:
        async with open_client(auth=bearer) as client:
            answers = await _many(client, key, keys.MOST_REFUSALS + 5)

    told = [one for one in events if one["event"] == "gaia.key_refused"]
    assert told[0]["id"] == key.split("_")[1]
    assert told[0]["reason"] == "revoked"
    assert told[0]["address"] == "127.0.0.1"
    assert len(told) <= 6
    assert key not in str(events)
    assert {answer.status_code for answer in answers[:10]} == {401}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


async def _many(
    client: httpx.AsyncClient, key: str, times: int
) -> list[httpx.Response]:
    return [await client.get(OWN, headers=_bearing(key)) for _ in range(times)]


# -- the ring ---------------------------------------------------------------------


@attrs.define(eq=False)
class _CountedBook:
    """A book of keys that counts how often it is read."""

    keys: list[ApiKey] = attrs.field(factory=list)
    reads: int = 0
    looks: int = 0

    async def version(self) -> str:
        """Count them."""
        self.looks += 1
        return str(len(self.keys))

    async def listed(self) -> list[ApiKey]:
        """List them."""
        self.reads += 1
        await asyncio.sleep(0)
        return list(self.keys)

    def issue(self, name: str = "tavern") -> str:
        """Keep a new key."""
        kept, secret = new_key(name, scopes=[Scope.READ])
        self.keys.append(kept)
        return secret.reveal()


async def _who(ring: KeyRing, key: str, book: _CountedBook, address: str = "a") -> Any:
    return await ring.principal(key, cast("AccessBook", book), address=address)


async def test_a_flood_reads_the_book_once() -> None:
    """Neither right keys nor wrong ones cost a look into the database each."""
    book, ring = _CountedBook(), KeyRing()
    right = book.issue()
    wrong = [new_key("x")[1].reveal() for _ in range(500)]

    found = await asyncio.gather(
        *(_who(ring, right, book) for _ in range(500)),
        *(_who(ring, key, book, f"192.0.2.{place}") for place, key in enumerate(wrong)),
    )

    assert [one.name for one in found[:500]] == ["tavern"] * 500
    assert set(found[500:]) == {None}
    assert (book.looks, book.reads) == (1, 1)


async def test_keys_are_read_again_when_there_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look tells whether anything is new; only then are thousands of keys read."""
    monkeypatch.setattr(keys, "MAX_AGE", 0.0)
    book, ring = _CountedBook(), KeyRing()
    key = book.issue()

    before = [await _who(ring, key, book) for _ in range(10)]
    after = await _who(ring, book.issue("later"), book)

    assert {one.name for one in before} == {"tavern"}
    assert after.name == "later"
    assert book.reads == 2


async def test_a_flood_locks_nobody_else_out() -> None:
    """A right key opens from an address that others send wrong ones from."""
    book, ring = _CountedBook(), KeyRing(token=Secret("open-sesame"))
    right = book.issue()
    for _ in range(keys.MOST_REFUSALS):
        assert await _who(ring, "wrong", book) is None

    with pytest.raises(RefusedError):
        await _who(ring, "wrong", book)
    found = await _who(ring, right, book)

    assert found.name == "tavern"


async def test_nobody_tries_the_token_out() -> None:
    """After many wrong keys the token opens nothing from there, and does elsewhere."""
    book, ring = _CountedBook(), KeyRing(token=Secret("open-sesame"))
    for _ in range(keys.MOST_REFUSALS):
        await _who(ring, "wrong", book, "2001:db8::1")

    with pytest.raises(RefusedError):
        await _who(ring, "open-sesame", book, "2001:db8::2")

    assert await _who(ring, "open-sesame", book, "2001:db8:1::1") is OWNER


async def test_a_key_ends_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was read while it was live opens no longer than it lives."""
    monkeypatch.setattr(keys, "MAX_AGE", 60.0)
    book, ring = _CountedBook(), KeyRing()
    key = book.issue()
    ends = datetime.now(UTC) + timedelta(seconds=1)
    book.keys = [attrs.evolve(one, expires_at=ends) for one in book.keys]

    before = await _who(ring, key, book)
    await until(lambda: datetime.now(UTC) > ends)
    after = await _who(ring, key, book)

    assert (before.name, after) == ("tavern", None)
    assert book.reads == 1


async def test_no_token_opens_nothing() -> None:
    """Without a token in the settings no text stands for one, not even an empty one."""
    ring, book = KeyRing(), _CountedBook()

    assert [await _who(ring, text, book) for text in ("", "0" * 64)] == [None, None]
