"""Tables on terminals: which columns give way, and which never do."""

import pytest

from gaia_core.cli.tables import FIRM, LEAST, fit

HEADINGS = ("Name", "Day", "Cost", "Reason")
ROW = ("a-name-of-twenty-let", "2026-11-22 16:40", "$1000000000.123456", "why " * 12)


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        pytest.param(200, [20, 16, 18, 48], id="room-for-all"),
        pytest.param(80, [20, 16, 18, 26], id="reasons-give-way"),
        pytest.param(60, [14, 16, 18, 12], id="names-give-way-last"),
        pytest.param(20, [12, 16, 18, 12], id="never-numbers-and-dates"),
    ],
)
def test_long_texts_give_way(room: int, expected: list[int]) -> None:
    """Numbers and dates keep their width, even where there is no room."""
    assert fit(HEADINGS, [ROW], room) == expected


def test_headings_are_never_broken() -> None:
    """A column is as wide as its heading, however long its texts."""
    heading = "A rather long heading"

    widths = fit(("A", heading), [("1", "a " * 50)], 10)

    assert widths == [1, len(heading)]


def test_wide_letters_count_twice() -> None:
    """What takes two places on a terminal is given two."""
    assert fit(("A",), [("\u9f99" * 4,)], 80) == [8]


def test_what_is_firm_holds_a_moment() -> None:
    """A date with its time is never broken; a longer column may become narrower."""
    assert len("2026-11-22 16:40") == FIRM
    assert LEAST < FIRM
