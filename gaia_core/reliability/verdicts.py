"""Decide what attempts say about the health of their provider."""

import math
from enum import Enum

from gaia_core.errors import OutcomeClass, ProviderError, RateLimitError

IN_A_ROW, LONGEST_ROW = 5, 20
"""Failures in a row that mean trouble; as many where failures are common."""
ENOUGH = 20
"""How many calls say something about a share."""
_CHANCE = 1e-6
"""How likely a row of failures may be by chance alone."""


class Verdict(Enum):
    """What an attempt says about the health of its provider."""

    SUCCESS = "a picture"
    FAILURE = "no sign of health"
    REFUSAL = "a definite answer: no failure, and a sign of life"
    UNUSABLE = "an answer without a picture: a failure from the third in a row"
    NOTHING = "the provider was not asked"


_BY_OUTCOME = {
    OutcomeClass.OK: Verdict.SUCCESS,
    OutcomeClass.AMBIGUOUS: Verdict.FAILURE,
    OutcomeClass.UNUSABLE: Verdict.UNUSABLE,
}


def judge(outcome: OutcomeClass, error: Exception | None = None) -> Verdict:
    """
    Tell what an attempt says about the health of its provider.

    Too many requests are the business of the gate, not a failure.

    Args:
        outcome: How it ended.
        error: What ended it.
    """
    if outcome in _BY_OUTCOME:
        return _BY_OUTCOME[outcome]
    if error is not None and not isinstance(error, ProviderError):
        # What a provider's own code refuses, nobody was asked for.
        return Verdict.NOTHING
    is_busy = outcome is OutcomeClass.REJECTED_BUSY
    is_down = is_busy and not isinstance(error, RateLimitError)
    return Verdict.FAILURE if is_down else Verdict.REFUSAL


def row_needed(calls: int, failures: int) -> int:
    """
    Tell how many failures in a row mean trouble.

    Where three in ten fail anyway, five in a row come by every few hundred calls
    and mean nothing.

    >>> row_needed(1_000, 0), row_needed(1_000, 300)
    (5, 12)

    Args:
        calls: How many there were before the row.
        failures: How many of them failed.
    """
    if calls < ENOUGH or failures <= 0:
        return IN_A_ROW
    # Two more each way: a small sample looks too good, or too bad.
    share = (failures + 2) / (calls + 4)
    by_chance = math.ceil(math.log(_CHANCE) / math.log(share))
    return min(max(IN_A_ROW, by_chance), LONGEST_ROW)
