"""``gaia usage``: what was made and spent, what is held, what budgets have left."""

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import Result

from gaia_core.capabilities import Capability
from gaia_core.cli.operation import next_step, show_dollars
from gaia_core.cli.usage import MOST_SHOWN, beginning
from gaia_core.errors import OutcomeClass
from gaia_core.ledger import Failure, Operation, OperationState, Settlement
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.responses import Attempt
from gaia_core.settings import Period

Gaia = Callable[..., Result]
Install = Callable[..., Path]
Note = Callable[..., list[str]]

COLUMNS = ["operations", "done", "failed", "unknown", "images", "cost", "held"]
TODAY = datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Story:
    """What became of one operation."""

    ends: str = "done"
    cost: str = "0.04"
    provider: str = "hello"
    model: str = "m1"
    campaign: str | None = None
    user: str | None = None
    at: datetime = TODAY


@pytest.fixture(name="book")
def _book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of the ledger."""
    book = tmp_path / "gaia.db"
    monkeypatch.setenv("GAIA_DATABASE", f"sqlite:///{book}")
    return book


@pytest.fixture(name="note")
def _note(book: Path, install: Install) -> Note:
    """Give a function that writes operations into the ledger; it gives their ids."""
    install()

    def note(*stories: Story) -> list[str]:
        return asyncio.run(_write(book, stories))

    return note


async def _write(book: Path, stories: Sequence[Story]) -> list[str]:
    ledger = SqlLedger(Database(f"sqlite:///{book}"))
    await ledger.open()
    try:
        return [await _live(ledger, story) for story in stories]
    finally:
        await ledger.close()


async def _live(ledger: SqlLedger, story: Story) -> str:
    """Take an operation through its life."""
    operation = Operation(
        id=uuid.uuid4().hex,
        capability=Capability.TEXT_TO_IMAGE,
        campaign_id=story.campaign,
        user_id=story.user,
        reserved_usd=Decimal(story.cost),
        created_at=story.at,
    )
    attempt = Attempt(
        provider=story.provider,
        model=story.model,
        task_id=str(uuid.uuid4()),
        outcome=OutcomeClass.AMBIGUOUS,
        duration_ms=0.0,
        cost_usd=Decimal(story.cost),
    )
    await ledger.accept(operation)
    if story.ends == "accepted":
        return operation.id
    await ledger.send(operation.id, attempt)
    if story.ends == "done":
        settlement = Settlement(
            provider=story.provider,
            model=story.model,
            cost_usd=Decimal(story.cost),
            attempt=attrs.evolve(attempt, outcome=OutcomeClass.OK),
        )
        await ledger.settle(operation.id, settlement)
        return operation.id
    failure = Failure(
        state=OperationState(story.ends), error_type="SomeError", error="so it ended"
    )
    if story.ends == "failed":
        free = attrs.evolve(
            attempt, outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0)
        )
        await ledger.end_attempt(operation.id, free)
    await ledger.fail(operation.id, failure)
    return operation.id


def _lines(result: Result) -> list[list[str]]:
    """Take the table of a result apart."""
    table = result.stdout.split("\n\n")[0]
    return [line.split() for line in table.splitlines()]


def _json(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# -- the table --------------------------------------------------------------------


def test_nothing_was_made_yet(gaia: Gaia, note: Note) -> None:
    """A fresh installation says so, and is no failure."""
    note()

    result = gaia("usage")

    assert result.exit_code == 0
    assert result.stdout == "Nothing was made or spent.\n"


def test_usage_is_added_up_by_day(gaia: Gaia, note: Note) -> None:
    """Without a word, each day has a line, and the last line is the sum."""
    yesterday = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)
    note(
        *(Story(at=yesterday), Story(at=yesterday, ends="failed")),
        Story(at=yesterday.replace(day=22), cost="0.0038"),
    )

    result = gaia("usage")

    assert _lines(result) == [
        ["DAY", *map(str.upper, COLUMNS)],
        ["2026-11-21", "2", "1", "1", "0", "0", "$0.04", "$0.00"],
        ["2026-11-22", "1", "1", "0", "0", "0", "$0.0038", "$0.00"],
        ["total", "3", "2", "1", "0", "0", "$0.0438", "$0.00"],
    ]


def test_usage_is_grouped_by_several_words(gaia: Gaia, note: Note) -> None:
    """Each pair has a line; what nobody named is there as well."""
    note(
        *(Story(campaign="b", provider="p"), Story(campaign="a", provider="q")),
        Story(provider="p"),
    )

    result = gaia("usage", "--by", "campaign", "--by", "provider")

    assert [line[:3] for line in _lines(result)] == [
        ["CAMPAIGN", "PROVIDER", "OPERATIONS"],
        ["a", "q", "1"],
        ["b", "p", "1"],
        ["(none)", "p", "1"],
        ["total", "3", "3"],
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--since", "2026-11-21"], 2, id="since"),
        pytest.param(["--until", "2026-11-21"], 2, id="until-the-end-of-the-day"),
        pytest.param(
            ["--since=2026-11-21", "--until=2026-11-21"], 1, id="a-single-day"
        ),
        pytest.param(["--until", "9999-12-31"], 3, id="for-ever"),
        pytest.param(["--since", "2027-01-01"], 0, id="the-future"),
    ],
)
def test_usage_of_some_days(
    gaia: Gaia, note: Note, words: list[str], expected: int
) -> None:
    """Both days belong to the time between them."""
    note(
        Story(at=datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)),
        Story(at=datetime(2026, 11, 21, 23, 59, 59, 999_999, tzinfo=UTC)),
        Story(at=datetime(2026, 11, 22, tzinfo=UTC)),
    )

    result = gaia("usage", "--json", *words)

    assert _json(result)["total"]["operations"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--since", "soon"], "'soon' is no date", id="no-date"),
        pytest.param(["--until", "2026-02-30"], "is no date", id="no-such-day"),
        pytest.param(
            ["--since=2026-11-22", "--until=2026-11-21"],
            "--until 2026-11-21 lies before --since 2026-11-22",
            id="backwards",
        ),
        pytest.param(["--by", "weekday"], "'weekday' is not one of", id="no-group"),
    ],
)
def test_wrong_words_are_refused(
    gaia: Gaia, install: Install, words: list[str], expected: str
) -> None:
    """What makes no sense is wrong usage, and named."""
    install()

    result = gaia("usage", *words)

    assert result.exit_code == 2
    assert expected in result.stderr


def test_columns_add_up(gaia: Gaia, note: Note) -> None:
    """What was called off has no column; a line says how many there are."""
    note(Story(), Story(ends="cancelled"), Story(ends="accepted"))

    shown, document = gaia("usage"), _json(gaia("usage", "--json"))

    assert (
        "\n\nOperations in no other column: 1 cancelled, 1 waiting or under way.\n"
        in shown.stdout
    )
    assert document["total"]["cancelled"] == 1


# -- what is held -----------------------------------------------------------------


def test_unknown_outcomes_are_listed(gaia: Gaia, note: Note) -> None:
    """Each names its operation, its task, what is held, and there is advice."""
    (lost,) = note(Story(ends="unknown", campaign="strahd"))

    shown = gaia("usage", "--by=campaign")
    document = _json(gaia("usage", "--json"))

    (unknown,) = document["unknown"]
    assert _lines(shown)[1] == ["strahd", "1", "0", "0", "1", "0", "$0.00", "$0.04"]
    assert "Outcome unknown: 1; $0.04 held for them." in shown.stdout
    assert f"  {lost}  {TODAY:%Y-%m-%d %H:%M}  $0.04 held\n" in shown.stdout
    assert f"    hello/m1, task {unknown['task_id']}\n" in shown.stdout
    assert "gaia usage --operation ID" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert unknown["operation_id"] == lost
    assert unknown["provider"] == "hello"
    assert unknown["campaign"] == "strahd"
    assert unknown["held_usd"] == 0.04
    assert unknown["error"] == "so it ended"


def test_long_lists_are_cut(gaia: Gaia, note: Note) -> None:
    """A person sees the latest unknown outcomes; JSON holds all of them."""
    note(*[Story(ends="unknown")] * (MOST_SHOWN + 3))

    shown, document = gaia("usage"), _json(gaia("usage", "--json"))

    assert "and 3 more" in shown.stdout
    assert shown.stdout.count("    hello/m1, task ") == MOST_SHOWN
    assert len(document["unknown"]) == MOST_SHOWN + 3


# -- one operation ----------------------------------------------------------------


def test_an_operation_of_unknown_outcome_is_shown(gaia: Gaia, note: Note) -> None:
    """A person reads what was tried, what is held, and whom to ask."""
    (lost,) = note(Story(ends="unknown", campaign="strahd", user="ada"))

    result = gaia("usage", "--operation", lost)

    task = _json(gaia("usage", "--operation", lost, "--json"))["attempts"][0]["task_id"]
    advice = f"ask hello about task {task}; if it was never made, ask again; "
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"Operation {lost}: unknown",
        "  capability  text-to-image",
        "  campaign    strahd",
        "  user        ada",
        f"  accepted    {TODAY:%Y-%m-%d %H:%M:%S} UTC",
        *(line for line in result.stdout.splitlines() if line.startswith("  ended ")),
        "  cost        not known",
        "  held        $0.04",
        "  error       so it ended",
        "  attempt 1: hello/m1, ambiguous, $0.04, 0.0 s",
        f"    task {task}",
        "",
        f"next: {advice}after 24 hours, what is held counts as spent",
    ]


def test_an_operation_as_json(gaia: Gaia, note: Note) -> None:
    """The document holds everything that is on record of it."""
    (lost,) = note(Story(ends="unknown", campaign="strahd", user="ada"))

    document = _json(gaia("usage", "--json", "--operation", lost))

    (attempt,) = document.pop("attempts")
    assert document.pop("created_at") == TODAY.isoformat()
    assert document.pop("finished_at") is not None
    assert "ask hello about task" in document.pop("next_step")
    assert (attempt["provider"], attempt["outcome"]) == ("hello", "ambiguous")
    assert document == {
        "operation_id": lost,
        "capability": "text-to-image",
        "state": "unknown",
        "campaign": "strahd",
        "user": "ada",
        "batch_id": None,
        "line": None,
        "provider": None,
        "model": None,
        "cost_usd": None,
        "held_usd": 0.04,
        "images": [],
        "words": None,
        "error_type": "SomeError",
        "error": "so it ended",
    }


def test_an_operation_names_its_pictures(
    gaia: Gaia, install: Install, book: Path
) -> None:
    """Each picture is named with its path; one that was removed is gone."""
    install()
    made = _json(gaia("generate", "a dragon", "-n", 2, "--size", 16, "--json"))
    first, second = (Path(image["path"]) for image in made["images"])
    second.unlink()

    result = gaia("usage", "--operation", made["operation_id"])
    document = _json(gaia("usage", "--operation", made["operation_id"], "--json"))

    assert book.exists()
    assert f"  picture     {first}\n" in result.stdout
    assert f"  picture     {made['images'][1]['id']} is gone\n" in result.stdout
    assert "next: nothing is open\n" in result.stdout
    assert [image["path"] for image in document["images"]] == [str(first), None]
    assert document["next_step"] is None


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["words", "json"])
def test_an_operation_that_is_not_there(
    gaia: Gaia, note: Note, options: tuple[str, ...]
) -> None:
    """An identifier that the ledger does not know is a failure, in a sentence."""
    note(Story())

    result = gaia("usage", "--operation", "0" * 32, *options)

    assert result.exit_code == 1
    assert f"There is no operation '{'0' * 32}' in this ledger." in result.output


def test_one_operation_takes_no_groups(gaia: Gaia, install: Install) -> None:
    """Groups and days make no sense of one operation."""
    install()

    result = gaia("usage", "--operation", "0" * 32, "--by", "day")

    assert result.exit_code == 2
    assert "--operation shows one operation" in result.stderr


@pytest.mark.parametrize(
    ("state", "batch", "expected"),
    [
        pytest.param("accepted", None, "nothing was sent yet", id="accepted"),
        pytest.param("queued", "b1", "`gaia batch resume b1` goes on", id="queued"),
        pytest.param("sent", "b1", "where its process is gone", id="sent"),
        pytest.param("received", None, "made and paid", id="received"),
        pytest.param("unknown", None, "ask the provider", id="unknown"),
    ],
)
def test_every_open_state_has_a_next_step(
    state: str, batch: str | None, expected: str
) -> None:
    """What has not come to its end says what happens next."""
    operation = Operation(
        id="1",
        capability=Capability.TEXT_TO_IMAGE,
        state=OperationState(state),
        batch_id=batch,
    )

    assert expected in (next_step(operation) or "")


# -- budgets ----------------------------------------------------------------------


def test_budgets_say_what_is_left(
    gaia: Gaia, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is spent and held counts; those with the least left come first."""
    monkeypatch.setenv("GAIA_BUDGETS__TOTAL_USD", "1")
    monkeypatch.setenv("GAIA_BUDGETS__CAMPAIGN_USD", "0.10")
    note(
        Story(campaign="a"),
        Story(campaign="b", cost="0.06"),
        Story(campaign="b", cost="0.06", ends="unknown"),
        Story(user="ada"),
    )

    shown, document = gaia("usage"), _json(gaia("usage", "--json"))

    assert "Budgets, in all:" in shown.stdout
    assert "  total: $0.20 of $1.00 used, $0.80 left" in shown.stdout
    assert "  campaign:b: $0.12 of $0.10 used, $0.02 over" in shown.stdout
    assert "  campaign:a: $0.04 of $0.10 used, $0.06 left" in shown.stdout
    assert [one["scope"] for one in document["budgets"]] == [
        *("total", "campaign:b", "campaign:a")
    ]
    assert document["budgets"][0] == {
        "scope": "total",
        "per": "forever",
        "limit_usd": 1.0,
        "used_usd": 0.2,
        "left_usd": 0.8,
    }


def test_immense_budgets_are_exact(
    gaia: Gaia, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large a budget is, what is used of it shows in what is left."""
    monkeypatch.setenv("GAIA_BUDGETS__TOTAL_USD", "1e30")
    note(Story())

    result = gaia("usage")

    assert "$0.04 of $1" in result.stdout
    assert f"${'9' * 30}.96 left" in result.stdout


def test_budgets_count_from_the_beginning_of_their_period(
    gaia: Gaia, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spent in an earlier month counts no more."""
    monkeypatch.setenv("GAIA_BUDGETS__USER_USD", "1")
    monkeypatch.setenv("GAIA_BUDGETS__PER", "month")
    note(
        Story(user="ada", at=datetime(2020, 1, 1, tzinfo=UTC)),
        Story(user="ada", cost="0.01"),
    )

    result = gaia("usage")

    assert "Budgets, this month:" in result.stdout
    assert "  user:ada: $0.01 of $1.00 used, $0.99 left" in result.stdout


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        pytest.param(Period.DAY, "2026-11-22T00:00:00+00:00", id="day"),
        pytest.param(Period.MONTH, "2026-11-01T00:00:00+00:00", id="month"),
        pytest.param(Period.FOREVER, None, id="for-ever"),
    ],
)
def test_periods_begin_at_midnight(period: Period, expected: str | None) -> None:
    """Days and months are those of UTC."""
    begun = beginning(period, datetime(2026, 11, 22, 16, 40, tzinfo=UTC))

    assert (begun and begun.isoformat()) == expected


# -- all of it --------------------------------------------------------------------


def test_usage_as_json(gaia: Gaia, note: Note) -> None:
    """The document holds rows, their sum, budgets and unknown outcomes."""
    note(Story(campaign="a", model="m2"))

    result = gaia("usage", "--by=model", "--since=2020-01-01", "--json")

    sums = {
        "operations": 1,
        "done": 1,
        "failed": 0,
        "unknown": 0,
        "cancelled": 0,
        "images": 0,
        "cost_usd": 0.04,
        "held_usd": 0.0,
    }
    assert result.exit_code == 0
    assert _json(result) == {
        "by": ["model"],
        "since": "2020-01-01",
        "until": None,
        "rows": [{"model": "m2", **sums}],
        "total": sums,
        "budgets": [],
        "unknown": [],
    }


def test_what_was_generated_is_counted(
    gaia: Gaia, install: Install, book: Path
) -> None:
    """A picture made on the command line is on the book afterwards."""
    install()

    made = gaia("generate", "a dragon", "--campaign", "strahd", "--json")
    row = _json(gaia("usage", "--by=campaign", "--json"))["rows"][0]

    assert made.exit_code == 0
    assert book.exists()
    assert (row["campaign"], row["done"], row["images"]) == ("strahd", 1, 1)


def test_a_ledger_that_cannot_be_read_is_a_failure(
    gaia: Gaia, install: Install, book: Path
) -> None:
    """A file that is no ledger is named, in words."""
    install()
    book.write_text("this is no database, and it is long enough to be read as one")

    result = gaia("usage")

    assert result.exit_code == 1
    assert str(book) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("0", "$0.00", id="nothing"),
        pytest.param("12", "$12.00", id="whole"),
        pytest.param("0.000001", "$0.000001", id="smallest"),
        pytest.param("1.500000", "$1.50", id="zeros"),
        pytest.param("1E+3", "$1000.00", id="exponent"),
    ],
)
def test_sums_show_cents_at_least(value: str, expected: str) -> None:
    """Sums have two places, and more where they need them."""
    assert show_dollars(Decimal(value)) == expected
