"""What the ledger knows of pictures: whose they are, and what belongs together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class PictureRow:
    """
    One picture, as an operation made it.

    Attributes:
        id: The picture's id in the image store.
        operation_id: The operation that has it as an answer, the latest one.
        principal: Whose it is.
        capability: What was asked for.
        provider: Who made it.
        model: The model that made it.
        prompt: What it was made from, as it was asked for.
        campaign_id: The campaign it belongs to, if any.
        user_id: The user it belongs to, if any.
        sha256: Digest of the file, in hexadecimal.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        width: Width in pixels.
        height: Height in pixels.
        created_at: When its operation was taken on, in UTC.
    """

    id: str
    operation_id: str
    principal: str
    capability: str
    provider: str | None
    model: str | None
    prompt: str | None
    campaign_id: str | None
    user_id: str | None
    sha256: str
    media_type: str
    width: int
    height: int
    created_at: datetime


@attrs.frozen(kw_only=True)
class CampaignRow:
    """
    One campaign that somebody has pictures or operations in.

    Attributes:
        id: The campaign.
        images: How many pictures are in it.
        latest_at: When something was last made in it, in UTC.
    """

    id: str
    images: int
    latest_at: datetime


class Gallery(Protocol):
    """The part of a ledger that finds pictures; nobody sees those of others."""

    async def find(self, image_id: str, *, principal: str) -> PictureRow | None:
        """Look up a picture of somebody's by its id; None if it is not theirs."""

    async def find_digest(self, sha256: str, *, principal: str) -> PictureRow | None:
        """Look up a picture of somebody's by its digest; None if it is not theirs."""

    async def listed(
        self,
        *,
        principal: str,
        campaign_id: str | None = None,
        search: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[PictureRow]:
        """
        List somebody's pictures, newest first; each once.

        Args:
            principal: Whose.
            campaign_id: Only those of this campaign.
            search: Only those whose prompt, model or provider has these words in it,
                whatever their case.
            before: Only those behind this one: its ``created_at`` and its ``id``.
            limit: At most so many.
        """

    async def campaigns(self, *, principal: str) -> Sequence[CampaignRow]:
        """List the campaigns somebody has something in, the latest first."""
