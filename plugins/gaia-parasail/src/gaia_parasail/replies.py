"""Turn what the service answers into what Gaia takes."""

import asyncio
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from gaia_core import (
    CallContext,
    ContentFilteredError,
    GeneratedImage,
    ImageResult,
    UnusableResultError,
)
from gaia_parasail.models import NAME, ModelSettings
from gaia_parasail.reading import read_json

Reply: TypeAlias = Mapping[str, Any]
"""What an answer says, read from JSON."""

_WORDLESS = f"{NAME} answered without words."
_PICTURELESS = f"{NAME} answered without a picture."
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_DATA_URI = re.compile(r"data:[^,]*;base64,")


@attrs.frozen(kw_only=True)
class Wanted:
    """
    What was asked for, to hold an answer against.

    Attributes:
        model: The model that was named.
        count: How many pictures; None: nobody remembers.
        size: Width and height in pixels; None: nobody remembers.
        seed: The seed that was sent, or None.
    """

    model: str
    count: int | None = None
    size: tuple[int, int] | None = None
    seed: int | None = None


def read(content: bytes) -> Reply:
    """
    Read the body of an answer of status 200.

    Raises:
        UnusableResultError: If it is no JSON object: a page of HTML, for example.
    """
    try:
        reply = read_json(content)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        message = f"{NAME} answered with something that is no JSON object."
        raise UnusableResultError(message)
    return reply


def places(reply: Reply) -> Sequence[bytes | str]:
    """
    Take the pictures out of an answer: their bytes, or where they lie.

    Raises:
        UnusableResultError: If there is none.
    """
    found = [place for one in entries(reply) if (place := _place(one)) is not None]
    if not found:
        raise UnusableResultError(_PICTURELESS)
    return found


def names(reply: Reply) -> tuple[str, ...]:
    """Take the identifiers out of a list of models."""
    found = [one.get("id") for one in entries(reply)]
    return tuple(name for name in found if isinstance(name, str) and name)


async def collected(reply: Reply, wanted: Wanted, context: CallContext) -> ImageResult:
    """
    Make a result of an answer; pictures that lie elsewhere are fetched.

    Raises:
        ProviderTimeoutError: If what lies elsewhere did not arrive, and nothing else.
        UnusableResultError: If there is no picture that can be used.
    """
    given = places(reply)
    if all(isinstance(place, bytes) for place in given):
        # Without a pause, in which many answers would be in memory twice.
        return result([place for place in given if isinstance(place, bytes)], wanted)
    found = await asyncio.gather(
        *(_bytes_of(place, context) for place in given), return_exceptions=True
    )
    datas = [one for one in found if isinstance(one, bytes)]
    problems = [one for one in found if isinstance(one, BaseException)]
    if not datas:
        # What may still be fetched counts for more than what never can be.
        raise min(problems, key=lambda one: isinstance(one, UnusableResultError))
    return result(datas, wanted)


async def _bytes_of(place: bytes | str, context: CallContext) -> bytes:
    return place if isinstance(place, bytes) else await context.fetch(place)


def result(datas: Sequence[bytes], wanted: Wanted) -> ImageResult:
    """
    Make a result of pictures, as many of them as can be used.

    Raises:
        UnusableResultError: If none can be.
    """
    images, problem = [], None
    for data in datas:
        try:
            images.append(GeneratedImage(data=data, seed=_seed(wanted)))
        except UnusableResultError as error:
            problem = error
    if not images:
        raise problem or UnusableResultError(_PICTURELESS)
    return ImageResult(
        images=images,
        provider=NAME,
        model=wanted.model,
        warnings=_warnings(images, wanted),
    )


def words(reply: Reply) -> str:
    """
    Take the words out of an answer of a chat, without what it thought aloud.

    Raises:
        ContentFilteredError: If the service refused to answer.
        UnusableResultError: If there are none.
    """
    choice = _first(reply.get("choices"))
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
        words = f"{NAME} refuses to answer on safety grounds."
        raise ContentFilteredError(words)
    content = message.get("content")
    said = _THOUGHTS.sub("", content).strip() if isinstance(content, str) else ""
    if not said:
        raise UnusableResultError(_WORDLESS)
    return said


def prompt(reply: Reply, limit: int) -> str:
    """
    Take a prompt out of an answer, and no more of it than was asked for.

    Raises:
        UnusableResultError: If there is none.
    """
    said = words(reply).strip("\"'` \n")
    if len(said) > limit:
        whole, _, _ = said[: limit + 1].rpartition(" ")
        said = whole or said[:limit]
    if not said.strip():
        raise UnusableResultError(_WORDLESS)
    return said.strip()


def cost(reply: Reply, model: ModelSettings) -> Decimal | None:
    """Reckon what a chat cost by the tokens it used; None: nobody can tell."""
    usage = reply.get("usage")
    used = usage if isinstance(usage, dict) else {}
    counts = [used.get("prompt_tokens"), used.get("completion_tokens")]
    if not all(isinstance(one, int) and one >= 0 for one in counts):
        return None
    return model.tokens_cost(counts[0] or 0, counts[1] or 0)


@contextmanager
def booked(paid: Decimal | None) -> Iterator[None]:
    """
    Say of an answer without use what it cost.

    Raises:
        UnusableResultError: What is raised meanwhile, with the cost.
    """
    try:
        yield
    except UnusableResultError as error:
        error.cost_usd = paid
        raise


def _place(entry: Reply) -> bytes | str | None:
    """Find one picture: bytes that are sent along are better than an address."""
    text, address = entry.get("b64_json"), entry.get("url")
    if isinstance(text, bytes) and text:
        return text
    if isinstance(text, str) and text:
        is_data = _DATA_URI.match(text)
        return _decoded(text[is_data.end() :] if is_data else text)
    if isinstance(address, str) and address:
        is_here = _DATA_URI.match(address)
        return _decoded(address[is_here.end() :]) if is_here else address
    return None


def _decoded(text: str) -> bytes:
    try:
        # Broken into lines, for example: what no strict reader has decoded.
        return binascii.a2b_base64(text)
    except ValueError:
        return b""


def _seed(wanted: Wanted) -> int | None:
    """Name the seed of a picture; of several, nobody knows which has which."""
    return wanted.seed if wanted.count == 1 else None


def _warnings(images: Sequence[GeneratedImage], wanted: Wanted) -> list[str]:
    found = []
    if wanted.size is not None:
        asked = "{}x{}".format(*wanted.size)
        sizes = {f"{one.width}x{one.height}" for one in images} - {asked}
        found += [f"size {asked} was asked for, {size} came" for size in sorted(sizes)]
    if wanted.count is not None and len(images) < wanted.count:
        found.append(f"{len(images)} of {wanted.count} pictures came")
    return found


def _first(choices: object) -> Mapping[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def entries(reply: Reply) -> list[Reply]:
    """Take the objects out of the list that an answer has under ``data``."""
    data = reply.get("data")
    given = data if isinstance(data, list) else []
    return [one for one in given if isinstance(one, dict)]
