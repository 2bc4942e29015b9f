"""
Every error Gaia raises.

::

    GaiaError
    ├── SettingsError                 a setting is wrong
    ├── PluginError                   a plugin breaks the contract
    ├── InvalidRequestError           the request can never be served
    │   ├── InvalidImageError         the bytes are not a picture we accept
    │   └── IdempotencyConflictError  the key stands for another request
    ├── NoCapableProviderError        nobody can serve it here and now
    ├── OutcomeUnknownError           it may have been made and charged
    ├── BudgetExceededError           it would cost more than may be spent
    ├── RequestLimitError             too many requests at Gaia's own door
    ├── OperationInProgressError      the same request is under way already
    ├── StorageError                  the picture could not be kept
    ├── LedgerError                   the ledger cannot be read or written
    │   └── LeaseLostError            another process took the operation over
    └── ProviderError                 one provider failed
        ├── ProviderConnectionError   nothing was sent
        ├── ProviderTimeoutError      no answer in time
        ├── TaskRunningError          the provider is still at work on it
        ├── RateLimitError            too many requests
        ├── QuotaExceededError        the account is out of credit
        ├── AuthenticationError       the key is missing or refused
        ├── ModelError                that model is not to be had there
        ├── ContentFilteredError      refused on safety grounds
        ├── ProviderRequestError      the provider refuses the request
        ├── ProviderUnavailableError  the provider is down, and says so
        └── UnusableResultError       an answer without a usable picture

Each class says, as class attributes, what a caller may do about it: the
[outcome class][gaia_core.errors.OutcomeClass] decides about money and
repetition, ``error_type`` and ``http_status`` are what an HTTP client sees, and
``suggested_action`` is what a person should do next.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from decimal import Decimal

    from gaia_core.responses import Attempt


class OutcomeClass(StrEnum):
    """
    What is known about an attempt after it ended.

    The class decides whether the attempt may be repeated, whether another
    provider may be asked, and what happens to the money held for it.
    """

    OK = "ok"
    """A usable picture came back; it is paid for."""
    REJECTED_FINAL = "rejected_final"
    """Refused for good, not charged: repeating it cannot help."""
    REJECTED_AUTH = "rejected_auth"
    """Refused because of the account, not charged: another provider may serve."""
    REJECTED_BUSY = "rejected_busy"
    """Refused for now, not charged: it may be repeated, here or elsewhere."""
    AMBIGUOUS = "ambiguous"
    """It may have been made and charged: never repeated blindly."""
    UNUSABLE = "unusable"
    """Answered and charged, but without a picture that can be used."""


class GaiaError(Exception):
    """
    Base of every error Gaia raises on purpose.

    Attributes:
        operation_id: The operation it ended, once there is one.
        attempts: What was tried before it, in order.
    """

    error_type: ClassVar[str] = "api_error"
    http_status: ClassVar[int] = 500
    suggested_action: ClassVar[str] = "contact_support"
    operation_id: str | None = None
    attempts: "tuple[Attempt, ...]" = ()


class SettingsError(GaiaError):
    """A setting is missing, misspelt or has a value Gaia cannot use."""

    error_type = "request_error"
    suggested_action = "check_settings"


class PluginError(GaiaError):
    """A plugin breaks the contract of its hooks."""

    error_type = "unavailable_error"
    http_status = 503
    suggested_action = "check_plugins"


class InvalidRequestError(GaiaError, ValueError):
    """The request can never be served as it stands; nothing was sent."""

    error_type = "request_error"
    http_status = 422
    suggested_action = "fix_request"


class InvalidImageError(InvalidRequestError):
    """The bytes are no PNG, JPEG or WebP picture of an acceptable size."""


class IdempotencyConflictError(InvalidRequestError):
    """The idempotency key was used for another request; nothing was sent."""

    suggested_action = "use_another_key"


class NoCapableProviderError(GaiaError):
    """
    No installed provider can serve the request here and now.

    Attributes:
        reasons: Candidate (provider, or ``provider/model``) to the reason it was
            passed over.
        retry_after: Seconds until the first of them may be asked again, or None.
    """

    error_type = "unavailable_error"
    http_status = 503
    suggested_action = "check_providers"

    def __init__(
        self,
        message: str,
        reasons: Mapping[str, str],
        *,
        retry_after: float | None = None,
    ) -> None:
        """Keep the reasons and put them under the message, one per line."""
        self.reasons = dict(reasons)
        self.retry_after = retry_after
        lines = [f"  {name}: {reason}" for name, reason in self.reasons.items()]
        super().__init__("\n".join([message, *lines]))


class OutcomeUnknownError(GaiaError):
    """
    The answer was lost after the request went out: it may have been charged.

    Gaia does not repeat it. Look the operation up later by its id.

    Attributes:
        operation_id: The operation to look up.
        provider: The provider whose answer was lost.
    """

    error_type = "unknown_outcome"
    http_status = 504
    suggested_action = "look_up_operation"

    def __init__(self, message: str, *, operation_id: str, provider: str) -> None:
        """Keep what a caller needs to look the operation up."""
        super().__init__(message)
        self.operation_id = operation_id
        self.provider = provider


class BudgetExceededError(GaiaError):
    """
    The request would cost more than its budget has left; nothing was sent.

    Attributes:
        scope: Whose budget it is: ``total``, ``user:NAME`` or ``campaign:NAME``.
        retry_after: Seconds until the budget's next period, or None.
    """

    error_type = "quota_error"
    http_status = 402
    suggested_action = "raise_budget"

    def __init__(
        self, message: str, *, scope: str, retry_after: float | None = None
    ) -> None:
        """Keep whose budget it is, and when it starts again."""
        super().__init__(message)
        self.scope = scope
        self.retry_after = retry_after


class RequestLimitError(GaiaError):
    """
    Too many requests came through Gaia's own door; nothing was sent.

    Attributes:
        retry_after: Seconds until the next one is taken.
    """

    error_type = "quota_error"
    http_status = 429
    suggested_action = "retry"

    def __init__(self, message: str, *, retry_after: float) -> None:
        """Keep the wait, in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class OperationInProgressError(GaiaError):
    """
    The operation this idempotency key stands for has not ended yet.

    Attributes:
        operation_id: The operation under way.
        retry_after: Seconds after which to ask again.
    """

    error_type = "request_error"
    http_status = 409
    suggested_action = "retry"

    def __init__(
        self, message: str, *, operation_id: str, retry_after: float = 1.0
    ) -> None:
        """Keep the operation, and when to ask again."""
        super().__init__(message)
        self.operation_id = operation_id
        self.retry_after = retry_after


class LedgerError(GaiaError):
    """The ledger could not be read or written; without it nothing is sent."""

    http_status = 503
    suggested_action = "check_ledger"


class LeaseLostError(LedgerError):
    """Another process took the operation over: this one may not write it any more."""

    suggested_action = "look_up_operation"


class StorageError(GaiaError):
    """A picture could not be written to or read from the image store."""

    http_status = 507
    suggested_action = "check_storage"


class ProviderError(GaiaError):
    """
    One provider failed to serve one attempt.

    Providers raise the subclasses; anything else that escapes a hook counts as
    `AMBIGUOUS`, because nobody knows whether it was charged.

    Attributes:
        retry_after: Seconds the provider asked to wait, or None.
        outcome: What the failure says about money and repetition.
        is_fallback_allowed: Whether another provider may be asked.
    """

    error_type = "api_error"
    http_status = 502
    suggested_action = "use_fallback"
    outcome: ClassVar[OutcomeClass] = OutcomeClass.AMBIGUOUS
    is_fallback_allowed: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the wait the provider asked for, in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class ProviderConnectionError(ProviderError):
    """The connection failed before anything was sent: not charged."""

    error_type = "connection_error"
    http_status = 503
    suggested_action = "retry"
    outcome = OutcomeClass.REJECTED_BUSY
    is_fallback_allowed = True


class ProviderTimeoutError(ProviderError):
    """No answer in time, after the request was sent: possibly charged."""

    error_type = "connection_error"
    http_status = 504
    suggested_action = "look_up_operation"


class TaskRunningError(ProviderError):
    """
    The provider is still at work on the task: what becomes of it is seen later.

    Looking a task up raises it; the task is then asked about again.
    """

    error_type = "connection_error"
    http_status = 504
    suggested_action = "look_up_operation"


class RateLimitError(ProviderError):
    """The provider takes no more requests for now."""

    error_type = "quota_error"
    http_status = 429
    suggested_action = "retry"
    outcome = OutcomeClass.REJECTED_BUSY
    is_fallback_allowed = True


class QuotaExceededError(ProviderError):
    """The account at the provider is out of credit."""

    error_type = "quota_error"
    http_status = 402
    outcome = OutcomeClass.REJECTED_AUTH
    is_fallback_allowed = True


class AuthenticationError(ProviderError):
    """The provider refuses the key, or there is none."""

    outcome = OutcomeClass.REJECTED_AUTH
    is_fallback_allowed = True
    suggested_action = "check_settings"


class ModelError(ProviderError):
    """The model does not exist there, or cannot do this."""

    error_type = "model_error"
    http_status = 404
    outcome = OutcomeClass.REJECTED_FINAL
    is_fallback_allowed = True


class ContentFilteredError(ProviderError):
    """
    The provider refuses the prompt or the picture on safety grounds.

    Final for the operation: the prompt is not taken to another provider.
    """

    error_type = "content_error"
    http_status = 422
    suggested_action = "change_prompt"
    outcome = OutcomeClass.REJECTED_FINAL


class ProviderRequestError(ProviderError):
    """The provider refuses the request as malformed or out of its limits."""

    error_type = "request_error"
    http_status = 422
    suggested_action = "fix_request"
    outcome = OutcomeClass.REJECTED_FINAL


class ProviderUnavailableError(ProviderError):
    """The provider says it cannot work now: not charged."""

    error_type = "unavailable_error"
    http_status = 503
    suggested_action = "retry"
    outcome = OutcomeClass.REJECTED_BUSY
    is_fallback_allowed = True


class UnusableResultError(ProviderError):
    """
    The provider answered, and charged, without a picture that can be used.

    Attributes:
        cost_usd: What it charged, in US dollars; None: it does not say, and the
            price of the catalogue is booked.
    """

    outcome = OutcomeClass.UNUSABLE
    suggested_action = "contact_support"
    cost_usd: "Decimal | None" = None

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        cost_usd: "Decimal | None" = None,
    ) -> None:
        """Keep what the provider charged."""
        super().__init__(message, retry_after=retry_after)
        self.cost_usd = cost_usd
