"""Whether what a hook gave can be used, and whose fault it is if not."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import attrs

from gaia_core.errors import InvalidImageError, UnusableResultError
from gaia_core.images import Image
from gaia_core.requests import Request
from gaia_core.results import DescriptionResult, ImageResult, PromptResult
from gaia_core.selection import Candidate

Result = ImageResult | PromptResult | DescriptionResult
T = TypeVar("T")

_SMALL = 16_384
"""Pixels a picture may have to be worked on faster than a thread starts."""

_RESULT_OF: dict[str, type] = {
    "gaia_enhance_prompt": PromptResult,
    "gaia_describe_image": DescriptionResult,
}


async def checked(result: object, candidate: Candidate, hook: str) -> Result:
    """
    Refuse an answer that cannot be used.

    Raises:
        UnusableResultError: If it has the wrong type, holds no picture, or a
            picture that cannot be decoded.
    """
    expected = _RESULT_OF.get(hook, ImageResult)
    if not isinstance(result, expected):
        message = (
            f"{candidate.provider} answered {type(result).__name__}, "
            f"not {expected.__name__}."
        )
        raise UnusableResultError(message)
    if isinstance(result, ImageResult):
        try:
            await _check_pictures(result, candidate)
        except UnusableResultError as error:
            error.cost_usd = result.cost_usd
            raise
    answer = cast("Result", result)
    if answer.model:
        return answer
    # A record without a model could not be read again.
    return attrs.evolve(answer, model=candidate.model.id)


async def _check_pictures(result: ImageResult, candidate: Candidate) -> None:
    if not result.images:
        message = f"{candidate.provider} answered without a picture."
        raise UnusableResultError(message)
    try:
        for picture in result.images:
            if not picture.is_encoded_here:
                await _check(picture.image)
    except InvalidImageError as error:
        raise damaged(candidate.provider, error) from error


async def _check(image: Image) -> None:
    """
    Decode a picture to see whether that can be done.

    Raises:
        InvalidImageError: If it is damaged.
    """

    def decode() -> None:
        # Without the pixels, which would wait for the event loop, and each picture's
        # are several times its bytes.
        image.decode()

    await beside(image, decode)


async def blame(
    error: InvalidImageError, request: Request, candidate: Candidate
) -> None:
    """
    Find out whose picture a hook could not read, for that decides about the money.

    A provider that is free of charge is taken at its word.

    Raises:
        UnusableResultError: If all that the caller sent is sound, so that it was
            the vendor's own picture: answered, and charged.
    """
    if candidate.price_usd == 0:
        return
    try:
        for picture in _pictures_of(request):
            await _check(picture)
    except InvalidImageError:
        return
    raise damaged(candidate.provider, error) from error


def _pictures_of(request: Request) -> Iterator[Image]:
    names = ("image", "mask_image")
    given = [getattr(request, name, None) for name in names]
    given += getattr(request, "reference_images", ())
    return (picture for picture in given if picture is not None)


def damaged(provider: str, error: InvalidImageError) -> UnusableResultError:
    """Say that a provider's picture cannot be read; it is paid for all the same."""
    return UnusableResultError(f"{provider} answered a damaged picture: {error}")


async def beside(image: Image, work: Callable[[], T]) -> T:
    """Work on a picture; on a large one beside the event loop."""
    if image.width * image.height <= _SMALL:
        return work()
    return await asyncio.to_thread(work)
