"""
Gaia images: make, edit, enlarge and cut out pictures through any provider.

A host holds a `Gaia`; an author of a provider needs the values, the errors and
`hookimpl`. Whatever is listed in ``__all__`` stays; everything else may change.

A name is imported when it is first asked for: a provider's module takes a few values
from here, and `gaia models` must not wait for all that a `Gaia` is made of.
"""

import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from gaia_core.capabilities import Capability
    from gaia_core.catalog import (
        FREE,
        Health,
        HealthLevel,
        ModelInfo,
        ModelState,
        Price,
        ProviderInfo,
        Quality,
        Speed,
    )
    from gaia_core.choices import Delivery
    from gaia_core.context import CallContext
    from gaia_core.engine import Gaia
    from gaia_core.errors import (
        AuthenticationError,
        BudgetExceededError,
        ContentFilteredError,
        GaiaError,
        IdempotencyConflictError,
        InvalidImageError,
        InvalidRequestError,
        LeaseLostError,
        LedgerError,
        ModelError,
        NoCapableProviderError,
        OperationInProgressError,
        OutcomeClass,
        OutcomeUnknownError,
        PluginError,
        ProviderConnectionError,
        ProviderError,
        ProviderRequestError,
        ProviderTimeoutError,
        ProviderUnavailableError,
        QuotaExceededError,
        RateLimitError,
        RequestLimitError,
        SettingsError,
        StorageError,
        TaskRunningError,
        UnusableResultError,
    )
    from gaia_core.hookspecs import hookimpl
    from gaia_core.images import Image
    from gaia_core.ledger import Batch, BatchEvent, Operation, OperationState
    from gaia_core.metrics import Statistics
    from gaia_core.png import write_png
    from gaia_core.requests import (
        DescribeImageRequest,
        EnhancePromptRequest,
        GenerateRequest,
        Lora,
        Outpaint,
        RemoveBackgroundRequest,
        UpscaleRequest,
    )
    from gaia_core.responses import (
        Attempt,
        DescriptionResponse,
        ImageResponse,
        PromptResponse,
        StoredImage,
    )
    from gaia_core.results import (
        DescriptionResult,
        DigitalSource,
        GeneratedImage,
        ImageResult,
        PromptResult,
    )
    from gaia_core.selection import Plan
    from gaia_core.settings import Policy, Secret, Settings, load_settings, setting

__all__ = [
    "FREE",
    "Attempt",
    "AuthenticationError",
    "Batch",
    "BatchEvent",
    "BudgetExceededError",
    "CallContext",
    "Capability",
    "ContentFilteredError",
    "Delivery",
    "DescribeImageRequest",
    "DescriptionResponse",
    "DescriptionResult",
    "DigitalSource",
    "EnhancePromptRequest",
    "Gaia",
    "GaiaError",
    "GenerateRequest",
    "GeneratedImage",
    "Health",
    "HealthLevel",
    "IdempotencyConflictError",
    "Image",
    "ImageResponse",
    "ImageResult",
    "InvalidImageError",
    "InvalidRequestError",
    "LeaseLostError",
    "LedgerError",
    "Lora",
    "ModelError",
    "ModelInfo",
    "ModelState",
    "NoCapableProviderError",
    "Operation",
    "OperationInProgressError",
    "OperationState",
    "OutcomeClass",
    "OutcomeUnknownError",
    "Outpaint",
    "Plan",
    "PluginError",
    "Policy",
    "Price",
    "PromptResponse",
    "PromptResult",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderInfo",
    "ProviderRequestError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "Quality",
    "QuotaExceededError",
    "RateLimitError",
    "RemoveBackgroundRequest",
    "RequestLimitError",
    "Secret",
    "Settings",
    "SettingsError",
    "Speed",
    "Statistics",
    "StorageError",
    "StoredImage",
    "TaskRunningError",
    "UnusableResultError",
    "UpscaleRequest",
    "hookimpl",
    "load_settings",
    "setting",
    "write_png",
]

_HOMES = {
    "capabilities": "Capability",
    "catalog": (
        "FREE Health HealthLevel ModelInfo ModelState Price ProviderInfo Quality Speed"
    ),
    "choices": "Delivery",
    "context": "CallContext",
    "engine": "Gaia",
    "errors": (
        "AuthenticationError BudgetExceededError ContentFilteredError GaiaError "
        "IdempotencyConflictError InvalidImageError InvalidRequestError "
        "LeaseLostError LedgerError ModelError NoCapableProviderError "
        "OperationInProgressError OutcomeClass OutcomeUnknownError PluginError "
        "ProviderConnectionError ProviderError ProviderRequestError "
        "ProviderTimeoutError ProviderUnavailableError QuotaExceededError "
        "RateLimitError RequestLimitError SettingsError StorageError "
        "TaskRunningError UnusableResultError"
    ),
    "hookspecs": "hookimpl",
    "images": "Image",
    "ledger": "Batch BatchEvent Operation OperationState",
    "metrics": "Statistics",
    "png": "write_png",
    "requests": (
        "DescribeImageRequest EnhancePromptRequest GenerateRequest Lora "
        "Outpaint RemoveBackgroundRequest UpscaleRequest"
    ),
    "responses": "Attempt DescriptionResponse ImageResponse PromptResponse StoredImage",
    "results": (
        "DescriptionResult DigitalSource GeneratedImage ImageResult PromptResult"
    ),
    "selection": "Plan",
    "settings": "Policy Secret Settings load_settings setting",
}
"""Module to the public names in it, for those who import at run time."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name from where it is at home, and keep it."""
        home = _HOME_OF.get(name)
        if home is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = getattr(_import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Name what there is, imported or not."""
        return sorted({*globals(), *__all__})
