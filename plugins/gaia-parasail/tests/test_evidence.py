"""What proves that a request was never carried out, and what does not."""

from typing import Any

import pytest

from gaia_core import OutcomeClass
from gaia_parasail.batch_files import line_of
from gaia_parasail.desks import BatchState
from gaia_parasail.errors import refused_line


@pytest.mark.parametrize(
    ("state", "told", "is_all"),
    [
        ({"carried_out": 0}, 0, True),
        ({"carried_out": 3}, 3, True),
        ({"carried_out": 3}, 2, False),
        ({"carried_out": 0}, 2, False),
        ({"carried_out": None}, 0, False),
        ({"carried_out": 0, "status": "completed"}, 0, False),
    ],
    ids=[
        *("nothing", "all", "some are missing", "numbers that are wrong"),
        *("no numbers", "not stopped"),
    ],
)
def test_only_numbers_that_agree_with_the_files_prove_anything(
    state: dict[str, Any], told: int, *, is_all: bool
) -> None:
    """What is not told of may be made anew only where the service counts as we do."""
    stopped = BatchState(**{"id": "b", "status": "cancelled"} | state)

    assert stopped.has_told_all(told) is is_all


def test_odd_codes_in_a_line_are_no_codes() -> None:
    """A code may be anything; one line must not spoil the reading of the others."""
    line = line_of(b'{"custom_id": "a", "error": {"code": ["batch_expired"]}}')

    assert not line.is_untouched
    assert refused_line(line.error, None).outcome is OutcomeClass.AMBIGUOUS
