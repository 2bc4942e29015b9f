"""
Measure the HTTP server against a bare relay, and against LiteLLM's proxy.

Each server runs in a process of its own before the same vendor, which answers at once;
``wrk`` asks 50 at a time, in turns; medians of the rounds count. The relay checks and
keeps nothing; Gaia decodes every picture, writes it durably to this disk and keeps the
book::

    python benchmarks/server.py [rounds] [seconds]

``wrk`` must be installed; ``GAIA_BENCH_LITELLM`` names a Python with LiteLLM's proxy
(``litellm[proxy]``) in it, to be measured, too.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import attrs

PARTS = Path(__file__).parent / "parts"
LITELLM = os.environ.get("GAIA_BENCH_LITELLM")
SIZES = {"small": 1_000, "large": 1_300_000}
AT_ONCE = 50
ASKED = {
    "model": "canned",
    "prompt": "a red dragon over a ruined keep",
    "response_format": "b64_json",
}
_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20
Figures = dict[str, float]


@attrs.frozen(kw_only=True)
class Server:
    """
    A server that is measured.

    Attributes:
        name: What the tables call it.
        url: Where it listens.
        pid: Its process.
        idle_mib: What it holds before the first request.
    """

    name: str
    url: str
    pid: int
    idle_mib: float


# -- the servers ----------------------------------------------------------------------


@contextmanager
def vendor(size: int) -> Iterator[str]:
    """Start what answers at once with a picture of so many bytes."""
    command = [sys.executable, str(PARTS / "canned.py"), "0", str(size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip() if process.stdout else ""
        yield url
        process.communicate()


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    ready: str,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start a server, wait until it answers, and stop it in the end."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **(env or {})}
        )
        try:
            _wait_for(url + ready, process, log)
            yield Server(
                name=name, url=url, pid=process.pid, idle_mib=_held(process.pid)
            )
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  this machine
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    message = f"It did not start:\n{log.read().decode()[-2_000:]}"
    raise RuntimeError(message)


@contextmanager
def gaia(vendor_url: str, folder: Path) -> Iterator[Server]:
    """Start ``gaia serve`` before the vendor."""
    settings = folder / "gaia.toml"
    settings.write_text(
        f"""
[gaia]
database = "sqlite:///{folder}/gaia.db"
image_store = "{folder}/images"

[providers.parasail]
api_key = "none"
base_url = "{vendor_url}/v1"

[providers.parasail.models.canned]
capabilities = ["text-to-image"]
endpoint = "generations"
""",
        encoding="utf-8",
    )
    port = _free_port()
    command = [
        *(sys.executable, "-m", "gaia_core.cli", "--config", str(settings)),
        *("serve", "--port", str(port)),
    ]
    with started("gaia", command, port=port, ready="/api/health") as server:
        yield server


@contextmanager
def relay(vendor_url: str, file: Path) -> Iterator[Server]:
    """Start the bare relay before the vendor."""
    port = _free_port()
    command = [
        *(sys.executable, str(PARTS / "relay.py")),
        *(str(port), vendor_url, str(file)),
    ]
    with started("relay", command, port=port, ready="/file") as server:
        yield server


@contextmanager
def litellm(python: str, vendor_url: str, folder: Path) -> Iterator[Server]:
    """Start LiteLLM's proxy before the vendor."""
    parameters = {
        "model": "openai/canned",
        "api_base": f"{vendor_url}/v1",
        "api_key": "none",
    }
    model = {
        "model_name": "canned",
        "litellm_params": parameters,
        "model_info": {"mode": "image_generation"},
    }
    settings = folder / "litellm.yaml"
    # JSON is YAML, too.
    whole = {
        "model_list": [model],
        # It does not know that an unknown model takes `response_format`.
        "litellm_settings": {"drop_params": True},
    }
    settings.write_text(json.dumps(whole), encoding="utf-8")
    port = _free_port()
    command = [
        *(str(Path(python).parent / "litellm"), "--config", str(settings)),
        *("--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"),
    ]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # As open to this machine as the other two are.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    ready = "/health/liveliness"
    with started("litellm", command, port=port, ready=ready, env=env) as server:
        yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# -- measuring ------------------------------------------------------------------------


def asked(server: Server, path: str, seconds: int, script: Path) -> Figures:
    """Ask one server for a while, so many at a time."""
    before = _cpu(server.pid)
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{AT_ONCE}", f"-d{seconds}s", "--timeout", "30s"),
            *("-s", str(script), server.url + path),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = _cpu(server.pid) - before
    answers = int(_found(r"(\d+) requests in", done.stdout))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if not answers or failed:
        message = f"{server.name} failed:\n{done.stdout}"
        raise RuntimeError(message)
    return {
        "per_second": float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)),
        "cpu_ms": cpu * 1_000 / answers,
    }


def side_by_side(
    targets: Sequence[tuple[Server, str]], rounds: int, seconds: int, script: Path
) -> dict[str, Figures]:
    """Ask servers in turns; give the median of each figure."""
    runs: dict[str, list[Figures]] = {server.name: [] for server, _ in targets}
    for server, path in targets:
        asked(server, path, 3, script)
    for _ in range(rounds):
        for server, path in targets:
            runs[server.name].append(asked(server, path, seconds, script))
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in runs.items()
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "0"


def _processes(pid: int) -> Iterator[int]:
    """Name a process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            yield from _processes(int(child))


def _cpu(pid: int) -> float:
    """Add up the seconds of CPU of a process and what it has started."""
    seconds = 0.0
    for one in _processes(pid):
        facts = Path(f"/proc/{one}/stat").read_text(encoding="utf-8")
        user, system = facts.rsplit(")", 1)[1].split()[11:13]
        seconds += (int(user) + int(system)) / _TICK
    return seconds


def _held(pid: int) -> float:
    """Give the MiB that only a process and what it has started hold."""
    kib = 0
    for one in _processes(pid):
        facts = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
        kib += int(_found(r"Pss:\s+(\d+)", facts))
    return kib / 1024


# -- the tables -----------------------------------------------------------------------


def main(rounds: int = 3, seconds: int = 8) -> None:
    """Print the tables."""
    if shutil.which("wrk") is None:
        say("wrk is not installed: apt-get install wrk")
        return
    say(f"{AT_ONCE} at a time, median of {rounds} rounds of {seconds} s")
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            measure(name, size, Path(folder), rounds, seconds)


def measure(name: str, size: int, folder: Path, rounds: int, seconds: int) -> None:
    """Measure pictures of one size."""
    say(f"\nA {name} answer: a picture of {size} bytes in base64")
    making, fetching = _scripts(folder)
    with ExitStack() as servers:
        vendor_url = servers.enter_context(vendor(size))
        file = folder / "picture.png"
        ours = servers.enter_context(gaia(vendor_url, folder))
        picture = _make_one(ours, file)
        bare = servers.enter_context(relay(vendor_url, file))
        targets = [(one, "/v1/images/generations") for one in (bare, ours)]
        if LITELLM is not None:
            theirs = servers.enter_context(litellm(LITELLM, vendor_url, folder))
            targets.append((theirs, "/v1/images/generations"))
        show(side_by_side(targets, rounds, seconds, making), [t for t, _ in targets])
        say("  the picture's own address, beside Starlette's FileResponse")
        files = [(bare, "/file"), (ours, picture)]
        show(side_by_side(files, rounds, seconds, fetching), [bare, ours])


def show(found: Mapping[str, Figures], servers: Sequence[Server]) -> None:
    """Print what each server takes, and Gaia's share of the others'."""
    for server in servers:
        figures = found[server.name]
        say(
            f"  {server.name:10} {figures['cpu_ms']:8.2f} ms CPU a request"
            f" {figures['per_second']:9.1f} a second"
            f" {server.idle_mib:7.0f} MiB idle"
        )
    own = found["gaia"]
    for server in servers:
        if server.name != "gaia":
            other = found[server.name]
            say(
                f"  gaia / {server.name}: {own['cpu_ms'] / other['cpu_ms']:.2f}x CPU,"
                f" {own['per_second'] / other['per_second']:.2f}x throughput"
            )


def _scripts(folder: Path) -> tuple[Path, Path]:
    """Write what wrk asks."""
    making, fetching = folder / "make.lua", folder / "fetch.lua"
    making.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = {json.dumps(json.dumps(ASKED))}\n",
        encoding="utf-8",
    )
    fetching.write_text('wrk.method = "GET"\n', encoding="utf-8")
    return making, fetching


def _make_one(server: Server, file: Path) -> str:
    """Make a picture, keep it in a file, and give its address on the server."""
    request = urllib.request.Request(  # noqa: S310  this machine
        f"{server.url}/api/images/generate",
        json.dumps({**ASKED, "response_format": "url"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  as above
        path = str(json.load(answer)["image_url"])
    path = path.removeprefix(server.url)
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:  # noqa: S310  as above
        file.write_bytes(answer.read())
    return path


def say(line: str) -> None:
    """Print a line at once: the whole takes minutes."""
    print(line, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
