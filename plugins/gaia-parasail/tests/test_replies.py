"""From what the service answers to what Gaia takes."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from gaia_core import ContentFilteredError, UnusableResultError
from gaia_core.testing import context, png
from gaia_parasail import ModelSettings, replies
from gaia_parasail.batch_files import line_of
from gaia_parasail.replies import Wanted

PICTURE = png(32, 16)
TEXT = base64.b64encode(PICTURE).decode()
WANTED = Wanted(model="m", count=1, size=(32, 16), seed=5)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"b64_json": TEXT}, id="base64"),
        pytest.param({"b64_json": f"data:image/png;base64,{TEXT}"}, id="data address"),
        pytest.param({"url": f"data:image/png;base64,{TEXT}"}, id="data as address"),
        pytest.param({"b64_json": TEXT, "url": "https://x.example"}, id="both"),
        pytest.param({"b64_json": TEXT.replace("A", "A\n", 9)}, id="broken lines"),
    ],
)
async def test_pictures_that_come_along(entry: dict[str, Any]) -> None:
    """Bytes are taken in every form they come in, and nothing is fetched."""
    reply = replies.read(json.dumps({"data": [entry]}).encode())

    result = await replies.collected(reply, WANTED, context())

    (image,) = result.images
    assert (image.data, image.seed) == (PICTURE, 5)
    assert result.warnings == ()


async def test_what_is_not_as_it_was_asked_for_is_said() -> None:
    """Another size and a missing picture are warnings, not failures."""
    wanted = Wanted(model="m", count=3, size=(64, 64), seed=5)
    data = [{"b64_json": TEXT}, {"b64_json": "aGVsbG8="}]

    reply = replies.read(json.dumps({"data": data}).encode())

    result = await replies.collected(reply, wanted, context())

    assert result.images[0].seed is None
    assert result.warnings == (
        "size 64x64 was asked for, 32x16 came",
        "1 of 3 pictures came",
    )


@pytest.mark.parametrize(
    "data",
    [None, "x", [], [None], [{}], [{"b64_json": 7}], [{"b64_json": ""}], {"a": 1}],
    ids=str,
)
async def test_answers_without_a_picture(data: object) -> None:
    """Whatever the shape of an answer, without a picture it is of no use."""
    reply = replies.read(json.dumps({"data": data}).encode())

    with pytest.raises(UnusableResultError, match="without a picture"):
        await replies.collected(reply, WANTED, context())


def test_pictures_in_lines_of_batches_are_decoded() -> None:
    """A line holds what an answer holds, some levels deeper."""
    body = {"data": [{"b64_json": TEXT}]}
    text = json.dumps({"custom_id": "a", "response": {"body": body}})

    line = line_of(text.encode() + b"\n")

    assert line.response == {"body": {"data": [{"b64_json": PICTURE}]}}


@pytest.mark.parametrize(
    ("said", "limit", "prompt"),
    [
        pytest.param('"a keep"', 100, "a keep", id="quotation marks"),
        pytest.param("a keep at dusk", 8, "a keep", id="cut between words"),
        pytest.param("aaaaaaaaaa", 4, "aaaa", id="one long word"),
        pytest.param(
            "<think>hm, a keep</think>\na tower", 100, "a tower", id="thought"
        ),
    ],
)
def test_prompts(said: str, limit: int, prompt: str) -> None:
    """A prompt is taken out of its wrapping, and is no longer than asked for."""
    reply = {"choices": [{"message": {"content": said}}]}

    assert replies.prompt(reply, limit) == prompt


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter", "message": {"content": "no"}},
        {"message": {"content": None, "refusal": "I cannot."}},
    ],
    ids=["filter", "refusal"],
)
def test_refusals(choice: dict[str, Any]) -> None:
    """A chat that refuses on safety grounds is a refusal, not a description."""
    with pytest.raises(ContentFilteredError):
        replies.words({"choices": [choice]})


@pytest.mark.parametrize(
    "reply",
    [{}, {"choices": []}, {"choices": ["x"]}, {"choices": [{"message": "x"}]}],
    ids=str,
)
def test_words_that_are_not_there(reply: dict[str, Any]) -> None:
    """An answer without words cannot be used."""
    with pytest.raises(UnusableResultError):
        replies.words(reply)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        pytest.param(
            {"prompt_tokens": 1_000_000, "completion_tokens": 0}, "0.25", id="in"
        ),
        pytest.param(
            {"prompt_tokens": 0, "completion_tokens": 1_000_000}, "0.75", id="out"
        ),
        pytest.param({"prompt_tokens": "many"}, None, id="words"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_costs(usage: object, cost: str | None) -> None:
    """What a chat cost follows from its tokens, where both are known."""
    model = ModelSettings(
        endpoint="chat", token_prices=(Decimal("0.25"), Decimal("0.75"))
    )

    found = replies.cost({"usage": usage}, model)

    assert found == (None if cost is None else Decimal(cost))


def test_nobody_reckons_without_prices() -> None:
    """A model whose prices nobody names costs what the catalogue says."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1}

    assert replies.cost({"usage": usage}, ModelSettings(endpoint="chat")) is None


def test_names_of_models() -> None:
    """Whatever else is in the list, the identifiers are taken."""
    reply = {"data": [{"id": "a"}, {"id": None}, "b", {"id": "c"}]}

    assert replies.names(reply) == ("a", "c")


def test_an_answer_without_use_says_what_it_cost() -> None:
    """A chat without words is booked by its tokens, not at the longest answer."""
    paid = Decimal("0.00001")

    with pytest.raises(UnusableResultError) as caught, replies.booked(paid):
        replies.words({"choices": []})

    assert caught.value.cost_usd == paid
