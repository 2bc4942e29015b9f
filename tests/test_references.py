"""What providers ask to remember is written down together."""

import asyncio
from collections.abc import Mapping
from typing import cast

import attrs
import pytest

from gaia_core.errors import LeaseLostError, LedgerError, ProviderError
from gaia_core.ledger import Ledger
from gaia_core.references import References


@attrs.define(eq=False)
class Book:
    """The one page of a ledger that references need."""

    lost: frozenset[str] = frozenset()
    failure: Exception | None = None
    noted: dict[str, str] = attrs.field(factory=dict)
    writes: int = 0

    async def refer(self, references: Mapping[str, str]) -> None:
        """Note all of them, or none."""
        self.writes += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if self.lost & references.keys():
            message = "taken over"
            raise LeaseLostError(message)
        self.noted.update(references)


def _references(book: Book) -> References:
    return References(cast("Ledger", book))


async def _remember(references: References, *names: str) -> list[object]:
    return await asyncio.gather(
        *(references.remember(name, "batch-1") for name in names),
        return_exceptions=True,
    )


async def test_what_comes_together_is_written_together() -> None:
    """Two thousand attempts of one batch are one write."""
    book, names = Book(), [str(number) for number in range(2_000)]

    answers = await _remember(_references(book), *names)

    assert answers == [None] * 2_000
    assert book.noted == dict.fromkeys(names, "batch-1")
    assert book.writes == 1


async def test_one_after_the_other_is_written_each() -> None:
    """Whoever has been told can rely on it."""
    book = Book()
    references = _references(book)

    await references.remember("a", "batch-1")
    await references.remember("a", "batch-2")

    assert (book.noted, book.writes) == ({"a": "batch-2"}, 2)


async def test_a_lost_lease_is_told_to_its_own() -> None:
    """Who was taken over is told so, and everybody else is written down."""
    book, names = Book(lost=frozenset("c")), "abcdefg"

    answers = dict(zip(names, await _remember(_references(book), *names), strict=True))

    assert isinstance(answers.pop("c"), LeaseLostError)
    assert set(answers.values()) == {None}
    assert book.noted.keys() == set("abdefg")


async def test_a_book_that_fails_is_told_to_everybody_once() -> None:
    """Everybody learns that nothing is on record, each by an error of its own."""
    book = Book(failure=RuntimeError("the secret of the database"))

    one, two = await _remember(_references(book), "a", "b")

    assert isinstance(one, LedgerError)
    assert isinstance(two, LedgerError)
    assert one is not two
    assert "secret" not in f"{one}{two}"
    assert book.writes == 1


async def test_who_is_cancelled_leaves_the_others_alone() -> None:
    """One that gives up costs no other its line."""
    book = Book()
    references = _references(book)
    asking = [asyncio.create_task(references.remember(name, "b")) for name in "ab"]

    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.wait(asking)

    assert asking[0].cancelled()
    assert asking[1].exception() is None
    assert book.noted["b"] == "b"


@pytest.mark.parametrize("reference", ["", None, b"batch-1"], ids=repr)
async def test_only_words_are_remembered(reference: object) -> None:
    """What cannot be looked up by is refused."""
    book = Book()

    with pytest.raises(ProviderError, match="reference"):
        await _references(book).remember("a", cast("str", reference))

    assert book.writes == 0
