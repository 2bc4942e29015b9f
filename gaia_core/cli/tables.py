"""Tables and lists of reasons, for a terminal and for a pipe."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gaia_core.cli.writing import print_line

GAP = "  "
"""What stands between two columns."""
FIRM = 16
"""Texts up to this width are never broken; a date with its time is one."""
LEAST = 12
"""The least width of a column of longer texts."""


def clean(text: str) -> str:
    r"""
    Put a space in place of what could steer a terminal or break a column.

    >>> clean("red\x1b[31m\tdragon")
    'red [31m dragon'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, plain columns into a pipe."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, cells)
        return
    for line in plain_lines([[heading.upper() for heading in headings], *cells]):
        print_line(line)


def plain_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """
    Align columns with spaces.

    >>> plain_lines([["a", "long", "x"], ["bcd", "e", ""]])
    ['a    long  x', 'bcd  e']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def group_reasons(reasons: Mapping[str, str], *, limit: int | None = None) -> list[str]:
    """
    Say why everybody was passed over, one line per provider and reason.

    >>> group_reasons({"a/1": "no key", "a/2": "no key", "b": "is off"})
    ['a (2 models): no key', 'b: is off']

    Args:
        reasons: Provider, or ``provider/model``, to the reason.
        limit: The most lines for one provider; None: all of them.
    """
    by_provider: dict[str, dict[str, list[str]]] = {}
    for name, reason in reasons.items():
        groups = by_provider.setdefault(name.partition("/")[0], {})
        groups.setdefault(reason, []).append(name)
    return [
        line
        for provider, groups in by_provider.items()
        for line in _lines_of(provider, groups, limit)
    ]


def _lines_of(
    provider: str, groups: Mapping[str, Sequence[str]], limit: int | None
) -> list[str]:
    counts = Counter({reason: len(names) for reason, names in groups.items()})
    shown = counts.most_common(limit)
    lines = [
        clean(f"{_who(provider, groups[reason])}: {reason}") for reason, _ in shown
    ]
    left = sum(counts.values()) - sum(count for _, count in shown)
    return [*lines, f"{provider} ({_models(left)}): other reasons"] if left else lines


def _who(provider: str, names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{provider} ({_models(len(names))})"


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def fit(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """
    Choose the widths of columns.

    Numbers, dates and short words keep the width they need, and so do headings.
    Long texts give way, those of the first column last: it holds names, which are
    there to be copied. Where that is not enough, the sum is more than there is room.

    >>> fit(["A", "B"], [["2026-11-22", "a reason that is quite long"]], 30)
    [10, 20]
    """
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    floors = [
        width if _is_firm(cells, width) else max(LEAST, _width(heading))
        for width, (heading, *cells) in zip(widths, columns, strict=True)
    ]
    for giving_way in (range(1, len(widths)), range(1)):
        while sum(widths) > room:
            widest = max(giving_way, key=lambda place: widths[place] - floors[place])
            if widths[widest] <= floors[widest]:
                break
            widths[widest] -= 1
    return widths


def _is_firm(cells: Iterable[str], width: int) -> bool:
    return width <= FIRM or not any(map(str.isalpha, "".join(cells)))


def _width(text: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415 - 60 ms

    return cell_len(text)


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table; rich costs 60 ms, which a pipe would not notice."""
    from rich import box  # noqa: PLC0415 - 60 ms
    from rich.console import Console  # noqa: PLC0415 - 60 ms
    from rich.table import Table  # noqa: PLC0415 - 60 ms
    from rich.text import Text  # noqa: PLC0415 - 60 ms

    console, gaps = Console(), len(GAP) * len(headings)
    widths = fit(headings, rows, console.width - gaps)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # Left to itself, rich would leave out the columns that do not fit.
    console.width = max(console.width, sum(widths) + gaps)
    console.print(table)
