"""What can go wrong between a client and a vendor, and how often it does."""

import bisect
import itertools
import random
from collections.abc import Iterable, Mapping
from enum import StrEnum

import attrs


class Fault(StrEnum):
    """
    What goes wrong with one request.

    Those with ``after`` in their name come after the charge: the work is done and
    paid, and only the answer is lost.
    """

    DROP_BEFORE = "drop_before"
    """The connection is cut; nothing is made or charged."""
    DROP_AFTER = "drop_after"
    """Made and charged; the connection is cut before the answer."""
    TRUNCATED_AFTER = "truncated_after"
    """Made and charged; the connection is cut in the middle of the answer."""
    HANG_BEFORE = "hang_before"
    """No answer, and nothing is made or charged."""
    HANG_AFTER = "hang_after"
    """Made and charged, but no answer comes."""
    SLOW_AFTER = "slow_after"
    """Made and charged; the answer comes in small pieces, slowly."""
    LATE_AFTER = "late_after"
    """Made and charged; the answer comes whole, when nobody waits for it any more."""
    CLOSE_1000_AFTER = "close_1000_after"
    """Made and charged; a WebSocket is closed as if all were well (HTTP: cut)."""
    CLOSE_1001_AFTER = "close_1001_after"
    """Made and charged; a WebSocket is closed by one that goes away (HTTP: cut)."""
    CLOSE_1011_AFTER = "close_1011_after"
    """Made and charged; a WebSocket is closed for an inner error (HTTP: cut)."""
    BUSY = "busy"
    """Status 429, with Retry-After if it is set; not charged."""
    UNAVAILABLE = "unavailable"
    """Status 503, with Retry-After if it is set; not charged."""
    ERROR_BEFORE = "error_before"
    """Status 500; nothing is made or charged."""
    ERROR_AFTER = "error_after"
    """Made and charged, and status 500 all the same."""
    BAD_GATEWAY_AFTER = "bad_gateway_after"
    """Made and charged; a proxy on the way answers with status 502."""
    GATEWAY_TIMEOUT_AFTER = "gateway_timeout_after"
    """Made and charged; a proxy on the way answers with status 504."""
    UNNAMED_ERROR = "unnamed_error"
    """An error that names no task (HTTP: status 500); nothing is made or charged."""
    BAD_REQUEST = "bad_request"
    """Status 400: the request is refused as malformed."""
    FILTERED = "filtered"
    """Status 400: the prompt is refused on safety grounds."""
    UNAUTHORISED = "unauthorised"
    """Status 401: the key is refused."""
    NO_CREDIT = "no_credit"
    """Status 402: the account is empty."""
    NO_MODEL = "no_model"
    """Status 404: the model is not to be had."""
    BAD_IMAGE_AFTER = "bad_image_after"
    """Charged, and answered with bytes that are no picture."""
    EMPTY_AFTER = "empty_after"
    """Charged, and answered without any picture."""
    PARTIAL_AFTER = "partial_after"
    """All pictures but the last are made, charged and answered; of one, that one."""

    @property
    def is_charged(self) -> bool:
        """Whether the work is done and charged before it goes wrong."""
        return self.endswith("_after")

    @property
    def close_code(self) -> int | None:
        """The code a WebSocket is closed with, or None: it is not about that."""
        return _CLOSE_CODES.get(self)

    @property
    def status(self) -> int | None:
        """The status it is answered with, or None: it is not about a status."""
        return _STATUS.get(self)


_STATUS = {
    Fault.BUSY: 429,
    Fault.UNAVAILABLE: 503,
    Fault.ERROR_BEFORE: 500,
    Fault.ERROR_AFTER: 500,
    Fault.BAD_GATEWAY_AFTER: 502,
    Fault.GATEWAY_TIMEOUT_AFTER: 504,
    Fault.UNNAMED_ERROR: 500,
    Fault.BAD_REQUEST: 400,
    Fault.FILTERED: 400,
    Fault.UNAUTHORISED: 401,
    Fault.NO_CREDIT: 402,
    Fault.NO_MODEL: 404,
}
_CLOSE_CODES = {
    Fault.CLOSE_1000_AFTER: 1000,
    Fault.CLOSE_1001_AFTER: 1001,
    Fault.CLOSE_1011_AFTER: 1011,
}


def _script(values: Iterable[Fault | str | None]) -> tuple[Fault | None, ...]:
    return tuple(None if value is None else Fault(value) for value in values)


def _rates(
    values: Mapping[Fault, float] | Mapping[str, float],
) -> dict[Fault, float]:
    return {Fault(name): rate for name, rate in values.items()}


def _check_rates(
    _: object, __: "attrs.Attribute[dict[Fault, float]]", rates: dict[Fault, float]
) -> None:
    shares = list(rates.values())
    # A sum of tenths may be a little more than one.
    if any(share < 0 for share in shares) or sum(shares) > 1 + 1e-9:
        message = f"rates must be shares of 1 in all, not {shares}"
        raise ValueError(message)


@attrs.frozen(kw_only=True)
class Faults:
    """
    What goes wrong, and with which requests.

    A share of requests is drawn by their prompt and by how often it came before,
    not by the order they arrive in: however the work is spread over time, the same
    seed spoils the same requests.

    >>> faults = Faults(script=[Fault.DROP_AFTER, None], rates={"busy": 1.0})
    >>> [str(faults.drawn(number, "a keep", number)) for number in range(3)]
    ['drop_after', 'None', 'busy']

    Attributes:
        script: What becomes of the first requests, one each; None: nothing wrong.
        rates: Fault to its share of all further requests.
        seed: Draws other ones.
        retry_after: Seconds that `BUSY` and `UNAVAILABLE` ask to wait.
        slow_seconds: How long `SLOW_AFTER` takes to answer.
        late_seconds: After how long `LATE_AFTER` answers.
        hang_seconds: How long the hanging ones hold the connection.
    """

    script: tuple[Fault | None, ...] = attrs.field(default=(), converter=_script)
    rates: dict[Fault, float] = attrs.field(
        factory=dict, converter=_rates, validator=_check_rates
    )
    seed: int = 0
    retry_after: float | None = None
    slow_seconds: float = 1.0
    late_seconds: float = 5.0
    hang_seconds: float = 3_600.0

    def drawn(self, number: int, prompt: str, times: int) -> Fault | None:
        """
        Say what goes wrong with a request.

        Args:
            number: How many requests came before it.
            prompt: What it asks for.
            times: How many of those asked for the same.
        """
        if number < len(self.script):
            return self.script[number]
        dice = random.Random(f"{self.seed}/{times}/{prompt}")  # noqa: S311  repeatable
        shares = list(itertools.accumulate(self.rates.values()))
        return [*self.rates, None][bisect.bisect(shares, dice.random())]
