"""Reading what an item asks for, as it was written down."""

from collections.abc import Callable, Mapping
from typing import Any

from gaia_core.errors import InvalidRequestError
from gaia_core.images import Image
from gaia_core.ledger import Operation
from gaia_core.records import from_record
from gaia_core.requests import Request
from gaia_core.storage import ImageStorage


async def request_of(item: Operation, storage: ImageStorage) -> Request:
    """
    Read a request, with the pictures it brought along.

    Raises:
        StorageError: If one of them is missing or damaged.
        InvalidRequestError: If it cannot be read.
    """
    if item.request is None:
        message = "The ledger does not say what was asked for."
        raise InvalidRequestError(message)
    pictures = {
        digest: await storage.read_input(digest)
        for digest in sorted(_digests(item.request))
    }
    return from_record(item.request, _reader(pictures))


def _reader(pictures: Mapping[str, Image]) -> Callable[[str], Image]:
    def read(digest: str) -> Image:
        if digest not in pictures:
            message = f"The picture {digest} is not where a picture belongs."
            raise InvalidRequestError(message)
        return pictures[digest]

    return read


def _digests(record: Mapping[str, Any]) -> set[str]:
    """Name the pictures a record refers to."""
    names = ("image", "mask_image")
    given = [record.get(name) for name in names]
    given += record.get("reference_images", ())
    return {one["sha256"] for one in given if isinstance(one, Mapping)}
