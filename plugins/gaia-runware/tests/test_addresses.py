"""Where the vendor is, over WebSocket and over REST."""

import pytest

from gaia_core import Secret
from gaia_runware.addresses import HTTP_URL, SOCKET_URL, Transport, address_of

KEY = Secret("canary")


@pytest.mark.parametrize(
    ("base_url", "transport", "expected"),
    [
        (None, None, (SOCKET_URL, HTTP_URL, True)),
        (None, "rest", (SOCKET_URL, HTTP_URL, False)),
        ("wss://ws-api.runware.ai/v1", None, (SOCKET_URL, HTTP_URL, True)),
        ("wss://api.runware.ai/v1", None, (SOCKET_URL, HTTP_URL, True)),
        ("https://api.runware.ai/v1", None, (SOCKET_URL, HTTP_URL, False)),
        ("https://api.runware.ai", None, (SOCKET_URL, HTTP_URL, False)),
        ("https://api.runware.ai/", "websocket", (SOCKET_URL, HTTP_URL, True)),
        ("ws://keep:8080/v2", None, ("ws://keep:8080/v2", "http://keep:8080/v2", True)),
        ("http://[::1]:80", None, ("ws://[::1]:80/v1", "http://[::1]:80/v1", False)),
    ],
    ids=[
        *("default", "REST", "own", "the old one", "own REST", "no path", "a slash"),
        *("elsewhere", "IPv6"),
    ],
)
def test_one_address_gives_both_ways_in(
    base_url: str | None,
    transport: Transport | None,
    expected: tuple[str, str, bool],
) -> None:
    """The scheme says how paid work goes, unless the transport is set."""
    address = address_of(base_url, transport, KEY)

    assert (address.socket, address.http, address.is_socket) == expected


def test_an_address_does_not_show_the_key() -> None:
    """It ends up in messages."""
    assert "canary" not in repr(address_of(None, None, KEY))
