"""What a failure looks like: its exit code, its JSON, its words."""

from collections.abc import Sequence
from enum import IntEnum
from itertools import groupby
from typing import Any

import click

from gaia_core.cli.tables import clean, group_reasons
from gaia_core.cli.writing import print_json, say
from gaia_core.errors import (
    GaiaError,
    InvalidRequestError,
    NoCapableProviderError,
    OutcomeUnknownError,
    ProviderError,
    SettingsError,
)

EXAMPLES_PER_PROVIDER = 3
"""How many reasons of one provider a failure shows."""


class ExitCode(IntEnum):
    """How ``gaia`` ends."""

    DONE = 0
    """Everything was done."""
    FAILED = 1
    """It was tried and failed."""
    WRONG_USAGE = 2
    """The arguments, the request or the settings are wrong; nothing was sent."""
    PARTLY = 3
    """Part of a batch failed."""
    NOBODY = 4
    """Nobody can serve it here and now; the reasons are printed."""
    UNKNOWN = 5
    """The answer was lost: it may have been made and charged."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """The reader of standard output went away."""
    TERMINATED = 143
    """SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM ended the work, as Ctrl-C does."""


def wants_json(words: Sequence[str]) -> bool:
    """
    Tell whether a command line asks for JSON, even one that cannot be parsed.

    >>> wants_json(["models", "--json"]), wants_json(["generate", "--", "--json"])
    (True, False)
    """
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def advise(error: BaseException, *lines: str, **facts: Any) -> None:
    """Put what to do next below an error, and further facts into its document."""
    for line in lines:
        error.add_note(line)
    error.__dict__.update(facts=facts)


def exit_code(error: BaseException) -> ExitCode:
    """Choose how to end after an error."""
    if _is_terminated(error):
        return ExitCode.TERMINATED
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, click.UsageError | InvalidRequestError | SettingsError):
        return ExitCode.WRONG_USAGE
    if isinstance(error, NoCapableProviderError):
        return ExitCode.NOBODY
    if isinstance(error, OutcomeUnknownError):
        return ExitCode.UNKNOWN
    return ExitCode.FAILED


def report(error: Exception, *, is_json: bool, is_verbose: bool) -> ExitCode:
    """Tell a person or a program what went wrong."""
    if is_json:
        print_json(shape_error(error))
    elif isinstance(error, click.UsageError):
        error.show()
    else:
        say("\n".join(_lines(error)))
    if is_verbose:
        _show_traceback(error)
    return exit_code(error)


def shape_error(error: Exception) -> dict[str, Any]:
    """Shape an error as ``--json`` prints it."""
    from gaia_core.cli.shapes import shape_attempt  # noqa: PLC0415 - only for JSON

    return {
        "error": _message(error),
        "error_type": _error_type(error),
        "suggested_action": _suggested_action(error),
        "operation_id": getattr(error, "operation_id", None),
        "attempts": [shape_attempt(one) for one in getattr(error, "attempts", ())],
        "reasons": dict(getattr(error, "reasons", {})),
        **getattr(_origin(error), "facts", {}),
    }


def _origin(error: BaseException) -> BaseException:
    """Give what was advised: Ctrl-C and SIGTERM come inside of another error."""
    is_inside = isinstance(error, click.Abort) and error.__cause__ is not None
    return error.__cause__ or error if is_inside else error


def _notes(error: BaseException) -> list[str]:
    """Give the lines that `advise` put below an error."""
    return [clean(_masked(line)) for line in getattr(_origin(error), "__notes__", ())]


def _message(error: Exception) -> str:
    """Say what went wrong; foreign errors are named by their type only."""
    if isinstance(error, NoCapableProviderError):
        return str(error).partition("\n")[0]
    if isinstance(error, GaiaError):
        return _masked(str(error))
    if isinstance(error, click.Abort):
        return "Ended by SIGTERM." if _is_terminated(error) else "Interrupted."
    if isinstance(error, click.ClickException):
        return error.format_message()
    kind = type(error).__name__
    return f"gaia failed with {kind}. `gaia -v …` shows where; please report it."


def _error_type(error: Exception) -> str:
    if isinstance(error, click.Abort):
        return "interrupted"
    if isinstance(error, click.UsageError):
        return InvalidRequestError.error_type
    return error.error_type if isinstance(error, GaiaError) else GaiaError.error_type


def _suggested_action(error: Exception) -> str:
    if isinstance(error, click.Abort):
        return "retry"
    if isinstance(error, click.UsageError):
        return InvalidRequestError.suggested_action
    kind = error if isinstance(error, GaiaError) else GaiaError
    return kind.suggested_action


def _lines(error: Exception) -> list[str]:
    message = "\n".join(clean(line) for line in _message(error).splitlines())
    if isinstance(error, click.Abort) and not _is_terminated(error):
        # The empty line takes what the terminal shows of Ctrl-C.
        return ["", message, *_notes(error)]
    reasons = getattr(error, "reasons", {})
    return [
        f"error: {_whose(error)}{message}",
        *(f"  {line}" for line in group_reasons(reasons, limit=EXAMPLES_PER_PROVIDER)),
        *_tried(error),
        *_lost(error),
        *_notes(error),
    ]


def _is_terminated(error: BaseException) -> bool:
    return isinstance(error.__cause__, Terminated)


def _whose(error: Exception) -> str:
    """Name the provider that failed, where its own words do not."""
    attempts = getattr(error, "attempts", ())
    if not attempts or not isinstance(error, ProviderError):
        return ""
    name = attempts[-1].provider
    return "" if name in str(error) else clean(f"{name}: ")


def _tried(error: Exception) -> list[str]:
    """Name the attempts before the one the message is about."""
    attempts = getattr(error, "attempts", ())
    tries = [
        (f"{one.provider}/{one.model}", one.error or one.outcome)
        for one in attempts[:-1]
    ]
    return [
        clean(f"  tried {who}{_times(len(list(group)))}: {why}")
        for (who, why), group in groupby(tries)
    ]


def _times(number: int) -> str:
    return "" if number == 1 else f" {number} times"


def _lost(error: Exception) -> list[str]:
    """Name the attempt that may have cost, and whom to ask about it."""
    attempts = getattr(error, "attempts", ())
    if not attempts or not isinstance(error, OutcomeUnknownError):
        return []
    last = attempts[-1]
    return [clean(f"  ask {last.provider} about task {last.task_id}")]


def _show_traceback(error: Exception) -> None:
    """Show where it happened, to those who asked for the log."""
    from traceback import format_exception  # noqa: PLC0415 - only with -v

    say(_masked("".join(format_exception(error))))


def _masked(text: str) -> str:
    from gaia_core.observability import mask  # noqa: PLC0415 - only when it is used

    return mask(text)
