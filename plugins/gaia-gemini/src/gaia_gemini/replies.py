"""
From what the service answered to Gaia's results; nothing here asks anybody.

Replies are read as the service wrote them. The answer to one call is an `Answer`: a
picture or an error, and in both cases what it cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import attrs

from gaia_core import (
    ContentFilteredError,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    OutcomeClass,
    ProviderError,
    UnusableResultError,
    UpscaleRequest,
)
from gaia_core.catalog import MICRO_DOLLAR
from gaia_gemini.models import NAME
from gaia_gemini.prices import Rates

Reply = Mapping[str, Any]

_BLOCKS = frozenset(
    {
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        *("MODEL_ARMOR", "ESCALATION", "LANGUAGE", "PUP_LIMITED_DISABLED"),
    }
)
"""Reasons to finish that are refusals; all others are failures of the model."""
_LONGEST_WORDS = 200
_MOST_TOKENS = 1_000_000_000
"""No model counts more; what claims to is a slip, and no bill."""
_TELLING = (
    OutcomeClass.AMBIGUOUS,
    OutcomeClass.UNUSABLE,
    OutcomeClass.REJECTED_FINAL,
    OutcomeClass.REJECTED_AUTH,
    OutcomeClass.REJECTED_BUSY,
)
"""Which of several errors counts: those first that may have cost something."""


@attrs.frozen(kw_only=True)
class Answer:
    """
    What came of one call.

    Attributes:
        data: The picture, encoded; None: there is an error.
        error: Why there is none.
        cost_usd: What it cost, or may have cost; None: nobody knows.
    """

    data: bytes | None = None
    error: ProviderError | None = None
    cost_usd: Decimal | None = None


def parsed(body: str | bytes) -> Reply:
    """
    Read the body of an answer.

    Pictures in it are decoded; what is no base64 stays text. Google's services write
    both of its alphabets.

    Raises:
        UnusableResultError: If it is no JSON object; it counts as charged.
    """
    try:
        reply = _reader().validate_json(body)
    except ValueError as error:
        message = "Gemini answered what nobody can read."
        raise UnusableResultError(message) from error
    if isinstance(reply, dict):
        return reply
    message = "Gemini answered what nobody can read."
    raise UnusableResultError(message)


@cache
def _reader() -> Any:
    """
    Give what reads answers, and decodes pictures while it reads.

    It is the SDK's own, in a seventh of the time that json and base64 of Python take
    over a picture. Whatever is not as expected is let through as it is.
    """
    from pydantic_core import SchemaValidator  # noqa: PLC0415  slow
    from pydantic_core.core_schema import (  # noqa: PLC0415  as above
        CoreConfig,
        CoreSchema,
        any_schema,
        bytes_schema,
        list_schema,
        typed_dict_field,
        typed_dict_schema,
        union_schema,
    )

    def expected(schema: CoreSchema) -> CoreSchema:
        return union_schema([schema, any_schema()], mode="left_to_right")

    def holding(name: str, schema: CoreSchema) -> CoreSchema:
        fields = {name: typed_dict_field(schema, required=False)}
        config = CoreConfig(val_json_bytes="base64")
        return expected(
            typed_dict_schema(fields, extra_behavior="allow", config=config)
        )

    data = holding("data", expected(bytes_schema(strict=True)))
    parts = expected(list_schema(holding("inlineData", data)))
    candidates = expected(list_schema(holding("content", holding("parts", parts))))
    return SchemaValidator(holding("candidates", candidates))


def picture(
    reply: Reply, rates: Rates | None, *, price_usd: Decimal | None = None
) -> Answer:
    """
    Take the picture out of an answer: the last one, for those before are drafts.

    Args:
        reply: What the service answered.
        rates: What tokens cost; None: unknown.
        price_usd: What a picture costs where the answer counts no tokens.
    """
    cost = _cost(reply, rates)
    try:
        _check_blocks(reply)
        data = _last_picture(reply)
    except ContentFilteredError as error:
        return Answer(error=error, cost_usd=cost or Decimal(0))
    except UnusableResultError as error:
        return Answer(error=error, cost_usd=price_usd if cost is None else cost)
    return Answer(data=data, cost_usd=price_usd if cost is None else cost)


def words(reply: Reply, rates: Rates | None) -> tuple[str, Decimal | None]:
    """
    Take the words out of an answer, and what they cost.

    Raises:
        ContentFilteredError: If the prompt or the answer is blocked.
        UnusableResultError: If there are no words.
    """
    _check_blocks(reply)
    text = _text(reply)
    cost = _cost(reply, rates)
    paid = None if cost is None else cost.quantize(MICRO_DOLLAR)
    if not text:
        message = f"Gemini answered without a word{_because(reply)}."
        raise UnusableResultError(message, cost_usd=paid)
    return text, paid


def shortened(text: str, limit: int) -> str:
    """
    Cut words that are too many, between two of them where there is a place.

    >>> shortened("a keep at dusk", 10)
    'a keep at'
    """
    if len(text) <= limit:
        return text
    is_within_a_word = not any(map(str.isspace, text[limit - 1 : limit + 1]))
    if is_within_a_word and len(halves := text[:limit].rsplit(None, 1)) > 1:
        return halves[0]
    return text[:limit].rstrip()


def upscaled(reply: Any) -> bytes:
    """
    Take the enlarged picture out of the SDK's answer.

    Raises:
        ContentFilteredError: If it was filtered.
        UnusableResultError: If there is none.
    """
    images = reply.generated_images or ()
    for image in images:
        data = image.image.image_bytes if image.image is not None else None
        if data:
            return bytes(data)
    reason = next((one.rai_filtered_reason for one in images), None)
    if reason:
        message = f"Imagen filtered the picture: {str(reason)[:_LONGEST_WORDS]}"
        raise ContentFilteredError(message)
    message = "Imagen answered without a picture."
    raise UnusableResultError(message)


def size_warnings(request: UpscaleRequest, image: GeneratedImage) -> tuple[str, ...]:
    """Say where an enlarged picture is not as large as asked for."""
    factor = request.upscale_factor
    asked = f"{request.image.width * factor}x{request.image.height * factor}"
    made = f"{image.width}x{image.height}"
    return () if made == asked else (f"size: made {made}, not {asked}",)


# -- several calls --------------------------------------------------------------------


def failed(error: ProviderError, price_usd: Decimal | None) -> Answer:
    """
    Make the answer of a call that ended with an error.

    Args:
        error: What ended it.
        price_usd: What a picture costs; it may be owed after an ambiguous error.
    """
    is_owed = error.outcome in {OutcomeClass.AMBIGUOUS, OutcomeClass.UNUSABLE}
    return Answer(error=error, cost_usd=price_usd if is_owed else Decimal(0))


def worst(answers: Sequence[Answer]) -> ProviderError | None:
    """Choose the most telling of the errors; None: there is none."""
    errors = [one.error for one in answers if one.error is not None]
    return min(errors, key=lambda error: _TELLING.index(error.outcome), default=None)


def total(answers: Sequence[Answer]) -> Decimal | None:
    """Add up what calls cost, or may have cost; None: nobody knows."""
    known = [one.cost_usd for one in answers if one.cost_usd is not None]
    if len(known) < len(answers):
        return None
    return sum(known, Decimal(0)).quantize(MICRO_DOLLAR)


def result(
    model: str,
    answers: Sequence[Answer],
    images: Sequence[GeneratedImage],
    warnings: Sequence[str] = (),
) -> ImageResult:
    """
    Put the answers of several calls together.

    Args:
        model: The model that drew.
        answers: What came of each call.
        images: The pictures among it.
        warnings: What else is to be said.
    """
    return ImageResult(
        images=images,
        provider=NAME,
        model=model,
        cost_usd=total(answers),
        warnings=(*warnings, *_losses(answers)),
    )


def _losses(answers: Sequence[Answer]) -> Iterator[str]:
    """Say which calls gave no picture, and which of them may be owed."""
    for error in filter(None, (one.error for one in answers)):
        said = str(error).removesuffix(".")
        if error.outcome is OutcomeClass.AMBIGUOUS:
            yield f"one picture was lost and may have been charged: {said}"
        else:
            yield f"one picture was not made: {said}"


def sizes(
    request: GenerateRequest, images: Sequence[GeneratedImage], why: str
) -> Iterator[str]:
    """
    Say which pictures have another size than the one asked for.

    Args:
        request: What was asked for.
        images: What was made.
        why: The reason; ``{asked}`` in it stands for the size asked for.
    """
    asked = f"{request.width}x{request.height}"
    for made in sorted({f"{one.width}x{one.height}" for one in images} - {asked}):
        yield f"size: made {made}, {why.format(asked=asked)}"


# -- one answer -----------------------------------------------------------------------


def _check_blocks(reply: Reply) -> None:
    """Refuse what the service blocked, although it answered with status 200."""
    blocked = _mapping(reply.get("promptFeedback")).get("blockReason")
    if blocked:
        message = f"Gemini blocks the prompt: {blocked}. Word it differently."
        raise ContentFilteredError(message)
    reason = _finish(reply)
    if reason in _BLOCKS:
        message = f"Gemini blocks what it made: {reason}. Word the prompt differently."
        raise ContentFilteredError(message)


def _last_picture(reply: Reply) -> bytes:
    found = [part["inlineData"] for part in _parts(reply) if part.get("inlineData")]
    if not found:
        said = _text(reply)
        words = f', but said: "{said[:_LONGEST_WORDS]}"' if said else ""
        message = f"Gemini made no picture{_because(reply)}{words}."
        raise UnusableResultError(message)
    data = _mapping(found[-1]).get("data")
    if not isinstance(data, bytes):
        message = "Gemini answered with a picture that nobody can read."
        raise UnusableResultError(message)
    GeneratedImage(data=data)  # raises when it is none
    return data


def _text(reply: Reply) -> str:
    parts = (str(part.get("text") or "") for part in _parts(reply))
    return "".join(parts).strip()


def _parts(reply: Reply) -> list[Reply]:
    """List the parts of the answer, without what the model only thought."""
    content = _mapping(_candidate(reply).get("content"))
    parts = content.get("parts")
    found = parts if isinstance(parts, list) else []
    return [
        part for part in found if isinstance(part, dict) and not part.get("thought")
    ]


def _candidate(reply: Reply) -> Reply:
    candidates = reply.get("candidates")
    found = candidates if isinstance(candidates, list) else []
    return _mapping(found[0]) if found else {}


def _finish(reply: Reply) -> str:
    return str(_candidate(reply).get("finishReason") or "")


def _because(reply: Reply) -> str:
    reason = _finish(reply)
    return f" ({reason})" if reason else ""


def _mapping(value: Any) -> Reply:
    return value if isinstance(value, dict) else {}


def _cost(reply: Reply, rates: Rates | None) -> Decimal | None:
    """
    Price an answer by the tokens it counts; None: it counts none, or rates are unknown.

    Words and pictures that come out are told apart by ``candidatesTokensDetails``;
    what that does not name are words.
    """
    usage = _mapping(reply.get("usageMetadata"))
    if rates is None or not _count(usage, "promptTokenCount"):
        return None
    details = usage.get("candidatesTokensDetails")
    if not details and _count(usage, "candidatesTokenCount"):
        return None
    pictures = sum(
        _count(one, "tokenCount")
        for one in map(_mapping, details if isinstance(details, list) else ())
        if one.get("modality") == "IMAGE"
    )
    out = _count(usage, "candidatesTokenCount") + _count(usage, "thoughtsTokenCount")
    return rates.cost(
        into=_count(usage, "promptTokenCount"),
        words=max(0, out - pictures),
        pictures=pictures,
    )


def _count(usage: Reply, name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0
