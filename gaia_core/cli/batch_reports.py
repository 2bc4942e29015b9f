"""What a batch came to: a summary for a person, a document for a program."""

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import attrs

from gaia_core import Gaia
from gaia_core.cli.batch_outputs import Copies, words_of
from gaia_core.cli.batch_progress import tally
from gaia_core.cli.failures import EXAMPLES_PER_PROVIDER, ExitCode
from gaia_core.cli.shapes import shape_amount, shape_image
from gaia_core.cli.tables import clean, group_reasons, plain_lines, print_table
from gaia_core.cli.writing import print_json, print_line, say
from gaia_core.errors import NoCapableProviderError
from gaia_core.ledger import Batch, BatchState, Operation, OperationState

MAX_FAILURES = 20
"""How many items that are not done a summary names."""
_NARROWEST = 40
_NOT_DONE = frozenset({OperationState.FAILED, OperationState.UNKNOWN})


@attrs.frozen(kw_only=True)
class Report:
    """
    How a batch stands.

    Attributes:
        batch: The batch.
        failures: The first of its items that failed or are unknown, with the
            numbers of their lines.
        num_failures: How many of them there are.
        num_sent: How many items were sent and are not answered so far; 0 with
            ``items``, which tell it one by one.
        num_not_copied: How many items could not be copied to where they were wanted.
        items: Every item as ``--json`` prints it, where that was asked for.
    """

    batch: Batch
    failures: Sequence[tuple[int, Operation]] = ()
    num_failures: int = 0
    num_sent: int = 0
    num_not_copied: int = 0
    items: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    async def of(
        cls, gaia: Gaia, batch: Batch, *, is_json: bool, copies: Copies | None = None
    ) -> Self:
        """Read what a report needs."""
        copies = copies or await Copies.of(gaia, batch)
        if is_json:
            items = [
                await _shape_item(gaia, item, copies)
                async for item in gaia.batches.items(batch.id)
            ]
            return cls(batch=batch, items=items, num_not_copied=copies.failed)
        failures, counts = await _not_done(gaia.batches.items(batch.id))
        return cls(
            batch=batch,
            failures=[(copies.line(item), item) for item in failures],
            num_failures=sum(counts[state] for state in _NOT_DONE),
            num_sent=counts[OperationState.SENT],
            num_not_copied=copies.failed,
        )

    def show(self) -> None:
        """Print it."""
        if self.items is not None:
            print_json({**shape_batch(self.batch), "items": self.items})
            return
        _print_summary(self)

    @property
    def exit_code(self) -> ExitCode:
        """How to end when the batch was to be done."""
        batch = self.batch
        if batch.done == batch.total and not self.num_not_copied:
            return ExitCode.DONE
        return ExitCode.PARTLY if batch.done else ExitCode.FAILED


def interrupted(batch: Batch) -> str:
    """Say how far a batch is that was left."""
    return f"{_title(batch)}: {tally(batch)}"


def resume_hint(words: Sequence[str]) -> str:
    """Say how a batch goes on that was left."""
    import shlex  # noqa: PLC0415 - 5 ms

    return f"Nothing is lost. To go on: {shlex.join(words)}"


# -- for a person -----------------------------------------------------------------


async def _not_done(
    items: AsyncIterator[Operation],
) -> tuple[list[Operation], Counter[OperationState]]:
    """Collect the first items that failed, and count the items by state."""
    found: list[Operation] = []
    counts: Counter[OperationState] = Counter()
    async for item in items:
        counts[item.state] += 1
        if item.state in _NOT_DONE and len(found) < MAX_FAILURES:
            found.append(item)
    return found, counts


def _print_summary(report: Report) -> None:
    batch = report.batch
    print_line(clean(f"{_title(batch)}: {tally(batch)}"))
    if report.failures:
        print_line()
        rows = [_failure_row(line, item) for line, item in report.failures]
        _print_failures(rows)
    if report.num_failures > len(report.failures):
        left = report.num_failures - len(report.failures)
        print_line(f"and {left} more: --json names all of them")
    if report.num_sent:
        say(f"{report.num_sent} sent and not answered so far: their money is held.")
    if batch.unknown:
        say(
            "What is unknown may have been made and charged: it is not made again, "
            "and its money is held."
        )


def _title(batch: Batch) -> str:
    name = f"{batch.name}, " if batch.name else ""
    state = "" if batch.state is BatchState.FINISHED else f" ({batch.state})"
    return f"{name}batch {batch.id}{state}"


def _print_failures(rows: Sequence[Sequence[str]]) -> None:
    headings = ("Line", "State", "Operation", "Why")
    if _has_room(headings, rows):
        print_table(headings, rows)
        return
    for line, state, operation_id, why in rows:
        print_line(f"line {line} {state}, operation {operation_id}")
        for words in _folded(clean(why)):
            print_line(words)


def print_batches(batches: Sequence[Batch]) -> None:
    """Print a table of batches, or a few lines for each where it is too wide."""
    headings = ("Batch", "Name", "State", "Tally", "Begun")
    rows = [_batch_row(batch) for batch in batches]
    if _has_room(headings, rows):
        print_table(headings, rows)
        return
    for row in rows:
        for line in _batch_lines(row):
            print_line(line)


def _has_room(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table fits the terminal; where there is none, it does."""
    widest = max(map(len, plain_lines([headings, *rows])))
    return not sys.stdout.isatty() or widest + len(headings) <= _columns()


def _columns() -> int:
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def _folded(words: str) -> list[str]:
    wrapper = textwrap.TextWrapper(
        width=_columns(),
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return wrapper.wrap(words)


def _batch_lines(row: Sequence[str]) -> list[str]:
    """Put a batch on lines that are no wider than the terminal, but for its name."""
    batch_id, name, state, words, begun = map(clean, row)
    is_short = len(f"{batch_id}  {name}") <= _columns()
    title = [f"{batch_id}  {name}".rstrip()] if is_short else [batch_id, f"  {name}"]
    facts = [f"{state}: {words}", f"begun {begun}"]
    whole = _folded("; ".join(facts))
    return title + (whole if len(whole) == 1 else [*_folded(facts[0]), f"  {facts[1]}"])


def _batch_row(batch: Batch) -> tuple[str, ...]:
    return (
        batch.id,
        batch.name,
        str(batch.state),
        tally(batch),
        f"{batch.created_at:%Y-%m-%d %H:%M}",
    )


def _failure_row(line: int, item: Operation) -> tuple[str, ...]:
    return (str(line), str(item.state), item.id, _why(item))


def _why(item: Operation) -> str:
    """Say in one line why an item is not done."""
    first, *others = (item.error or item.error_type or "").splitlines() or [""]
    if item.error_type != NoCapableProviderError.__name__:
        return first
    pairs = (line.strip().partition(": ") for line in others)
    reasons = {name: reason for name, _, reason in pairs if reason}
    grouped = group_reasons(reasons, limit=EXAMPLES_PER_PROVIDER)
    return f"{first.rstrip('.')}: {'; '.join(grouped)}" if grouped else first


# -- for a program ----------------------------------------------------------------


def shape_batch(batch: Batch) -> dict[str, Any]:
    """Shape a batch as ``--json`` prints it."""
    finished = batch.finished_at
    return {
        "batch_id": batch.id,
        "name": batch.name,
        "state": str(batch.state),
        "total": batch.total,
        "done": batch.done,
        "failed": batch.failed,
        "unknown": batch.unknown,
        "cancelled": batch.cancelled,
        "cost_usd": shape_amount(batch.cost_usd),
        "created_at": batch.created_at.isoformat(),
        "finished_at": None if finished is None else finished.isoformat(),
    }


async def _shape_item(gaia: Gaia, item: Operation, copies: Copies) -> dict[str, Any]:
    found = [await gaia.storage.get(image_id) for image_id in item.image_ids]
    images = [
        shape_image(image, copies.output_of(item, image))
        for image in found
        if image is not None
    ]
    return {
        "line": copies.line(item),
        "operation_id": item.id,
        "capability": str(item.capability),
        "state": str(item.state),
        "provider": item.provider,
        "model": item.model,
        "images": images,
        "words": words_of(item),
        "cost_usd": shape_amount(item.cost_usd),
        "error_type": item.error_type,
        "error": item.error,
    }
