"""Turn what goes wrong in the networks into the errors Gaia knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from gaia_core import GaiaError, ProviderRequestError, ProviderUnavailableError


@contextmanager
def translated() -> Iterator[None]:
    """
    Translate errors at the edge of this room.

    Nothing here costs money, so whatever cannot be done is a plain refusal.

    Raises:
        ProviderRequestError: If the request asks for what a network cannot do.
        ProviderUnavailableError: If weights are missing or memory is short.
    """
    try:
        yield
    except GaiaError:
        raise
    except ValueError as error:
        raise ProviderRequestError(str(error)) from error
    except (ImportError, FileNotFoundError) as error:
        missing = getattr(error, "name", None) or getattr(error, "filename", None)
        message = f"gaia-offline lacks {missing}: install it again."
        raise ProviderUnavailableError(message) from error
    except MemoryError as error:
        message = "Memory is short: ask for a smaller picture."
        raise ProviderUnavailableError(message) from error
