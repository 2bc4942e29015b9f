"""Telling a host how far its work is, whatever thread the work is done in."""

import asyncio
import threading

from gaia_core.context import Progress, ignore_progress
from gaia_core.images import Image
from gaia_core.observability import get_logger


def brought_home(progress: Progress) -> Progress:
    """
    Bring progress to the thread of the running loop, where the host listens.

    A host that fails at it ends no work: that costs a line in the log.

    Args:
        progress: What the host listens with.
    """
    if progress is ignore_progress:
        return ignore_progress
    loop, home = asyncio.get_running_loop(), threading.get_ident()

    def tell(fraction: float, preview: Image | None) -> None:
        try:
            progress(fraction, preview)
        except Exception as error:  # noqa: BLE001  the host's own business
            get_logger().warning("gaia.progress_failed", error=type(error).__name__)

    def report(fraction: float, preview: Image | None) -> None:
        if threading.get_ident() == home:
            tell(fraction, preview)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(tell, fraction, preview)

    return report
