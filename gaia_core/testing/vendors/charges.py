"""What a vendor keeps of everybody who asks: who came, and who was charged."""

import json
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import attrs

from gaia_core.testing.vendors.faults import Fault

Line = dict[str, Any]


@attrs.frozen(kw_only=True)
class Charge:
    """
    Money a vendor took.

    Attributes:
        task_id: The identifier the client sent along.
        amount_usd: How much.
        prompt: What was asked for; nothing where the work takes no prompt.
        at: When, in seconds since 1970.
    """

    task_id: str
    amount_usd: Decimal = attrs.field(converter=Decimal)
    prompt: str = ""
    at: float


@attrs.frozen(kw_only=True)
class Arrival:
    """
    A request for paid work that reached a vendor.

    Attributes:
        task_id: The identifier the client sent along.
        prompt: What was asked for.
        fault: What went wrong with it on purpose, or None.
        at: When, in seconds since 1970.
    """

    task_id: str
    prompt: str = ""
    fault: Fault | None = attrs.field(
        default=None, converter=attrs.converters.optional(Fault)
    )
    at: float


@attrs.define(eq=False, slots=False)
class Accounts:
    """What can be read from a vendor's book, wherever it is kept."""

    @property
    @abstractmethod
    def charges(self) -> Sequence[Charge]:
        """Every charge so far, in order."""

    @property
    @abstractmethod
    def arrivals(self) -> Sequence[Arrival]:
        """Every request for paid work so far, in order."""

    @property
    def requests(self) -> int:
        """How many requests for paid work came in."""
        return len(self.arrivals)

    @property
    def total_usd(self) -> Decimal:
        """What was charged in all."""
        return sum((charge.amount_usd for charge in self.charges), Decimal(0))

    def charged(self, task_id: str) -> int:
        """Tell how often a task was charged."""
        return sum(charge.task_id == task_id for charge in self.charges)

    def requests_of(self, task_id: str) -> int:
        """Tell how often a task was asked for."""
        return sum(arrival.task_id == task_id for arrival in self.arrivals)

    def double_charges(self) -> dict[str, int]:
        """Name the tasks that were charged more than once, and how often."""
        times = Counter(charge.task_id for charge in self.charges)
        return {task_id: count for task_id, count in times.items() if count > 1}


@attrs.define(eq=False)
class ChargeBook:
    """
    The book itself: kept in memory, and in a file where one is named.

    A charge is on disk before the answer leaves, as at any vendor.

    Attributes:
        path: Where to keep it, too.
        charges: Every charge so far, in order.
        arrivals: Every request for paid work so far, in order.
    """

    path: Path | None = None
    charges: list[Charge] = attrs.field(factory=list, init=False)
    arrivals: list[Arrival] = attrs.field(factory=list, init=False)
    _file: IO[str] | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Open the file, and go on behind what it holds."""
        if self.path is not None:
            self.charges, self.arrivals = read_book(self.path)
            self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def arrive(self, arrival: Arrival) -> None:
        """Note a request."""
        self.arrivals.append(arrival)
        self._write({"arrival": attrs.asdict(arrival)})

    def charge(self, charge: Charge) -> None:
        """Take the money."""
        self.charges.append(charge)
        record = attrs.asdict(charge) | {"amount_usd": str(charge.amount_usd)}
        self._write({"charge": record}, is_money=True)

    def _write(self, line: Line, *, is_money: bool = False) -> None:
        if self._file is None:
            return
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()
        if is_money:
            os.fsync(self._file.fileno())


def read_book(path: Path) -> tuple[list[Charge], list[Arrival]]:
    """Read the charges and the arrivals from a book's file, if it is there yet."""
    lines = list(_lines(path))
    charges = [Charge(**line["charge"]) for line in lines if "charge" in line]
    arrivals = [Arrival(**line["arrival"]) for line in lines if "arrival" in line]
    return charges, arrivals


def _lines(path: Path) -> Iterator[Line]:
    """Read whole lines only: the last one may be being written."""
    if not path.exists():
        return
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    yield from map(json.loads, whole)
