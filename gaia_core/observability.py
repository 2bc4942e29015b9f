"""
What Gaia tells about itself: log events without secrets.

The library writes events and leaves it to the host where they go. They pass
through structlog where the host has configured it: put `redact` before the
renderer there. Otherwise they reach the logger ``gaia`` of `logging`, masked. The
``gaia`` command calls `configure`.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.secrets import MASK, Secret, is_secret_name, scrub

if TYPE_CHECKING:
    from structlog.typing import Processor

MAX_LINE = 8_192
"""The most bytes of one line in the log, its end included."""

_BRIDGE = frozenset({"_record", "_from_structlog"})
"""What structlog's bridge to `logging` passes along in an event."""
_FIRST = ("timestamp", "level", "event")
_CUTS = (1_000, 200, 40)
_MAX_FIELDS = 20
_MAX_DEPTH = 8
_registered: set[Secret] = set()


def get_logger(**fields: Any) -> Any:
    """
    Give a logger bound to some fields.

    ::

        log = get_logger(provider="hello")
        log.warning("gaia.provider_failed", error="no answer")

    Args:
        fields: What every event of this logger carries.
    """
    import structlog  # noqa: PLC0415 - 100 ms

    if structlog.is_configured():
        return structlog.get_logger(**fields)
    # structlog's own default writes to stdout, where results belong.
    return structlog.wrap_logger(
        logging.getLogger("gaia"), processors=[redact, _Line(_plain())], **fields
    )


def register_secret(value: str) -> None:
    """
    Have a value masked wherever a text repeats it, from now on.

    Its spelling inside an address or a JSON text is masked too. Values of fewer
    than four characters are not: they would mask half of every sentence.
    """
    from json import dumps  # noqa: PLC0415 - rarely needed
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - rarely needed

    # Variables may hold bytes that are no text.
    quoted = [q(value, safe="", errors="surrogateescape") for q in (quote, quote_plus)]
    spellings = (value, *quoted, dumps(value)[1:-1])
    _registered.update(map(Secret, spellings))


def mask(text: str) -> str:
    """
    Put the mask over every registered secret and every password in an address.

    >>> register_secret("sk-canary-1")
    >>> mask("key sk-canary-1 refused")
    'key •••• refused'
    """
    # A copy: another thread may register one meanwhile.
    return scrub(text, tuple(_registered))


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """
    Mask the secrets of a log event and escape control characters: a processor.

    Masked are values under a secret's name (``api_key``, ``HF_TOKEN``,
    ``authorization``), every `Secret`, and what `register_secret` knows,
    wherever it appears, exceptions and their tracebacks included.

    ::

        structlog.configure(processors=[redact, structlog.processors.JSONRenderer()])
    """
    if "exc_info" in event:
        from structlog.processors import format_exc_info  # noqa: PLC0415 - 100 ms

        event = format_exc_info(_logger, _method, event)
    return {
        _text("", key): value if key in _BRIDGE else _safe(key, value)
        for key, value in event.items()
    }


def configure(level: str = "info", *, json: bool = False) -> None:
    """
    Send the log to stderr: for programs, not for libraries.

    Args:
        level: The lowest level that is shown.
        json: Whether each line is a JSON object, for machines.
    """
    import structlog  # noqa: PLC0415 - 100 ms

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            _Line(_renderer(json=json)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@attrs.frozen
class _Line:
    """Renders an event into one line that is not too long."""

    render: "Processor"

    def __call__(self, logger: Any, method: str, event: Mapping[str, Any]) -> str:
        """Render; shorten the fields until the line fits."""
        line = str(self.render(logger, method, dict(event)))
        for length in _CUTS:
            if len(line.encode(errors="replace")) < MAX_LINE:
                break
            line = str(self.render(logger, method, _cut(event, length)))
        return line


def _renderer(*, json: bool) -> "Processor":
    """Choose what writes the line: for machines, for files or for a person."""
    if json:
        from structlog.processors import JSONRenderer  # noqa: PLC0415 - as above

        return JSONRenderer(ensure_ascii=False)
    if not sys.stderr.isatty():
        return _plain()
    from structlog import dev  # noqa: PLC0415 - as above

    # The default formatter would print local variables, secrets among them.
    return dev.ConsoleRenderer(exception_formatter=dev.plain_traceback)


def _plain() -> "Processor":
    """Write ``key=value`` pairs."""
    from structlog.processors import KeyValueRenderer  # noqa: PLC0415 - as above

    return KeyValueRenderer(key_order=_FIRST, drop_missing=True)


def _safe(name: str, value: Any, depth: int = 0) -> Any:
    """Turn a value into one that can be shown."""
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(name, value) or depth > _MAX_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        items = ((_text("", str(key)), item) for key, item in value.items())
        return {key: _safe(key, item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(name, item, depth + 1) for item in value]
    return value if isinstance(value, int | float) else _text(name, _shown(value))


def _shown(value: object) -> str:
    """Turn a single value into text; of bytes only the length."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a plugin's object may do anything
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _is_secret(name: str, value: object) -> bool:
    """Tell a secret by its name or by its kind."""
    return is_secret_name(name) or hasattr(value, "reveal")


def _text(name: str, value: str) -> str:
    """Mask and escape a text; a traceback keeps its lines, indented."""
    masked = mask(value)
    lines = masked.split("\n") if name == "exception" else [masked]
    return "\n  ".join(map(_escaped, lines))


def _escaped(text: str) -> str:
    """Write control characters, line ends among them, as Python spells them."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text
    )


def _cut(event: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Keep the first fields of an event, each no longer than so many characters."""
    ordered = {key: event[key] for key in _FIRST if key in event} | {**event}
    texts = ((key[:length], value, str(value)) for key, value in ordered.items())
    return {
        key: value if len(text) <= length else f"{text[:length]}…"
        for key, value, text in list(texts)[:_MAX_FIELDS]
    }
