"""How the server and its providers are: free, fast, and without telling too much."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import attrs
import httpx
import pytest
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBearer

from gaia_core import Gaia
from gaia_core.catalog import Health, HealthLevel
from gaia_core.errors import ProviderConnectionError
from gaia_core.hookspecs import hookimpl
from gaia_core.server import Principal, Scope, create_app
from gaia_core.server.schemas.health import HealthOut, ProviderHealthOut
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient, serving, settings_in
from tests.waiting import HeldProvider

OWNERS = {"status", "reason", "configured", "connected", "available_models"}
WORKING = {"reachable", "authorised"}


@attrs.define(eq=False, kw_only=True)
class CheckedProvider(FakeProvider):
    """Says how it is, and counts how often it is asked."""

    reaches: HealthLevel = HealthLevel.AUTHORISED
    asked: list[HealthLevel] = attrs.field(factory=list)
    words: str = "10.0.0.7 said sk-secret"

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Say what it reaches."""
        self.asked.append(level)
        await asyncio.sleep(0)
        order = list(HealthLevel)
        is_healthy = order.index(level) <= order.index(self.reaches)
        return Health(
            level=level if is_healthy else self.reaches,
            is_healthy=is_healthy,
            reason=None if is_healthy else self.words,
            notes=["There are 8 GB."],
        )


async def by_name(request: Request) -> Principal | None:
    """Take a caller's word for who they are, and for what they may do."""
    name = request.headers.get("x-name")
    if name == "wrong":
        raise HTTPException(401)
    scopes = request.headers.get("x-scopes", "").split()
    return None if name is None else Principal(name=name, scopes=map(Scope, scopes))


MONITOR = {"x-name": "ann", "x-scopes": "monitor"}
READER = {"x-name": "ann", "x-scopes": "read"}


async def test_everybody_learns_that_it_serves(open_client: OpenClient) -> None:
    """A load balancer needs no key, and learns no more than it needs."""
    async with open_client(FakeProvider(), auth=by_name) as client:
        answer = await client.get("/api/health")
        head = await client.head("/api/health")

    assert answer.status_code == 200
    assert head.status_code == 200
    assert head.content == b""
    assert set(answer.json()) == {"status", "version", "timestamp", "ledger"}
    assert answer.json()["status"] == "healthy"


@pytest.mark.parametrize("headers", [READER, MONITOR], ids=["reader", "monitor"])
async def test_a_known_caller_learns_more(
    open_client: OpenClient, headers: dict[str, str]
) -> None:
    """Every provider is there, in the owner's shape, and so is what failed."""
    keyless = FakeProvider(name="keyless", unavailable="KEYLESS_API_KEY is not set")
    async with open_client(FakeProvider(), keyless, auth=by_name) as client:
        found = (await client.get("/api/health", headers=headers)).json()

    HealthOut.model_validate(found)
    assert found["status"] == "healthy"
    assert found["failed_plugins"] == []
    assert set(found["providers"]["fake"]) >= {*OWNERS, "timestamp"}
    assert found["providers"]["fake"]["status"] == "healthy"
    assert found["providers"]["fake"]["available_models"] == 1
    assert found["providers"]["keyless"]["status"] == "unavailable"
    assert found["providers"]["keyless"]["reason"] == "KEYLESS_API_KEY is not set"
    assert found["providers"]["keyless"]["configured"] is False


@pytest.mark.parametrize("path", ["/api/health", "/api/health/fake"])
async def test_a_wrong_key_takes_nothing_away(
    open_client: OpenClient, path: str
) -> None:
    """Whoever presents a wrong key is somebody nobody knows."""
    async with open_client(FakeProvider(), auth=by_name) as client:
        answer = await client.get(path, headers={"x-name": "wrong"})

    assert answer.status_code == 200
    assert "providers" not in answer.json()


async def test_a_hosts_own_scheme_keeps_nobody_out(tmp_path: Path) -> None:
    """A host's dependency may refuse by itself; health is public all the same."""
    scheme = HTTPBearer()

    def current_user(key: Annotated[object, Depends(scheme)]) -> str:
        return str(key)

    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    async with (
        serving(create_app(gaia, auth=current_user)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        nobody = await client.get("/api/health")
        known = await client.get("/api/health", headers={"Authorization": "Bearer x"})

    assert nobody.status_code == known.status_code == 200
    assert "providers" in known.json()
    assert "providers" not in nobody.json()


async def test_a_plugin_that_failed_is_named(open_client: OpenClient) -> None:
    """What could not be loaded is told, without the words of what went wrong."""

    class Misspelt:
        @hookimpl
        def gaia_generat(self) -> None:
            """Have a hook nobody calls."""

    async with open_client(FakeProvider(), Misspelt(), auth=by_name) as client:
        answer = await client.get("/api/health", headers=MONITOR)
        nobody = await client.get("/api/health")
        (failed,) = answer.json()["failed_plugins"]
        single = await client.get(f"/api/health/{failed['plugin']}", headers=MONITOR)

    assert answer.json()["status"] == nobody.json()["status"] == "degraded"
    assert failed["plugin"] == "Misspelt"
    assert single.json()["status"] == "unavailable"
    assert "gaia_generat" not in answer.text + single.text + nobody.text


async def test_a_provider_that_cannot_start_is_told(open_client: OpenClient) -> None:
    """Why it could not is told, without the words of what went wrong."""

    @attrs.define(eq=False, kw_only=True)
    class Unstartable(FakeProvider):
        @hookimpl
        async def gaia_start(self) -> None:
            """Fail."""
            message = "sk-secret in /srv/keys"
            raise ProviderConnectionError(message)

    async with open_client(Unstartable(name="odd"), auth=by_name) as client:
        answer = await client.get("/api/health/odd", headers=READER)
        nobody = await client.get("/api/health")

    assert answer.json()["status"] == "unavailable"
    assert answer.json()["reason"]
    assert "secret" not in answer.text
    assert nobody.json()["status"] == "degraded"


async def test_a_book_that_cannot_be_read_is_an_outage(
    open_client: OpenClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its book the server can serve nobody, and says so by its status."""
    monkeypatch.setattr("gaia_core.server.checks.LEDGER_AGE", 0.0)
    async with open_client(FakeProvider(), auth=by_name) as client:
        before = await client.get("/api/health")
        with closing(sqlite3.connect(tmp_path / "gaia.db")) as book:
            book.execute("ALTER TABLE operations RENAME TO lost")
            book.commit()
        after = await client.get("/api/health")

    assert before.status_code == 200
    assert after.status_code == 503
    assert after.json()["status"] == after.json()["ledger"] == "unavailable"


async def test_a_provider_that_fails_is_told(open_client: OpenClient) -> None:
    """The passive view shows an open breaker, and asks nobody."""
    provider = CheckedProvider(failure=ProviderConnectionError("10.0.0.7 refused"))
    async with open_client(provider, auth=by_name) as client:
        body = {"prompt": "a keep", "timeout": 5}
        maker = {"x-name": "ann", "x-scopes": "make"}
        for _ in range(3):
            await client.post("/api/images/generate", json=body, headers=maker)
        answer = await client.get("/api/health/fake", headers=READER)
        nobody = await client.get("/api/health/fake")
        whole = await client.get("/api/health", headers=READER)

    found = answer.json()
    assert found["status"] == nobody.json()["status"] == "unhealthy"
    assert found["connected"] is False
    assert found["breakers"]["text-to-image"]["state"] == "open"
    assert found["breakers"]["text-to-image"]["opens_in"] > 0
    assert nobody.json()["reason"] is None
    assert nobody.json()["breakers"] == {}
    assert whole.json()["status"] == "degraded"
    assert provider.asked == []
    assert "10.0.0.7" not in answer.text


@pytest.mark.parametrize(
    ("reaches", "level", "status", "said"),
    [
        ("authorised", "reachable", "healthy", None),
        ("authorised", "authorised", "healthy", None),
        ("configured", "reachable", "unhealthy", "it could not be reached"),
        (
            "reachable",
            "authorised",
            "unhealthy",
            "it does not accept the server's key",
        ),
    ],
)
async def test_asking_says_how_far_it_came(
    open_client: OpenClient, reaches: str, level: str, status: str, said: str | None
) -> None:
    """What is wrong is said in the server's words, never in the provider's."""
    provider = CheckedProvider(reaches=HealthLevel(reaches))
    async with open_client(provider, auth=by_name) as client:
        answer = await client.get(
            "/api/health/fake", params={"level": level}, headers=MONITOR
        )

    found = answer.json()
    ProviderHealthOut.model_validate(found)
    assert (found["status"], found["reason"]) == (status, said)
    assert found["level"] == (level if status == "healthy" else reaches)
    assert found["connected"] is (found["level"] in WORKING)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("headers", "level", "notes"),
    [
        (MONITOR, "authorised", ["There are 8 GB."]),
        (READER, "configured", ["There are 8 GB."]),
        ({}, "configured", []),
        (MONITOR, None, []),
    ],
    ids=["asked", "configured", "nobody", "not asked"],
)
async def test_notes_are_for_known_callers(
    open_client: OpenClient,
    headers: dict[str, str],
    level: str | None,
    notes: list[str],
) -> None:
    """What a provider says beside its health is told to those who see reasons."""
    params = {} if level is None else {"level": level}
    async with open_client(CheckedProvider(), auth=by_name) as client:
        answer = await client.get("/api/health/fake", params=params, headers=headers)

    ProviderHealthOut.model_validate(answer.json())
    assert answer.json()["notes"] == notes


@pytest.mark.parametrize("level", sorted(WORKING))
async def test_asking_needs_a_key_for_it(open_client: OpenClient, level: str) -> None:
    """Nobody has the server ask its providers who may not."""
    provider = CheckedProvider()
    async with open_client(provider, auth=by_name) as client:
        statuses = [
            (
                await client.get(
                    "/api/health/fake", params={"level": level}, headers=headers
                )
            ).status_code
            for headers in ({}, {"x-name": "wrong"}, READER)
        ]

    assert statuses == [401, 401, 403]
    assert provider.asked == []


async def test_providers_are_asked_seldom(open_client: OpenClient) -> None:
    """However many ask at the same time, and soon again, the provider hears once."""
    provider = CheckedProvider()
    async with open_client(provider, auth=by_name) as client:

        async def ask() -> httpx.Response:
            return await client.get(
                "/api/health/fake", params={"level": "reachable"}, headers=MONITOR
            )

        answers = await asyncio.gather(*(ask() for _ in range(10)))
        answers.append(await ask())

    assert provider.asked == [HealthLevel.REACHABLE]
    assert {answer.json()["status"] for answer in answers} == {"healthy"}


async def test_providers_are_asked_again_later(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a provider said does not hold for ever."""
    monkeypatch.setattr("gaia_core.server.checks.PROVIDER_AGE", -1.0)
    provider = CheckedProvider()
    async with open_client(provider) as client:
        for _ in range(2):
            await client.get("/api/health/fake", params={"level": "authorised"})

    assert provider.asked == [HealthLevel.AUTHORISED] * 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/health/nobody", 404),
        ("/api/health/nobody?level=reachable", 404),
        ("/api/health/fake?level=paid", 422),
        ("/api/health/fake?level=configured", 200),
    ],
)
async def test_odd_questions(open_client: OpenClient, path: str, status: int) -> None:
    """What is not there is not found, and what cannot be asked is refused."""
    async with open_client() as client:
        answer = await client.get(path)

    assert answer.status_code == status


async def test_health_answers_while_work_hangs(open_client: OpenClient) -> None:
    """Work that takes its time keeps nobody from learning how the server is."""
    provider = HeldProvider()
    async with open_client(provider) as client:
        body = {"prompt": "a keep"}
        posts = [
            asyncio.create_task(client.post("/api/images/generate", json=body))
            for _ in range(5)
        ]
        await provider.called()
        async with asyncio.timeout(60):
            answer = await client.get("/api/health")
        provider.go.set()
        await asyncio.gather(*posts)

    assert answer.json()["status"] == "healthy"
    assert len(answer.json()["providers"]) == 1
