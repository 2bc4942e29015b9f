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
        ProviderUnavailableError: If weights are missing or unusable, or memory is
            short.
    """
    try:
        yield
    except GaiaError:
        raise
    except ValueError as error:
        raise ProviderRequestError(str(error)) from error
    except ImportError as error:
        message = f"gaia-offline lacks {error.name}: install it again."
        raise ProviderUnavailableError(message) from error
    except FileNotFoundError as error:
        raise ProviderUnavailableError(str(error)) from error
    except MemoryError as error:
        message = "Memory is short: ask for a smaller picture."
        raise ProviderUnavailableError(message) from error
    except Exception as error:
        # onnxruntime has a class for each of its status codes and no common base.
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        message = (
            f"A network cannot be used: {error}. Ask for a smaller picture, check the "
            "file that photo_model names, or install gaia-offline again."
        )
        raise ProviderUnavailableError(message) from error
