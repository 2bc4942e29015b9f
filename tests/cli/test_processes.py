"""The command line as a process: bytes, exit codes, signals, terminals, speed."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gaia_core import Image
from gaia_core.testing.vendors import VendorProcess, plugin_folder

Install = Callable[..., Path]
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
BeginBatch = Callable[[VendorProcess], "subprocess.Popen[bytes]"]

ROOT = Path(__file__).parent.parent.parent
GAIA = [sys.executable, "-m", "gaia_core.cli"]
SLOW = """
    import asyncio
    from pathlib import Path

    import attrs
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        marker: str = ""

        @hookimpl
        async def gaia_generate(self, request, context):
            Path(self.marker).touch()
            await asyncio.sleep(60)
"""
MANY = 30
"""More items than two at a time are made in while a signal is on its way."""
LIGHT = """
    import attrs
    from gaia_core import Capability, ProviderInfo, hookimpl

    @attrs.define(eq=False, kw_only=True)
    class Plugin:
        @hookimpl
        def gaia_provider_info(self):
            return ProviderInfo(name="studio", capabilities={Capability.TEXT_TO_IMAGE})

        @hookimpl
        async def gaia_generate(self, request, context):
            raise NotImplementedError
"""
ROOMS = sorted(
    path.parent.name.removeprefix("gaia-")
    for path in ROOT.glob("plugins/*/pyproject.toml")
)
SDKS = {
    *("google.genai", "httpx", "numpy", "onnxruntime", "openai", "pydantic"),
    *("PIL", "aiohttp", "rich", "runware", "sqlalchemy", "structlog", "torch"),
    *("websockets", "yarl"),
}
HEAVY = {*SDKS, "aiosqlite", "alembic", "cachetools", "cattrs", "fastapi", "limits"}
UNUSED = {
    *("gaia_core.cli.doctor", "gaia_core.cli.generate", "gaia_core.engine"),
    *("gaia_core.ledger", "gaia_core.reliability", "gaia_core.storage"),
    *("importlib.metadata", "platformdirs"),
}
"""What a look at the providers has no use for."""


def test_picture_bytes_go_through_pipes(shell: Shell, install: Install) -> None:
    """What ``-o -`` writes, ``-`` reads, and nothing else is said."""
    install()

    made = shell("generate", "a dragon", "--size", "16", "-o", "-")
    enlarged = shell("upscale", "-", "--factor", 2, "-o", "-", stdin=made.stdout)

    assert Image.from_bytes(made.stdout).width == 16
    assert Image.from_bytes(enlarged.stdout).width == 32
    assert made.stderr == enlarged.stderr == b""


def test_logs_are_quiet_until_asked_for(shell: Shell, install: Install) -> None:
    """A normal run logs nothing; ``-v`` logs the operation."""
    install()

    quiet = shell("generate", "a dragon", "--size", "16")
    verbose = shell("-v", "generate", "a dragon", "--size", "16")

    assert quiet.stderr == b""
    assert b"gaia.operation_finished" in verbose.stderr
    assert len(verbose.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("models",), 0),
        (("generate", "a dragon", "--set"), 2),
        (("generate", "a dragon", "-p", "nobody"), 4),
    ],
    ids=["done", "wrong-usage", "nobody"],
)
def test_processes_end_with_their_code(
    shell: Shell, install: Install, words: tuple[object, ...], code: int
) -> None:
    """The exit code reaches the shell."""
    install()

    assert shell(*words).returncode == code


def test_without_providers_one_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is installed, the way to a first picture is named."""
    run = _bare(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    made, planned = run("generate", "a dragon"), run("generate", "a", "--dry-run")
    listed, examined = run("models", "--json"), run("doctor")

    advice = "no provider is installed: pip install ./plugins/gaia-offline"
    assert (made.returncode, planned.returncode) == (4, 4)
    assert advice in made.stderr
    assert advice in planned.stdout
    assert json.loads(listed.stdout)["models"] == []
    assert advice in listed.stderr.lower()
    assert examined.returncode == 1
    assert "next: pip install ./plugins/gaia-offline, in a copy of" in examined.stdout


def _bare(folder: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Make an environment with everything but plugins; give what runs in it."""
    bare = folder / "bare"
    bare.mkdir()
    packages = [Path(path) for path in sys.path if path.endswith("-packages")]
    for source in (*packages, ROOT):
        for entry in source.iterdir():
            if not _has_plugin(entry) and not (bare / entry.name).exists():
                (bare / entry.name).symlink_to(entry)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-S", "-m", "gaia_core.cli", *words],
            env={**os.environ, "PYTHONPATH": str(bare)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def _has_plugin(entry: Path) -> bool:
    names = entry / "entry_points.txt"
    return names.is_file() and "[gaia]" in names.read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_a_reader_that_leaves_is_no_failure(
    install: Install, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """``gaia models | head`` ends quietly."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    reading, writing = os.pipe()
    os.close(reading)

    process = subprocess.run(
        [*GAIA, "models", *options],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )

    os.close(writing)
    assert process.returncode == 141
    assert process.stderr == b""


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-"], ids=["stdout", "stderr"])
def test_closed_streams_are_no_failure(
    install: Install, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """A program that starts it without a stream gets no traceback."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    line = f'"$@" generate "a dragon" --size 16 {closed}'

    process = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *GAIA], capture_output=True, check=False
    )

    assert process.returncode == 0
    assert b"Traceback" not in process.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output that cannot be written is a failure in one line."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [*GAIA, "models"], stdout=full, stderr=subprocess.PIPE, check=False
        )

    words = b"error: Standard output cannot be written: No space left on device.\n"
    assert process.returncode == 1
    assert process.stderr == words


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        pytest.param(signal.SIGINT, 130, b"Interrupted.", id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, b"Ended by SIGTERM.", id="sigterm"),
    ],
)
def test_signals_end_at_once_what_costs_nothing(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    number: signal.Signals,
    code: int,
    words: bytes,
) -> None:
    """An interrupt ends with its own code and without a traceback."""
    install(source=SLOW)
    marker = tmp_path / "asked"
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("GAIA_PROVIDERS__STUDIO__MARKER", str(marker))
    process = subprocess.Popen(
        [*GAIA, "generate", "a dragon", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _wait_for(marker)

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)

    assert process.returncode == code
    assert b"Traceback" not in stderr
    assert words in (stdout if options else stderr)


@pytest.fixture(name="begin_batch")
def _begin_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BeginBatch:
    """Give a function that begins a batch, and waits until the vendor was asked."""
    scenes = tmp_path / "scenes.jsonl"
    line = '{"prompt": "a keep", "width": 16, "height": 16}\n'
    scenes.write_text(line * MANY, encoding="utf-8")
    monkeypatch.setenv("GAIA_DATABASE", f"sqlite:///{tmp_path / 'gaia.db'}")
    monkeypatch.setenv("GAIA_PLUGINS__ALLOW", "vendor")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    def begin(vendor: VendorProcess) -> "subprocess.Popen[bytes]":
        plugins = plugin_folder(
            tmp_path / "plugins", base_url=vendor.url, has_lookup=False
        )
        monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=os.pathsep)
        process = subprocess.Popen(
            [*GAIA, "batch", str(scenes), "--max-concurrent", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        patience = time.monotonic() + 30
        while not vendor.arrivals and time.monotonic() < patience:
            time.sleep(0.02)
        assert vendor.arrivals
        return process

    return begin


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to heed")
def test_sigterm_leaves_no_open_question(
    tmp_path: Path, shell: Shell, begin_batch: BeginBatch
) -> None:
    """What was sent is waited for, what was not is put back, and it goes on later."""
    with VendorProcess(
        path=tmp_path / "book.jsonl", delay=0.8, has_lookup=False
    ) as vendor:
        process = begin_batch(vendor)

        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)

        (batch,) = json.loads(shell("batch", "status", "--json").stdout)["batches"]
        sums = json.loads(shell("usage", "--json").stdout)["total"]
        made = len(vendor.charges)
        resumed = shell("batch", "resume", batch["batch_id"], "--max-concurrent", MANY)
        charges = len(vendor.charges)

    assert process.returncode == 143
    assert b"Ended by SIGTERM." in stderr
    assert b"gaia batch resume" in stderr
    assert b"Traceback" not in stderr
    assert (sums["unknown"], sums["done"]) == (0, made)
    assert 0 < made < MANY
    assert resumed.returncode == 0
    assert charges == MANY


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to heed")
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        pytest.param(signal.SIGINT, 130, b"Ctrl-C again leaves it", id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, b"a second SIGTERM leaves it", id="sigterm"),
    ],
)
def test_a_second_signal_leaves_at_once(
    tmp_path: Path,
    begin_batch: BeginBatch,
    number: signal.Signals,
    code: int,
    words: bytes,
) -> None:
    """Who does not want to wait sends another."""
    with VendorProcess(
        path=tmp_path / "book.jsonl", delay=40, has_lookup=False
    ) as vendor:
        process = begin_batch(vendor)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.readline()

        process.send_signal(number)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()

    assert words in said
    assert process.returncode == code


def _wait_for(marker: Path) -> None:
    patience = time.monotonic() + 30
    while not marker.exists() and time.monotonic() < patience:
        time.sleep(0.02)
    assert marker.exists()


def test_terminals_get_a_drawn_table(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a table is drawn; a pipe gets plain columns."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    drawn = _on_terminal([*GAIA, "models"])

    assert "Model" in drawn
    assert "─" in drawn


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize(
    ("words", "headings"),
    [
        pytest.param("models --all", "Model Provider Capabilities Price", id="models"),
        pytest.param("providers", "Provider Priority Models", id="providers"),
        pytest.param("plugins", "Plugin Distribution Kind Instances", id="plugins"),
        pytest.param("usage", "Day Operations Done Failed Unknown Cost", id="usage"),
        pytest.param("config show", "Setting Value From", id="settings"),
    ],
)
def test_narrow_terminals_get_every_column(
    install: Install,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    headings: str,
    columns: int,
) -> None:
    """No column vanishes and no heading breaks, and short words stay whole."""
    install("a-provider-of-a-rather-long-name")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    shell("generate", "a keep", "--size", 16)

    drawn = _on_terminal([*GAIA, *words.split()], columns)

    plain = re.sub(r"\x1b\[\d*m", "", drawn)
    assert set(headings.split()) <= set(plain.splitlines()[0].split())
    assert "\u2026" not in plain


def test_terminals_get_progress_and_a_summary(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a person sees a bar, then who made it at which price."""
    install(source="from gaia_core.testing import FakeProvider as Plugin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("GAIA_PROVIDERS__STUDIO__DELAY", "0.3")

    shown = _on_terminal([*GAIA, "generate", "a dragon", "--size", "16"])

    assert "Generating" in shown
    assert re.search(r"studio/fake, free, \d+\.\d", shown)


def _on_terminal(command: list[str], columns: int = 120) -> str:
    """Run a command on a terminal of its own; give what it shows there."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    process.wait(timeout=60)
    os.close(ours)
    return shown.decode(errors="replace")


LIST_MODULES = """
import contextlib, io, sys
from gaia_core.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(*sys.modules)
"""


def _loaded_by(*words: str) -> set[str]:
    """Run a command line in a process of its own; give the modules it loaded."""
    process = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(process.stdout.split())


@pytest.mark.parametrize("command", ["models", "providers"])
def test_listing_loads_nothing_heavy(
    install: Install, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A listing into a pipe imports no slow package and no other command."""
    install(source=LIGHT)
    monkeypatch.delenv("GAIA_PLUGINS__ALLOW")  # any setting loads cattrs
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    loaded = _loaded_by(command)

    assert "gaia_core.cli.catalog" in loaded
    assert loaded & {*HEAVY, *UNUSED} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_listing_loads_no_sdk(monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    """A plugin of this repository is light until it is asked for work."""
    if importlib.util.find_spec(f"gaia_{room}") is None:
        pytest.skip(f"gaia-{room} is not installed")
    monkeypatch.setenv("GAIA_PLUGINS__ALLOW", room)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    loaded = _loaded_by("models", "--all")

    assert f"gaia_{room}" in loaded
    assert loaded & SDKS == set()
