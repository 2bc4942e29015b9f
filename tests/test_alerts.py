import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook

from gaia_core import Gaia, GenerateRequest, Settings
from gaia_core.alerts import Alerts
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.secrets import Secret
from gaia_core.settings import BudgetSettings
from gaia_core.testing import FakeProvider

KEY = secrets.token_bytes(32)
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ALERT = BudgetAlert(
    scope="campaign:strahd",
    period="2026-11",
    share=Decimal("0.8"),
    limit_usd=Decimal("5.00"),
    used_usd=Decimal("4.04"),
)
SOON = (0.0, 0.0, 0.0)
PATIENCE = 10.0


@attrs.frozen
class Delivery:
    """One webhook as it arrived."""

    headers: Mapping[str, str]
    body: bytes


@attrs.define(eq=False)
class Receiver:
    """A server that takes webhooks, and answers with the statuses it is told."""

    statuses: list[int] = attrs.field(factory=list)
    deliveries: list[Delivery] = attrs.field(factory=list)
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)
    port: int = 0

    async def take(self, request: web.Request) -> web.Response:
        """Note a webhook; answer once it may."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.deliveries.append(Delivery(headers, await request.read()))
        self.arrived.set()
        await self.may_answer.wait()
        status = self.statuses.pop(0) if self.statuses else 204
        elsewhere = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=elsewhere)

    def alerts(self, pauses: Sequence[float] = SOON) -> Alerts:
        """Make alerts that are told here."""
        settings = BudgetSettings(
            alert_webhook=f"http://127.0.0.1:{self.port}/hook?token=canary-in-address",
            alert_secret=Secret(SECRET),
        )
        return Alerts(settings, pauses)


@pytest_asyncio.fixture(name="receiver")
async def _receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    receiver.may_answer.set()
    app = web.Application()
    app.router.add_post("/{path}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        receiver.may_answer.set()
        await runner.cleanup()


async def _delivered(alerts: Alerts) -> None:
    """Wait until no webhook is under way."""
    async with asyncio.timeout(PATIENCE):
        while alerts._deliveries:
            await asyncio.wait(alerts._deliveries)


def _signature(delivery: Delivery) -> str:
    """Sign what arrived as the specification says, with nothing but the key."""
    name, moment = (delivery.headers[f"webhook-{word}"] for word in ("id", "timestamp"))
    text = f"{name}.{moment}.".encode() + delivery.body
    return "v1," + base64.b64encode(hmac.digest(KEY, text, hashlib.sha256)).decode()


# -- what is told -----------------------------------------------------------------


async def test_alerts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whose budget, which share and how much stand in the log, webhook or none."""
    alerts = Alerts(BudgetSettings())

    with caplog.at_level(logging.WARNING, "gaia"):
        alerts(ALERT)

    await alerts.close()
    assert "event='gaia.budget_alert'" in caplog.text
    for fact in ("campaign:strahd", "2026-11", "0.8", "5.00", "4.04"):
        assert fact in caplog.text


async def test_webhooks_tell_what_happened(receiver: Receiver) -> None:
    """The body names the event, its moment, and the budget in numbers."""
    alerts = receiver.alerts()

    alerts(ALERT)
    await _delivered(alerts)

    (delivery,) = receiver.deliveries
    body: dict[str, Any] = json.loads(delivery.body)
    assert body["type"] == "gaia.budget_alert"
    assert body["timestamp"].endswith("+00:00")
    assert body["data"] == {
        "scope": "campaign:strahd",
        "period": "2026-11",
        "share": 0.8,
        "limit_usd": 5.0,
        "used_usd": 4.04,
    }
    assert delivery.headers["content-type"] == "application/json"


async def test_webhooks_are_signed(receiver: Receiver) -> None:
    """A receiver can check who sent it, by hand and with the standard's library."""
    alerts = receiver.alerts()

    alerts(ALERT)
    await _delivered(alerts)

    (delivery,) = receiver.deliveries
    assert delivery.headers["webhook-signature"] == _signature(delivery)
    Webhook(SECRET).verify(delivery.body, dict(delivery.headers))


async def test_every_alert_has_a_name_of_its_own(receiver: Receiver) -> None:
    """Two alerts are two messages."""
    alerts = receiver.alerts()

    alerts(ALERT)
    alerts(attrs.evolve(ALERT, share=Decimal(1)))
    await _delivered(alerts)

    names = {delivery.headers["webhook-id"] for delivery in receiver.deliveries}
    assert len(names) == 2


# -- delivery ---------------------------------------------------------------------


async def test_refused_webhooks_are_tried_again(receiver: Receiver) -> None:
    """A message that is not taken comes again under the same name, newly signed."""
    receiver.statuses = [500, 503]
    alerts = receiver.alerts()

    alerts(ALERT)
    await _delivered(alerts)

    assert len(receiver.deliveries) == 3
    assert len({one.headers["webhook-id"] for one in receiver.deliveries}) == 1
    for delivery in receiver.deliveries:
        assert delivery.headers["webhook-signature"] == _signature(delivery)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        pytest.param([500] * 9, 4, id="never-taken"),
        pytest.param([410], 1, id="gone-for-good"),
        pytest.param([302] * 9, 4, id="redirects-are-not-followed"),
        pytest.param([299], 1, id="any-success-counts"),
    ],
)
async def test_delivery_ends(
    receiver: Receiver, statuses: list[int], expected: int
) -> None:
    """After a few tries, or a word that says so, nobody is told any more."""
    receiver.statuses = list(statuses)
    alerts = receiver.alerts()

    alerts(ALERT)
    await _delivered(alerts)

    assert len(receiver.deliveries) == expected


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        pytest.param([500] * 4, "HTTP 500", id="refused"),
        pytest.param(None, "ClientConnectorError", id="nobody-there"),
    ],
)
async def test_lost_webhooks_are_logged_without_secrets(
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    statuses: list[int] | None,
    reason: str,
) -> None:
    """What nobody took is in the log with the reason, and without address or key."""
    receiver.statuses = statuses or []
    if statuses is None:
        receiver.port = 1
    alerts = receiver.alerts()

    with caplog.at_level(logging.DEBUG):
        alerts(ALERT)
        await _delivered(alerts)

    assert "event='gaia.budget_alert_not_delivered'" in caplog.text
    assert reason in caplog.text
    assert "canary-in-address" not in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in repr(alerts)


async def test_nobody_waits_for_a_webhook(receiver: Receiver) -> None:
    """Telling returns while the receiver still thinks."""
    receiver.may_answer.clear()
    alerts = receiver.alerts()

    alerts(ALERT)
    async with asyncio.timeout(PATIENCE):
        await receiver.arrived.wait()

    assert alerts._deliveries
    receiver.may_answer.set()
    await alerts.close()


# -- the end ----------------------------------------------------------------------


async def test_closing_waits_for_what_is_under_way(receiver: Receiver) -> None:
    """A program that ends right after an alert has told it all the same."""
    alerts = receiver.alerts()

    alerts(ALERT)
    await alerts.close()

    assert len(receiver.deliveries) == 1
    assert not alerts._deliveries


async def test_closing_cuts_pauses_short(receiver: Receiver) -> None:
    """A message that waits for its next try has a last one at once."""
    receiver.statuses = [500, 500, 500]
    alerts = receiver.alerts(pauses=(3_600.0, 3_600.0))

    alerts(ALERT)
    async with asyncio.timeout(PATIENCE):
        await receiver.arrived.wait()
        await alerts.close()

    assert len(receiver.deliveries) == 2
    assert not alerts._deliveries


async def test_closing_leaves_a_receiver_that_hangs(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody waits for ever for a receiver; what it did not take is logged."""
    monkeypatch.setattr("gaia_core.alerts.CLOSING_GRACE", 0.05)
    receiver.may_answer.clear()
    alerts = receiver.alerts()

    with caplog.at_level(logging.ERROR, "gaia"):
        alerts(ALERT)
        async with asyncio.timeout(PATIENCE):
            await receiver.arrived.wait()
            await alerts.close()

    assert "event='gaia.budget_alert_not_delivered'" in caplog.text
    assert not alerts._deliveries


async def test_alerts_can_be_told_after_closing(receiver: Receiver) -> None:
    """A `Gaia` that is opened again tells its alerts as patiently as before."""
    receiver.statuses = [500]
    alerts = receiver.alerts()
    await alerts.close()

    alerts(ALERT)
    await _delivered(alerts)

    assert len(receiver.deliveries) == 2


async def test_closing_without_alerts_is_nothing() -> None:
    """There may have been nothing to tell; closing twice is harmless."""
    alerts = Alerts(BudgetSettings())

    await alerts.close()
    await alerts.close()


# -- from door to receiver --------------------------------------------------------


async def test_a_budget_that_runs_out_is_told_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Each share is told when it is reached, and delivered before the end."""
    settings = Settings(
        database=f"sqlite:///{tmp_path / 'gaia.db'}",
        image_store=tmp_path / "images",
        budgets=attrs.evolve(receiver.alerts().settings, total_usd=Decimal("0.10")),
    )
    provider = FakeProvider(price_usd="0.02")
    request = GenerateRequest(prompt="a keep", width=64, height=64)

    async with Gaia.open(settings, plugins=[provider], discover=False) as gaia:
        for _ in range(5):
            await gaia.generate(request)

    told = [json.loads(one.body)["data"] for one in receiver.deliveries]
    assert sorted((one["share"], one["used_usd"]) for one in told) == [
        (0.8, 0.08),
        (1.0, 0.1),
    ]
