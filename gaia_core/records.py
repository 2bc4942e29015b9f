"""
Requests as plain data: for the ledger, for batch files, for comparing.

A record is JSON. Pictures are in it by their digest, so that a record is small and
two requests are equal exactly if their records are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gaia_core.images import Image
from gaia_core.requests import Request


def to_record(request: Request) -> dict[str, Any]:
    """Write a request down: ``operation``, and every field that is not its default."""
    raise NotImplementedError


def from_record(
    record: Mapping[str, Any], pictures: Callable[[str], Image]
) -> Request:
    """
    Read a request that `to_record` wrote.

    Args:
        record: What it wrote.
        pictures: Gives the picture of a digest.
    """
    raise NotImplementedError
