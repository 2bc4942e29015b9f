"""What is made of the service's answers."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from gaia_core import (
    ContentFilteredError,
    OutcomeClass,
    ProviderError,
    ProviderRequestError,
    ProviderUnavailableError,
    UnusableResultError,
)
from gaia_core.testing import png
from gaia_gemini import replies
from gaia_gemini.prices import Rates
from gaia_gemini.replies import Answer

RATES = Rates(into="0.50", words=3, pictures=60)
PRICE = Decimal("0.0672")
BLOCKED_PROMPT = (
    *("SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"),
    *("MODEL_ARMOR", "JAILBREAK", "A_NEW_REASON"),
)
BLOCKED_PICTURE = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    *("MODEL_ARMOR", "LANGUAGE", "ESCALATION", "PUP_LIMITED_DISABLED"),
)
FAILED_PICTURE = (
    *("STOP", "NO_IMAGE", "IMAGE_OTHER", "OTHER", "MAX_TOKENS", "CONTINUATION"),
    *("MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL", "A_NEW_REASON"),
)


def _part(data: bytes, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    return {"inlineData": {"mimeType": "image/png", "data": text}, **more}


def _reply(*parts: dict[str, Any], finish: str = "STOP", **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "finishReason": finish}], **more}


def _read(reply: dict[str, Any]) -> Answer:
    body = json.dumps(reply).encode()
    return replies.picture(replies.parsed(body), RATES, price_usd=PRICE)


def test_the_last_picture_is_the_one() -> None:
    """Thoughts and drafts come before what is meant."""
    thought, draft, last = png(8, 8), png(9, 9), png(10, 10)

    answer = _read(
        _reply(
            {"text": "Let me think.", "thought": True},
            _part(thought, thought=True),
            {"text": "Here it is."},
            _part(draft),
            _part(last),
            _part(thought, thought=True),
        )
    )

    assert answer.data == last
    assert answer.error is None


def test_either_alphabet_of_base64_is_read() -> None:
    """Google's services write base64 in two ways."""
    data = png(colour=(250, 251, 252)) + b"\xfb\xff\xfe"
    part = _part(data)
    safe = base64.urlsafe_b64encode(data).decode()
    part["inlineData"]["data"] = safe

    assert "-" in safe or "_" in safe
    assert _read(_reply(part)).data == data


def test_escaped_base64_is_read() -> None:
    """Google's services escape the signs at the end of base64."""
    data = next(one for one in (png() + b"\0" * n for n in (0, 1)) if len(one) % 3)
    body = json.dumps(_reply(_part(data))).replace("=", "\\u003d")

    answer = replies.picture(replies.parsed(body), RATES)

    assert "\\u003d" in body
    assert answer.data == data


@pytest.mark.parametrize("reason", BLOCKED_PROMPT)
def test_a_blocked_prompt_is_filtered_content(reason: str) -> None:
    """A block comes with status 200; the error names the reason, and nothing is due."""
    answer = _read({"promptFeedback": {"blockReason": reason}})

    assert isinstance(answer.error, ContentFilteredError)
    assert reason in str(answer.error)
    assert answer.cost_usd == 0


@pytest.mark.parametrize("reason", BLOCKED_PICTURE)
def test_a_blocked_picture_is_filtered_content(reason: str) -> None:
    """What was made and is not given away is refused for good."""
    answer = _read({"candidates": [{"finishReason": reason}]})

    assert isinstance(answer.error, ContentFilteredError)
    assert reason in str(answer.error)


@pytest.mark.parametrize("reason", FAILED_PICTURE)
def test_no_picture_is_unusable(reason: str) -> None:
    """Without a block, an answer without a picture is charged and of no use."""
    answer = _read({"candidates": [{"finishReason": reason}]})

    assert isinstance(answer.error, UnusableResultError)
    assert reason in str(answer.error)
    assert answer.cost_usd == PRICE


def test_words_instead_of_a_picture_are_quoted() -> None:
    """What the model says in place of a picture helps to see why."""
    answer = _read(_reply({"text": "I cannot draw that."}))

    assert isinstance(answer.error, UnusableResultError)
    assert "I cannot draw that." in str(answer.error)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"candidates": None},
        {"candidates": []},
        {"candidates": "none"},
        {"candidates": [None]},
        {"candidates": [{"content": None}]},
        {"candidates": [{"content": {"parts": None}}]},
        {"candidates": [{"content": {"parts": ["x", {}]}}]},
        _reply({"inlineData": {}}),
        _reply({"inlineData": {"data": "not base64!"}}),
        _reply({"inlineData": {"data": 7}}),
        _reply({"inlineData": "x"}),
        _reply(_part(b"no picture")),
    ],
    ids=str,
)
def test_odd_answers_are_unusable(reply: dict[str, Any]) -> None:
    """Whatever the shape of an answer, it is charged and of no use."""
    answer = _read(reply)

    assert isinstance(answer.error, UnusableResultError)
    assert answer.cost_usd == PRICE


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{", b"[]", b"7", b"null", b'{"a": "\xff"}', b"[" * 9_999],
    ids=lambda body: str(body[:9]),
)
def test_bodies_nobody_can_read_are_unusable(body: bytes) -> None:
    """A 200 without a JSON object counts as charged."""
    with pytest.raises(UnusableResultError, match="nobody can read"):
        replies.parsed(body)


def test_tokens_are_priced_by_their_kind() -> None:
    """What goes in, words, thoughts and pictures each have a rate."""
    usage = {
        "promptTokenCount": 1_000,
        "candidatesTokenCount": 1_220,
        "thoughtsTokenCount": 300,
        "candidatesTokensDetails": [
            {"modality": "IMAGE", "tokenCount": 1_120},
            {"modality": "TEXT", "tokenCount": 100},
        ],
    }

    answer = _read(_reply(_part(png()), usageMetadata=usage))

    assert answer.cost_usd == Decimal("0.0005") + Decimal("0.0012") + PRICE


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"promptTokenCount": 9, "candidatesTokenCount": 1_120},
        {"candidatesTokenCount": 1_120},
        "none",
    ],
    ids=str,
)
def test_without_a_count_the_price_of_a_picture_holds(usage: Any) -> None:
    """Where tokens cannot be told apart, the catalogue's price is taken."""
    assert _read(_reply(_part(png()), usageMetadata=usage)).cost_usd == PRICE


def test_unknown_rates_cost_nobody_knows_what() -> None:
    """A model without a price list has no cost."""
    reply = _reply(_part(png()), usageMetadata={"promptTokenCount": 9})

    assert replies.picture(reply, None).cost_usd is None


def test_words_are_read_and_priced() -> None:
    """Words come without what the model only thought."""
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 0}
    reply = _reply(
        {"text": "Hm.", "thought": True},
        {"text": " A keep "},
        {"text": "at dusk. "},
        usageMetadata=usage,
    )

    assert replies.words(reply, RATES) == ("A keep at dusk.", Decimal("0.000050"))


def test_no_words_are_unusable() -> None:
    """An answer without a word is charged and of no use."""
    with pytest.raises(UnusableResultError, match="MAX_TOKENS"):
        replies.words({"candidates": [{"finishReason": "MAX_TOKENS"}]}, RATES)


def test_blocked_words_are_filtered() -> None:
    """Blocks hold for words, too."""
    with pytest.raises(ContentFilteredError, match="SAFETY"):
        replies.words({"promptFeedback": {"blockReason": "SAFETY"}}, RATES)


@pytest.mark.parametrize(
    ("limit", "words"),
    [(99, "a keep at dusk"), (10, "a keep at"), (6, "a keep"), (1, "a")],
)
def test_too_many_words_are_cut(limit: int, words: str) -> None:
    """A cut falls between words where it can."""
    assert replies.shortened("a keep at dusk", limit) == words


def test_one_long_word_is_cut_within() -> None:
    """A word that is longer than the limit is cut."""
    assert replies.shortened("abcdefgh", 3) == "abc"


# -- several calls --------------------------------------------------------------------


def test_the_most_telling_error_counts() -> None:
    """Where money may be owed comes first, what may be repeated comes last."""
    ambiguous, unusable = ProviderError("lost"), UnusableResultError("none")
    refused, busy = ProviderRequestError("no"), ProviderUnavailableError("later")

    def worst(*errors: ProviderError) -> ProviderError | None:
        return replies.worst([Answer(error=error) for error in errors])

    assert worst(busy, refused, unusable, ambiguous) is ambiguous
    assert worst(busy, refused, unusable) is unusable
    assert worst(busy, refused) is refused
    assert worst(busy) is busy
    assert worst() is None


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (ProviderError("lost"), PRICE),
        (UnusableResultError("none"), PRICE),
        (ProviderUnavailableError("later"), 0),
        (ContentFilteredError("no"), 0),
    ],
    ids=["ambiguous", "unusable", "busy", "filtered"],
)
def test_what_may_be_owed_is_counted(error: ProviderError, cost: Decimal) -> None:
    """A call that was lost may cost as much as one that was not."""
    assert replies.failed(error, PRICE).cost_usd == cost


def test_costs_add_up() -> None:
    """The sum is exact to the micro-dollar; with one unknown it is unknown."""
    known = [Answer(cost_usd=PRICE), Answer(cost_usd=Decimal(0))]

    assert replies.total(known) == PRICE
    assert replies.total([*known, Answer()]) is None


def test_every_outcome_has_its_rank() -> None:
    """No error is left out of the order."""
    assert {*replies._TELLING, OutcomeClass.OK} == set(OutcomeClass)
