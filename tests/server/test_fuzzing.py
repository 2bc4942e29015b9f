"""
Whatever the document of the API allows, and much that it does not, sent for real.

A quick look at each operation; with ``GAIA_FUZZ_CASES=250`` it becomes a long one, of
more than ten thousand cases.
"""

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gaia_core import Capability, Gaia, Secret
from gaia_core.server import create_app
from gaia_core.testing import FakeProvider
from tests.server.conftest import Quiet, settings_in

CASES = int(os.environ.get("GAIA_FUZZ_CASES", "8"))
TOKEN = "a-key-for-the-fuzzer"
KEY = {"Authorization": f"Bearer {TOKEN}"}

# What no schema can say: whether base64 holds a picture, and whose an id is.
_EXCLUDED: Any = [positive_data_acceptance, schemathesis.checks.not_a_server_error]


@attrs.frozen(kw_only=True)
class Fuzzed:
    """A server that is fuzzed, and the provider behind it."""

    url: str
    database: Path
    provider: FakeProvider


@pytest.fixture(name="fuzzed", scope="module")
def _fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """Serve in a thread: the fuzzer waits for each of its answers."""
    folder = tmp_path_factory.mktemp("fuzzed")
    provider = FakeProvider(price_usd="0.04", capabilities=frozenset(Capability))
    access = {"token": Secret(TOKEN), "require_auth": True}
    gaia = Gaia.open(
        settings_in(folder, server=access), plugins=[provider], discover=False
    )
    config = uvicorn.Config(create_app(gaia), port=0, log_level="warning")
    server = Quiet(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Fuzzed(
            url=f"http://127.0.0.1:{port}",
            database=folder / "gaia.db",
            provider=provider,
        )
    finally:
        server.should_exit = True
        thread.join(60)


def test_nothing_that_is_sent_surprises_it(fuzzed: Fuzzed) -> None:
    """No undocumented failure, no answer outside its schema, nothing without a key."""
    document = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json", headers=KEY)
    found: Counter[str] = Counter()
    sent = 0

    for found_operation in document.get_all_operations():
        operation = cast("Any", found_operation).ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def send(case: schemathesis.Case[Any]) -> None:
            nonlocal sent
            sent += 1
            found.update(_problems(case))

        send()

    print(f"{sent} cases")  # noqa: T201  the figure of the long run
    assert found == {}
    _assert_paid_once(fuzzed)


def _problems(case: schemathesis.Case[Any]) -> Iterator[str]:
    """Send one case; name what is wrong with the answer."""
    response = case.call(headers=KEY, timeout=60)
    name = f"{case.method} {case.path}"
    try:
        case.validate_response(response, excluded_checks=_EXCLUDED, headers=KEY)
    except FailureGroup as group:
        yield from (f"{name}: {error.title}: {error}" for error in group.exceptions)
    if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        yield f"{name}: failed within"


def _assert_paid_once(fuzzed: Fuzzed) -> None:
    """Compare the provider's book with ours: no operation was charged twice."""
    charged = fuzzed.provider.charges
    with closing(sqlite3.connect(fuzzed.database)) as book:
        owner = dict(book.execute("SELECT task_id, operation_id FROM attempts"))
    times = Counter(owner.get(task) for task in charged)

    assert len(charged) == len(set(charged))
    assert None not in times
    assert [operation for operation, count in times.items() if count > 1] == []
