import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gaia_core import observability
from gaia_core.observability import (
    MAX_LINE,
    configure,
    get_logger,
    mask,
    redact,
    register_secret,
)
from gaia_core.secrets import MASK, Secret

CANARY = 'sk-canary/"ä"+7f3a'
_SPECIAL = {"exc_info", "exception", "_record", "_from_structlog"}
LINE_WITH_EVERYTHING = """
from gaia_core.observability import configure, get_logger, register_secret
from gaia_core.secrets import Secret

CANARY = 'sk-canary/"\\u00e4"+7f3a'

def ask(key):
    headers = {"Authorization": f"Bearer {key}"}
    raise RuntimeError(f"refused {key}\\n2026 [info] forged\\x1b[2J")

configure("info", json=JSON)
register_secret(CANARY)
log = get_logger(provider="hello", api_key="sk-unregistered")
log.debug("gaia.not_shown")
log.info("gaia.asked", secret=Secret(CANARY), text=f"key={CANARY}\\r\\x1b[31m")
try:
    ask(CANARY)
except RuntimeError as error:
    log.exception("gaia.failed", error=error, nested={"token": "sk-nested"})
"""


@pytest.fixture(autouse=True)
def _fresh_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget secrets and configuration after each test."""
    monkeypatch.setattr(observability, "_registered", set())
    yield
    structlog.reset_defaults()


@pytest.fixture(name="canary")
def _canary() -> str:
    """Register a secret that no output may repeat."""
    register_secret(CANARY)
    return CANARY


def redacted(**fields: Any) -> dict[str, Any]:
    """Pass one event through the processor."""
    return dict(redact(None, "info", fields))


def run(code: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program of its own, as a person would."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(observability.__file__).parents[1],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "TERM": "xterm"},
        **(streams or {"capture_output": True}),
    )


# -- secrets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("api_key", "sk-1", MASK, id="key"),
        pytest.param("HF_TOKEN", "hf_1", MASK, id="token"),
        pytest.param("client_secret", "s", MASK, id="secret"),
        pytest.param("db_password", "p", MASK, id="password"),
        pytest.param("Authorization", "Bearer 1", MASK, id="authorization"),
        pytest.param("Proxy-Authorization", "Basic 1", MASK, id="proxy"),
        pytest.param("api_key", ["sk-1"], MASK, id="list-under-a-key"),
        pytest.param("api_key", 12345, MASK, id="number-under-a-key"),
        pytest.param("_token", "hf_1", MASK, id="private-token"),
        pytest.param("api_key", None, None, id="no-key"),
        pytest.param("has_api_key", True, True, id="yes-or-no"),
        pytest.param("value", Secret("sk-1"), MASK, id="secret-object"),
        pytest.param("value", [Secret("sk-1"), 1], [MASK, 1], id="secret-in-a-list"),
        pytest.param(
            "headers",
            {"x-api-key": "1", "accept": "*"},
            {"x-api-key": MASK, "accept": "*"},
            id="key-in-a-mapping",
        ),
        pytest.param("prompt", "a red dragon", "a red dragon", id="plain"),
        pytest.param("num_images", 4, 4, id="number"),
        pytest.param("cost_usd", Decimal("0.04"), "0.04", id="decimal"),
        pytest.param("path", Path("a.png"), "a.png", id="path"),
        pytest.param("data", b"\x89PNG", "<4 bytes>", id="bytes"),
        pytest.param("text", "a\nb\x1b[0m\x9b", r"a\nb\x1b[0m\x9b", id="control"),
        pytest.param("text", "\u202egnp.exe", r"\u202egnp.exe", id="right-to-left"),
        pytest.param("text", "Drachenhöhle 🐉", "Drachenhöhle 🐉", id="other-scripts"),
        pytest.param(
            "url", "https://a/b?sig=1&key=2", f"https://a/b?sig=1&key={MASK}", id="url"
        ),
    ],
)
def test_fields(name: str, value: object, expected: object) -> None:
    """Each field is shown, masked or escaped by its name and kind."""
    assert redacted(**{name: value}) == {name: expected}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(CANARY, id="as-it-is"),
        pytest.param(f"Bearer {CANARY}, again {CANARY}", id="twice"),
        pytest.param(
            "https://a/?q=sk-canary%2F%22%C3%A4%22%2B7f3a", id="in-an-address"
        ),
        pytest.param(json.dumps({"a": CANARY}), id="in-json"),
        pytest.param(f"\x1b[1m{CANARY}\n", id="among-control-characters"),
    ],
)
def test_registered_secrets_are_masked_anywhere(canary: str, text: str) -> None:
    """A registered secret is masked however a text spells it."""
    shown = [mask(text), str(redacted(event=text, error=ValueError(text), deep=[text]))]

    assert canary not in "".join(shown)
    assert "7f3a" not in "".join(shown)


def test_short_values_are_not_registered() -> None:
    """Masking two letters everywhere would hide everything else."""
    register_secret("")
    register_secret("ab")

    assert mask("abracadabra") == "abracadabra"


def test_the_longest_secret_is_masked_first() -> None:
    """A secret that begins like another one leaves no rest."""
    register_secret("sk-1234")
    register_secret("sk-1234-5678")

    assert mask("sk-1234-5678") == MASK


@pytest.mark.parametrize("is_passed", [True, False], ids=["error", "flag"])
def test_tracebacks_are_masked(canary: str, is_passed: bool) -> None:
    """The words of an exception and the lines of its traceback are masked."""
    try:
        json.loads(f'"{canary}')
    except ValueError as error:
        error.add_note(canary)
        event = redacted(event="x", exc_info=error if is_passed else True)

    assert canary not in event["exception"]
    assert f"\n  {MASK}" in event["exception"]
    assert "exc_info" not in event


def test_fields_of_bridges_are_left_alone() -> None:
    """What structlog hands to itself passes untouched."""
    record = logging.makeLogRecord({"msg": "x"})

    assert redacted(_record=record)["_record"] is record


def test_values_that_hold_themselves() -> None:
    """A list inside itself ends in a mask, not in a crash."""
    loop: list[Any] = []
    loop.append(loop)

    assert MASK in str(redacted(loop=loop))


class Broken(Exception):  # noqa: N818 - a stranger's
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError


def test_values_that_cannot_be_shown() -> None:
    """A stranger's broken object does not break the log."""
    assert redacted(error=Broken()) == {"error": "<Broken: ValueError>"}


def test_names_are_escaped() -> None:
    """A field's name cannot break out of its line either."""
    assert redacted(**{"a\nb": 1, "ok": {"c\x1b": 2}}) == {
        r"a\nb": 1,
        "ok": {r"c\x1b": 2},
    }


# -- loggers ----------------------------------------------------------------------


def test_events_can_be_captured() -> None:
    """A host's tests see events with their fields."""
    with capture_logs() as logs:
        get_logger(provider="hello").warning("gaia.provider_failed", attempt=1)

    assert logs == [
        {
            "event": "gaia.provider_failed",
            "log_level": "warning",
            "provider": "hello",
            "attempt": 1,
        }
    ]


def test_the_hosts_configuration_is_used() -> None:
    """Where structlog is configured, events go where the host sends them."""
    output = structlog.testing.LogCapture()
    structlog.configure(processors=[redact, output])

    get_logger(api_key="sk-1").info("gaia.asked")

    assert output.entries == [
        {"event": "gaia.asked", "log_level": "info", "api_key": MASK}
    ]


def test_without_configuration_logging_gets_it(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], canary: str
) -> None:
    """Where nothing is configured, events reach `logging`, masked."""
    caplog.set_level(logging.INFO, logger="gaia")

    get_logger(provider="hello").info("gaia.asked", error=canary)

    expected = f"event='gaia.asked' provider='hello' error='{MASK}'"
    assert caplog.record_tuples == [("gaia", logging.INFO, expected)]
    assert capsys.readouterr().out == ""


def test_without_configuration_stdout_stays_clean() -> None:
    """A program that configures nothing sees warnings on stderr, the rest nowhere."""
    done = run(
        "from gaia_core.observability import get_logger\n"
        "get_logger().info('gaia.fine')\n"
        "get_logger().warning('gaia.odd')\n"
    )

    assert (done.stdout, done.stderr) == (b"", b"event='gaia.odd'\n")


def test_structlog_is_imported_late() -> None:
    """Importing the module does not import structlog."""
    code = "import sys, {}; print('structlog' in sys.modules)"

    assert run(code.format("gaia_core.observability")).stdout.strip() == b"False"


# -- lines ------------------------------------------------------------------------


@pytest.mark.parametrize("is_json", [True, False], ids=["json", "plain"])
def test_stderr_of_a_program(is_json: bool) -> None:
    """Events go to stderr, one line each, without secrets or control characters."""
    done = run(LINE_WITH_EVERYTHING.replace("JSON", str(is_json)))

    lines = done.stderr.decode().splitlines()
    assert done.stdout == b""
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert not any(word in done.stderr.decode() for word in ("7f3a", "sk-"))
    assert "gaia.asked" in lines[0]
    assert f"RuntimeError: refused {MASK}" in lines[1]


def test_json_lines() -> None:
    """A JSON line holds time, level, event and fields."""
    done = run(LINE_WITH_EVERYTHING.replace("JSON", "True"))

    first, second = map(json.loads, done.stderr.splitlines())

    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "provider": "hello",
        "api_key": MASK,
        "secret": MASK,
        "text": rf"key={MASK}\r\x1b[31m",
        "event": "gaia.asked",
        "level": "info",
    }
    assert second["nested"] == {"token": MASK}
    assert r"forged\x1b[2J" in second["exception"]


def test_terminal() -> None:
    """A person at a terminal gets colours, but no secrets and no forged lines."""
    ours, theirs = pty.openpty()

    run(LINE_WITH_EVERYTHING.replace("JSON", "False"), stderr=theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)

    assert "gaia.failed" in shown
    assert not any(word in shown for word in ("7f3a", "sk-", "\x1b[2J", "\n2026 ["))


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    """What lies below the level is not shown."""
    configure("warning", json=True)

    get_logger().info("gaia.quiet")
    get_logger().warning("gaia.loud")

    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "gaia.loud"


@pytest.mark.parametrize("is_json", [True, False], ids=["json", "plain"])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"text": "x" * 100_000}, id="long"),
        pytest.param({"text": "🐉" * 100_000}, id="wide"),
        pytest.param({"text": "\x00" * 100_000}, id="control"),
        pytest.param({"text": '\\"' * 50_000}, id="escaped-by-json"),
        pytest.param({"deep": [["x" * 9_000]] * 9}, id="nested"),
        pytest.param({f"field_{n}": "y" * 300 for n in range(500)}, id="many"),
        pytest.param({"n" * 50_000: 1}, id="long-name"),
    ],
)
def test_lines_are_bounded(
    capsys: pytest.CaptureFixture[str], is_json: bool, fields: dict[str, object]
) -> None:
    """A line is never longer than 8 KB, and keeps its beginning."""
    configure("info", json=is_json)

    get_logger(operation_id="op-1").info("gaia.asked", **fields)

    line = capsys.readouterr().err
    assert len(line.encode()) <= MAX_LINE
    assert line.count("\n") == 1
    assert "op-1" in line
    if is_json:
        assert json.loads(line)["event"] == "gaia.asked"


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in _SPECIAL),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_any_event_can_be_written(fields: dict[str, Any]) -> None:
    """Whatever is logged, the line is one printable, readable JSON object."""
    line = observability._Line(observability._renderer(json=True))

    written = line(None, "info", redact(None, "info", {**fields, "event": "x"}))

    assert len(written.encode()) < MAX_LINE
    assert written.isprintable()
    assert json.loads(written)["event"] == "x"
