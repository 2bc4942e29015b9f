"""What the vendor answers, in Gaia's values: pure, apart from the download."""

import asyncio
import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

from gaia_core import CallContext, GeneratedImage, UnusableResultError
from gaia_runware.traffic import Item

NSFW = "Runware marks a picture as unsafe for work"
"""The warning where the vendor's own check says so."""

_KINDS_OF_WORDS = {"promptEnhance": "prompt", "caption": "description"}


def cost_of(items: Iterable[Item]) -> Decimal | None:
    """
    Add up what was charged.

    >>> cost_of([{"cost": 0.0013}, {"cost": 0.0013}])
    Decimal('0.0026')

    Returns:
        US dollars, or None: the vendor does not say.
    """
    costs = [_amount(item["cost"]) for item in items if item.get("cost") is not None]
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known else None


@contextmanager
def billed(items: Iterable[Item]) -> Iterator[None]:
    """
    Say what was charged, where nothing of use came of it.

    Raises:
        UnusableResultError: If it is raised inside, with the cost.
    """
    try:
        yield
    except UnusableResultError as error:
        error.cost_usd = cost_of(items)
        raise


def warnings_of(items: Sequence[Item], wanted: int) -> tuple[str, ...]:
    """
    Say what is wrong with pictures that came.

    Args:
        items: The results with pictures.
        wanted: How many were asked for.
    """
    warnings = []
    if len(items) < wanted:
        warnings.append(f"{len(items)} of {wanted} pictures: the others failed")
    if any(item.get("NSFWContent") is True for item in items):
        warnings.append(NSFW)
    return tuple(warnings)


def with_pictures(items: Iterable[Item]) -> tuple[Item, ...]:
    """Choose the results that hold, or point at, a picture."""
    return tuple(item for item in items if _source_of(item) is not None)


def has_ended(item: Item) -> bool:
    """
    Tell a result from the mere word that a task was taken.

    >>> has_ended({"taskType": "imageInference", "taskUUID": "…"})
    False
    """
    has_words = item.get("text") is not None
    return item.get("status") == "success" or has_words or bool(_source_of(item))


async def images_of(
    items: Sequence[Item], context: CallContext
) -> tuple[GeneratedImage, ...]:
    """
    Get the pictures of results, wherever they lie.

    Raises:
        ProviderTimeoutError: If one did not arrive.
        UnusableResultError: If there is none, or one is no picture.
    """
    if not items:
        message = "Runware answered, and charged, without a picture."
        raise UnusableResultError(message)
    data = await asyncio.gather(*(_fetched(item, context) for item in items))
    return tuple(
        GeneratedImage(data=one, seed=_seed(item))
        for one, item in zip(data, items, strict=True)
    )


def kind_of_words(items: Iterable[Item]) -> str | None:
    """
    Say what results are words for: ``prompt``, ``description``; None: pictures.

    >>> kind_of_words([{"taskType": "caption", "text": "a keep"}])
    'description'
    """
    kinds = (_KINDS_OF_WORDS.get(str(item.get("taskType"))) for item in items)
    return next((kind for kind in kinds if kind is not None), None)


def words_of(items: Iterable[Item]) -> str:
    """
    Take the words out of results.

    Raises:
        UnusableResultError: If there are none.
    """
    for item in items:
        text = item.get("text")
        if isinstance(text, str) and text.strip():
            return text.strip()
    message = "Runware answered, and charged, without a word."
    raise UnusableResultError(message)


def shortened(words: str, most: int) -> str:
    """
    Cut words at the last whole one that fits.

    >>> shortened("a ruined keep at dusk", 15)
    'a ruined keep'
    """
    if len(words) <= most:
        return words
    head, _, _ = words[: most + 1].rpartition(" ")
    return head.rstrip(" ,;") or words[:most]


def _amount(value: object) -> Decimal | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def _seed(item: Item) -> int | None:
    seed = item.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _source_of(item: Item) -> tuple[str, str] | None:
    """Find how a picture is delivered, and what."""
    for way in ("imageURL", "imageBase64Data", "imageDataURI"):
        value = item.get(way)
        if isinstance(value, str) and value:
            return way, value
    return None


async def _fetched(item: Item, context: CallContext) -> bytes:
    way, value = _source_of(item) or ("", "")
    if way == "imageURL":
        return await context.fetch(value)
    return _decoded(value)


def _decoded(text: str) -> bytes:
    """Decode base64, with or without the head of a data URI."""
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        pass
    message = "Runware answered with what is no picture."
    raise UnusableResultError(message)
