"""How long to wait before a repeat."""

import math
from random import Random

FIRST_WAIT = 0.5
LONGEST_WAIT = 20.0
PATIENCE = 60.0
"""The longest wait a provider may ask for before Gaia gives up on it."""
_SPREAD = 0.5
"""The part of a configured wait that is drawn, so that no two callers share it."""
_HIGHEST_POWER = 16


def full_jitter(repeats: int, *, random: Random) -> float:
    """
    Draw a wait that grows with the repeats, and that no two callers share.

    Args:
        repeats: How often it was asked again already.
        random: What draws.
    """
    power = min(repeats, _HIGHEST_POWER)
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**power))


def growing_from(delay: float, repeats: int, *, random: Random) -> float:
    """
    Draw a wait that somebody chose the first of, and that doubles with the repeats.

    It is at least half of what was chosen: who asks for two seconds wants no wait of
    none, as `full_jitter` may draw it.

    Args:
        delay: Seconds before the first repetition.
        repeats: How often it was asked again already.
        random: What draws.
    """
    power = min(repeats, _HIGHEST_POWER)
    wait = min(max(delay, LONGEST_WAIT), delay * 2.0**power)
    return wait * (1 - random.uniform(0, _SPREAD))


def wait_for(
    repeats: int,
    *,
    retry_after: float | None,
    random: Random,
    delay: float | None = None,
) -> float | None:
    """
    Give the seconds to wait, or None where the provider asks for too many.

    Args:
        repeats: How often it was asked again already.
        retry_after: What the provider asks for; None: nothing.
        random: What draws.
        delay: Seconds before the first repetition; None: as Gaia does.
    """
    if delay is None:
        wait = full_jitter(repeats, random=random)
    else:
        wait = growing_from(delay, repeats, random=random)
    floor = asked_for(retry_after)
    if floor is None:
        return wait
    if floor > PATIENCE:
        return None
    return max(wait, floor * (1 + random.uniform(0, 0.1)))


def asked_for(retry_after: float | None) -> float | None:
    """Give the wait a provider asks for, or None where it is no time at all."""
    if retry_after is None or math.isnan(retry_after) or retry_after <= 0:
        return None
    return retry_after
