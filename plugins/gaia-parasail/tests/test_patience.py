"""Waiting for what takes hours, and for no longer than agreed."""

import asyncio
import time

import pytest

from gaia_core import AuthenticationError, OutcomeClass, ProviderError
from gaia_core.errors import ProviderTimeoutError
from gaia_parasail.patience import Patience


async def test_an_answer_without_an_end_is_given_up() -> None:
    """Whoever neither answers nor fails keeps nobody beyond the deadline."""
    patience = Patience(interval=0.01, deadline=time.monotonic() + 0.3)

    with pytest.raises(ProviderTimeoutError):
        await patience.until_answered(asyncio.Event().wait)


async def test_who_refuses_again_and_again_is_left() -> None:
    """A refusal to look says nothing about the work: that stays in doubt."""
    asked = 0

    async def refuse() -> None:
        nonlocal asked
        asked += 1
        message = "no such key"
        raise AuthenticationError(message)

    patience = Patience(interval=0.001, deadline=time.monotonic() + 60)

    with pytest.raises(ProviderError) as caught:
        await patience.until_answered(refuse)

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS
    assert asked == 10
