"""
What Gaia counts and measures, through one small interface.

`Metrics` is the interface; `MemoryMetrics` keeps the figures of this process and
gives them as `Statistics`. A server exports them by handing in another one.
"""

from typing import Protocol


class Metrics(Protocol):
    """Told of everything that can be counted; must not raise, and not wait."""

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note one measurement, in the unit the name ends with."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a value that goes up and down."""
