"""
Naming the caller by the key they present.

The live keys are kept in memory for a few seconds, so that neither a request nor a
flood of wrong keys costs a look into the database; what is taken back stops working
as soon as they are read anew.
"""

import asyncio
import hmac
import time
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import attrs
from cachetools import TTLCache
from fastapi import Request

from gaia_core.ledger.access import AccessBook, ApiKey, KeyState, digest_of, id_of
from gaia_core.observability import get_logger, register_secret
from gaia_core.secrets import Secret
from gaia_core.server.access import OWNER, Principal
from gaia_core.server.problems import RefusedError

MAX_AGE = 5.0
"""How long keys are taken as they were last read, in seconds."""
MIN_AGE = 1.0
"""How often they are read again at most, for the sake of a key that is unknown."""
MOST_REFUSALS = 30
"""How many wrong keys one address may present in a `SPAN`."""
SPAN = 60.0
"""Seconds after which the wrong keys of an address are forgotten."""

_PASSED_ON = frozenset(
    {
        *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
        *("x-real-ip", "via"),
    }
)
_MOST_ADDRESSES = 10_000
_MOST_LOGGED = 5
_LONGEST = 512
_NO_DIGEST = "0" * 64


@attrs.define(eq=False)
class _Refusals:
    """Counts the wrong keys of each address, for a while."""

    _counts: "TTLCache[str, int]" = attrs.field(
        factory=lambda: TTLCache(_MOST_ADDRESSES, SPAN), init=False
    )

    def are_too_many(self, address: str) -> bool:
        return self._counts.get(_block(address), 0) >= MOST_REFUSALS

    def note(self, address: str, key: str, reason: str) -> None:
        """Count one and tell the log; a flood does not fill it."""
        block = _block(address)
        count = self._counts[block] = self._counts.get(block, 0) + 1
        if count <= _MOST_LOGGED or count == MOST_REFUSALS:
            get_logger().warning(
                "gaia.key_refused",
                id=id_of(key),
                reason=reason,
                address=address,
                count=count,
            )


@attrs.define(eq=False, kw_only=True)
class KeyRing:
    """
    Knows the keys that open the server.

    Attributes:
        token: The key that stands for whoever has this machine, if there is one.
    """

    token: Secret | None = attrs.field(default=None, repr=False)
    _keys: Mapping[str, ApiKey] = attrs.field(factory=dict, init=False, repr=False)
    _version: str | None = attrs.field(default=None, init=False)
    _read_at: float = attrs.field(default=float("-inf"), init=False)
    _reading: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False, repr=False)
    _refusals: _Refusals = attrs.field(factory=_Refusals, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Keep the token out of every log."""
        if self.token:
            register_secret(self.token.reveal())

    async def principal(
        self, key: str, access: AccessBook, *, address: str
    ) -> Principal | None:
        """
        Name whom a key stands for; None: nobody.

        Args:
            key: What the caller presents.
            access: The book of keys.
            address: Where the caller is.

        Raises:
            RefusedError: If that address has presented too many wrong keys.
        """
        known, reason = await self._known(key, access)
        if known is not None:
            return Principal(name=known.name, scopes=known.scopes)
        if self._refusals.are_too_many(address):
            # Nobody tries the token out; API keys are too long to be found so.
            raise RefusedError(429, "request_limit", retry_after=SPAN)
        if self._is_token(key):
            return OWNER
        self._refusals.note(address, key, reason)
        return None

    async def _known(self, key: str, access: AccessBook) -> tuple[ApiKey | None, str]:
        """Find a live key; otherwise say why there is none, for the log only."""
        key_id = id_of(key) or ""
        kept = await self._find(key_id, access) if key_id else None
        digest = kept.digest if kept else _NO_DIGEST
        # Always compared, so that the time tells nothing about which keys there are.
        is_right = hmac.compare_digest(digest, digest_of(key))
        if kept is None or not is_right:
            return None, "wrong" if kept else "unknown" if key_id else "malformed"
        state = kept.state(datetime.now(UTC))
        return (kept if state is KeyState.LIVE else None), state.value

    def _is_token(self, key: str) -> bool:
        # Two digests are of one length, so that the time does not tell the token's.
        token = digest_of(self.token.reveal()) if self.token else _NO_DIGEST
        return hmac.compare_digest(token, digest_of(key))

    async def _find(self, key_id: str, access: AccessBook) -> ApiKey | None:
        await self._read(access, MAX_AGE)
        if key_id not in self._keys:
            # It may have been made a moment ago.
            await self._read(access, MIN_AGE)
        return self._keys.get(key_id)

    async def _read(self, access: AccessBook, max_age: float) -> None:
        """Read the keys, unless that was done so short a time ago."""
        if time.monotonic() - self._read_at < max_age:
            return
        async with self._reading:
            if time.monotonic() - self._read_at < max_age:
                return
            began = time.monotonic()
            # Reading thousands of keys takes a while; that nothing is new, no time.
            version = await access.version()
            if version != self._version:
                self._keys = {key.id: key for key in await access.listed()}
            self._version, self._read_at = version, began


async def bearer(request: Request) -> Principal | None:
    """
    Name the caller by the API key they present; the default ``auth``.

    ``server.require_auth = false`` takes who presents none for the owner.
    """
    if request.state.gaia_site.settings.require_auth is False:
        return await _known_or_owner(request)
    key = presented(request)
    return None if key is None else await _principal(request, key)


async def bearer_or_owner(request: Request) -> Principal | None:
    """
    Name the caller by their key, or take who has none for the owner.

    What a proxy has passed on comes from anywhere: it needs a key.
    """
    is_passed_on = not _PASSED_ON.isdisjoint(request.headers.keys())
    return await (bearer if is_passed_on else _known_or_owner)(request)


async def _known_or_owner(request: Request) -> Principal | None:
    """
    Take who has no key for the owner.

    Many clients cannot go without a key and send some word instead: what does not
    look like one of ours counts as none here.
    """
    key = presented(request)
    if key is None or not key.startswith("gaia_"):
        return OWNER
    return await _principal(request, key)


async def _principal(request: Request, key: str) -> Principal | None:
    site = request.state.gaia_site
    address = request.client.host if request.client else ""
    found: Principal | None = await site.keys.principal(
        key, site.access, address=address
    )
    return found


def presented(request: Request) -> str | None:
    """
    Give the key in the request's ``Authorization``; None where there is no such.

    It is taken from ``Bearer KEY``, or from ``Basic`` as the password, which is all
    that clients of AUTOMATIC1111 can send. Whatever else it holds is a wrong key.
    """
    found = request.headers.getlist("authorization")
    if not found:
        return None
    scheme, _, rest = found[0].partition(" ")
    if len(found) > 1 or len(found[0]) > _LONGEST:
        return ""
    if scheme.lower() == "bearer":
        return rest.strip()
    return _password(rest.strip()) if scheme.lower() == "basic" else ""


def _password(encoded: str) -> str:
    try:
        pair = b64decode(encoded, validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2]


def _block(address: str) -> str:
    """
    Give what stands for a client: of IPv6, everybody has as many as they like.

    >>> _block("192.0.2.1"), _block("2001:db8::1")
    ('192.0.2.1', '2001:db8::/64')
    """
    try:
        is_short = ip_address(address).version == 4  # noqa: PLR2004  IPv4
    except ValueError:
        is_short = True
    return address if is_short else str(ip_network((address, 64), strict=False))
