"""
Requests that a client's own library sends again, without a key that says so.

The `openai` libraries repeat a request by themselves after a lost connection, a
timeout or a server's failure, and send no idempotency key with it: what was paid
for the first time would be paid for again. They do count, in a header. So the
first try gets a key here, and the next ones of the same content get the same.
"""

import uuid
from datetime import UTC, datetime, timedelta

import attrs
from cachetools import TTLCache
from fastapi import Request as HttpRequest

from gaia_core.ledger import Ledger
from gaia_core.records import fingerprint
from gaia_core.requests import Request
from gaia_core.server.access import Principal

COUNT_HEADER = "x-stainless-retry-count"
"""The header in which a client counts how often it has sent a request again."""
REMEMBERED = 1_800.0
"""How long a first try is remembered, in seconds: longer than clients go on."""
MOST = 10_000
"""How many first tries are remembered."""

_MOST_DIGITS = 6
_MOST_LISTED = 200
_PREFIX = "resent-"


@attrs.frozen(kw_only=True)
class Try:
    """
    One request of a client that counts its tries.

    Attributes:
        key: The idempotency key it goes by.
        digest: Who asks, and for what.
    """

    key: str
    digest: tuple[str, str] = attrs.field(repr=False)


@attrs.define(eq=False)
class Resends:
    """Gives every request that may be sent again its key."""

    _tries: "TTLCache[tuple[str, str], str]" = attrs.field(
        factory=lambda: TTLCache(MOST, REMEMBERED), init=False, repr=False
    )

    async def known(
        self,
        http: HttpRequest,
        request: Request,
        principal: Principal,
        ledger: Ledger,
    ) -> Try | None:
        """
        Give the key of a request; None: its client does not count.

        Args:
            http: The request as it came.
            request: What it asks for.
            principal: Who asks.
            ledger: Where first tries are found that another process was asked for.
        """
        count = http.headers.get(COUNT_HEADER, "")
        if not (count.isdecimal() and len(count) < _MOST_DIGITS):
            return None
        digest = (principal.name, fingerprint(request))
        key = None
        if int(count) > 0:
            key = self._tries.get(digest) or await _on_record(digest, ledger)
        self._tries[digest] = key = key or f"{_PREFIX}{uuid.uuid4().hex}"
        return Try(key=key, digest=digest)

    def forget(self, one: Try | None) -> None:
        """Forget a try that cost nothing, so that the next one is made anew."""
        if one is not None and self._tries.get(one.digest) == one.key:
            del self._tries[one.digest]


async def _on_record(digest: tuple[str, str], ledger: Ledger) -> str | None:
    """Find the first try that a server took which was killed, or is another one."""
    name, content = digest
    since = datetime.now(UTC) - timedelta(seconds=REMEMBERED)
    for one in await ledger.listed(principal=name, limit=_MOST_LISTED):
        if one.created_at < since:
            break
        key = one.key
        if key and one.fingerprint == content and key.key.startswith(_PREFIX):
            return key.key
    return None
