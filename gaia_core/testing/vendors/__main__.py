"""
The vendor as a process: ``python -m gaia_core.testing.vendors '{"delay": 0.1}'``.

It takes the fields of `Vendor` as one JSON object, says on the first line of its
output where it listens, and ends when its input does.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gaia_core.testing.vendors.faults import Faults
from gaia_core.testing.vendors.server import Vendor


def made(options: dict[str, Any]) -> Vendor:
    """Make the vendor that the options describe."""
    path = options.pop("path", None)
    return Vendor(
        faults=Faults(**options.pop("faults", {})),
        path=None if path is None else Path(path),
        **options,
    )


async def serve(vendor: Vendor) -> None:
    """Serve until the input ends."""
    async with vendor:
        sys.stdout.write(f"{vendor.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(made(json.loads(sys.argv[1] if sys.argv[1:] else "{}"))))
