"""Pictures out: their bytes, the gallery, campaigns, what was spent."""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from gaia_core.server import Principal, Scope, serving
from gaia_core.server.schemas.answers import CampaignsOut, GalleryOut, UsageOut
from gaia_core.settings import BudgetSettings, Period
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient

SMALL = {"prompt": "a red dragon", "size": "64x64"}
NOWHERE = "0" * 32


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Make a picture; give it as the answer has it."""
    answer = await client.post("/api/images/generate", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    image: dict[str, Any] = answer.json()["images"][0]
    return image


class Callers:
    """An ``auth`` that takes whoever a test names; None is nobody."""

    def __init__(self, name: str | None) -> None:
        """Begin with somebody."""
        self.who: Principal | str | None = name

    def __call__(self) -> Principal | str | None:
        """Name the caller."""
        return self.who


@pytest.fixture(name="fake")
def _fake() -> FakeProvider:
    return FakeProvider(price_usd="0.01")


# -- bytes ----------------------------------------------------------------------------


async def test_a_picture_never_changes_and_says_so(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Its digest is its tag, it may be kept for ever, and it does nothing."""
    async with open_client(fake) as client:
        image = await make(client)
        answer = await client.get(f"/api/images/{image['id']}")

    headers = answer.headers
    assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]
    assert headers["etag"] == f'"{image["sha256"]}"'
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers["content-type"] == "image/png"
    assert headers["content-length"] == str(len(answer.content))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["content-disposition"] == f'inline; filename="{image["id"]}.png"'


async def test_a_picture_that_is_there_already_is_not_sent(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`If-None-Match` with its tag, in any spelling, is answered without bytes."""
    async with open_client(fake) as client:
        image = await make(client)
        tag = f'"{image["sha256"]}"'
        url = f"/api/images/{image['id']}"
        answers = [
            await client.get(url, headers={"If-None-Match": value})
            for value in (tag, f"W/{tag}", f'"other", {tag}', "*", '"other"')
        ]

    assert [answer.status_code for answer in answers] == [304, 304, 304, 304, 200]
    assert answers[0].headers["etag"] == tag
    assert not answers[0].content


async def test_the_head_of_a_picture_and_the_picture_to_keep(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """HEAD tells all but the bytes; `download` has a browser save it."""
    async with open_client(fake) as client:
        image = await make(client)
        head = await client.head(f"/api/images/{image['id']}")
        kept = await client.get(f"/api/images/{image['id']}?download=1")

    assert head.headers["content-length"] == str(len(kept.content))
    assert not head.content
    assert kept.headers["content-disposition"].startswith("attachment; ")


async def test_a_part_of_a_picture_is_not_to_be_had(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """However many ranges are asked for, the whole picture comes, once."""
    async with open_client(fake) as client:
        image = await make(client)
        ranges = ",".join(f"{n}-{n + 1}" for n in range(1_000))
        answer = await client.get(
            f"/api/images/{image['id']}", headers={"Range": f"bytes={ranges}"}
        )

    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]


async def test_a_large_picture_comes_in_parts(
    open_client: OpenClient, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read as the client takes it, and arrives whole."""
    monkeypatch.setattr(serving, "CHUNK", 10)
    async with open_client(fake) as client:
        image = await make(client)
        answer = await client.get(f"/api/images/{image['id']}")

    assert len(answer.content) > 30
    assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]


async def test_pictures_of_others_are_not_there(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Another's picture, a wrong id and no id at all are answered alike."""
    callers = Callers("ann")
    async with open_client(fake, auth=callers) as client:
        image = await make(client)
        callers.who = "bob"
        others = await client.get(f"/api/images/{image['id']}")
        none = await client.get(f"/api/images/{NOWHERE}")
        nonsense = await client.get("/api/images/..%2f..%2fetc")

    assert [one.status_code for one in (others, none, nonsense)] == [404] * 3
    assert others.content == none.content == nonsense.content


async def test_a_link_opens_its_picture_and_no_other(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Whoever has the address of an answer needs no key for that one picture."""
    callers = Callers("ann")
    async with open_client(fake, auth=callers) as client:
        first, second = await make(client), await make(client, seed=2)
        callers.who = None
        opened = await client.get(first["url"])
        signature = first["url"].partition("?s=")[2]
        other = await client.get(f"/api/images/{second['id']}?s={signature}")
        none = await client.get(f"/api/images/{second['id']}")

    assert opened.status_code == 200
    assert hashlib.sha256(opened.content).hexdigest() == first["sha256"]
    assert (other.status_code, none.status_code) == (401, 401)


async def test_a_picture_whose_file_is_gone_is_a_problem_of_the_store(
    open_client: OpenClient, fake: FakeProvider, tmp_path: Path
) -> None:
    """A lost file is told as what it is, without a path."""
    async with open_client(fake) as client:
        image = await make(client)
        (tmp_path / "images" / image["path"]).unlink()
        answer = await client.get(f"/api/images/{image['id']}")

    assert answer.status_code == 507
    assert answer.json()["error_code"] == "storage"
    assert str(tmp_path) not in answer.text


# -- the gallery ----------------------------------------------------------------------


async def test_the_gallery_has_everything_once_and_newest_first(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Page after page, nothing is left out and nothing comes twice."""
    async with open_client(fake) as client:
        made = [(await make(client, seed=n))["id"] for n in range(7)]
        seen: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 3}
        while True:
            page = (await client.get("/api/images", params=query)).json()
            GalleryOut.model_validate(page)
            seen += page["images"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]

    assert [image["id"] for image in seen] == made[::-1]
    assert [image["seed"] for image in seen] == list(range(7))[::-1]
    assert seen[0]["capability"] == "text-to-image"


async def test_the_gallery_is_searched(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """By campaign, and by words of the prompt whatever their case."""
    async with open_client(fake) as client:
        keep = await make(client, prompt="An old Keep", campaign_id="storm")
        await make(client, prompt="a ship", campaign_id="storm")
        await make(client, prompt="an old man")
        found = await client.get("/api/images", params={"search": "OLD keep"})
        storm = await client.get("/api/images", params={"campaign_id": "storm"})
        campaigns = await client.get("/api/campaigns")

    assert [image["id"] for image in found.json()["images"]] == [keep["id"]]
    assert len(storm.json()["images"]) == 2
    (campaign,) = CampaignsOut.model_validate(campaigns.json()).campaigns
    assert (campaign.id, campaign.images) == ("storm", 2)


async def test_a_lost_record_hides_no_other_picture(
    open_client: OpenClient, fake: FakeProvider, tmp_path: Path
) -> None:
    """What cannot be read is left out; the rest is there."""
    async with open_client(fake) as client:
        lost, kept = await make(client), await make(client, seed=2)
        record = tmp_path / "images" / "records" / lost["id"][:2] / f"{lost['id']}.json"
        record.write_text("{")
        page = await client.get("/api/images")

    assert [image["id"] for image in page.json()["images"]] == [kept["id"]]


@pytest.mark.parametrize(
    "query", ["cursor=%2F", "cursor=YWJj", "limit=0", "limit=101", "search="]
)
async def test_a_list_that_cannot_be_is_refused(
    open_client: OpenClient, query: str
) -> None:
    """A damaged cursor, or a limit out of range, is named."""
    async with open_client() as client:
        answer = await client.get(f"/api/images?{query}")

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == query.partition("=")[0]


# -- money ----------------------------------------------------------------------------


async def test_everybody_sees_their_own_spending(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """What was spent, by campaign, and what is left of one's own budgets."""
    callers = Callers("ann")
    budgets = BudgetSettings(
        user_usd=Decimal(1), campaign_usd=Decimal(5), total_usd=Decimal(9)
    )
    async with open_client(fake, auth=callers, budgets=budgets) as client:
        await make(client, campaign_id="storm", seed=1)
        await make(client, campaign_id="storm", seed=2)
        await make(client, seed=3)
        callers.who = Principal(name="bob", scopes={Scope.MAKE, Scope.READ})
        await make(client, seed=4)
        bob = (await client.get("/api/usage?campaign_id=storm")).json()
        callers.who = Principal(name="ann", scopes={Scope.READ})
        ann = (await client.get("/api/usage?campaign_id=storm")).json()
        whole = (await client.get("/api/usage")).json()

    scopes: Callable[[dict[str, Any]], list[str]] = lambda usage: sorted(  # noqa: E731
        one["scope"] for one in usage["budgets"]
    )
    UsageOut.model_validate(ann)
    assert (ann["cost_usd"], ann["images"]) == (0.02, 2)
    assert (whole["cost_usd"], whole["images"]) == (0.03, 3)
    assert [one["campaign_id"] for one in ann["campaigns"]] == ["storm"]
    assert scopes(ann) == ["campaign", "user"]
    (user,) = [one for one in ann["budgets"] if one["scope"] == "user"]
    assert (user["limit_usd"], user["left_usd"]) == (1.0, 0.97)
    # Others' campaigns, and what all spend together, are no business of Bob's.
    assert (bob["cost_usd"], scopes(bob)) == (0.0, ["user"])


async def test_a_spent_budget_is_told(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """402, with the time when the budget begins anew, where it does."""
    budgets = BudgetSettings(campaign_usd=Decimal("0.015"), per=Period.DAY)
    async with open_client(fake, budgets=budgets) as client:
        await make(client, campaign_id="storm")
        answer = await client.post(
            "/api/images/generate", json={**SMALL, "campaign_id": "storm", "seed": 2}
        )

    assert answer.status_code == 402
    assert answer.json()["error_code"] == "budget_exceeded"
    assert answer.json()["retry_after"] > 0
    assert len(fake.charges) == 1
