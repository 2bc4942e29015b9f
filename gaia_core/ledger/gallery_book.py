"""Finding pictures in the database."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any

import attrs
from sqlalchemy import Connection, Row, Select, and_, desc, func, or_, select

from gaia_core.ledger import rows
from gaia_core.ledger.database import Database
from gaia_core.ledger.gallery import CampaignRow, PictureRow
from gaia_core.ledger.tables import images, operations

_PICTURES = select(
    *(images.c.id, images.c.sha256, images.c.media_type),
    *(images.c.width, images.c.height, images.c.operation_id),
    *(operations.c.principal, operations.c.capability, operations.c.provider),
    *(operations.c.model, operations.c.prompt, operations.c.campaign_id),
    *(operations.c.user_id, operations.c.created_at),
).join(operations, operations.c.id == images.c.operation_id)


@attrs.frozen(eq=False)
class SqlGallery:
    """
    Finds pictures in the ledger's database.

    Attributes:
        database: Where they are on record.
    """

    database: Database

    async def find(self, image_id: str, *, principal: str) -> PictureRow | None:
        """Look up a picture of somebody's by its id; None if it is not theirs."""
        wanted = images.c.id == rows.clean(image_id)
        return await self._one(_PICTURES.where(wanted), principal)

    async def find_digest(self, sha256: str, *, principal: str) -> PictureRow | None:
        """Look up a picture of somebody's by its digest; None if it is not theirs."""
        wanted = images.c.sha256 == rows.clean(sha256)
        return await self._one(_PICTURES.where(wanted), principal)

    async def listed(
        self,
        *,
        principal: str,
        campaign_id: str | None = None,
        search: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[PictureRow]:
        """List somebody's pictures, newest first, each once; see `Gallery.listed`."""
        campaign = None if campaign_id is None else rows.clean(campaign_id)
        query = _PICTURES.where(_is_of(principal), _is_latest(campaign))
        if campaign is not None:
            query = query.where(operations.c.campaign_id == campaign)
        for word in (search or "").split():
            query = query.where(_mentions(rows.clean(word)))
        if before is not None:
            query = query.where(_behind(*before))
        query = query.order_by(desc(operations.c.created_at), desc(images.c.id))
        return await self.database.read(partial(_many, query.limit(max(0, limit))))

    async def campaigns(self, *, principal: str) -> Sequence[CampaignRow]:
        """List the campaigns somebody has something in, the latest first."""
        latest = func.max(operations.c.created_at)
        query = (
            select(
                operations.c.campaign_id,
                func.count(images.c.id.distinct()).label("images"),
                latest.label("latest"),
            )
            .outerjoin(images, images.c.operation_id == operations.c.id)
            .where(_is_of(principal), operations.c.campaign_id.is_not(None))
            .group_by(operations.c.campaign_id)
            .order_by(desc(latest), operations.c.campaign_id)
        )
        return await self.database.read(partial(_campaigns, query))

    async def _one(self, query: Select[Any], principal: str) -> PictureRow | None:
        query = query.where(_is_of(principal)).order_by(desc(operations.c.created_at))
        found = await self.database.read(partial(_many, query.limit(1)))
        return found[0] if found else None


def _is_of(principal: str) -> Any:
    return operations.c.principal == rows.clean(principal)


def _is_latest(campaign: str | None) -> Any:
    """
    Take each picture once, though it may be the answer to several operations.

    Within a campaign the latest of its own operations counts: the picture is in it,
    whatever other campaign has it as well.
    """
    other, owner = images.alias(), operations.alias()
    later = (
        select(other.c.id)
        .join(owner, owner.c.id == other.c.operation_id)
        .where(
            other.c.id == images.c.id,
            owner.c.principal == operations.c.principal,
            or_(
                owner.c.created_at > operations.c.created_at,
                and_(
                    owner.c.created_at == operations.c.created_at,
                    owner.c.id > operations.c.id,
                ),
            ),
        )
    )
    if campaign is not None:
        later = later.where(owner.c.campaign_id == campaign)
    return ~later.exists()


def _mentions(word: str) -> Any:
    fields = (operations.c.prompt, operations.c.model, operations.c.provider)
    return or_(
        *(
            field.icontains(spelling, autoescape=True)
            for field, spelling in product(fields, _spellings(word))
        )
    )


def _spellings(word: str) -> Sequence[str]:
    """
    Spell a word as it may be written.

    Databases compare other letters than those of ASCII as they are: SQLite always,
    PostgreSQL where its locale is ``C``.
    """
    if word.isascii():
        return (word,)
    return sorted({word, word.lower(), word.upper(), word.capitalize()})


def _behind(when: datetime, image_id: str) -> Any:
    moment = rows.moment(when)
    return or_(
        operations.c.created_at < moment,
        and_(
            operations.c.created_at == moment,
            images.c.id < rows.clean(image_id),
        ),
    )


def _many(query: Select[Any], connection: Connection) -> list[PictureRow]:
    return [_picture(row) for row in connection.execute(query)]


def _campaigns(query: Select[Any], connection: Connection) -> list[CampaignRow]:
    return [
        CampaignRow(
            id=row.campaign_id, images=row.images, latest_at=rows.instant(row.latest)
        )
        for row in connection.execute(query)
    ]


def _picture(row: Row[Any]) -> PictureRow:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's public way to a mapping
    created = rows.instant(values.pop("created_at"))
    return PictureRow(**values, created_at=created)
