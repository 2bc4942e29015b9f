"""The vendor's results in Gaia's values."""

import base64
from decimal import Decimal

import pytest

from gaia_core import ProviderTimeoutError, UnusableResultError
from gaia_core.testing import context, png
from gaia_runware import replies
from gaia_runware.traffic import Traffic

TASK = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
TEXT = base64.b64encode(png()).decode()


async def _fetch(url: str) -> bytes:
    return png() if url == "https://im.runware.ai/1.png" else b"no picture"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([0.0013, 0.0013], Decimal("0.0026")),
        ([0.1, 0.2], Decimal("0.3")),
        ([None, 0.04], Decimal("0.04")),
        ([0], Decimal(0)),
        ([], None),
        ([None], None),
        (["dear", float("nan"), -1], None),
    ],
    ids=["sum", "exact", "some", "free", "none", "unsaid", "nonsense"],
)
def test_the_costs_add_up(costs: list[object], expected: Decimal | None) -> None:
    """Each result says what it cost; amounts are taken by their digits."""
    assert replies.cost_of([{"cost": cost} for cost in costs]) == expected


@pytest.mark.parametrize(
    "item",
    [
        {"imageURL": "https://im.runware.ai/1.png", "seed": 7},
        {"imageBase64Data": TEXT, "seed": 7},
        {"imageDataURI": f"data:image/png;base64,{TEXT}", "seed": 7},
    ],
    ids=["address", "base64", "data URI"],
)
async def test_pictures_come_in_three_ways(item: dict[str, object]) -> None:
    """Wherever the picture is, its bytes and its seed arrive."""
    (image,) = await replies.images_of([item], context(fetch=_fetch))

    assert (image.data, image.seed, image.width) == (png(), 7, 64)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"imageURL": "https://im.runware.ai/2.png"}],
        [{"imageBase64Data": "no base64 at all!"}],
        [{"imageBase64Data": base64.b64encode(b"words").decode()}],
    ],
    ids=["none", "no picture", "no base64", "words"],
)
async def test_what_is_no_picture_is_unusable(items: list[dict[str, str]]) -> None:
    """It was answered, and charged, and is never made again for it."""
    with pytest.raises(UnusableResultError):
        await replies.images_of(items, context(fetch=_fetch))


async def test_a_download_that_fails_is_told_as_it_is() -> None:
    """What did not arrive is looked up, not made again."""

    async def lost(url: str) -> bytes:
        raise ProviderTimeoutError(url)

    with pytest.raises(ProviderTimeoutError):
        await replies.images_of([{"imageURL": "https://x"}], context(fetch=lost))


def test_only_what_has_a_picture_counts_as_one() -> None:
    """A result without any is no picture."""
    items: list[dict[str, object]] = [
        {"imageURL": "https://x"},
        {"cost": 1},
        {"imageURL": ""},
    ]

    assert replies.with_pictures(items) == ({"imageURL": "https://x"},)


@pytest.mark.parametrize(
    ("items", "wanted", "expected"),
    [
        ([{}], 1, ()),
        ([{"NSFWContent": False}], 1, ()),
        ([{}, {"NSFWContent": True}], 2, (replies.NSFW,)),
        ([{}, {}], 3, ("2 of 3 pictures: the others failed",)),
    ],
    ids=["fine", "safe", "unsafe", "too few"],
)
def test_warnings_say_what_is_wrong(
    items: list[dict[str, bool]], wanted: int, expected: tuple[str, ...]
) -> None:
    """A picture that is marked unsafe is no error, and neither are fewer ones."""
    assert replies.warnings_of(items, wanted) == expected


def test_words_are_taken_from_the_first_result_that_has_any() -> None:
    """Blank ones are passed over."""
    assert replies.words_of([{"text": " "}, {"text": " a keep "}]) == "a keep"


def test_an_answer_without_words_is_unusable() -> None:
    """It was charged all the same."""
    with pytest.raises(UnusableResultError):
        replies.words_of([{"cost": 0.1}])


@pytest.mark.parametrize(
    ("words", "most", "expected"),
    [
        ("a keep", 10, "a keep"),
        ("a ruined keep, at dusk", 14, "a ruined keep"),
        ("abcdefgh", 3, "abc"),
    ],
    ids=["short", "long", "one word"],
)
def test_words_are_cut_between_words(words: str, most: int, expected: str) -> None:
    """No more characters than asked for come out."""
    assert replies.shortened(words, most) == expected


def test_a_result_counts_once() -> None:
    """Polling gives the same results again and again."""
    traffic = Traffic(task_id=TASK)
    words = {"text": "a keep"}

    for item in ({"imageUUID": "1"}, {"imageUUID": "1", "cost": 1}, words, words):
        traffic.take(item)

    assert traffic.results == [{"imageUUID": "1"}, words]


def test_an_error_counts_for_its_task_only() -> None:
    """An error among the results is one, too; that of another task is not."""
    traffic = Traffic(task_id=TASK)

    traffic.take({"status": "error", "error": {"code": "inferenceError"}})
    traffic.take_error({"code": "invalidModel", "taskUUID": "another"})
    traffic.take_error("nonsense")

    assert traffic.codes == ("inferenceError",)
