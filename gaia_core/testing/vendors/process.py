"""The vendor as a process of its own, for tests that kill the client."""

import json
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import attrs

from gaia_core.catalog import to_decimal
from gaia_core.testing.vendors.charges import Accounts, Arrival, Charge, read_book
from gaia_core.testing.vendors.faults import Faults
from gaia_core.testing.vendors.server import HOST

_PATIENCE = 10.0


@attrs.define(eq=False, kw_only=True)
class VendorProcess(Accounts):
    """
    A `Vendor` that outlives its client.

    ::

        with VendorProcess(path=tmp_path / "book.jsonl", delay=0.05) as vendor:
            plugin_folder(tmp_path / "plugins", base_url=vendor.url)
            ...  # start the client, kill it, start it again
        assert vendor.double_charges() == {}

    It ends with the process that started it, however that one ends.

    Attributes:
        path: The file it keeps its book in; what is read here is read from it.
        price_usd: As in `Vendor`, like all that follow.
        faults: What goes wrong.
        delay: Seconds the work takes, before it is charged.
        is_idempotent: Whether a task id is charged but once.
        has_lookup: Whether a task can be looked up.
        port: Where to listen; 0 picks a free port, and keeps it when started again.
    """

    path: Path = attrs.field(converter=Path)
    price_usd: Decimal = attrs.field(default=Decimal("0.04"), converter=to_decimal)
    faults: Faults = attrs.field(factory=Faults)
    delay: float = 0.0
    is_idempotent: bool = False
    has_lookup: bool = True
    port: int = 0
    _process: "subprocess.Popen[str] | None" = attrs.field(
        default=None, init=False, repr=False
    )

    def __enter__(self) -> Self:
        """Start it, and wait until it listens."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it; its book stays."""
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens, once it is started."""
        return f"http://{HOST}:{self.port}"

    @property
    def charges(self) -> Sequence[Charge]:
        """Every charge so far, in order."""
        return read_book(self.path)[0]

    @property
    def arrivals(self) -> Sequence[Arrival]:
        """Every request for paid work so far, in order."""
        return read_book(self.path)[1]

    def start(self) -> None:
        """
        Start it, and wait until it listens.

        Raises:
            RuntimeError: If it does not.
        """
        # The pipe it reads from is closed by the system when this process ends.
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "gaia_core.testing.vendors", self._options()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stdout = self._process.stdout
        url = stdout.readline().strip() if stdout is not None else ""
        if not url:
            self.stop()
            message = "The vendor did not start: its reason is on stderr."
            raise RuntimeError(message)
        self.port = int(url.rpartition(":")[2])

    def stop(self) -> None:
        """End it; its book stays."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _options(self) -> str:
        options: dict[str, Any] = {
            "path": str(self.path),
            "price_usd": str(self.price_usd),
            "faults": attrs.asdict(self.faults),
            "delay": self.delay,
            "is_idempotent": self.is_idempotent,
            "has_lookup": self.has_lookup,
            "port": self.port,
        }
        return json.dumps(options)
