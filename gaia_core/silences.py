"""Telling once what many operations come upon at the same time."""

import time

import attrs

_SECONDS = 30.0


@attrs.define(eq=False, kw_only=True)
class Silences:
    """
    Knows what was told a moment ago.

    Attributes:
        seconds: How long that is: about the time between two looks at a batch.
    """

    seconds: float = _SECONDS
    _told: dict[tuple[str, str], float] = attrs.field(factory=dict, init=False)

    def is_news(self, provider: str, words: str) -> bool:
        """
        Tell whether somebody has yet to hear it, and take it for told.

        >>> silences = Silences()
        >>> [silences.is_news("hello", "The batch is gone.") for _ in range(3)]
        [True, False, False]
        """
        now = time.monotonic()
        # Threads may look things up side by side, each for its own loop.
        for key, at in list(self._told.items()):
            if now - at > self.seconds:
                self._told.pop(key, None)
        key = (provider, words)
        if key in self._told:
            return False
        self._told[key] = now
        return True
