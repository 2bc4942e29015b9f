"""
Telling people that a budget runs out: in the log, and by webhook.

Webhooks follow the Standard Webhooks specification, so that whoever receives one
can check with any of its libraries who sent it:
https://github.com/standard-webhooks/standard-webhooks
"""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from json import dumps
from typing import TYPE_CHECKING

import attrs

from gaia_core.ledger.reports import BudgetAlert
from gaia_core.observability import get_logger
from gaia_core.settings import BudgetSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

PAUSES = (1.0, 5.0, 25.0)
"""Seconds between two tries to deliver a webhook."""
TIMEOUT = 10.0
"""Seconds a receiver may take to answer."""
CLOSING_GRACE = 5.0
"""How long closing waits for webhooks under way, in seconds."""

_SUCCESSES = range(200, 300)


@attrs.define(eq=False)
class Alerts:
    """
    Tells of budgets whose shares are crossed; no request waits for it, or fails.

    ::

        alerts = Alerts(settings.budgets)
        alerts(BudgetAlert(scope="total", …))
        await alerts.close()

    Attributes:
        settings: Where to tell it, and what to sign it with.
        pauses: Seconds between two tries to deliver a webhook.
    """

    settings: BudgetSettings
    pauses: Sequence[float] = PAUSES
    _closing: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _deliveries: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def __call__(self, alert: BudgetAlert) -> None:
        """Write it into the log, and have the webhook delivered in the background."""
        get_logger().warning("gaia.budget_alert", **_fields(alert))
        if self.settings.alert_webhook is not None:
            delivery = asyncio.create_task(self._deliver(alert))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        """Give webhooks under way a last chance; then let go of them."""
        self._closing.set()
        if self._deliveries:
            _, late = await asyncio.wait(self._deliveries, timeout=CLOSING_GRACE)
            for delivery in late:
                delivery.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        # Whoever opens again may do so in another event loop.
        self._closing = asyncio.Event()

    async def _deliver(self, alert: BudgetAlert) -> None:
        """Try until a receiver takes it, or wants no more; say when nobody did."""
        reason = "closed"
        try:
            reason = await self._try_in_turn(f"msg_{uuid.uuid4().hex}", _body(alert))
        finally:
            if reason:
                get_logger().error(
                    "gaia.budget_alert_not_delivered",
                    **_fields(alert),
                    error=reason,
                )

    async def _try_in_turn(self, name: str, body: str) -> str:
        """Give the reason of the last failure; an empty one: it was delivered."""
        from aiohttp import ClientSession, ClientTimeout  # noqa: PLC0415 - 200 ms

        timeout = ClientTimeout(total=TIMEOUT)
        reason = ""
        async with ClientSession(timeout=timeout) as http:
            for pause in (*self.pauses, None):
                # Nothing is repeated once this process ends, but for the last try.
                is_last = pause is None or self._closing.is_set()
                reason = await self._try(http, name, body)
                if not reason or reason == _reason(HTTPStatus.GONE) or is_last:
                    break
                await self._pause(pause or 0.0)
        return reason

    async def _try(self, http: "ClientSession", name: str, body: str) -> str:
        from aiohttp import ClientError  # noqa: PLC0415 - as above

        headers = {"Content-Type": "application/json", **self._signed(name, body)}
        try:
            async with http.post(
                str(self.settings.alert_webhook),
                data=body.encode(),
                headers=headers,
                allow_redirects=False,
            ) as reply:
                return "" if reply.status in _SUCCESSES else _reason(reply.status)
        except (ClientError, OSError, ValueError) as error:
            # Its own words repeat the address, which may hold a password.
            return type(error).__name__

    def _signed(self, name: str, body: str) -> dict[str, str]:
        """Sign a body for this moment."""
        from standardwebhooks import Webhook  # noqa: PLC0415 - rarely needed

        secret, now = self.settings.alert_secret, datetime.now(UTC)
        signature = Webhook(secret.reveal() if secret else "").sign(name, now, body)
        return {
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }

    async def _pause(self, seconds: float) -> None:
        """Wait, but not while somebody waits for the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass


def _reason(status: int) -> str:
    return f"HTTP {int(status)}"


def _fields(alert: BudgetAlert) -> dict[str, str]:
    """Give what the log says, amounts as they are."""
    return {name: str(value) for name, value in attrs.asdict(alert).items()}


def _body(alert: BudgetAlert) -> str:
    """Write the webhook's body; amounts are numbers in US dollars."""
    data = {
        "scope": alert.scope,
        "period": alert.period,
        "share": float(alert.share),
        "limit_usd": float(alert.limit_usd),
        "used_usd": float(alert.used_usd),
    }
    moment = datetime.now(UTC).isoformat()
    return dumps({"type": "gaia.budget_alert", "timestamp": moment, "data": data})
