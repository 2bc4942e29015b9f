"""What a host gets back."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import attrs

from gaia_core.errors import OutcomeClass


@attrs.frozen(kw_only=True)
class StoredImage:
    """
    One picture in the image store.

    It is a path object: ``open(stored)``, ``Path(stored)`` and
    ``UpscaleRequest(image=stored)`` all work.

    Attributes:
        id: Its identifier (128 random bits in hexadecimal).
        path: Where the file lies.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        width: Width in pixels.
        height: Height in pixels.
        sha256: Digest of the file, in hexadecimal.
        created_at: When it was stored, in UTC.
        operation_id: The operation that made it.
        provider: The provider that made it.
        model: The model that made it.
        prompt: The prompt it was made from, if there was one.
        seed: The seed that made it, if known.
        campaign_id: The campaign it belongs to, if any.
        user_id: The user it belongs to, if any.
    """

    id: str
    path: Path
    media_type: str
    width: int
    height: int
    sha256: str
    created_at: datetime
    operation_id: str
    provider: str
    model: str
    prompt: str | None = None
    seed: int | None = None
    campaign_id: str | None = None
    user_id: str | None = None

    def __fspath__(self) -> str:
        """Return the path of the file."""
        return str(self.path)

    def read_bytes(self) -> bytes:
        """Read the encoded picture."""
        return self.path.read_bytes()


@attrs.frozen(kw_only=True)
class Attempt:
    """
    One try at one provider.

    Attributes:
        provider: The provider asked.
        model: The model asked for.
        task_id: The identifier Gaia gave the attempt before anything was sent.
        outcome: What is known about it after it ended.
        duration_ms: How long it took, in milliseconds.
        cost_usd: What it cost, as far as known.
        error: Why it failed, or None.
        reference: What the provider can look it up by, beside the task id (the
            name of a vendor's batch, for example), or None.
    """

    provider: str
    model: str
    task_id: str
    outcome: OutcomeClass
    duration_ms: float
    cost_usd: Decimal | None = None
    error: str | None = None
    reference: str | None = None


@attrs.frozen(kw_only=True)
class Response:
    """
    What every response has.

    Attributes:
        operation_id: The operation: one request, one bill.
        provider: The provider that served it.
        model: The model that served it.
        attempts: Every try, in order, the successful one last.
        cost_usd: What the operation cost in all, as far as known.
        warnings: What was not honoured, and what a fallback changed.
        duration_ms: From door to response, in milliseconds.
        is_reused: True when nothing was made for this call: it is the answer to an
            equal request, and ``cost_usd`` is 0; or to the same request, repeated
            under its idempotency key, with the cost it had.
        is_replayed: True when it is that answer to the same request, repeated under
            its idempotency key.
    """

    operation_id: str
    provider: str
    model: str
    attempts: tuple[Attempt, ...]
    cost_usd: Decimal | None = None
    warnings: tuple[str, ...] = ()
    duration_ms: float = 0.0
    is_reused: bool = False
    is_replayed: bool = False


@attrs.frozen(kw_only=True)
class ImageResponse(Response):
    """
    The pictures a host asked for, stored.

    Attributes:
        images: The stored pictures.
    """

    images: tuple[StoredImage, ...]


@attrs.frozen(kw_only=True)
class PromptResponse(Response):
    """
    The prompt a host asked for.

    Attributes:
        prompt: The worked-out prompt.
    """

    prompt: str


@attrs.frozen(kw_only=True)
class DescriptionResponse(Response):
    """
    The description a host asked for.

    Attributes:
        description: The description, or the answer to the question.
    """

    description: str
