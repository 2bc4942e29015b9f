"""Finding pictures: whose they are, and what belongs together."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy import event as events

from gaia_core import StoredImage
from gaia_core.ledger import Operation, SqlLedger
from gaia_core.ledger.gallery import PictureRow
from gaia_core.ledger.gallery_book import SqlGallery
from gaia_core.ledger.tables import images, operations

from .stories import DAY, a_picture, an_attempt, an_operation, ended, settled

MANY = 100_000
"""How many pictures a busy server has after a year or two."""


async def _made(
    ledger: SqlLedger,
    *pictures: dict[str, Any],
    prompt: str | None = "a keep",
    **fields: Any,
) -> list[StoredImage]:
    """Make an operation with pictures, and keep it."""
    request = {} if prompt is None else {"prompt": prompt}
    operation = an_operation(request=request, **fields)
    made = [a_picture(operation, **one) for one in pictures or ({},)]
    await _kept(ledger, operation, made)
    return made


async def _kept(
    ledger: SqlLedger, operation: Operation, pictures: Sequence[StoredImage]
) -> None:
    attempt = an_attempt()
    await ledger.accept(operation)
    await ledger.send(operation.id, attempt)
    await ledger.settle(
        operation.id, settled(images=tuple(pictures), attempt=ended(attempt))
    )


def _ids(rows: Sequence[PictureRow]) -> list[str]:
    return [row.id for row in rows]


# -- one picture ------------------------------------------------------------------


async def test_a_picture_is_found_with_what_is_known_of_it(ledger: SqlLedger) -> None:
    """The row tells what was asked for, by whom, who made it, and what it is."""
    (picture,) = await _made(
        ledger,
        {"sha256": "d" * 64, "width": 640},
        prompt="a ruined keep",
        principal="anna",
        campaign_id="strahd",
        user_id="u1",
    )

    found = await ledger.gallery.find(picture.id, principal="anna")

    assert found is not None
    assert (found.id, found.operation_id) == (picture.id, picture.operation_id)
    assert (found.prompt, found.campaign_id) == ("a ruined keep", "strahd")
    assert (found.principal, found.user_id) == ("anna", "u1")
    assert (found.provider, found.model) == ("p", "m")
    assert (found.capability, found.media_type) == ("text-to-image", "image/png")
    assert (found.sha256, found.width, found.height) == ("d" * 64, 640, 48)
    assert await ledger.gallery.find_digest("d" * 64, principal="anna") == found


async def test_nobody_finds_what_is_others(ledger: SqlLedger) -> None:
    """What belongs to somebody else is not there, by whatever name it is asked for."""
    (picture,) = await _made(ledger, {"sha256": "d" * 64}, principal="anna")
    gallery = ledger.gallery

    for principal in ("bert", "", "ann_", "ANNA", "anna\0", "%"):
        assert await gallery.find(picture.id, principal=principal) is None
        assert await gallery.find_digest("d" * 64, principal=principal) is None
        assert await gallery.listed(principal=principal) == []
        assert await gallery.campaigns(principal=principal) == []


async def test_odd_ids_find_nothing(ledger: SqlLedger) -> None:
    """An id is compared, never read as a pattern or as SQL."""
    await _made(ledger)

    for words in ("", "%", "_" * 32, "' OR 1=1 --", "\0", "\ud800", "f" * 10_000):
        assert await ledger.gallery.find(words, principal="") is None
        assert await ledger.gallery.find_digest(words, principal="") is None
        assert await ledger.gallery.listed(principal="", campaign_id=words) == []


# -- many -------------------------------------------------------------------------


async def test_pictures_come_newest_first(ledger: SqlLedger) -> None:
    """Those of a later operation stand before those of an earlier one."""
    (old,) = await _made(ledger)
    new = await _made(ledger, {}, {})

    found = await ledger.gallery.listed(principal="")

    assert set(_ids(found)[:2]) == {one.id for one in new}
    assert _ids(found)[2:] == [old.id]


async def test_only_a_campaigns_are_listed(ledger: SqlLedger) -> None:
    """A campaign's pictures are those made for it."""
    (own,) = await _made(ledger, campaign_id="strahd")
    await _made(ledger, campaign_id="dragons")
    await _made(ledger)

    found = await ledger.gallery.listed(principal="", campaign_id="strahd")

    assert _ids(found) == [own.id]


async def test_a_picture_of_two_operations_is_listed_once(ledger: SqlLedger) -> None:
    """An equal request may be answered with the same picture: the latest counts."""
    (picture,) = await _made(ledger, prompt="first", campaign_id="a")
    operation = an_operation(request={"prompt": "second"}, campaign_id="b")
    await _kept(ledger, operation, [picture])

    (found,) = await ledger.gallery.listed(principal="")
    one = await ledger.gallery.find(picture.id, principal="")

    assert (found.operation_id, found.prompt) == (operation.id, "second")
    assert one == found


async def test_a_shared_picture_is_in_each_of_its_campaigns(ledger: SqlLedger) -> None:
    """What another campaign has later stays where it was, once."""
    (picture,) = await _made(ledger, campaign_id="a")
    for campaign in ("b", "a"):
        await _kept(ledger, an_operation(campaign_id=campaign), [picture])

    found = {
        campaign: _ids(await ledger.gallery.listed(principal="", campaign_id=campaign))
        for campaign in ("a", "b")
    }
    counts = {
        row.id: row.images for row in await ledger.gallery.campaigns(principal="")
    }

    assert found == {"a": [picture.id], "b": [picture.id]}
    assert counts == {"a": 1, "b": 1}


async def test_a_picture_of_two_principals_is_each_ones_own(ledger: SqlLedger) -> None:
    """What somebody else has as well shows with one's own words."""
    (picture,) = await _made(ledger, prompt="annas", principal="anna")
    operation = an_operation(principal="bert", request={"prompt": "berts"})
    await _kept(ledger, operation, [picture])

    (of_anna,) = await ledger.gallery.listed(principal="anna")
    (of_bert,) = await ledger.gallery.listed(principal="bert")

    assert (of_anna.prompt, of_bert.prompt) == ("annas", "berts")


FOUND = {
    "dragon": ["A red DRAGON", "dragonfly"],
    "RED dragon": ["A red DRAGON"],
    "100%": ["100% oak"],
    "%": ["100% oak"],
    "_": ["snake_case"],
    "/": ["a/b"],
    "\\": ["back\\slash"],
    "église": ["Une Église", "une église"],
    "ÉGLISE": ["Une Église", "une église"],
    "龍": ["赤い龍"],
    "o'malley": ["O'Malley"],
    "\0": [],
    "\ud800": [],
    "gone": [],
}
"""What is looked for, and the prompts in which it is."""


async def test_pictures_are_found_by_words(ledger: SqlLedger) -> None:
    """All words must be there, whatever their case; nothing in them is a pattern."""
    prompts = {prompt for found in FOUND.values() for prompt in found}
    for prompt in (*prompts, None):
        await _made(ledger, prompt=prompt)

    found = {
        search: sorted(
            str(row.prompt)
            for row in await ledger.gallery.listed(principal="", search=search)
        )
        for search in FOUND
    }
    blank = await ledger.gallery.listed(principal="", search="  ")

    assert found == {search: sorted(prompts) for search, prompts in FOUND.items()}
    assert len(blank) == len(prompts) + 1


async def test_pictures_are_found_by_who_made_them(ledger: SqlLedger) -> None:
    """The model and the provider are searched as well, together with the prompt."""
    (picture,) = await _made(ledger, prompt="a keep")

    found = await ledger.gallery.listed(principal="", search="KEEP m")

    assert _ids(found) == [picture.id]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_pages_leave_nothing_out(ledger: SqlLedger, limit: int) -> None:
    """Page after page every picture comes once, also those of one moment."""
    for moment in (DAY, DAY, DAY + timedelta(microseconds=1)):
        await _made(ledger, {}, {}, {}, created_at=moment)
    whole = _ids(await ledger.gallery.listed(principal=""))
    turned: list[str] = []
    before: tuple[datetime, str] | None = None

    while page := await ledger.gallery.listed(principal="", before=before, limit=limit):
        # What is new meanwhile stands before the first page and shifts none.
        await _made(ledger, created_at=datetime(2030, 1, 1, tzinfo=UTC))
        turned += _ids(page)
        before = (page[-1].created_at, page[-1].id)

    assert turned == whole
    assert len(set(turned)) == 9


async def test_campaigns_come_latest_first(ledger: SqlLedger) -> None:
    """A campaign counts its pictures, and one without any is known all the same."""
    await _made(ledger, {}, {}, campaign_id="a")
    await _made(ledger, {}, campaign_id="a")
    await ledger.accept(an_operation(campaign_id="b"))
    await _made(ledger, {}, campaign_id="c", principal="anna")
    await _made(ledger)

    found = await ledger.gallery.campaigns(principal="")

    assert [(row.id, row.images) for row in found] == [("b", 0), ("a", 3)]
    assert found[0].latest_at > found[1].latest_at


# -- how fast ---------------------------------------------------------------------


def _fill(connection: Connection, number: int) -> None:
    """Put a lot of pictures of two principals on record."""
    began = 1_700_000_000_000_000
    kept = [
        {
            "id": f"{place:032x}",
            "capability": "text-to-image",
            "state": "done",
            "principal": ("anna", "bert")[place % 2],
            "campaign_id": f"c{place % 50}",
            "day": "2026-11-22",
            "prompt": f"a keep by the sea, number {place:06}",
            "provider": "p",
            "model": "m",
            "images": 1,
            "created_at": began + place,
            "updated_at": began,
            "finished_at": began,
        }
        for place in range(number)
    ]
    connection.execute(insert(operations), kept)
    made = [
        {
            "operation_id": one["id"],
            "position": 0,
            "id": f"{place:032x}",
            "sha256": f"{place:064x}",
            "media_type": "image/png",
            "width": 64,
            "height": 64,
        }
        for place, one in enumerate(kept)
    ]
    connection.execute(insert(images), made)
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE operations, images"))


async def _plans(gallery: SqlGallery) -> dict[str, str]:
    """Ask the database how it would find things."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    engine = await gallery.database.read(lambda connection: connection.engine)
    events.listen(engine, "before_cursor_execute", note)
    await gallery.find("f" * 32, principal="anna")
    await gallery.find_digest("f" * 64, principal="anna")
    await gallery.listed(principal="anna")
    events.remove(engine, "before_cursor_execute", note)
    kind = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"

    def explain(connection: Connection) -> list[str]:
        return [
            "\n".join(
                str(row)
                for row in connection.exec_driver_sql(f"{kind} {statement}", parameters)
            )
            for statement, parameters in seen
        ]

    found = await gallery.database.read(explain)
    return dict(zip(("find", "find_digest", "listed"), found, strict=True))


async def test_a_hundred_thousand_pictures_are_no_burden(
    ledger: SqlLedger, address: str
) -> None:
    """Looking one up and showing the first page use indexes; searching ends soon."""
    number = MANY if address.startswith("sqlite") else MANY // 10
    await ledger.database.write(lambda connection: _fill(connection, number))
    gallery = ledger.gallery

    plans = await _plans(gallery)
    began = time.perf_counter()
    page = await gallery.listed(principal="anna")
    later = await gallery.listed(
        principal="anna", before=(page[-1].created_at, page[-1].id)
    )
    one = await gallery.find(page[0].id, principal="anna")
    quick = time.perf_counter() - began
    found = await gallery.listed(principal="anna", search="number 007776")
    none = await gallery.listed(principal="anna", search="no such words")
    campaigns = await gallery.campaigns(principal="anna")
    slow = time.perf_counter() - began - quick

    assert "ix_images_id" in plans["find"]
    assert "ix_images_sha256" in plans["find_digest"]
    assert "ix_operations_" in plans["listed"]
    assert not re.search(r"SCAN (TABLE )?operations|Seq Scan", plans["listed"])
    assert (len(page), len(later), one) == (50, 50, page[0])
    assert [row.prompt for row in found][:1] == ["a keep by the sea, number 007776"]
    assert none == []
    assert sum(row.images for row in campaigns) == number // 2
    # A hundred times what it takes: a plan without indexes takes minutes.
    assert quick < 5
    assert slow < 30
