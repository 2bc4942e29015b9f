"""The progress bar: on standard error, and only where a person sees it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gaia_core.context import Progress, ignore_progress

if TYPE_CHECKING:
    from gaia_core.images import Image


@contextmanager
def show_progress(label: str) -> Iterator[Progress]:
    """Draw a bar while the block runs; gives what reports the fraction."""
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    with _bar(label) as progress:
        yield progress


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - 60 ms
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - 60 ms

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Without a total the bar pulses: nobody has told yet how far it is.
        task = bar.add_task(label, total=None)

        def report(fraction: float, _preview: "Image | None") -> None:
            bar.update(task, total=1.0, completed=fraction)

        yield report
