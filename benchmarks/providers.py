"""
Measure what Gaia adds to each vendor's own SDK.

Each client runs in a process of its own, against a server that answers at once with a
picture of 1.3 MB. Those to be compared take turns; medians of their rounds count.
Gaia decodes every picture once, to see that it is sound; so do the ``kept`` clients,
which also write it to this disk::

    python benchmarks/providers.py [rounds]

``GAIA_BENCH_LITELLM`` names a Python with LiteLLM in it, to be measured, too.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PARTS = Path(__file__).parent / "parts"
LITELLM = os.environ.get("GAIA_BENCH_LITELLM")
SIZE = 1_300_000
SDKS = {"gemini": "google-genai", "openai": "openai", "runware": "runware-sdk"}
Figures = dict[str, float]


@contextmanager
def vendor(latency: float = 0.0) -> Iterator[str]:
    """Start the server; give its address."""
    command = [sys.executable, str(PARTS / "canned.py"), str(latency), str(SIZE)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            message = "The server did not start: its reason is above."
            raise RuntimeError(message)
        yield url
        process.communicate()


def run(case: str, url: str, calls: int, at_once: int) -> Figures:
    """Measure one client once."""
    python = LITELLM if case.startswith("litellm") and LITELLM else sys.executable
    done = subprocess.run(
        [python, str(PARTS / "worker.py"), case, url, str(calls), str(at_once)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = f"{case} failed:\n{done.stderr}"
        raise RuntimeError(message)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


class Load(NamedTuple):
    """What each client has to do, and how often it is measured."""

    url: str
    calls: int
    at_once: int
    rounds: int


def side_by_side(cases: Sequence[str], load: Load) -> dict[str, Figures]:
    """Measure clients in turns; give the median of each figure."""
    runs: dict[str, list[Figures]] = {case: [] for case in cases}
    for _ in range(load.rounds):
        for case in cases:
            runs[case].append(run(case, load.url, load.calls, load.at_once))
    return {
        case: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for case, found in runs.items()
    }


def main(rounds: int = 3) -> None:
    """Print the tables."""
    names = ", ".join(f"{sdk} {version(sdk)}" for sdk in SDKS.values())
    say(f"{names}; pictures of {SIZE / 1e6:g} MB; median of {rounds} rounds")
    with vendor() as url:
        for at_once, calls in ((1, 100), (50, 400)):
            say(f"\n{at_once} at a time ({calls} calls)")
            load = Load(url, calls, at_once, rounds)
            for wire in SDKS:
                compare(f"raw_{wire}", f"gaia_{wire}", load)
                compare(f"raw_kept_{wire}", f"gaia_kept_{wire}", load)
            compare_litellm(load)
        memory(url)
    latency()


def compare(raw: str, ours: str, load: Load) -> None:
    """Print what one client takes beside another."""
    found = side_by_side((raw, ours), load)
    for case, figures in found.items():
        say(
            f"  {case:20} {figures['cpu_ms']:7.2f} ms CPU a call"
            f" {figures['per_second']:8.1f} a second"
        )
    cpu = found[ours]["cpu_ms"] / found[raw]["cpu_ms"]
    throughput = found[ours]["per_second"] / found[raw]["per_second"]
    say(f"  {'':20} {cpu:6.2f}x CPU, {throughput:.2f}x throughput")


def compare_litellm(load: Load) -> None:
    """Print what Gaia takes beside LiteLLM's Router, where there is one."""
    if LITELLM is None:
        say("  LiteLLM: GAIA_BENCH_LITELLM is not set")
        return
    asked = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run(
        [LITELLM, "-c", asked], capture_output=True, text=True, check=True
    )
    say(f"  LiteLLM {done.stdout.strip()}")
    compare("litellm_openai", "gaia_openai", load)


def memory(url: str, pictures: int = 200) -> None:
    """Print the memory that so many pictures in flight take."""
    kept = pictures * SIZE / (1 << 20)
    say(f"\n{pictures} pictures in flight, {kept:.0f} MiB of them kept")
    for wire in SDKS:
        for case in (f"raw_memory_{wire}", f"gaia_memory_{wire}"):
            mib = run(case, url, pictures, pictures)["mib"]
            say(f"  {case:20} {mib:7.0f} MiB at most, {mib / kept:.2f}x")


def latency(at_once: int = 50) -> None:
    """Print what a pool gains over one client behind a lock."""
    say(f"\nRunware, {at_once} calls at once, each of 1 s")
    with vendor(latency=1.0) as url:
        ours = run("gaia_runware", url, at_once, at_once)["seconds"]
        serial = run("serial_runware", url, at_once, at_once)["seconds"]
    say(f"  gaia {ours:.2f} s, one after another {serial:.2f} s: {serial / ours:.0f}x")


def say(line: str) -> None:
    """Print a line at once: the whole takes minutes."""
    print(line, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
