"""Decide from an error what is known about money and repetition."""

from collections.abc import Sequence

from gaia_core.errors import (
    InvalidRequestError,
    ModelError,
    OutcomeClass,
    ProviderError,
    ProviderTimeoutError,
)
from gaia_core.responses import Attempt


def classify(error: BaseException) -> OutcomeClass:
    """
    Tell what an attempt that ended with an error means.

    Providers raise `ProviderError`, or `InvalidRequestError` where what the
    caller sent cannot be used; anything else that escapes a hook is ambiguous,
    because nobody knows how far it came.

    >>> classify(KeyError("images"))
    <OutcomeClass.AMBIGUOUS: 'ambiguous'>
    """
    if isinstance(error, ProviderError):
        return error.outcome
    if isinstance(error, InvalidRequestError):
        return OutcomeClass.REJECTED_FINAL
    return OutcomeClass.AMBIGUOUS


def may_fall_back(error: BaseException, *, is_free: bool) -> bool:
    """
    Tell whether another provider may be asked after an error.

    Args:
        error: What ended the attempt.
        is_free: The attempt cost nothing, so that its outcome, though unknown,
            cannot be paid twice.
    """
    if classify(error) is OutcomeClass.AMBIGUOUS:
        return is_free
    return isinstance(error, ProviderError) and error.is_fallback_allowed


def is_model_missing(error: BaseException) -> bool:
    """Tell whether another model of the same provider may serve."""
    return isinstance(error, ModelError)


def is_put_off(error: BaseException, attempts: Sequence[Attempt]) -> bool:
    """
    Tell whether somebody who had no time may serve the same request later.

    Args:
        error: What ended the operation.
        attempts: What was tried this time; all of it was free.
    """
    if classify(error) is OutcomeClass.REJECTED_BUSY:
        return True
    if not attempts or not isinstance(error, ProviderError):
        return False
    # Time ran out while it waited for its turn: that is no attempt of its own.
    has_waited = attempts[-1].outcome is not OutcomeClass.AMBIGUOUS
    is_out_of_time = isinstance(error, ProviderTimeoutError) and has_waited
    is_busy = any(one.outcome is OutcomeClass.REJECTED_BUSY for one in attempts)
    return is_busy and (is_out_of_time or error.is_fallback_allowed)
